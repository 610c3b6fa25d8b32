//! What the owners of nodes decide: letting them go, and another set in their place.

use crypto::AnchorSecret;
use os_network_admin::{
    base::{
        error::{Error, Exit},
        paper::{Approval, Change, Decree, Papers},
    },
    fleet::{
        account::Account,
        authority::{self, Wish},
        decree,
        delivery::Outcome,
        parting,
    },
    output::{Document, Left},
    registry::MAX_RECEIPTS,
};
use wire::{
    Hash,
    anchor::{Anchor, AnchorFile},
    order::Release,
    receipt::{Kind as Proof, Receipt},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
};

use super::{Duration, FLEET, Lab, Member, WAIT, admin, logged};

impl Lab {
    async fn release(&mut self, places: &[usize], release: &Release) -> Account {
        let members = places.iter().map(|at| self.member(*at)).collect();
        let view = self.view();
        parting::run(&mut self.nodes, &view, &admin(), members, release, WAIT).await
    }

    /// What `nodes list` says of the node.
    fn word(&self, at: usize) -> Option<&'static str> {
        let member = self.member(at);
        let node = self.registry.node(member.fiduciary().unwrap()).unwrap().unwrap();
        let parting = self.registry.parting(&node).unwrap();
        parting.map(|parting| os_network_admin::output::Parting::new(&parting).word())
    }
}

/// A receipt that the node can sign, whatever it has done.
fn signs(node: &Member, kind: Proof, fleet: &Hash, number: u64) -> Receipt {
    Receipt::sign(&node.seed, &crypto::sign_public(&node.seed), kind, fleet, number, &[1; 32])
}

fn foreign() -> Anchor {
    Anchor::alone(&crypto::AnchorSecret::from_seed(&[77; 32]).public())
}

