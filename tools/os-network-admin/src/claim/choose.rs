//! Which of the nodes that answer is meant. A hello under an image's anchor proves nothing about who sent it: the
//! anchor's public half is in every image, so only the operator can say whose fingerprint is his.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use wire::{Fingerprint, Key, link::HelloBody};

use crate::{
    base::{
        error::{Error, Exit},
        input::Print,
    },
    registry::Accepted,
};

/// So many unlisted nodes are remembered for the operator.
const UNLISTED: usize = 64;

/// Shows the operator a fingerprint and takes a typed yes.
pub type Ask<'a> = dyn FnMut(&Found) -> bool + 'a;

/// What to do with nodes that were not named.
pub enum Unlisted<'a> {
    /// They are reported, never claimed.
    Ignore,
    /// The operator is asked.
    Ask(Box<Ask<'a>>),
    /// There is nobody to ask.
    Refuse,
    /// Any is taken, and that is recorded.
    Take,
}

/// A node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub fiduciary: Key,
    pub address: Ipv6Addr,
    /// It says that a binding waits for its acknowledgement. Unproven.
    pub committed: bool,
}

impl Found {
    pub fn new(hello: &HelloBody) -> Self {
        Self { fiduciary: hello.fiduciary, address: hello.address.into(), committed: hello.committed == 1 }
    }

    pub fn print(&self) -> Print {
        Fingerprint::of(&self.fiduciary).0
    }
}

pub struct Chooser<'a> {
    /// A ticket's F: this one and no other.
    ticket: Option<Key>,
    expected: BTreeSet<Print>,
    asked: BTreeSet<Print>,
    declined: BTreeMap<Print, Found>,
    policy: Unlisted<'a>,
    unlisted: BTreeMap<Print, Found>,
    /// Nodes that may be claimed although they were revoked.
    readmitted: BTreeSet<Print>,
    /// Revoked nodes that answered.
    revoked: BTreeMap<Print, Found>,
    /// A node under the ticket's key with another F answered.
    contradicted: bool,
}

impl<'a> Chooser<'a> {
    pub fn ticket(fiduciary: Key) -> Self {
        Self { ticket: Some(fiduciary), ..Self::listed(BTreeSet::new(), Unlisted::Ignore) }
    }

    pub fn listed(expected: BTreeSet<Print>, policy: Unlisted<'a>) -> Self {
        Self {
            ticket: None,
            expected,
            asked: BTreeSet::new(),
            declined: BTreeMap::new(),
            policy,
            unlisted: BTreeMap::new(),
            readmitted: BTreeSet::new(),
            revoked: BTreeMap::new(),
            contradicted: false,
        }
    }

    /// These may be claimed although they were revoked.
    pub fn readmitting(self, readmitted: BTreeSet<Print>) -> Self {
        Self { readmitted, ..self }
    }

    pub fn readmits(&self, fiduciary: &Key) -> bool {
        self.readmitted.contains(&Fingerprint::of(fiduciary).0)
    }

    /// A node that was revoked has answered, and is left alone.
    pub fn turn_away(&mut self, hello: &HelloBody) {
        let found = Found::new(hello);
        let may_be_meant = self.names(&found.fiduciary) || !matches!(self.policy, Unlisted::Ignore);
        if self.revoked.len() < UNLISTED && may_be_meant {
            self.revoked.insert(found.print(), found);
        }
    }

    /// The one node that this can end with, if it is one.
    pub fn meant(&self) -> Option<Print> {
        match (self.ticket, &self.policy) {
            (Some(fiduciary), _) => Some(Fingerprint::of(&fiduciary).0),
            (None, Unlisted::Ignore | Unlisted::Refuse) if self.expected.len() == 1 => self.expected.first().copied(),
            (None, _) => None,
        }
    }

    /// Whether this node may be claimed, and why.
    pub fn consider(&mut self, hello: &HelloBody) -> Option<Accepted> {
        let found = Found::new(hello);
        if let Some(meant) = self.ticket {
            self.contradicted |= meant != found.fiduciary;
            return (meant == found.fiduciary).then_some(Accepted::Ticket);
        }
        let print = found.print();
        if self.expected.contains(&print) {
            return Some(Accepted::Expected);
        }
        if self.asked.contains(&print) {
            return Some(Accepted::Asked);
        }
        if matches!(self.policy, Unlisted::Take) {
            return Some(Accepted::AcceptedAny);
        }
        if self.unlisted.len() + self.declined.len() < UNLISTED && !self.declined.contains_key(&print) {
            self.unlisted.insert(print, found);
        }
        None
    }

    /// How many were not named, or have another identity than the ticket's; and how many were revoked.
    pub fn turned_down(&self) -> (usize, usize) {
        (self.unlisted.len() + self.declined.len() + usize::from(self.contradicted), self.revoked.len())
    }

    /// Nodes that were not named.
    pub fn unlisted(&self) -> impl Iterator<Item = &Found> {
        self.unlisted.values()
    }

    /// Whether the operator has named this node.
    pub fn names(&self, fiduciary: &Key) -> bool {
        let print = Fingerprint::of(fiduciary).0;
        self.ticket == Some(*fiduciary) || self.expected.contains(&print) || self.asked.contains(&print)
    }

    /// Whether it is time for [`Self::decide`] once some have been waited for.
    pub fn is_open(&self) -> bool {
        let decides = match self.policy {
            Unlisted::Ask(_) => true,
            // With a list, one that is on it may still answer.
            Unlisted::Refuse => self.expected.is_empty(),
            Unlisted::Ignore | Unlisted::Take => false,
        };
        decides && !self.unlisted.is_empty()
    }

