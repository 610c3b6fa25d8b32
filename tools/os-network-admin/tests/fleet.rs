//! Commands and updates to claimed nodes in memory, on tokio's paused clock, over a lane that loses what the test says.

mod fake;
#[path = "fake/member.rs"]
mod member;
#[path = "fleet/owners.rs"]
mod owners;
#[path = "fake/segment.rs"]
mod segment;
#[path = "fleet/shared.rs"]
mod shared;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    net::Ipv6Addr,
    time::Duration,
};

use fake::admin;
use member::{FLEET, Member};
use os_network_admin::{
    base::{
        error::{Error, Exit},
        host::System,
        mesh_key::MeshKey,
    },
    fleet::{
        View,
        account::{Account, Entry, settle},
        delivery::{self, Lane, News, Outcome, Task},
        peer,
        rules::explain,
    },
    output::Document,
    registry::{self, Registry, Rules},
};
use policy::{Configuration, Role};
use wire::{
    command::Operation,
    order::Order,
    set::{Authority, AuthoritySet},
    staged::CHUNK,
    telemetry::CommandResult,
};

const WAIT: Duration = Duration::from_secs(30);

/// Nodes by the registry's number of their member.
struct Nodes {
    nodes: HashMap<i64, Member>,
    records: VecDeque<(i64, News)>,
    /// Of the datagrams to come, and of the records: which are lost.
    lose: Box<dyn FnMut(usize) -> bool>,
    lose_records: Box<dyn FnMut(usize) -> bool>,
    lose_receipts: bool,
    sent: usize,
    told: usize,
}

impl Lane for Nodes {
    async fn send(&mut self, to: &registry::Member, _: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        self.sent += 1;
        if (self.lose)(self.sent) {
            return Ok(());
        }
        let Some(node) = self.nodes.get_mut(&to.id) else { return Ok(()) };
        let heard = node.hear(datagram);
        if std::mem::take(&mut node.sends)
            && let Some(receipt) = node.receipt
            && !self.lose_receipts
        {
            self.records.push_back((to.id, News::Receipt(receipt)));
        }
        if let Some(record) = heard {
            self.told += 1;
            if !(self.lose_records)(self.told) {
                self.records.push_back((to.id, News::Record(Box::new(record))));
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(i64, News), Error> {
        match self.records.pop_front() {
            Some(record) => Ok(record),
            None => pending().await,
        }
    }
}

struct Lab {
    folder: tempfile::TempDir,
    /// For as long as the test's process, so that what looks at it borrows nothing of this.
    registry: &'static Registry,
    nodes: Nodes,
}

impl Lab {
    async fn with(numbers: &[u8]) -> Self {
        Self::of(numbers, AuthoritySet::alone(Authority::signer(&admin().public()))).await
    }

    async fn of(numbers: &[u8], set: AuthoritySet) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        let grants = member::claim(&path, numbers, set).await;
        let registry: &'static Registry = Box::leak(Box::new(Registry::open(&path).unwrap()));
        let members = registry.members(&FLEET).unwrap();
        let nodes = members.iter().zip(numbers.iter().zip(&grants));
        let nodes = nodes.map(|(member, (number, grant))| (member.id, Member::new(*number, grant))).collect();
        let never = || Box::new(|_| false);
        let (records, lose, lose_records) = (VecDeque::new(), never(), never());
        let nodes = Nodes { nodes, records, lose, lose_records, lose_receipts: false, sent: 0, told: 0 };
        Self { folder, registry, nodes }
    }

    fn view(&self) -> View<'static> {
        let fleet = self.registry.fleet(&FLEET).unwrap().unwrap();
        let key = self.registry.make_mesh_key().unwrap();
        View::load(self.registry, &fleet, key.public()).unwrap()
    }

    /// The member of the node of this number.
    fn member(&self, at: usize) -> registry::Member {
        self.registry.members(&FLEET).unwrap().remove(at)
    }

    fn rules(&self, rules: &[&str]) {
        let rules: Rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        self.registry.set_fleet_rules(&FLEET, &rules).unwrap();
    }

    /// Rules and peers for an update of three chunks.
    fn grow(&self) {
        let rules: Vec<String> = (0..64).map(|port| format!("in peer tcp {}", 60000 + port)).collect();
        self.rules(&rules.iter().map(String::as_str).collect::<Vec<_>>());
        let fleet = self.registry.fleet(&FLEET).unwrap().unwrap();
        for number in 0..15 {
            let who = registry::Who::Peer(format!("laptop-{number}"));
            let key = [number + 100; 32];
            let new = registry::NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
            self.registry.enroll(&fleet, &new).unwrap();
        }
        let view = self.view();
        let length = view.configuration(&self.member(0)).unwrap().len() + size_of::<Order>();
        assert!((2 * CHUNK..3 * CHUNK).contains(&length), "{length}");
    }

    async fn command(&mut self, operation: Operation) -> Outcome {
        self.task(Task::Command(operation)).await
    }

    async fn rejoin(&mut self) -> Outcome {
        self.task(Task::Rejoin).await
    }

    async fn task(&mut self, task: Task) -> Outcome {
        let (view, member) = (self.view(), self.member(0));
        let tasks = vec![(&member, task)];
        delivery::run(&mut self.nodes, self.registry, &view, &admin(), tasks, WAIT).await.remove(0)
    }

    /// Updates all that lack something.
    async fn settle(&mut self) -> Account {
        let view = self.view();
        let behind = view.behind().unwrap();
        settle(&mut self.nodes, &view, &admin(), behind, WAIT).await
    }

    async fn update(&mut self) -> Vec<Outcome> {
        self.settle().await.entries.into_iter().map(|entry| entry.outcome).collect()
    }

    fn node(&mut self, at: usize) -> &mut Member {
        let id = self.member(at).id;
        self.nodes.nodes.get_mut(&id).unwrap()
    }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. })
}