#[tokio::test(start_paused = true)]
async fn nodes_are_let_go_and_each_signs_that_it_has_gone() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    let [first, second, _] = [0, 1, 2].map(|at| lab.member(at).id);
    // One loses its receipts on the way, one is not there.
    let release = Release::to_anchor(&foreign(), false);
    lab.nodes.lose_receipts = true;
    let account = lab.release(&[0], &release).await;
    assert_eq!(account.entries[0].outcome, Outcome::NoAnswer);
    assert_eq!(account.error().unwrap().exit, Exit::NotShown);
    assert_eq!(lab.word(0), Some("told to leave, no receipt yet"), "no status from memory");
    assert!(lab.node(0).left && lab.view().live().unwrap().len() == 3);
    lab.nodes.lose_receipts = false;
    let gone = lab.nodes.nodes.remove(&second).unwrap();
    let account = lab.release(&[1, 2], &release).await;
    assert_eq!(account.entries[0].outcome, Outcome::NoAnswer);
    let Outcome::Proved { receipt, .. } = &account.entries[1].outcome else { panic!("{account:?}") };
    assert_eq!((receipt.kind(), receipt.number.get()), (Some(Proof::Release), 1));
    assert_eq!(receipt.hash, AnchorFile::new(&foreign()).hash());
    let document = Left::new(&release, account.entries.iter().map(os_network_admin::fleet::show::told).collect());
    assert!(document.text().contains("told, no receipt yet") && document.text().ends_with("transferred: 1 of 2 nodes"));
    assert_eq!((lab.word(2), lab.view().live().unwrap().len()), (Some("transferred"), 2));
    // The same again: who has left is done, whoever is back is told.
    lab.nodes.nodes.insert(second, gone);
    let account = lab.release(&[1, 2], &release).await;
    assert!(account.error().is_none(), "{account:?}");
    assert_eq!((lab.word(1), lab.view().live().unwrap().len()), (Some("transferred"), 1));
    // A receipt that comes late counts as well.
    let late = lab.node(0).receipt.unwrap();
    assert_eq!(lab.registry.store_receipts([&late]).unwrap(), 0);
    assert_eq!((lab.word(0), lab.view().live().unwrap().len()), (Some("transferred"), 0));
    assert_eq!(lab.registry.member(first).unwrap().map(|member| member.revoked_ms.is_some()), Some(true));
    let log = ["begun", "done", "not_shown"].map(|outcome| logged(lab.registry, "released", outcome));
    assert_eq!(log, [4, 3, 2]);
    assert_eq!(logged(lab.registry, "receipt", "done"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_counts_only_if_it_is_this_nodes_of_this_fleet_and_claim() {
    let mut lab = Lab::with(&[1, 2]).await;
    let account = lab.release(&[0], &Release::to_ticket()).await;
    assert!(account.error().is_none() && lab.word(0) == Some("released"));
    let good = lab.node(0).receipt.unwrap();
    // What the other node signs, or anybody changes, lets it go nowhere.
    let seed = crypto::Secret::new([9; 32]);
    let own = *lab.member(1).fiduciary().unwrap();
    let other = Receipt { fiduciary: own, ..good };
    let forged = Receipt::sign(&seed, &own, Proof::Release, &FLEET, 1, &[1; 32]);
    let stranger = Receipt::sign(&seed, &crypto::sign_public(&seed), Proof::Release, &FLEET, 1, &[1; 32]);
    assert_eq!(lab.registry.store_receipts([&other, &forged, &stranger]).unwrap(), 3);
    assert_eq!((lab.word(1), lab.view().live().unwrap().len()), (None, 1));
    for (fleet, epoch) in [([6; 32], 1), (FLEET, 2), (FLEET, 0)] {
        let own = signs(lab.node(1), Proof::Release, &fleet, epoch);
        assert_eq!(lab.registry.store_receipts([&own]).unwrap(), 1, "{epoch}");
    }
    // Whoever is cut off comes back by no word of his own.
    let id = lab.member(1).id;
    lab.registry.revoke(id).unwrap();
    let own = signs(lab.node(1), Proof::Release, &FLEET, 1);
    assert_eq!(lab.registry.store_receipts([&own]).unwrap(), 1);
    assert_eq!(lab.word(1), None);
}

#[tokio::test(start_paused = true)]
async fn an_anchor_of_those_who_let_a_node_go_is_refused_before_anything_is_signed() {
    let mut lab = Lab::with(&[1]).await;
    let own = Anchor::alone(&admin().public());
    let members = [lab.member(0)];
    let refused = parting::check(&lab.view(), &members, &Release::to_anchor(&own, false)).unwrap_err();
    assert!(refused.exit == Exit::Input && refused.message.contains("--same-owner"), "{refused}");
    let same = Release::to_anchor(&own, true);
    parting::check(&lab.view(), &members, &same).unwrap();
    assert!(lab.release(&[0], &same).await.error().is_none());
    // A node that says no says why, and stays.
    let mut lab = Lab::with(&[2]).await;
    lab.node(0).broken = Some(wire::telemetry::CommandResult::Store);
    let account = lab.release(&[0], &Release::to_ticket()).await;
    assert_eq!(account.error().unwrap().exit, Exit::Refused);
    assert_eq!(lab.view().live().unwrap().len(), 1);
}

fn person(n: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&[n; 32])
}

/// The record, with the approvals of these.
fn approved(change: &Change, by: &[&AnchorSecret]) -> Papers {
    let approvals: Vec<Approval> = by.iter().map(|key| change.approve(key).unwrap()).collect();
    Papers { records: vec![change.clone()], approvals, ..Papers::default() }
}

impl Lab {
    fn propose(&self, add: &[&AnchorSecret], remove: &[usize], needed: u8) -> Result<Change, Error> {
        let add = add.iter().map(|key| Authority::signer(&key.public())).collect();
        let wish = Wish { add, remove: remove.into(), lost: Vec::new(), needed: Some(needed) };
        authority::propose(&self.view(), &wish)
    }

    /// All nodes are told, by this authority.
    async fn push(&mut self, by: &AnchorSecret) -> Account {
        let view = self.view();
        let members = view.live().unwrap().into_iter().map(|node| node.member).collect();
        authority::push(&mut self.nodes, &view, by, members, WAIT).await.unwrap()
    }

    /// The sets that nodes have, by their places.
    fn sets(&mut self) -> Vec<u64> {
        let members = self.registry.members(&FLEET).unwrap();
        members.iter().map(|member| self.nodes.nodes[&member.id].title.warrant.sequence.get()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_founder_hands_over_to_two_of_three_and_a_node_that_was_away_walks_every_step() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    let (ada, bob, eve) = (person(61), person(62), person(63));
    let first = lab.propose(&[&ada, &bob], &[], 2).unwrap();
    // Two of the new must sign, and both that are new; one of the old is all of it.
    let lacking = authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada])).unwrap_err();
    assert!(lacking.exit == Exit::Unapproved && lacking.message.contains("1 of those whose keys are new"), "{lacking}");
    authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada, &bob])).unwrap();
    // One is away.
    let away = lab.member(2).id;
    let gone = lab.nodes.nodes.remove(&away).unwrap();
    let account = lab.push(&admin()).await;
    assert_eq!(account.error().unwrap().exit, Exit::NotShown);
    assert!(matches!(account.entries[0].outcome, Outcome::Proved { .. }), "{account:?}");
    let status = authority::status(&lab.view()).unwrap();
    assert_eq!((status.set, status.has, status.of, status.needed), (1, 2, 3, 2));
    assert_eq!((status.behind.len(), status.behind[0].set, status.behind[0].state.as_str()), (1, 0, "behind"));
    assert!(
        status.text().ends_with("os-network-admin authority push`") && status.text().contains("set 1: 2 of 3 nodes")
    );
    // The next set has no founder; who is there obeys the new one, and the founder cannot speak to them any more.
    // This program refuses to propose that while somebody knows nobody but him; they do it all the same.
    assert!(lab.propose(&[&eve], &[0], 2).is_err());
    let set = AuthoritySet::new(2, &[&ada, &bob, &eve].map(|key| Authority::signer(&key.public()))).unwrap();
    let record = AuthorityRecord::new(&FLEET, 2, &first.record.hash(), &set);
    let second = Change { before: first.record.set, record, ..first };
    authority::adopt(&lab.view(), &approved(&second, &[&ada, &bob, &eve])).unwrap();
    for at in [0, 1] {
        obey(lab.node(at), at as u8 + 1, &ada);
    }
    let account = lab.push(&ada).await;
    assert!(matches!(account.entries[1].outcome, Outcome::Proved { .. }), "{account:?}");
    assert!(matches!(account.entries[2].outcome, Outcome::NotComputable(_)), "{account:?}");
    let status = authority::status(&lab.view()).unwrap();
    assert_eq!((status.set, status.has, status.behind[0].state.as_str()), (2, 2, "left"));
    assert!(status.behind[0].what.contains("a person at the device"), "{}", status.behind[0].what);
    let refused = lab.push(&admin()).await;
    assert!(refused.entries.iter().take(2).all(|entry| matches!(entry.outcome, Outcome::Proved { .. })));
    // It is back: the founder can tell it the first step, and from there the others do.
    lab.nodes.nodes.insert(away, gone);
    assert_eq!(lab.push(&admin()).await.error().unwrap().exit, Exit::NotShown);
    assert_eq!(lab.sets(), [2, 2, 1]);
    obey(lab.node(2), 3, &bob);
    let account = lab.push(&bob).await;
    assert!(account.error().is_none(), "{account:?}");
    assert_eq!(lab.sets(), [2, 2, 2]);
    let status = authority::status(&lab.view()).unwrap();
    assert_eq!((status.has, status.behind.len(), status.forks.len()), (3, 0, 0));
    assert_eq!(logged(lab.registry, "record_adopted", "done"), 2);
}

