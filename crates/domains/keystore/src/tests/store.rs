//! `store` restarted, silent, lying or failing at each step of each commit: the node has the state of before or the one
//! after, knows which before it serves anything by it, and writes no number twice (the fake sees to that).

use calls::{
    keystore::{
        OpenBlockRequest, SealBlockRequest,
        for_beacon::{BeaconRandom, CheckFind, MakeHello},
        for_claim::ClaimKey,
        for_lifecycle::{Adopt, OpenBlock, Order as CallOrder, SealBlock, Settle, Status, StoreDown},
        for_mesh::{CheckCommand, MeshKey, StartMeshHandshake},
    },
    store::{BLOCK, Finding, MAX_BLOCKS},
};
use wire::{command::Operation, handshake::StartHandshake};

use super::{
    command::key_of,
    disk::Fault,
    orders::{configure, follow},
    *,
};

/// A commit, as a client asks for it, and what shows that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Fork,
    Find,
    Commit,
    Acknowledge,
    Settle,
    Order,
    Adopt,
    Command,
    Isolate,
}

const FLOWS: [Flow; 9] = [
    Flow::Fork,
    Flow::Find,
    Flow::Commit,
    Flow::Acknowledge,
    Flow::Settle,
    Flow::Order,
    Flow::Adopt,
    Flow::Command,
    Flow::Isolate,
];

struct Life {
    rig: Rig,
    flow: Flow,
    anchor: AnchorSecret,
    title: Title,
    record: [u8; 32],
}

impl Life {
    /// On the eve of it.
    fn before(flow: Flow) -> Self {
        let mut rig = Rig::new(Board::ticket());
        let anchor = AnchorSecret::from_seed(&ticket_seed(&rig.board));
        let mut title = bind(&rig.identify().unwrap(), &anchor, 10);
        let mut record = [0; 32];
        if !matches!(flow, Flow::Fork | Flow::Find | Flow::Commit) {
            record = rig.commit(&title).unwrap().hash();
            rig.guard_command_keys(&title);
            if matches!(flow, Flow::Order | Flow::Adopt) {
                rig.settle().unwrap();
            }
        } else if flow == Flow::Commit {
            title = bind(&rig.identify().unwrap(), &anchor, 10);
        }
        Self { rig, flow, anchor, title, record }
    }

    fn command(&self) -> Command {
        let operation = if self.flow == Flow::Isolate { Operation::Isolate } else { Operation::Status };
        let key = key_of(&authority(), &self.title, &self.rig);
        Command::new(&key, &self.title.warrant.fiduciary, operation, 0, 5)
    }

    fn ask(&mut self) {
        let (find, command) = (Find::sign(&self.anchor, 7, SENDER.0, SENDER.1), self.command());
        let order = OrderRequest::new(&configure(&self.title, 20, 9).sign(&authority(), 0), &[]).unwrap();
        let record = follow(&self.title, 0, &[0; 32], &authority(), &stranger());
        let Rig { lifecycle, beacon, claim, mesh, .. } = &mut self.rig;
        match self.flow {
            Flow::Fork => lifecycle.call::<Fork>(&(), 0, Patience::ENDLESS),
            Flow::Find => beacon.call::<CheckFind>(&find, 0, Patience::ENDLESS),
            Flow::Commit => claim.call::<Commit>(&self.title, 0, Patience::ENDLESS),
            Flow::Acknowledge => claim.call::<Acknowledge>(&self.record, 0, Patience::ENDLESS),
            Flow::Settle => lifecycle.call::<Settle>(&(), 0, Patience::ENDLESS),
            Flow::Order => lifecycle.call::<CallOrder>(&order, 0, Patience::ENDLESS),
            Flow::Adopt => lifecycle.call::<Adopt>(&record, 0, Patience::ENDLESS),
            Flow::Command | Flow::Isolate => mesh.call::<CheckCommand>(&command, 0, Patience::ENDLESS),
        }
    }

    fn outcome(&mut self) -> Option<Result<(), Refusal>> {
        let rig = &mut self.rig;
        match self.flow {
            Flow::Fork => rig.outcome::<Fork>(Channel::Lifecycle),
            Flow::Find => rig.outcome::<CheckFind>(Channel::Beacon).map(|outcome| outcome.map(drop)),
            Flow::Commit => rig.outcome::<Commit>(Channel::Claim).map(|outcome| outcome.map(drop)),
            Flow::Acknowledge => rig.outcome::<Acknowledge>(Channel::Claim),
            Flow::Settle => rig.outcome::<Settle>(Channel::Lifecycle),
            Flow::Order => rig.outcome::<CallOrder>(Channel::Lifecycle),
            Flow::Adopt => rig.outcome::<Adopt>(Channel::Lifecycle),
            Flow::Command | Flow::Isolate => {
                rig.outcome::<CheckCommand>(Channel::Mesh).map(|outcome| outcome.map(drop))
            }
        }
    }

