//! Random lives against a model of a few lines: at most one owner, only by a valid binding, nothing ever
//! rolled back, claimable until claimed, a cut claim resumable by the same bytes; then commands, orders and records of the
//! set that is in force only, each once, and timestamps that rise; and the next owner's when it was let go.

use calls::keystore::{for_beacon::CheckOpen, for_lifecycle::Settle, for_mesh::CheckCommand};
use proptest::prelude::*;
use wire::{binding::PairingRecord, command};

use super::{disk::Fault, *};

mod owners;

#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Key,
    Fiduciary,
    MeshKey,
    Fork,
    Nonce,
    Epoch(u64),
    Counter,
    Configuration,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Find {
        ahead: i8,
        right_key: bool,
    },
    Hello,
    Open {
        right_key: bool,
        right_target: bool,
    },
    Fork,
    CloseGate,
    Identify,
    Commit(Flaw),
    /// The binding that was committed, or tried, last.
    Again,
    Acknowledge {
        right: bool,
    },
    Settle,
    Configure {
        ahead: i8,
        right_key: bool,
        /// `None`: the one that is in force.
        configuration: Option<u8>,
    },
    Rejoin {
        right_key: bool,
        right_isolation: bool,
    },
    /// The next set, of which this is a number; or one after a step that was left out; or after another record.
    Adopt {
        set: u8,
        step: u64,
        right_record: bool,
        right_key: bool,
    },
    Release {
        right_key: bool,
        ticket: bool,
    },
    Command {
        ahead: i8,
        right_key: bool,
        operation: u8,
    },
    Handshake,
    TicketShown,
    Fail(Fault),
    PowerCycle,
    Block,
}

fn action() -> impl Strategy<Value = Action> {
    use Action::*;
    let flaw = prop_oneof![
        6 => Just(Flaw::None),
        1 => Just(Flaw::Key),
        1 => Just(Flaw::Fiduciary),
        1 => Just(Flaw::MeshKey),
        1 => Just(Flaw::Fork),
        1 => Just(Flaw::Nonce),
        1 => prop_oneof![0u64..2, 3u64..6, Just(u64::MAX)].prop_map(Flaw::Epoch),
        1 => Just(Flaw::Counter),
        1 => Just(Flaw::Configuration),
    ];
    let fault = prop::sample::select([&Fault::REPORTED[..], &[Fault::LateDead, Fault::Cut, Fault::LateCut]].concat());
    prop_oneof![
        3 => (-1i8..3, any::<bool>()).prop_map(|(ahead, right_key)| Find { ahead, right_key }),
        1 => Just(Hello),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(right_key, right_target)| Open { right_key, right_target }),
        1 => Just(Fork),
        1 => Just(CloseGate),
        5 => Just(Identify),
        5 => flaw.prop_map(Commit),
        2 => Just(Again),
        2 => any::<bool>().prop_map(|right| Acknowledge { right }),
        1 => Just(Settle),
        3 => (-1i8..3, any::<bool>(), prop::option::of(0u8..3))
            .prop_map(|(ahead, right_key, configuration)| Configure { ahead, right_key, configuration }),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(right_key, right_isolation)| Rejoin { right_key, right_isolation }),
        3 => (0u8..3, 0u64..3, prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(set, step, right_record, right_key)| Adopt { set, step, right_record, right_key }),
        1 => (prop::bool::weighted(0.8), any::<bool>()).prop_map(|(right_key, ticket)| Release { right_key, ticket }),
        3 => (-1i8..3, any::<bool>(), prop::sample::select(OPERATIONS))
            .prop_map(|(ahead, right_key, operation)| Command { ahead, right_key, operation }),
        2 => Just(Handshake),
        1 => Just(TicketShown),
        2 => fault.prop_map(Fail),
        1 => Just(PowerCycle),
        1 => Just(Block),
    ]
}

/// The last is none that the node knows.
const OPERATIONS: &[u8] = &[1, 2, 3, 4, 200];