/// From now on it obeys this authority of its set; it is the node of that number.
pub fn obey(node: &mut Member, number: u8, authority: &AnchorSecret) {
    let keys = super::fake::Node::new(number, admin().public());
    let dh = authority.public().dh;
    node.command_key = wire::command::key(&keys.claim_key, &dh, &node.title).unwrap();
    let place = node.title.set.places().iter().position(|one| one.dh == dh);
    node.commander = place.map_or(0, |place| u8::try_from(place).unwrap());
    node.counter = 0;
}

#[tokio::test(start_paused = true)]
async fn a_lost_receipt_is_asked_for_and_two_steps_are_one_push() {
    let mut lab = Lab::with(&[1]).await;
    let ada = person(61);
    let first = lab.propose(&[&ada], &[], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada])).unwrap();
    lab.nodes.lose_receipts = true;
    assert_eq!(lab.push(&admin()).await.error().unwrap().exit, Exit::NotShown);
    assert_eq!((lab.sets(), authority::status(&lab.view()).unwrap().has), (vec![1], 0), "no receipt, no set");
    lab.nodes.lose_receipts = false;
    obey(lab.node(0), 1, &admin());
    // What it says of itself is no proof, but shows under which set it hears.
    let (id, record) = (lab.member(0).id, lab.node(0).record);
    lab.registry.store_shown(id, &record).unwrap();
    assert!(lab.push(&admin()).await.error().is_none());
    assert_eq!(authority::status(&lab.view()).unwrap().has, 1);
    // A node that is claimed now walks both of these in one push.
    let second = lab.propose(&[], &[1], 1).unwrap();
    authority::adopt(&lab.view(), &approved(&second, &[&admin(), &ada])).unwrap();
    lab.nodes.nodes.get_mut(&id).unwrap().commands_any = true;
    let account = lab.push(&admin()).await;
    assert!(account.error().is_none() && lab.sets() == [2], "{account:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_there_walks_all_steps_while_the_absent_are_waited_for_once() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    let (ada, bob) = (person(61), person(62));
    let first = lab.propose(&[&ada], &[], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada])).unwrap();
    let second = lab.propose(&[&bob], &[], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&second, &[&admin(), &ada, &bob])).unwrap();
    // One obeys, one is gone after the first step, one was never there.
    let [one, _, absent] = [0, 1, 2].map(|at| lab.member(at).id);
    lab.nodes.nodes.get_mut(&one).unwrap().commands_any = true;
    let gone = lab.nodes.nodes.remove(&absent).unwrap();
    let start = tokio::time::Instant::now();
    let account = lab.push(&admin()).await;
    assert!(start.elapsed() < WAIT + Duration::from_secs(2), "{:?}", start.elapsed());
    let outcomes: Vec<_> = account.entries.iter().map(|entry| &entry.outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::Proved { .. }, Outcome::NoAnswer, Outcome::NoAnswer]), "{outcomes:?}");
    lab.nodes.nodes.insert(absent, gone);
    assert_eq!(lab.sets(), [2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_would_leave_nodes_to_nobody_is_refused_before_anybody_signs() {
    let mut lab = Lab::with(&[1, 2]).await;
    let (ada, bob) = (person(61), person(62));
    let says = |wish: Result<Change, Error>, what: &str| {
        let error = wish.unwrap_err();
        assert!(error.exit == Exit::Input && error.message.contains(what), "{error}");
    };
    says(lab.propose(&[&ada, &bob], &[], 1), "no majority");
    says(lab.propose(&[&admin()], &[], 2), "one key twice");
    says(lab.propose(&[], &[0], 1), "it has no authority");
    says(lab.propose(&[], &[], 1), "is the one before");
    let lost = Wish { lost: vec![0], add: vec![Authority::signer(&ada.public())], ..Wish::default() };
    says(authority::propose(&lab.view(), &lost), "only a person at each device helps");
    // Nodes know the founder's place in the mesh. One was not told yet that he is one of two.
    let first = lab.propose(&[&ada], &[], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada])).unwrap();
    let lost = Wish { lost: vec![1], needed: Some(2), add: vec![Authority::signer(&bob.public())], ..Wish::default() };
    says(authority::propose(&lab.view(), &lost), "only a person");
    let gone = lab.member(1).id;
    lab.nodes.nodes.remove(&gone);
    assert!(lab.push(&admin()).await.error().is_some());
    says(lab.propose(&[&bob], &[0], 2), "the last authority that nodes which were not told yet can be reached by");
    // Who knows him stays: that is another matter.
    lab.propose(&[&bob], &[1], 2).unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_records_of_one_number_are_a_fork_that_names_who_signed_both() {
    let mut lab = Lab::with(&[1, 2]).await;
    let (ada, bob) = (person(61), person(62));
    let [one, other] = [&ada, &bob].map(|new| lab.propose(&[new], &[], 2).unwrap());
    authority::adopt(&lab.view(), &approved(&one, &[&admin(), &ada])).unwrap();
    assert!(lab.push(&admin()).await.error().is_none());
    // A liar has signed both, and somebody else's node follows the other.
    authority::adopt(&lab.view(), &approved(&other, &[&admin(), &bob])).unwrap();
    let status = authority::status(&lab.view()).unwrap();
    let [fork] = &status.forks[..] else { panic!("{status:?}") };
    assert_eq!((fork.set, fork.hashes.len()), (1, 2));
    let founder = os_network_admin::base::key::fingerprint(&admin().public()).to_string();
    assert_eq!(fork.both.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), [founder]);
    assert!(status.text().contains("FORK"));
    assert!(lab.propose(&[&person(64)], &[], 2).unwrap_err().message.contains("two records for set 1"));
    // From receipts alone it is seen as well: here only one of the records is known.
    let mut lab = Lab::with(&[1, 2]).await;
    authority::adopt(&lab.view(), &approved(&one, &[&admin(), &ada])).unwrap();
    let strange = signs(lab.node(1), Proof::Record, &FLEET, 1);
    assert_eq!(lab.registry.store_receipts([&strange]).unwrap(), 0);
    let account = lab.push(&admin()).await;
    assert!(matches!(account.entries[1].outcome, Outcome::NotComputable(_)), "{account:?}");
    let status = authority::status(&lab.view()).unwrap();
    assert_eq!((status.forks.len(), status.forks[0].both.len()), (1, 0));
    assert_eq!(status.behind[0].state, "unknown");
}