    /// Asks for it until it is done or was before.
    fn end(&mut self) {
        self.ask();
        self.rig.run();
        match (self.flow, self.outcome().expect("an answer")) {
            (_, Ok(())) => {}
            // Counted, but not obeyed: the next one is.
            (Flow::Find | Flow::Command | Flow::Isolate, Err(Refusal::Stale)) => {}
            // It was not stored, and its nonce is used up.
            (Flow::Commit, Err(Refusal::Nonce)) => {
                self.title = bind(&self.rig.identify().unwrap(), &self.anchor, 10);
                self.ask();
                self.rig.run();
                assert_eq!(self.outcome(), Some(Ok(())));
            }
            (flow, outcome) => panic!("{flow:?}: {outcome:?}"),
        }
    }
}

/// How many appends a flow takes.
fn appends(flow: Flow) -> usize {
    let mut life = Life::before(flow);
    let before = life.rig.disk.writes();
    life.ask();
    life.rig.run();
    assert_eq!(life.outcome(), Some(Ok(())), "{flow:?}");
    life.rig.disk.writes() - before
}

/// Has the fault happen at this append of the flow.
fn fail_at(life: &mut Life, append: usize, fault: Fault) {
    let before = life.rig.disk.writes();
    life.ask();
    life.rig.run_to_write(before + append);
    life.rig.disk.fail(fault);
    life.rig.run();
}

#[test]
fn a_fault_at_any_step_of_any_commit_leaves_the_old_state_or_the_new_one() {
    let mut cases = 0;
    for flow in FLOWS {
        for append in 0..appends(flow) {
            for fault in [&Fault::REPORTED[..], &[Fault::LateDead, Fault::Cut, Fault::LateCut]].concat() {
                cases += 1;
                let what = format!("{flow:?}, append {append}, {fault:?}");
                let mut life = Life::before(flow);
                let before = life.rig.status();
                fail_at(&mut life, append, fault);
                let outcome = life.outcome();
                let cut = matches!(fault, Fault::Cut | Fault::LateCut);
                assert_eq!(outcome.is_none(), cut, "{what}");
                if matches!(fault, Fault::Restart | Fault::LateRestart | Fault::Unsaid) {
                    assert_eq!(outcome, Some(Ok(())), "{what}");
                }
                // What is committed is said also by a node that waits.
                let status = life.rig.status();
                let done = StatusReply { store: 0, ..status } != StatusReply { store: 0, ..before };
                assert_eq!(status.store == Store::Doubtful as u8, is_doubtful(flow, append, fault), "{what}");
                let mut other = Life { rig: life.rig, ..Life::before(flow) };
                (other.title, other.record) = (life.title, life.record);
                if cut {
                    other.rig.power_cycle();
                } else {
                    other.rig.disk.power_on();
                }
                let after = other.rig.status();
                assert!(
                    !done || cut || StatusReply { store: 0, ..after } == StatusReply { store: 0, ..status },
                    "{what}"
                );
                other.end();
                let last = other.rig.status();
                assert_eq!(last.store, Store::Good as u8, "{what}");
                other.rig.power_cycle();
                let again = StatusReply { ticket_waiting: last.ticket_waiting, ..other.rig.status() };
                assert_eq!(again, last, "{what}");
                if last.ownership == Ownership::Claimed as u8 {
                    boot::assert_no_ticket_is_left(&other.rig);
                }
            }
        }
    }
    assert!(cases > 90, "{cases}");
}

/// The identity is left to the next boot.
fn is_doubtful(flow: Flow, append: usize, fault: Fault) -> bool {
    let identity = matches!(flow, Flow::Acknowledge | Flow::Settle) && append > 0;
    matches!(fault, Fault::Dead | Fault::LateDead) && !identity
}