/// What the node has stored.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    counter: u64,
    /// Of the last find and the last command, and what is stored ahead of them.
    find: u64,
    find_floor: u64,
    command_floor: u32,
    epoch: u64,
    forked: bool,
    title: Option<Title>,
    claimed: bool,
    configuration: [u8; 32],
    command: u32,
    isolated: bool,
    /// By which command.
    isolation: u32,
    /// Which of [`owner`] is the set.
    set: u8,
    /// The epoch that ended when it was let go last.
    released: u64,
}

/// The one authority of a set.
fn owner(set: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&[0xa1 + set; 32])
}

struct Life {
    rig: Rig,
    anchor: AnchorSecret,
    stored: Stored,
    fault: Option<Fault>,
    identity: Option<Identity>,
    live: Option<[u8; 32]>,
    last: Option<Title>,
    record: Option<PairingRecord>,
    /// The last one.
    timestamp: [u8; 12],
}

impl Life {
    fn new(ticket: bool) -> Self {
        let board = if ticket { Board::ticket() } else { Board::anchored() };
        let anchor = if ticket { AnchorSecret::from_seed(&ticket_seed(&board)) } else { admin() };
        let (identity, live, last, record) = (None, None, None, None);
        let stored = Stored::default();
        let (fault, timestamp) = (None, [0; 12]);
        let rig = Rig::new(board);
        Self { rig, anchor, stored, fault, identity, live, last, record, timestamp }
    }

    fn power_cycle(&mut self) {
        self.rig.power_cycle();
        self.stored.find = self.stored.find_floor;
        self.stored.command = self.stored.command_floor;
        self.fault = None;
        self.live = None;
    }

    /// Asks for what is to be stored, if `expected` says that it may be. A fault comes between. `written`: what is stored
    /// after the first write, if there is one.
    fn store<O: Operation>(
        &mut self,
        peer: Channel,
        request: &O::Request,
        expected: Result<Stored, Refusal>,
        written: Option<Stored>,
    ) -> Result<O::Reply, Refusal> {
        self.rig.client(peer).call::<O>(request, 0, Patience::ENDLESS);
        self.rig.run();
        let outcome = self.rig.outcome::<O>(peer);
        let Ok(next) = expected else {
            let refused = outcome.expect("an answer").err();
            assert_eq!(refused, expected.err());
            return Err(refused.unwrap());
        };
        let fault = if written.is_some() { self.fault.take() } else { None };
        match fault {
            // A store that starts again, or does not say that it has written, is asked.
            None | Some(Fault::Unsaid | Fault::Restart | Fault::LateRestart) => {
                self.stored = next;
                Ok(outcome.expect("an answer").unwrap_or_else(|refusal| panic!("{refusal:?}")))
            }
            Some(fault @ (Fault::Cut | Fault::LateCut)) => {
                assert!(outcome.is_none());
                if fault == Fault::LateCut {
                    self.stored = written.unwrap();
                }
                self.power_cycle();
                Err(Refusal::Store)
            }
            Some(fault @ (Fault::Refused | Fault::Dead | Fault::LateDead)) => {
                assert_eq!(outcome.expect("an answer").err(), Some(Refusal::Store));
                self.check_but(fault != Fault::Refused);
                // What came of it is asked before anything else is answered.
                self.rig.disk.power_on();
                assert!(self.rig.ask::<for_beacon::BeaconRandom>(Channel::Beacon, &()).is_ok());
                if fault == Fault::LateDead {
                    self.stored = written.unwrap();
                }
                Err(Refusal::Store)
            }
            Some(Fault::Unwritten) => unreachable!("a store that lies is none of this model's"),
        }
    }

