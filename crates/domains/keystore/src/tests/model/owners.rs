//! What the owners do together, in the model.

use calls::keystore::for_lifecycle::{Adopt, Order as CallOrder};
use wire::{order::Release, receipt};

use super::{
    super::orders::{configure, let_go, rejoin},
    *,
};

impl Life {
    pub fn configure(&mut self, ahead: i8, right_key: bool, configuration: Option<u8>) {
        let stored = self.stored;
        let title = stored.title.unwrap_or(Title::new_zeroed());
        let mut order = configure(&title, stored.counter.saturating_add_signed(ahead.into()), 0);
        order.body = configuration.map_or(stored.configuration, |byte| [byte; 32]);
        let (counter, configuration) = (order.counter.get(), order.body);
        let in_force = (counter, configuration) == (stored.counter, stored.configuration);
        let expected = self.ordered(counter, in_force, right_key).map(|()| Stored { counter, configuration, ..stored });
        self.order(&order, &[], right_key, expected, in_force);
    }

    pub fn rejoin(&mut self, right_key: bool, right_isolation: bool) {
        let stored = self.stored;
        let title = stored.title.unwrap_or(Title::new_zeroed());
        let counter = stored.counter + 1;
        let (order, body) = rejoin(&title, counter, [0, stored.isolation + u32::from(!right_isolation)]);
        let expected = self.ordered(counter, false, right_key).and(if stored.isolated && right_isolation {
            Ok(Stored { counter, isolated: false, isolation: 0, ..stored })
        } else {
            Err(Refusal::Stale)
        });
        self.order(&order, &body, right_key, expected, false);
    }

    pub fn release(&mut self, right_key: bool, ticket: bool) {
        let stored = self.stored;
        // Faults on the way to a ticket have tests of their own.
        let ticket = ticket && self.fault.is_none();
        let title = stored.title.unwrap_or(Title::new_zeroed());
        let next = AnchorSecret::from_seed(&[0xc0 | (stored.epoch as u8 & 0x1f); 32]);
        let release = match ticket {
            true => Release::to_ticket(),
            false => Release::to_anchor(&Anchor::alone(&next.public()), false),
        };
        let counter = stored.counter + 1;
        let (order, body) = let_go(&title, counter, &release);
        let expected = self.ordered(counter, false, right_key).map(|()| {
            let Stored { epoch, forked, .. } = stored;
            Stored { epoch: epoch + 1, released: epoch, forked, ..Stored::default() }
        });
        let before = stored.epoch;
        self.order(&order, &body, right_key, expected, false);
        if self.stored.epoch == before {
            return;
        }
        // What was said in the time before is of no use any more.
        (self.live, self.identity, self.last, self.record) = (None, None, None, None);
        self.anchor = if ticket {
            let secret = self.rig.shown_ticket().unwrap().secret;
            self.rig.tickets.push(secret);
            AnchorSecret::from_seed(&secret)
        } else {
            next
        };
        let receipt = self.rig.receipt().unwrap();
        assert_eq!((receipt.kind(), receipt.number.get()), (Some(receipt::Kind::Release), before));
    }

    /// What every order is first held to.
    fn ordered(&self, counter: u64, in_force: bool, right_key: bool) -> Result<(), Refusal> {
        match self.stored {
            Stored { claimed: false, .. } => Err(Refusal::NotReady),
            Stored { counter: last, .. } if counter <= last && !in_force => Err(Refusal::Stale),
            _ if !right_key => Err(Refusal::Forged),
            _ => Ok(()),
        }
    }

    fn order(&mut self, order: &Order, body: &[u8], right_key: bool, expected: Result<Stored, Refusal>, done: bool) {
        let signed = order.sign(&if right_key { owner(self.stored.set) } else { stranger() }, 0);
        if done && expected.is_ok() {
            assert_eq!(self.rig.order(&signed, body), Ok(()));
            return;
        }
        let request = OrderRequest::new(&signed, body).unwrap();
        let _ = self.store::<CallOrder>(Channel::Lifecycle, &request, expected, expected.ok());
    }

    pub fn adopt(&mut self, set: u8, step: u64, right_record: bool, right_key: bool) {
        let stored = self.stored;
        let title = stored.title.unwrap_or(Title::new_zeroed());
        let mut previous = title.warrant.record;
        previous[0] ^= u8::from(!right_record);
        let next = AuthoritySet::alone(place_of(&owner(set)));
        let sequence = title.warrant.sequence.get() + step;
        let old = if right_key { owner(stored.set) } else { stranger() };
        let record = AuthorityRecord::new(&title.warrant.fleet, sequence, &previous, &next);
        let record = record.sign_as_old(&old, 0).sign_as_new(&owner(set), 0);
        let expected = match stored {
            Stored { claimed: false, .. } => Err(Refusal::NotReady),
            _ if step != 1 => Err(Refusal::Stale),
            _ if !right_record || !right_key => Err(Refusal::Forged),
            _ => {
                let title = Some(title.under(&record));
                Ok(Stored { title, set, command: 0, command_floor: 0, ..stored })
            }
        };
        if self.store::<Adopt>(Channel::Lifecycle, &record, expected, expected.ok()).is_ok() {
            let receipt = self.rig.receipt().unwrap();
            assert!(receipt.verify().is_some());
            assert_eq!((receipt.number.get(), receipt.hash), (sequence, record.hash()));
        }
    }
}