/// The store says nothing more in the middle of a commit; lifecycle asks what holds, and in the end says that it is out.
#[test]
fn a_store_that_is_out_ends_the_waiting_and_what_hangs_on_it_is_refused() {
    for flow in FLOWS {
        for late in [false, true] {
            let mut life = Life::before(flow);
            let before = life.rig.status();
            life.rig.disk.fail(if late { Fault::LateCut } else { Fault::Cut });
            life.ask();
            life.rig.run();
            // Whoever else asks waits; lifecycle does not wait for what it asked before.
            life.rig.client(Channel::Mesh).abandon();
            life.rig.mesh.call::<MeshKey>(&(), 0, Patience::ENDLESS);
            life.rig.run();
            assert!(life.rig.outcome::<MeshKey>(Channel::Mesh).is_none());
            assert_eq!(life.rig.status(), before);
            assert_eq!(life.rig.ask::<StoreDown>(Channel::Lifecycle, &()), Ok(()));
            let doubtful = life.rig.status();
            assert_eq!(doubtful, StatusReply { store: Store::Doubtful as u8, ..before });
            let counters = matches!(flow, Flow::Find | Flow::Command | Flow::Isolate);
            // Ownership is not known: nothing is done by it. Counters are not: what needs none goes on.
            let owned = before.ownership != Ownership::Unclaimed as u8;
            let expected = match (counters, owned) {
                (false, _) => Some(Refusal::Store),
                (true, false) => Some(Refusal::NotReady),
                (true, true) => None,
            };
            assert_eq!(life.rig.outcome::<MeshKey>(Channel::Mesh).unwrap().err(), expected, "{flow:?}");
            let expected = (!counters).then_some(Refusal::Store);
            assert_eq!(life.rig.ask::<ClaimKey>(Channel::Claim, &()).err(), expected);
            assert_eq!(life.rig.ask::<MakeHello>(Channel::Beacon, &()).err(), expected);
            assert_eq!(life.rig.ask::<CloseGate>(Channel::Lifecycle, &()), Ok(()));
            let writes = life.rig.disk.writes();
            for _ in 0..2 {
                let refused = if owned { life.rig.settle() } else { life.rig.fork() };
                assert_eq!(refused, Err(Refusal::Store));
            }
            assert_eq!(life.rig.disk.writes(), writes, "nothing is asked of it");
            // It is there again: what came of the commit is asked before anything is served.
            life.rig.store.restart();
            assert!(life.rig.ask::<BeaconRandom>(Channel::Beacon, &()).is_ok());
            assert_eq!(life.rig.status().store, Store::Good as u8);
            let changed =
                StatusReply { ticket_waiting: 1, ..life.rig.status() } != StatusReply { ticket_waiting: 1, ..before };
            assert_eq!(changed, late && !counters, "{flow:?}");
            if flow != Flow::Commit || late {
                life.end();
            }
        }
    }
}

#[test]
fn a_store_that_is_out_between_commits_is_asked_for_nothing_until_it_starts_again() {
    let (mut rig, title) = super::mesh::owned(Board::anchored());
    assert_eq!(rig.ask::<StoreDown>(Channel::Lifecycle, &()), Ok(()));
    let down = rig.status();
    assert_eq!(down.store, Store::Down as u8);
    let writes = rig.disk.writes();
    assert_eq!(rig.settle(), Err(Refusal::Store));
    assert_eq!(rig.order(&configure(&title, 20, 1).sign(&authority(), 0), &[]), Err(Refusal::NotReady));
    assert_eq!(rig.find(1 << 40), Err(Refusal::Store));
    // What needs no commit goes on: handshakes have their block of timestamps.
    assert!(rig.timestamp().is_ok());
    assert!(rig.ask::<MakeHello>(Channel::Beacon, &()).is_ok());
    assert_eq!(rig.disk.writes(), writes);
    rig.store.restart();
    assert_eq!(rig.settle(), Ok(()));
    assert_eq!(rig.status().store, Store::Good as u8);
}

type Lie = fn(&Disk, Record);

/// What a store may show after a commit of which it did not say what came, of the record that was committed: neither what
/// stood there before nor what was written. (The number of the one before says that nothing was written, whatever its bytes
/// are: what stood there is known.)
const LIES: [(&str, Lie); 9] = [
    ("nothing", |disk, record| disk.set(record, vec![])),
    ("what stood there before what was acknowledged", |disk, record| {
        let log = disk.log(record);
        disk.set(record, log[..log.len().saturating_sub(2)].to_vec());
    }),
    ("a number from the future", |disk, record| change(disk, record, |newest, _| newest.0 += 7)),
    ("old bytes under a new number", |disk, record| change(disk, record, |newest, before| newest.1 = before.1)),
    ("another record's bytes", |disk, record| {
        let other = if record == Record::Counters { Record::Ownership } else { Record::Counters };
        let (_, sealed) = disk.newest(other).unwrap();
        change(disk, record, |newest, _| newest.1 = sealed);
    }),
    ("a bit that has changed", |disk, record| change(disk, record, |newest, _| newest.1[100] ^= 1)),
    ("damage", |disk, record| disk.find(record, Finding::Damaged)),
    ("somebody else's", |disk, record| disk.find(record, Finding::Foreign)),
    ("a later format", |disk, record| disk.find(record, Finding::Newer)),
];