    fn act(&mut self, action: Action) {
        let stored = self.stored;
        let open = || if stored.claimed { Err(Refusal::Taken) } else { Ok(()) };
        match action {
            Action::Find { ahead, right_key } => {
                // Sometimes by more than is stored ahead.
                let far = if ahead == 2 { 70_000 } else { 0 };
                let counter = stored.find.saturating_add_signed(ahead.into()) + far;
                let key = if right_key { &self.anchor } else { &stranger() };
                let find = Find::sign(key, counter, SENDER.0, SENDER.1);
                let find_floor = stored.find_floor.max(counter.next_multiple_of(1 << 16));
                let expected = open().and(match (counter > stored.find, right_key) {
                    (false, _) => Err(Refusal::Stale),
                    (true, false) => Err(Refusal::Forged),
                    (true, true) => Ok(Stored { find: counter, find_floor, ..stored }),
                });
                let written = (counter > stored.find_floor).then_some(Stored { find_floor, ..stored });
                let _ = self.store::<CheckFind>(Channel::Beacon, &find, expected, written);
            }
            Action::Hello => match open() {
                Ok(()) => {
                    let committed = self.rig.hello(&self.anchor).committed;
                    assert_eq!(committed == 1, stored.title.is_some());
                }
                Err(refusal) => assert_eq!(self.rig.ask::<MakeHello>(Channel::Beacon, &()).err(), Some(refusal)),
            },
            Action::Open { right_key, right_target } => {
                let mut hello = HelloBody::new_zeroed();
                hello.fiduciary = self.rig.status().fiduciary;
                hello.claim_key = self.rig.ask::<ClaimKey>(Channel::Claim, &()).unwrap();
                hello.fiduciary[0] ^= u8::from(!right_target);
                let key = if right_key { &self.anchor } else { &stranger() };
                let expected = open().and(match (right_target, right_key) {
                    (false, _) => Err(Refusal::NotMine),
                    (true, false) => Err(Refusal::Forged),
                    (true, true) => Ok(()),
                });
                let outcome = self.rig.ask::<CheckOpen>(Channel::Beacon, &open_for(&hello, key, 3));
                assert_eq!(outcome.map(|_| ()), expected);
            }
            Action::Fork => {
                if stored.forked && !stored.claimed {
                    assert_eq!(self.rig.fork(), Ok(()));
                    return;
                }
                let free = stored.title.is_none();
                let expected = if free { Ok(Stored { forked: true, ..stored }) } else { Err(Refusal::Taken) };
                let _ = self.store::<Fork>(Channel::Lifecycle, &(), expected, expected.ok());
            }
            Action::CloseGate => {
                self.rig.ask::<CloseGate>(Channel::Lifecycle, &()).unwrap();
                self.live = None;
            }
            Action::Identify => {
                let outcome = self.rig.identify();
                assert_eq!(outcome.map(|_| ()), open());
                let Ok(identity) = outcome else { return };
                assert!(identity.verify(&[7; 32]).is_some());
                assert_eq!((identity.epoch.get(), identity.forked == 1), (stored.epoch, stored.forked));
                assert_eq!(identity.committed == 1, stored.title.is_some());
                assert_eq!(
                    (identity.released.number.get(), identity.released.verify().is_some()),
                    (stored.released, stored.released > 0)
                );
                match stored.title {
                    Some(title) => assert_eq!(identity.nonce, title.binding.nonce),
                    None => self.live = Some(identity.nonce),
                }
                self.identity = Some(identity);
            }
            Action::Commit(flaw) => {
                let Some(identity) = self.identity else { return };
                let title = self.title(&identity, flaw);
                self.commit(title);
            }
            Action::Again => {
                if let Some(title) = self.last {
                    self.commit(title);
                }
            }
            Action::Acknowledge { right } => {
                let Some(record) = self.record else { return };
                let mut hash = record.hash();
                hash[0] ^= u8::from(!right);
                let about = stored.title.is_some_and(|title| record.verify(&title).is_some());
                let expected = match (stored.title, right && about) {
                    (None, _) => Err(Refusal::NotMine),
                    (Some(_), false) => Err(Refusal::Forged),
                    (Some(_), true) => Ok(Stored { claimed: true, ..stored }),
                };
                if stored.claimed && expected.is_ok() {
                    assert_eq!(self.rig.acknowledge(&hash), Ok(()));
                    return;
                }
                let _ = self.store::<Acknowledge>(Channel::Claim, &hash, expected, expected.ok());
            }
            Action::Settle => {
                if stored.claimed {
                    assert_eq!(self.rig.settle(), Ok(()));
                    return;
                }
                let owned = stored.title.ok_or(Refusal::NotReady);
                let claimed = owned.map(|_| Stored { claimed: true, ..stored });
                let _ = self.store::<Settle>(Channel::Lifecycle, &(), claimed, claimed.ok());
            }
            Action::Configure { ahead, right_key, configuration } => self.configure(ahead, right_key, configuration),
            Action::Rejoin { right_key, right_isolation } => self.rejoin(right_key, right_isolation),
            Action::Adopt { set, step, right_record, right_key } => self.adopt(set, step, right_record, right_key),
            Action::Release { right_key, ticket } => self.release(right_key, ticket),
            Action::Command { ahead, right_key, operation } => self.command(ahead, right_key, operation),
            Action::Handshake => self.handshake(),
            Action::TicketShown => {
                self.rig.show();
                self.rig.step();
                assert_eq!(self.rig.status().ticket_waiting, 0);
            }
            Action::Fail(fault) => {
                self.rig.disk.fail(fault);
                self.fault = Some(fault);
            }
            Action::PowerCycle => self.power_cycle(),
            Action::Block => {
                self.rig.feed();
                self.rig.run();
            }
        }
    }