/// What a member signs beside the truth neither holds the others up nor passes for it.
#[tokio::test(start_paused = true)]
async fn a_node_that_signs_what_it_likes_ends_its_own_walk_and_nobody_elses() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    let ada = person(61);
    let first = lab.propose(&[&ada], &[], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&first, &[&admin(), &ada])).unwrap();
    // One has filled its room with receipts that say nothing; no more are kept, and that is said.
    let seed = &lab.nodes.nodes[&lab.member(0).id].seed;
    let of = |hash: u8| Receipt::sign(seed, &crypto::sign_public(seed), Proof::Record, &FLEET, 0, &[hash; 32]);
    let junk: Vec<Receipt> = (0..70).map(of).collect();
    assert_eq!(lab.registry.store_receipts(&junk).unwrap(), 70 - MAX_RECEIPTS as u64);
    assert_eq!(lab.registry.store_receipts(&junk[..MAX_RECEIPTS]).unwrap(), 0, "those are here");
    // Another signs for a record that nobody knows here.
    lab.node(1).ahead = 7;
    let account = lab.push(&admin()).await;
    let Outcome::NotComputable(error) = &account.entries[0].outcome else { panic!("{account:?}") };
    assert!(error.message.contains("could not be kept"), "{error}");
    assert!(matches!(account.entries[1].outcome, Outcome::Otherwise(_)), "{account:?}");
    assert!(matches!(account.entries[2].outcome, Outcome::Proved { .. }), "{account:?}");
    assert!(account.error().is_some());
    let status = authority::status(&lab.view()).unwrap();
    assert_eq!((status.has, status.of), (1, 3));
    assert!(logged(lab.registry, "record_told", "done") == 1 && logged(lab.registry, "record_told", "refused") == 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_no_node_would_take_is_not_kept() {
    let lab = Lab::with(&[1]).await;
    let ada = person(61);
    let good = lab.propose(&[&ada], &[], 2).unwrap();
    let view = lab.view();
    type Edit = fn(&mut Change);
    let edits: [(Edit, AnchorSecret, &str); 3] = [
        (|change| change.record.fleet = [9; 32], admin(), "for another fleet"),
        (
            |change| (change.record.sequence, change.record.previous) = (2.into(), [7; 32]),
            admin(),
            "follows one that is not here",
        ),
        // Somebody says that he was the set before.
        (
            |change| change.before = AuthoritySet::alone(Authority::signer(&person(63).public())),
            person(63),
            "no node would take",
        ),
    ];
    for (edit, signer, why) in edits {
        let mut wrong = good.clone();
        edit(&mut wrong);
        let by: &[&AnchorSecret] = if why.starts_with("no") { &[&signer, &ada, &admin()] } else { &[&signer, &ada] };
        let error = authority::adopt(&view, &approved(&wrong, by)).unwrap_err();
        assert!(error.message.contains(why), "{error}");
    }
    assert!(view.registry.records(&FLEET).unwrap().is_empty());
}

/// Owned by the administrator and two more, of whom two must sign.
async fn several(numbers: &[u8]) -> (Lab, [AnchorSecret; 3]) {
    let people = [admin(), person(61), person(62)];
    let set = AuthoritySet::new(2, &people.each_ref().map(|key| Authority::signer(&key.public()))).unwrap();
    (Lab::of(numbers, set).await, people)
}

impl Lab {
    fn ordered(&self, wish: &decree::Wish) -> Vec<Decree> {
        let members = self.registry.members(&FLEET).unwrap();
        let view = self.view();
        members.iter().map(|member| decree::propose(&view, member, wish, 9_000_000_000).unwrap()).collect()
    }

    async fn deliver(&mut self, papers: &Papers) -> Result<Account, Error> {
        let view = self.view();
        decree::deliver(&mut self.nodes, &view, &admin(), papers, WAIT).await
    }

    fn states(&self, papers: &Papers) -> Vec<decree::State> {
        let view = self.view();
        let state = |one: &Decree| decree::state(Some(&view), one, &one.standing(papers)).unwrap();
        papers.orders.iter().map(state).collect()
    }
}

fn signed(orders: &[Decree], by: &[&AnchorSecret]) -> Papers {
    let approvals = orders.iter().flat_map(|one| by.iter().map(|key| one.approve(key).unwrap())).collect();
    Papers { orders: orders.to_vec(), approvals, ..Papers::default() }
}

#[tokio::test(start_paused = true)]
async fn two_of_three_sign_an_update_and_a_release_apart_and_each_state_is_seen() {
    use decree::State::{Approved, Delivered, Proposed};
    let (mut lab, [founder, ada, bob]) = several(&[1, 2]).await;
    lab.rules(&["in authority icmp"]);
    // This program makes one signature, and says what is to be done.
    let refused = lab.settle().await;
    let Outcome::NotComputable(why) = &refused.entries[0].outcome else { panic!("{refused:?}") };
    assert!(why.message.contains("--out FILE"), "{why}");
    let bytes = lab.view().behind().unwrap().remove(0).owed.unwrap().configuration;
    let mut orders = Vec::new();
    for at in [0, 1] {
        let (view, member) = (lab.view(), lab.member(at));
        let wish = decree::Wish::Configuration(view.configuration(&member).unwrap());
        orders.push(decree::propose(&view, &member, &wish, 9_000_000_000).unwrap());
    }
    assert_eq!(orders[0].body, bytes);
    assert!(decree::differences(&lab.view(), &orders[0]).unwrap().contains(&"rule comes: in authority icmp".into()));
    let one = signed(&orders, &[&ada]);
    assert_eq!(lab.states(&one), [Proposed, Proposed]);
    let lacking = lab.deliver(&one).await.unwrap_err();
    assert!(lacking.exit == Exit::Unapproved && lacking.message.contains("1 of the 2"), "{lacking}");
    let both = signed(&orders, &[&ada, &bob]);
    assert_eq!(lab.states(&both), [Approved, Approved]);
    // One is away: it is told later, with the same files, and the other not again.
    let id = lab.member(1).id;
    let gone = lab.nodes.nodes.remove(&id).unwrap();
    assert_eq!(lab.deliver(&both).await.unwrap().error().unwrap().exit, Exit::NotShown);
    assert_eq!(lab.states(&both), [Delivered, Approved]);
    lab.nodes.nodes.insert(id, gone);
    let account = lab.deliver(&both).await.unwrap();
    assert!(account.error().is_none() && account.entries[0].outcome == Outcome::Current, "{account:?}");
    assert_eq!(lab.states(&both), [Delivered, Delivered]);
    assert_eq!(lab.node(1).parsed().rules.len(), 1);
    // An isolation is one authority's, its end is not.
    assert!(matches!(lab.command(wire::command::Operation::Isolate).await, Outcome::Done { .. }));
    let (id, record) = (lab.member(0).id, lab.node(0).record);
    lab.registry.store_shown(id, &record).unwrap();
    let (view, member) = (lab.view(), lab.member(0));
    let rejoin = [decree::propose(&view, &member, &decree::Wish::Rejoin, 9_000_000_000).unwrap()];
    let papers = signed(&rejoin, &[&founder, &bob]);
    assert!(lab.deliver(&papers).await.unwrap().error().is_none());
    assert_eq!((lab.node(0).record.isolated, lab.states(&papers)), (0, vec![Delivered]));
    // Both are let go.
    let release = lab.ordered(&decree::Wish::Release(Box::new(Release::to_ticket())));
    assert_eq!(lab.deliver(&signed(&release, &[&founder])).await.unwrap_err().exit, Exit::Unapproved);
    assert_eq!(lab.word(0), None, "nothing was begun");
    let papers = signed(&release, &[&founder, &ada]);
    assert!(lab.deliver(&papers).await.unwrap().error().is_none());
    assert_eq!((lab.word(0), lab.states(&papers)), (Some("released"), vec![Delivered, Delivered]));
}

#[tokio::test(start_paused = true)]
async fn an_order_of_a_set_that_is_no_more_is_told_to_nobody() {
    let (mut lab, [founder, ada, bob]) = several(&[1]).await;
    let release = lab.ordered(&decree::Wish::Release(Box::new(Release::to_ticket())));
    let change = lab.propose(&[&person(63)], &[2], 2).unwrap();
    authority::adopt(&lab.view(), &approved(&change, &[&founder, &ada, &person(63)])).unwrap();
    assert!(lab.push(&founder).await.error().is_none());
    let account = lab.deliver(&signed(&release, &[&ada, &bob])).await.unwrap();
    assert_eq!(account.error().unwrap().exit, Exit::NotComputable);
    // Nor one that is out of date.
    let view = lab.view();
    let old =
        [decree::propose(&view, &lab.member(0), &decree::Wish::Release(Box::new(Release::to_ticket())), 5).unwrap()];
    assert!(lab.deliver(&signed(&old, &[&founder, &ada])).await.unwrap_err().message.contains("has expired"));
}