#[tokio::test(start_paused = true)]
async fn a_claimed_node_has_a_configuration_that_it_can_read_and_obeys_commands() {
    let mut lab = Lab::with(&[1]).await;
    assert_eq!(lab.node(0).parsed().peers.len(), 1);
    assert!(is_done(&lab.command(Operation::Status).await));
    assert!(is_done(&lab.command(Operation::Isolate).await));
    assert_eq!(lab.node(0).record.isolated, 1);
    assert!(is_done(&lab.rejoin().await));
    assert!(is_done(&lab.command(Operation::Rotate).await));
    assert_eq!((lab.node(0).record.isolated, lab.node(0).dropped), (0, 0));
    // Obeyed is not enough: it is waited for until it shows.
    lab.node(0).late = true;
    let Outcome::Done { record, .. } = lab.command(Operation::Isolate).await else { panic!("not done") };
    assert_eq!(record.isolated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_survives_loss_either_way_and_is_not_taken_for_obeyed_without_a_record() {
    let mut lab = Lab::with(&[1]).await;
    lab.nodes.lose = Box::new(|sent| sent < 6);
    assert!(is_done(&lab.command(Operation::Isolate).await));
    // Records are lost: the same counter is a replay to the node, so another comes.
    lab.nodes.lose = Box::new(|_| false);
    lab.nodes.lose_records = Box::new(|told| told < 4);
    assert!(is_done(&lab.rejoin().await));
    lab.nodes.lose_records = Box::new(|_| true);
    assert_eq!(lab.command(Operation::Status).await, Outcome::NoAnswer);
    lab.nodes.lose = Box::new(|_| true);
    assert_eq!(lab.command(Operation::Status).await, Outcome::NoAnswer);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_obeyed_a_higher_counter_shows_it_and_is_told_above_it() {
    let mut lab = Lab::with(&[1]).await;
    assert!(is_done(&lab.command(Operation::Status).await));
    let ahead = lab.node(0).counter + 1_000_000;
    lab.node(0).counter = ahead;
    lab.node(0).record.counter = ahead.into();
    let (id, record) = (lab.member(0).id, lab.node(0).record);
    lab.nodes.records.push_back((id, News::Record(Box::new(record))));
    assert!(is_done(&lab.command(Operation::Status).await));
    assert!(lab.node(0).counter > ahead);
}

#[tokio::test(start_paused = true)]
async fn what_came_of_another_authority_s_command_is_not_taken_for_ones_own() {
    let mut lab = Lab::with(&[1]).await;
    assert!(is_done(&lab.command(Operation::Status).await));
    let (id, counter) = (lab.member(0).id, lab.node(0).counter);
    for (result, commanded) in
        [(CommandResult::Refused, Operation::Apply), (CommandResult::Unreadable, Operation::Status)]
    {
        for counter in counter..counter + 100 {
            let mut record = lab.node(0).record;
            (record.counter, record.operation, record.result) = (counter.into(), commanded.into(), result.into());
            record.authority = 1;
            lab.nodes.records.push_back((id, News::Record(Box::new(record))));
        }
        match commanded {
            Operation::Apply => {
                lab.grow();
                assert!(lab.update().await.iter().all(is_done));
            }
            _ => assert!(is_done(&lab.command(Operation::Status).await)),
        }
        lab.nodes.records.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_switched_off_and_remembers_its_counters_rounded_up_is_told_above_them() {
    let mut lab = Lab::with(&[1]).await;
    assert!(is_done(&lab.command(Operation::Status).await));
    // Since power-up it has obeyed nothing, so only the floor says it: heard while it is told, or known beforehand.
    for known in [false, true] {
        let floor = lab.node(0).counter + 1_000_000;
        lab.node(0).counter = floor;
        lab.node(0).record.counter = 0.into();
        lab.node(0).record.command_floors[0] = floor.into();
        let (id, record) = (lab.member(0).id, lab.node(0).record);
        if known {
            lab.registry.store_shown(id, &record).unwrap();
        } else {
            lab.nodes.records.push_back((id, News::Record(Box::new(record))));
        }
        lab.nodes.sent = 0;
        assert!(is_done(&lab.command(Operation::Status).await));
        assert!(lab.node(0).counter > floor);
        assert!(!known || lab.nodes.sent == 1, "{} were sent", lab.nodes.sent);
    }
    // Of other authorities the floors are their own.
    lab.node(0).record.command_floors = [u32::MAX; 7].map(Into::into);
    let counter = lab.node(0).counter;
    lab.node(0).record.command_floors[0] = counter.into();
    assert!(is_done(&lab.command(Operation::Status).await));
    assert_eq!(lab.node(0).counter, counter + 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_survives_the_loss_of_any_datagram() {
    for lost in 1..=4 {
        let mut lab = Lab::with(&[1]).await;
        lab.grow();
        lab.nodes.lose = Box::new(move |sent| sent == lost);
        let outcomes = lab.update().await;
        let [Outcome::Done { after, .. }] = outcomes[..] else { panic!("{lost}: {outcomes:?}") };
        // What was not whole is sent again as soon as the node says so.
        assert!(after < Duration::from_secs(1), "{lost}: {after:?}");
        assert_eq!((lab.node(0).parsed().rules.len(), lab.node(0).parsed().peers.len()), (64, 16));
    }
    let mut lab = Lab::with(&[1]).await;
    lab.grow();
    // Two of three are lost, of records one of two.
    lab.nodes.lose = Box::new(|sent| sent % 3 != 0);
    lab.nodes.lose_records = Box::new(|told| told % 2 == 1);
    assert!(lab.update().await.iter().all(is_done));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_says_why_and_one_that_is_not_there_holds_nobody_up() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    lab.rules(&["in authority icmp"]);
    lab.node(0).broken = Some(CommandResult::Store);
    let gone = lab.member(1).id;
    lab.nodes.nodes.remove(&gone);
    let outcomes = lab.update().await;
    assert_eq!(outcomes[..2], [Outcome::Refused(Some(CommandResult::Store)), Outcome::NoAnswer]);
    let Outcome::Done { after, .. } = outcomes[2] else { panic!("{outcomes:?}") };
    assert!(after < Duration::from_secs(1));
}

/// More exported peers than a node has room for.
fn crowd(lab: &Lab) {
    let fleet = lab.registry.fleet(&FLEET).unwrap().unwrap();
    for number in 0..17 {
        let who = registry::Who::Peer(format!("laptop-{number}"));
        let key = [number + 100; 32];
        let new = registry::NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
        lab.registry.enroll(&fleet, &new).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_member_is_accounted_for_and_the_end_is_the_worst_of_all() {
    let mut lab = Lab::with(&[1, 2, 3, 4, 5]).await;
    let done = lab.settle().await;
    assert_eq!((done.entries.len(), done.error()), (0, None));
    crowd(&lab);
    lab.rules(&["in authority icmp"]);
    let ids: Vec<i64> = (0..5).map(|at| lab.member(at).id).collect();
    lab.node(1).broken = Some(CommandResult::Store);
    lab.nodes.nodes.remove(&ids[2]);
    let peers: Rules = ["in peer tcp 22".parse().unwrap()].into_iter().collect();
    lab.registry.set_member_rules(ids[3], Some(&peers)).unwrap();
    let file = rusqlite::Connection::open(lab.folder.path().join("registry")).unwrap();
    file.execute("UPDATE member SET key = x'00' WHERE id = ?1", [ids[4]]).unwrap();

    let account = lab.settle().await;
    let [done, refused, silent, crowded, damaged] = &account.entries[..] else { panic!("{account:?}") };
    assert!(is_done(&done.outcome));
    assert_eq!(refused.outcome, Outcome::Refused(Some(CommandResult::Store)));
    assert_eq!(silent.outcome, Outcome::NoAnswer);
    let why = |entry: &Entry| match &entry.outcome {
        Outcome::NotComputable(why) => why.message.clone(),
        other => panic!("{other:?}"),
    };
    assert!(why(crowded).contains("more peers than the 16"), "{account:?}");
    assert!(why(damaged).contains("damaged"), "{account:?}");
    let error = account.error().unwrap();
    assert_eq!(error.exit, Exit::NotComputable);
    assert!(error.message.contains("2 of 5 nodes could not be told anything"), "{error}");
    // So has the log: what was begun, and how it ended with each.
    let outcomes = ["begun", "done", "refused", "not_shown", "not_computable"];
    assert_eq!(outcomes.map(|outcome| logged(lab.registry, "update", outcome)), [3, 1, 1, 1, 2]);

    // One after the other is mended.
    file.execute("UPDATE member SET key = zeroblob(32) WHERE id = ?1", [ids[4]]).unwrap();
    lab.registry.set_member_rules(ids[3], None).unwrap();
    lab.registry.revoke(ids[4]).unwrap();
    assert_eq!(lab.settle().await.error().unwrap().exit, Exit::Refused);
    lab.node(1).broken = None;
    let left = lab.settle().await;
    assert_eq!((left.entries.len(), left.error().unwrap().exit), (2, Exit::NotShown));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_that_it_has_something_else_is_told_again() {
    let mut lab = Lab::with(&[1]).await;
    lab.rules(&["in authority icmp"]);
    assert!(lab.update().await.iter().all(is_done));
    assert_eq!(lab.settle().await.entries, []);
    let (id, mut record) = (lab.member(0).id, lab.node(0).record);
    record.configuration = [7; 8];
    lab.registry.store_shown(id, &record).unwrap();
    assert_eq!(lab.update().await.len(), 1);
}

/// So many entries of the log are of this kind and outcome.
fn logged(registry: &Registry, kind: &str, outcome: &str) -> usize {
    let mut many = 0;
    let count = |_, signed: registry::Signed| {
        let entry = registry::Entry::parse(&signed.entry).unwrap();
        many += usize::from((entry.kind().as_str(), entry.outcome().as_str()) == (kind, outcome));
    };
    registry.audit(count).unwrap();
    many
}

/// A way that does not know one member, and breaks when nobody has anything to say.
struct Broken(Nodes, i64);

impl Lane for Broken {
    async fn send(&mut self, to: &registry::Member, at: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        if to.id == self.1 { Err(Error::network("unknown")) } else { self.0.send(to, at, datagram).await }
    }

    async fn next(&mut self) -> Result<(i64, News), Error> {
        self.0.records.pop_front().ok_or_else(|| Error::network("it broke"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_that_breaks_takes_nothing_from_those_who_were_told() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    lab.rules(&["in authority icmp"]);
    let [_, gone, unknown] = [0, 1, 2].map(|at| lab.member(at).id);
    lab.nodes.nodes.remove(&gone);
    let (view, behind) = (lab.view(), lab.view().behind().unwrap());
    let account = settle(&mut Broken(lab.nodes, unknown), &view, &admin(), behind, WAIT).await;
    let [done, gone, unknown] = &account.entries[..] else { panic!("{account:?}") };
    assert!(is_done(&done.outcome));
    assert_eq!(gone.outcome, Outcome::NotReached(Error::network("it broke")));
    assert_eq!(unknown.outcome, Outcome::NotReached(Error::network("unknown")));
    assert_eq!(account.error().unwrap().exit, Exit::Network);
    assert_eq!(view.behind().unwrap().len(), 2);
    // With no way at all each of them is named.
    let none = Account::unreached(view.registry, view.behind().unwrap(), &Error::network("down"));
    assert_eq!((none.entries.len(), none.error().unwrap().exit), (2, Exit::Network));
    let log = logged(view.registry, "update", "not_reached");
    assert_eq!(log, 4, "each of them twice");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_a_crowded_node_cannot_be_told_is_no_success() {
    let mut lab = Lab::with(&[1]).await;
    crowd(&lab);
    lab.rules(&["in peer tcp 22"]);
    for at in [1, 2] {
        lab.registry.revoke(lab.member(at).id).unwrap();
        let account = lab.settle().await;
        let expected = if at == 1 { Some(Exit::NotComputable) } else { None };
        assert_eq!((account.entries.len(), account.error().map(|error| error.exit)), (1, expected));
    }
    assert_eq!(lab.node(0).parsed().peers.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_was_signed_before_another_is_refused() {
    let mut lab = Lab::with(&[1]).await;
    lab.rules(&["in authority icmp"]);
    let (view, member) = (lab.view(), lab.member(0));
    let old = view.configuration(&member).unwrap();
    let old = delivery::update(lab.registry, &view, &admin(), &member, &old).unwrap();
    lab.rules(&["in authority tcp 80"]);
    assert!(lab.update().await.iter().all(is_done));
    let tasks = vec![(&member, old)];
    let replayed = delivery::run(&mut lab.nodes, lab.registry, &view, &admin(), tasks, WAIT).await;
    assert_eq!(replayed, [Outcome::Refused(Some(CommandResult::Refused))]);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_another_administrator_commands_nothing() {
    let mut lab = Lab::with(&[1]).await;
    let (view, member) = (lab.view(), lab.member(0));
    let other = crypto::AnchorSecret::from_seed(&[77; 32]);
    let tasks = vec![(&member, Task::Command(Operation::Status))];
    let outcome = delivery::run(&mut lab.nodes, lab.registry, &view, &other, tasks, WAIT).await.remove(0);
    let Outcome::NotComputable(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.message.contains("no authority of"), "{error}");
    assert!(delivery::update(lab.registry, &view, &other, &member, &[]).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_revoked_leave_every_node_that_knew_them_and_are_not_told() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    lab.rules(&["in node tcp 80", "out node tcp 80"]);
    assert!(lab.update().await.iter().all(is_done));
    for at in 0..3 {
        let wanted = lab.node(at).configuration.clone();
        let id = lab.member(at).id;
        lab.registry.store_configuration(id, &wanted, 1).unwrap();
        assert_eq!(lab.node(at).parsed().peers.len(), 3);
    }
    let (view, revoked) = (lab.view(), lab.member(1));
    let would = lab.registry.trial(|registry| {
        registry.revoke(revoked.id)?;
        view.behind()
    });
    assert_eq!((would.unwrap().len(), view.behind().unwrap().len()), (2, 0));
    let revoked = (revoked.id, revoked.key);
    lab.registry.revoke(revoked.0).unwrap();
    let outcomes = lab.update().await;
    assert_eq!(outcomes.iter().filter(|outcome| is_done(outcome)).count(), 2);
    for at in [0, 2] {
        let peers: Vec<_> = lab.node(at).parsed().peers.iter().map(|peer| peer.key).collect();
        assert!(peers.len() == 2 && !peers.contains(&revoked.1));
    }
    assert_eq!(lab.node(1).parsed().peers.len(), 3, "the revoked node is told nothing");
    let member = lab.registry.member(revoked.0).unwrap().unwrap();
    assert!(delivery::update(lab.registry, &view, &admin(), &member, &[]).err().unwrap().message.contains("revoked"));
}

#[tokio::test(start_paused = true)]
async fn explain_says_which_rule_and_why_not() {
    let mut lab = Lab::with(&[1]).await;
    lab.rules(&["in authority icmp", "in authority tcp 80", "in peer tcp 22"]);
    let (lab_registry, id) = (lab.registry, lab.member(0).id);
    let ask = |view: &View<'_>, flow: &str| {
        explain(view, &lab_registry.member(id).unwrap().unwrap(), &flow.parse().unwrap()).unwrap()
    };
    let view = lab.view();
    let early = ask(&view, "in authority tcp 80");
    assert_eq!((early.allowed, early.applied, early.in_force, early.rule), (false, false, Some(false), Some(2)));
    assert!(early.text().starts_with("not applied yet: "), "{}", early.text());
    assert!(lab.update().await.iter().all(is_done));
    let view = lab.view();
    let applied = ask(&view, "in authority tcp 80");
    assert_eq!((applied.allowed, applied.applied, applied.rule), (true, true, Some(2)));
    assert!(ask(&view, "in peer tcp 22").because.contains("rule 3 of the fleet's rules"));
    assert!(ask(&view, "in peer tcp 22").because.contains("no such peer yet"));
    for flow in ["out authority tcp 80", "in authority tcp 81", "in node tcp 80", "out peer icmp"] {
        let explained = ask(&view, flow);
        assert!(!explained.allowed && explained.because.contains("what is not named is denied"), "{flow}");
    }
    // What was taken away is still there until the node has shown otherwise.
    lab.rules(&["in authority icmp", "in peer tcp 22"]);
    let late = ask(&lab.view(), "in authority tcp 80");
    assert_eq!((late.allowed, late.in_force), (false, Some(true)));
    assert!(late.text().contains("which lets this pass"), "{}", late.text());
    assert!(lab.update().await.iter().all(is_done));
    // A node that says that it has something else has not applied it.
    let mut other = lab.node(0).record;
    other.configuration = [7; 8];
    lab.registry.store_shown(id, &other).unwrap();
    let unknown = ask(&lab.view(), "in peer tcp 22");
    assert_eq!((unknown.allowed, unknown.in_force), (false, None));
    // An isolated node has none with peers.
    let mut record = lab.node(0).record;
    record.isolated = 1;
    lab.registry.store_shown(id, &record).unwrap();
    let view = lab.view();
    assert!(ask(&view, "in peer tcp 22").because.contains("isolated"));
    assert!(ask(&view, "in authority icmp").allowed);
}

#[tokio::test(start_paused = true)]
async fn an_exported_peer_and_the_nodes_that_let_it_in_have_one_preshared_key() {
    let lab = Lab::with(&[1]).await;
    lab.rules(&["in peer tcp 22"]);
    let who = registry::Who::Peer("laptop".into());
    let secret = MeshKey::generate(&System).unwrap();
    let fleet = lab.registry.fleet(&FLEET).unwrap().unwrap();
    let new = registry::NewMember { who: &who, key: secret.public(), claim_key: None, underlay: None, authority: None };
    let laptop = lab.registry.enroll(&fleet, &new).unwrap();
    let view = lab.view();
    let text = peer::configuration(&view, &laptop, Some(&secret), Some("eth0")).unwrap();
    let node = Configuration::parse(&view.configuration(&lab.member(0)).unwrap()).unwrap();
    let known = node.peers.iter().find(|peer| peer.key == secret.public()).unwrap();
    assert_eq!((known.role, known.endpoint), (Role::Peer, None));
    let preshared = os_network_admin::base::mesh_key::encode(&known.preshared.as_ref().unwrap().0);
    for line in [
        format!("PrivateKey = {}", secret.text().as_str()),
        format!("PresharedKey = {}", preshared.as_str()),
        "Address = 10.8.0.3/32, fd05:505:505:505::3/128".into(),
        "AllowedIPs = 10.8.0.2/32, fd05:505:505:505::2/128".into(),
        "Endpoint = [fe80::1%eth0]:51820".into(),
        "MTU = 1420".into(),
        "PostUp = ip -6 neighbour replace fe80::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent".into(),
        "PostDown = ip -6 neighbour delete fe80::1 dev eth0 || true".into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{}", text.as_str());
    }
    // Where the interface is not named, both wait for its name.
    let unnamed = peer::configuration(&view, &laptop, Some(&secret), None).unwrap();
    for comment in ["# Endpoint = [fe80::1%IF]:51820", "# PostUp = ip -6 neighbour replace fe80::1 "] {
        assert!(unnamed.lines().any(|line| line.starts_with(comment)), "{comment}\n{}", unnamed.as_str());
    }
    // With no rule about peers a peer has nobody to talk to.
    lab.rules(&[]);
    assert!(!peer::configuration(&lab.view(), &laptop, None, None).unwrap().contains("[Peer]"));
}