    fn title(&self, identity: &Identity, flaw: Flaw) -> Title {
        let mut title = unsigned(identity, self.stored.counter + 1);
        match flaw {
            Flaw::None | Flaw::Key | Flaw::Configuration => {}
            Flaw::Fiduciary => title.warrant.fiduciary[7] ^= 1,
            Flaw::MeshKey => title.binding.mesh_key[7] ^= 1,
            Flaw::Fork => title.warrant.fork[7] ^= 1,
            Flaw::Nonce => title.binding.nonce[7] ^= 1,
            Flaw::Epoch(epoch) => title.warrant.epoch = U64::new(epoch),
            Flaw::Counter => title.binding.counter = U64::new(self.stored.counter),
        }
        let other = stranger();
        let mut title = title.sign(if matches!(flaw, Flaw::Key) { &other } else { &self.anchor });
        if matches!(flaw, Flaw::Configuration) {
            title.warrant.configuration[7] ^= 1;
        }
        title
    }

    fn commit(&mut self, title: Title) {
        let stored = self.stored;
        self.last = Some(title);
        if stored.title == Some(title) && !stored.claimed {
            let again = self.rig.commit(&title).unwrap();
            assert!(again.verify(&title).is_some());
            assert!(self.record.is_none_or(|record| record.verify(&title).is_none() || record == again));
            self.record = Some(again);
            return;
        }
        let own = wire::binding::ForkRecord::hash(self.rig_fork().as_ref());
        let keys = Keys::derive(&self.rig.root);
        let expected = if stored.title.is_some() {
            Err(Refusal::Taken)
        } else if self.live.take_if(|live| *live == title.binding.nonce).is_none() {
            Err(Refusal::Nonce)
        } else if (title.warrant.fiduciary, title.binding.mesh_key) != (keys.public.fiduciary, keys.public.mesh)
            || ![own, [0; 32]].contains(&title.warrant.fork)
        {
            Err(Refusal::NotMine)
        } else if title.warrant.epoch.get() != stored.epoch + 1 || title.binding.counter.get() <= stored.counter {
            Err(Refusal::Stale)
        } else if title.verify(&Anchor::alone(&self.anchor.public())).is_none() {
            Err(Refusal::Forged)
        } else {
            let (epoch, counter) = (title.warrant.epoch.get(), title.binding.counter.get());
            let configuration = title.warrant.configuration;
            let (command, command_floor) = (0, 0);
            Ok(Stored { epoch, counter, title: Some(title), configuration, command, command_floor, set: 0, ..stored })
        };
        if let Ok(record) = self.store::<Commit>(Channel::Claim, &title, expected, expected.ok()) {
            assert!(record.verify(&title).is_some());
            self.record = Some(record);
        }
    }