    /// Asks about those that wait, or says why none will be claimed. After `Ok` a node that answers again is taken.
    pub fn decide(&mut self) -> Result<(), Error> {
        if let Unlisted::Ask(ask) = &mut self.policy {
            while let Some((print, found)) = self.unlisted.pop_first() {
                if ask(&found) {
                    self.asked.insert(print);
                    return Ok(());
                }
                self.declined.insert(print, found);
            }
        }
        Err(self.refusal())
    }

    /// Why nothing was claimed, if no attempt was made.
    pub fn nothing(&self) -> Error {
        if let Some(found) = self.revoked.values().next() {
            revoked(&found.fiduciary)
        } else if self.contradicted {
            Error::failed(
                "a node that knows this ticket's key answered with another identity than the ticket's: it is not the \
                 node that showed the ticket; nothing was claimed",
            )
        } else if self.unlisted.is_empty() && self.declined.is_empty() {
            Error::new(
                Exit::NoAnswer,
                "no node answered: is it powered, on this segment, unclaimed, and anchored to this key? Another's open \
                 gate lasts up to a minute: try again, with a longer --wait. If this key was used with another registry, or under \
                 a clock ahead of this host's, nodes know a higher counter and are silent: add --counter-ahead MS, or switch the node off and on and add \
                 --past-stored",
            )
        } else {
            self.refusal()
        }
    }

    fn refusal(&self) -> Error {
        let list: Vec<String> = self.declined.values().chain(self.unlisted.values()).map(describe).collect();
        let how = match self.policy {
            Unlisted::Ask(_) => "not accepted",
            _ => "not expected",
        };
        Error::new(
            Exit::NotAccepted,
            format!(
                "nothing was claimed; {how}: {}; compare with the node's console, then name it with --expect",
                list.join(", ")
            ),
        )
    }
}

/// The refusal of a node that was revoked.
pub fn revoked(fiduciary: &Key) -> Error {
    let print = Fingerprint::of(fiduciary);
    Error::new(
        Exit::NotAccepted,
        format!(
            "{print} is revoked, and was not claimed: if it is to be a member again, name it with --readmit {print}"
        ),
    )
}

fn describe(found: &Found) -> String {
    format!("{} at {}", Fingerprint(found.print()), found.address)
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn hello(byte: u8) -> HelloBody {
        HelloBody { fiduciary: [byte; 32], ..HelloBody::new_zeroed() }
    }

    fn expected(byte: u8) -> BTreeSet<Print> {
        BTreeSet::from([Found::new(&hello(byte)).print()])
    }

    #[test]
    fn a_ticket_takes_its_node_only() {
        let mut chooser = Chooser::ticket([1; 32]);
        assert_eq!(chooser.consider(&hello(2)), None);
        assert!(!chooser.is_open());
        assert_eq!(chooser.nothing().exit, Exit::Failed);
        assert_eq!(chooser.consider(&hello(1)), Some(Accepted::Ticket));
    }

    #[test]
    fn a_listed_node_is_taken_and_another_only_by_word_of_the_operator() {
        let mut asked = Vec::new();
        let ask = |found: &Found| {
            asked.push(found.fiduciary);
            found.fiduciary == [3; 32]
        };
        let mut chooser = Chooser::listed(expected(1), Unlisted::Ask(Box::new(ask)));
        assert_eq!(chooser.consider(&hello(1)), Some(Accepted::Expected));
        assert!(!chooser.is_open());
        assert_eq!(chooser.consider(&hello(3)), None);
        assert!(chooser.is_open());
        chooser.decide().unwrap();
        assert_eq!(chooser.consider(&hello(3)), Some(Accepted::Asked));
        assert_eq!(chooser.consider(&hello(2)), None);
        drop(chooser);
        assert_eq!(asked, [[3; 32]]);
    }

    #[test]
    fn a_declined_node_is_not_taken() {
        let mut chooser = Chooser::listed(BTreeSet::new(), Unlisted::Ask(Box::new(|_| false)));
        chooser.consider(&hello(3));
        assert_eq!(chooser.decide().unwrap_err().exit, Exit::NotAccepted);
        assert_eq!(chooser.consider(&hello(3)), None);
    }

    #[test]
    fn with_nobody_to_ask_none_is_taken() {
        let mut chooser = Chooser::listed(BTreeSet::new(), Unlisted::Refuse);
        assert_eq!(chooser.consider(&hello(3)), None);
        assert!(chooser.is_open());
        let error = chooser.decide().unwrap_err();
        assert_eq!(error.exit, Exit::NotAccepted);
        assert!(error.message.contains(&Fingerprint::of(&[3; 32]).to_string()));
        let mut chooser = Chooser::listed(expected(1), Unlisted::Refuse);
        chooser.consider(&hello(3));
        assert!(!chooser.is_open());
        assert_eq!(chooser.nothing().exit, Exit::NotAccepted);
    }

    #[test]
    fn accept_any_is_recorded_as_such_but_not_for_an_expected_node() {
        let mut chooser = Chooser::listed(expected(1), Unlisted::Take);
        assert_eq!(chooser.consider(&hello(1)), Some(Accepted::Expected));
        assert_eq!(chooser.consider(&hello(2)), Some(Accepted::AcceptedAny));
    }

    #[test]
    fn a_flood_of_unlisted_nodes_is_not_kept() {
        let mut chooser = Chooser::listed(BTreeSet::new(), Unlisted::Ignore);
        for i in 0..1000u32 {
            let mut hello = hello(0);
            hello.fiduciary[..4].copy_from_slice(&i.to_be_bytes());
            chooser.consider(&hello);
        }
        assert_eq!(chooser.unlisted().count(), UNLISTED);
    }
}