type Entry = (u64, calls::store::Sealed);

/// Changes the newest entry; what it is told of is the one before.
fn change(disk: &Disk, record: Record, change: impl FnOnce(&mut Entry, Entry)) {
    let mut log = disk.log(record);
    let (mut newest, before) = (log.pop().unwrap(), *log.last().unwrap());
    change(&mut newest, before);
    log.push(newest);
    disk.set(record, log);
}

#[test]
fn a_store_that_lies_about_a_commit_is_not_believed() {
    let mut cases = 0;
    for flow in FLOWS {
        for append in 0..appends(flow) {
            for (name, lie) in LIES {
                cases += 1;
                let what = format!("{flow:?}, append {append}, {name}");
                let mut life = Life::before(flow);
                let before = life.rig.status();
                fail_at(&mut life, append, Fault::LateDead);
                life.outcome();
                let (record, _) = *life.rig.disk.0.borrow().writes.last().unwrap();
                lie(&life.rig.disk, [Record::Identity, Record::Ownership, Record::Counters][record]);
                life.rig.disk.power_on();
                let (held, writes) = (life.rig.status(), life.rig.disk.writes());
                if is_doubtful(flow, append, Fault::LateDead) {
                    assert_eq!(held, StatusReply { store: Store::Doubtful as u8, ..before }, "{what}");
                    for _ in 0..3 {
                        life.ask();
                        life.rig.run();
                        assert_eq!(life.outcome(), Some(Err(Refusal::Store)), "{what}");
                        assert_eq!((life.rig.status(), life.rig.disk.writes()), (held, writes), "{what}");
                    }
                }
                // Nor does it become another node by it.
                life.rig.power_cycle();
                let after = life.rig.status();
                assert!(!after.has_keys() || after.fiduciary == before.fiduciary, "{what}");
            }
        }
    }
    assert!(cases > 100, "{cases}");
}

/// What it has not written is gone with the power, and that is all that it can do: what is left is a state that once was,
/// and the node goes on from there.
#[test]
fn a_store_that_says_done_and_writes_nothing_rolls_the_node_back_and_does_no_more() {
    for flow in FLOWS {
        for append in 0..appends(flow) {
            let what = format!("{flow:?}, append {append}");
            let mut life = Life::before(flow);
            let before = life.rig.status();
            fail_at(&mut life, append, Fault::Unwritten);
            assert_eq!(life.outcome(), Some(Ok(())), "{what}");
            let done = life.rig.status();
            life.rig.power_cycle();
            let after = life.rig.status();
            let owner = |status: &StatusReply| (status.ownership, status.forked, status.isolated, status.configuration);
            assert!([owner(&before), owner(&done)].contains(&owner(&after)), "{what}");
            assert_eq!(after.fiduciary, before.fiduciary, "{what}");
            life.end();
            let last = life.rig.status();
            assert_eq!(last.store, Store::Good as u8, "{what}");
            life.rig.power_cycle();
            assert_eq!(StatusReply { ticket_waiting: last.ticket_waiting, ..life.rig.status() }, last, "{what}");
        }
    }
}

#[test]
fn a_store_that_starts_again_for_ever_is_not_written_to_for_ever() {
    let mut rig = Rig::new(Board::anchored());
    let writes = rig.disk.writes();
    rig.lifecycle.call::<Fork>(&(), 0, Patience::ENDLESS);
    let mut outcome = None;
    for _ in 0..100 {
        rig.disk.fail(Fault::Restart);
        rig.step();
        outcome = outcome.or(rig.outcome::<Fork>(Channel::Lifecycle));
    }
    assert_eq!(outcome, Some(Err(Refusal::Store)));
    assert_eq!(rig.disk.writes() - writes, 9);
    rig.disk.power_on();
    assert_eq!(rig.fork(), Ok(()));
}