    fn command(&mut self, ahead: i8, right_key: bool, operation: u8) {
        let stored = self.stored;
        let title = stored.title.unwrap_or(Title::new_zeroed());
        let keys = Keys::derive(&self.rig.root);
        let author = if right_key { owner(stored.set) } else { stranger() };
        let key = command::key(&author.dh, &keys.public.claim, &title).unwrap();
        let counter = stored.command.saturating_add_signed(ahead.into());
        let command = Command::new(&key, &keys.public.fiduciary, operation, 7, counter);
        let command_floor = stored.command_floor.max(counter.next_multiple_of(64));
        let expected = if stored.title.is_none() {
            Err(Refusal::NotReady)
        } else if !right_key {
            Err(Refusal::Forged)
        } else if counter <= stored.command {
            Err(Refusal::Stale)
        } else {
            let isolates = command.operation() == Some(command::Operation::Isolate) && !stored.isolated;
            let isolation = if isolates { counter } else { stored.isolation };
            let isolated = stored.isolated || isolates;
            Ok(Stored { command: counter, command_floor, isolated, isolation, ..stored })
        };
        // First its counter, if it is not stored ahead; then what the node is by it.
        let Stored { isolated, isolation, .. } = expected.unwrap_or(stored);
        let written = if counter > stored.command_floor {
            Some(Stored { command_floor, ..stored })
        } else {
            (isolated != stored.isolated).then_some(Stored { isolated, isolation, ..stored })
        };
        if let Ok(reply) = self.store::<CheckCommand>(Channel::Mesh, &command, expected, written) {
            assert_eq!((reply.operation, reply.argument, reply.counter), (operation.into(), 7, counter));
        }
    }

    fn handshake(&mut self) {
        if self.stored.title.is_none() {
            assert_eq!(self.rig.timestamp(), Err(Refusal::NotReady));
            return;
        }
        let next = self.rig.timestamp().unwrap();
        assert!(next > self.timestamp);
        self.timestamp = next;
    }

    /// The fork record that this node makes, if it has.
    fn rig_fork(&self) -> Option<wire::binding::ForkRecord> {
        let keys = Keys::derive(&self.rig.root);
        let Keys { fiduciary, public, .. } = keys;
        let record =
            || wire::binding::ForkRecord::sign(&fiduciary, public.fiduciary, public.claim, public.mesh, public.address);
        self.stored.forked.then(record)
    }

    /// What lifecycle sees is what is stored.
    fn check(&mut self) {
        self.check_but(false);
    }

    /// Or what was, while nobody knows.
    fn check_but(&mut self, doubtful: bool) {
        let status = self.rig.status();
        assert_eq!(status.store, if doubtful { Store::Doubtful } else { Store::Good } as u8);
        let stored = self.stored;
        let expected = match (stored.title.is_some(), stored.claimed) {
            (false, _) => Ownership::Unclaimed as u8,
            (true, false) => Ownership::Committed as u8,
            (true, true) => Ownership::Claimed as u8,
        };
        assert_eq!((status.state, status.ownership), (State::Ready as u8, expected));
        assert_eq!((status.forked == 1, status.epoch), (stored.forked, stored.epoch));
        assert_eq!((status.isolated == 1, status.configuration), (stored.isolated, stored.configuration));
        assert_eq!(status.isolation, [0, stored.isolation]);
        assert_eq!(status.sequence, stored.title.map_or(0, |title| title.warrant.sequence.get()));
    }

    /// Whatever has happened, the owner, and only the owner, can end it well.
    fn finish(mut self) {
        self.rig.disk.power_on();
        self.fault = None;
        if !self.stored.claimed {
            let identity = self.rig.identify().unwrap();
            let title = self.stored.title.unwrap_or_else(|| bind(&identity, &self.anchor, self.stored.counter + 1));
            let record = self.rig.commit(&title).unwrap();
            assert_eq!(self.rig.acknowledge(&record.hash()), Ok(()));
            self.stored.title = Some(title);
        }
        self.rig.power_cycle();
        let status = self.rig.status();
        let title = self.stored.title.unwrap();
        assert_eq!((status.ownership, status.epoch), (Ownership::Claimed as u8, title.warrant.epoch.get()));
        assert_eq!(self.rig.identify().err(), Some(Refusal::Taken));
        assert_eq!(self.rig.commit(&title).err(), Some(Refusal::Taken));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_life_is_that_of_the_model(ticket: bool, actions in prop::collection::vec(action(), 1..60)) {
        let mut life = Life::new(ticket);
        for action in actions {
            life.act(action);
            life.check();
        }
        life.finish();
    }
}