/// A call that lifecycle has given up is not answered in place of the one that it makes next.
#[test]
fn lifecycle_that_gives_up_a_commit_gets_the_status_and_nothing_else() {
    let mut rig = Rig::new(Board::anchored());
    rig.disk.set_busy(true);
    rig.lifecycle.call::<Fork>(&(), 0, Patience::ENDLESS);
    rig.run();
    rig.lifecycle.call::<Status>(&(), 0, Patience::ENDLESS);
    rig.run();
    // It is answered, and not looked at before the commit is done.
    rig.disk.set_busy(false);
    rig.run();
    let status = rig.outcome::<Status>(Channel::Lifecycle).unwrap().unwrap();
    assert_eq!(status.forked, 0);
    assert_eq!((rig.status().forked, rig.fork()), (1, Ok(())));
}

#[test]
fn neither_finds_nor_commands_nor_handshakes_cost_a_commit_each() {
    let (mut rig, title) = super::mesh::owned(Board::anchored());
    let writes = rig.disk.writes();
    for counter in (1..=1000).map(|number| number * 60) {
        rig.find(counter).unwrap();
    }
    assert_eq!(rig.disk.writes() - writes, 1, "a minute of finds");
    let key = key_of(&authority(), &title, &rig);
    let writes = rig.disk.writes();
    for counter in 1..=640 {
        rig.command(&Command::new(&key, &title.warrant.fiduciary, Operation::Status, 0, counter)).unwrap();
    }
    assert_eq!(rig.disk.writes() - writes, 10, "ten minutes of commands");
    let writes = rig.disk.writes();
    for _ in 0..100 {
        rig.timestamp().unwrap();
    }
    let request = StartHandshake { peer: [0; 32], ..StartHandshake::new_zeroed() };
    assert!(rig.ask::<StartMeshHandshake>(Channel::Mesh, &request).is_err());
    assert_eq!(rig.disk.writes(), writes);
    // Behind what was stored ahead counting goes on.
    assert_eq!(rig.whole_status().command_floors, [0; 7]);
    rig.power_cycle();
    assert_eq!(rig.whole_status().command_floors, [640, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.find(1 << 16), Err(Refusal::Stale));
    rig.find((1 << 16) + 1).unwrap();
}

#[test]
fn a_block_of_the_configuration_opens_at_its_place_on_its_node_only() {
    let (mut rig, _) = super::mesh::owned(Board::anchored());
    let plain: [u8; BLOCK] = core::array::from_fn(|at| at as u8);
    fn seal(rig: &mut Rig, configuration: u8, index: u64, plain: [u8; BLOCK]) -> Result<[u8; BLOCK + 40], Refusal> {
        let request = SealBlockRequest { configuration: [configuration; 32], index, plain };
        rig.ask::<SealBlock>(Channel::Lifecycle, &request)
    }
    fn open(rig: &mut Rig, configuration: u8, index: u64, sealed: &[u8; BLOCK + 40]) -> Result<[u8; BLOCK], Refusal> {
        let request = OpenBlockRequest { configuration: [configuration; 32], index, sealed: *sealed };
        rig.ask::<OpenBlock>(Channel::Lifecycle, &request)
    }
    let sealed = seal(&mut rig, 1, 2, plain).unwrap();
    assert_eq!(open(&mut rig, 1, 2, &sealed), Ok(plain));
    assert!(!sealed.windows(16).any(|window| plain.windows(16).any(|other| other == window)));
    // No two are sealed alike.
    assert_ne!(seal(&mut rig, 1, 2, plain).unwrap()[..24], sealed[..24]);
    assert_eq!(open(&mut rig, 1, 3, &sealed), Err(Refusal::Forged));
    assert_eq!(open(&mut rig, 2, 2, &sealed), Err(Refusal::Forged));
    for at in (0..sealed.len()).step_by(13) {
        let mut changed = sealed;
        changed[at] ^= 1;
        assert_eq!(open(&mut rig, 1, 2, &changed), Err(Refusal::Forged), "byte {at}");
    }
    assert_eq!(seal(&mut rig, 1, MAX_BLOCKS as u64, plain), Err(Refusal::NotMine));
    rig.power_cycle();
    assert_eq!(open(&mut rig, 1, 2, &sealed), Ok(plain));
    let mut other = Rig::new(Board { seed: 5, ..Board::anchored() });
    let title = bind(&other.identify().unwrap(), &admin(), 10);
    other.commit(&title).unwrap();
    assert_eq!(open(&mut other, 1, 2, &sealed), Err(Refusal::Forged));
}
