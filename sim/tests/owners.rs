//! What the owners of a node do with it together, to whole nodes: another set, another owner, nobody; and power that goes at
//! any point of that. It is theirs or the next one's, never both's and never nobody's.

use std::{cell::RefCell, time::Duration};

use crypto::AnchorSecret;
use os_network_admin::fleet::{
    delivery::{Lane, News, Outcome},
    parting,
};
use sim::{
    Administrator, World,
    admin::{pass, run as within, simulate},
    authority::Mesh,
    nor::Cut,
    scenario::WAIT,
};
use tokio::time::{Instant, timeout, timeout_at};
use wire::{
    U16, U32, U64,
    anchor::Anchor,
    command::{self, Command, Operation},
    order::{Kind, Order, Release},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    staged::{self, CHUNK, ChunkHead},
    telemetry::CommandResult,
    ticket::Ticket,
    title::Title,
};
use zerocopy::IntoBytes;

const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Another authority takes the place of the one.
    Record,
    /// To another administrator's anchor.
    Transfer,
    /// To a ticket.
    Release,
}

struct Rig<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    next: Administrator<'w>,
    node: usize,
    title: Title,
}

impl<'w> Rig<'w> {
    async fn new(world: &'w RefCell<World>) -> Self {
        let admin = Administrator::new(world, 0, 1).expect("an administrator");
        let next = Administrator::new(world, 0, 2).expect("another");
        let node = world.borrow_mut().add(&admin.plan_without_scan());
        world.borrow_mut().power_on(node);
        pass(world, SOON).await;
        admin.claim(None, WAIT).await.expect("nothing stands in the way of a claim");
        let outcomes = admin.command(Operation::Status, WAIT).await.expect("a status");
        assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
        let title = {
            let view = admin.view().expect("a view");
            let live = view.live().expect("members");
            view.paired(&live[0].member).expect("a node").title
        };
        Self { world, admin, next, node, title }
    }

    /// What the owner signs.
    fn signed(&self, act: Act) -> Vec<u8> {
        let release = match act {
            // At the same place in the mesh, so that what becomes of it is heard there.
            Act::Record => return self.record(&self.title.set.authorities[0]),
            Act::Transfer => Release::to_anchor(&Anchor::alone(&self.next.anchor.public()), false),
            Act::Release => Release::to_ticket(),
        };
        let mut order = Order::new(Kind::Release, release.as_bytes());
        let warrant = &self.title.warrant;
        (order.fleet, order.fiduciary, order.epoch) = (warrant.fleet, warrant.fiduciary, warrant.epoch);
        (order.set, order.counter) = (self.title.set.hash(), U64::new(self.title.binding.counter.get() + 1));
        [order.sign(&self.admin.anchor, 0).as_bytes(), release.as_bytes()].concat()
    }

    /// That the next administrator takes over, at this place in the mesh.
    fn record(&self, Authority { mesh, inner, endpoint, port, .. }: &Authority) -> Vec<u8> {
        let signer = Authority::signer(&self.next.anchor.public());
        let place = Authority { mesh: *mesh, inner: *inner, endpoint: *endpoint, port: *port, ..signer };
        let record = AuthorityRecord::new(&self.title.warrant.fleet, 1, &[0; 32], &AuthoritySet::alone(place));
        record.sign_as_old(&self.admin.anchor, 0).sign_as_new(&self.next.anchor, 0).as_bytes().to_vec()
    }

    /// Whether the node lets anything through to the first administrator's host and back.
    fn knows_him(&self) -> bool {
        let world = self.world.borrow();
        let him = self.admin.link.station.borrow().at.ip;
        let regions = world.system().regions.iter().enumerate();
        let mut cell = regions.filter(|(_, region)| region.name == "mesh_perimeter_stations");
        let (id, region) = cell.next().expect("the cell of stations");
        let mut bytes = vec![0; region.size];
        world.machine(self.node).expect("it has power").bytes(id, 0, &mut bytes);
        bytes.windows(him.len()).any(|window| window == him)
    }

    fn phase(&self) -> String {
        self.world.borrow().phase(self.node).unwrap_or("none").to_owned()
    }

    fn points(&self) -> u64 {
        self.world.borrow().flash(self.node).nor().points()
    }

    async fn deliver(&self, act: Act, wait: Duration) -> Option<CommandResult> {
        self.apply(&self.signed(act), wait).await
    }

    /// Has the member apply what was signed, again and again. `None`: it does not show that it has heard.
    async fn apply(&self, signed: &[u8], wait: Duration) -> Option<CommandResult> {
        let view = self.admin.view().expect("a view");
        let live = view.live().expect("members");
        let member = &live.first()?.member;
        let key = command::key(&self.admin.anchor.dh, &member.claim_key?, &self.title)?;
        let short = staged::parse(signed).expect("an order or a record").short();
        let at = view.fleet.addresses(member.host).1;
        let mut lane = Mesh(self.admin.mesh.clone());
        let tries = async {
            let mut floor = 0;
            loop {
                let counter = self.admin.registry.next_command_counter(member.id, floor).expect("a counter");
                for (part, number) in signed.chunks(CHUNK).zip(0..) {
                    let length = U16::new(signed.len() as u16);
                    let head = ChunkHead { short: U32::new(short), length, number, zero: [0; 17] };
                    lane.send(member, at, &[head.as_bytes(), part].concat()).await.expect("a lane");
                }
                let command = Command::new(&key, &self.title.warrant.fiduciary, Operation::Apply, short, counter);
                lane.send(member, at, command.as_bytes()).await.expect("a lane");
                let until = Instant::now() + Duration::from_secs(1);
                while let Ok(Ok((_, news))) = timeout_at(until, lane.next()).await {
                    let News::Record(record) = news else { continue };
                    floor = floor.max(record.counter.get()).max(record.command_floors[0].get());
                    let ours = record.counter.get() == counter && record.operation() == Some(Operation::Apply);
                    if ours && record.result() != Some(CommandResult::NotStaged) {
                        return record.result();
                    }
                }
            }
        };
        within(self.world, timeout(wait, tries)).await.unwrap_or(None)
    }

    /// What telemetry says of the set.
    async fn set(&self) -> u64 {
        pass(self.world, Duration::from_secs(15)).await;
        self.admin.store_said().expect("a registry");
        let view = self.admin.view().expect("a view");
        let live = view.live().expect("members");
        live[0].member.telemetry.as_ref().map_or(u64::MAX, |(record, _)| record.set.get())
    }

    /// The ticket that the console shows last.
    fn ticket(&self) -> Option<AnchorSecret> {
        let world = self.world.borrow();
        let text = world.console(self.node).iter().rev().find_map(|line| line.strip_prefix("genesis: ticket "));
        text.map(|text| AnchorSecret::from_seed(&Ticket::from_text(text).expect("a ticket").secret))
    }

    /// It is done, and nothing of the time before is left to those who were there.
    async fn assert_done(&mut self, act: Act, what: &str) {
        if act == Act::Record {
            assert_eq!((self.phase().as_str(), self.set().await), ("claimed", 1), "{what}");
            let outcomes = self.admin.command(Operation::Status, SOON).await.expect("a lane");
            assert_eq!(outcomes, [Outcome::NoAnswer], "{what}: who is gone commands");
            return;
        }
        assert_eq!(self.phase(), "hold", "{what}");
        // The image's anchor is theirs who let it go.
        assert!(self.admin.claim(None, SOON).await.is_err(), "{what}");
        if act == Act::Release {
            assert!(self.next.claim(None, SOON).await.is_err(), "{what}");
            self.next.anchor = self.ticket().expect("a ticket");
        }
        self.next.claim(None, WAIT).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        pass(self.world, SOON).await;
        assert_eq!(self.phase(), "claimed", "{what}");
    }
}

/// Runs it with power that goes at this point of it. Returns how many points there are, if it does not.
fn run(act: Act, cut: Option<Cut>) -> u64 {
    let world = RefCell::new(World::new(33));
    simulate(async {
        let what = format!("{act:?}, {cut:?}");
        let mut rig = Rig::new(&world).await;
        let first = rig.points();
        if let Some(cut) = cut {
            world.borrow().flash(rig.node).nor().cut_at(Cut { point: first + cut.point, ..cut });
        }
        let outcome = rig.deliver(act, SOON).await;
        pass(&world, SOON).await;
        let points = rig.points() - first;
        if cut.is_some() {
            assert!(world.borrow().machine(rig.node).is_none(), "{what}: no cut happened");
            world.borrow_mut().power_on(rig.node);
            pass(&world, SOON).await;
            let again = match act {
                Act::Record => rig.set().await == 0,
                Act::Transfer | Act::Release => rig.phase() == "claimed",
            };
            if again {
                let outcome = rig.deliver(act, WAIT).await;
                assert_eq!(outcome, Some(CommandResult::Done), "{what}");
                pass(&world, SOON).await;
            }
        } else {
            assert_eq!(outcome, Some(CommandResult::Done), "{what}");
        }
        rig.assert_done(act, &what).await;
        points
    })
}

fn sweep(act: Act) {
    let points = run(act, None);
    assert!(points > 0, "{act:?} writes nothing");
    let sample = if std::env::var_os("SIM_WHOLE").is_some() { points } else { 6 };
    for number in 0..sample {
        run(act, Some(Cut { point: number * points / sample, seed: number % 2 }));
    }
}

#[test]
fn a_record_cut_at_any_point_leaves_the_old_set_or_the_new_one() {
    sweep(Act::Record);
}

#[test]
fn a_transfer_cut_at_any_point_leaves_the_old_owner_or_the_next() {
    sweep(Act::Transfer);
}

#[test]
fn a_release_cut_at_any_point_leaves_the_owner_or_a_ticket() {
    sweep(Act::Release);
}

/// The set is the next administrator's, who has a host of his own. Returns how many receipts the former one has had.
async fn hand_over(rig: &Rig<'_>) -> usize {
    let own = Authority {
        mesh: rig.next.mesh.borrow().public(),
        inner: [0xfd; 16],
        endpoint: rig.next.link.station.borrow().at.ip,
        port: U16::new(wire::MESH_PORT),
        ..Authority::default()
    };
    rig.admin.mesh.borrow_mut().take_said();
    assert!(rig.knows_him());
    assert_eq!(rig.apply(&rig.record(&own), SOON).await, Some(CommandResult::Done));
    let said = rig.admin.mesh.borrow_mut().take_said();
    said.iter().filter(|(_, news)| matches!(news, News::Receipt(_))).count()
}

#[test]
fn who_leaves_the_set_has_the_receipt_within_four_seconds_and_then_no_handshake_and_no_frame() {
    let world = RefCell::new(World::new(36));
    simulate(async {
        let rig = Rig::new(&world).await;
        let member = rig.admin.view().expect("a view").live().expect("members")[0].member.id;
        let first = hand_over(&rig).await;
        pass(&world, Duration::from_millis(3500)).await;
        let said = rig.admin.mesh.borrow_mut().take_said();
        let receipts = first + said.iter().filter(|(_, news)| matches!(news, News::Receipt(_))).count();
        assert_eq!((receipts, rig.knows_him()), (3, true));
        pass(&world, Duration::from_millis(600)).await;
        assert!(!rig.knows_him());
        let handshakes = rig.admin.mesh.borrow().handshakes(member);
        // Longer than a session lives: whatever he sends, a handshake of his is a stranger's.
        for _ in 0..20 {
            let outcomes = rig.admin.command(Operation::Status, SOON).await.expect("a lane");
            assert_eq!(outcomes, [Outcome::NoAnswer]);
        }
        assert_eq!((rig.admin.mesh.borrow().handshakes(member), rig.knows_him()), (handshakes, false));
        assert!(rig.admin.mesh.borrow_mut().take_said().is_empty());
    });
}

#[test]
fn power_that_goes_during_the_farewell_ends_it() {
    let world = RefCell::new(World::new(37));
    simulate(async {
        let rig = Rig::new(&world).await;
        hand_over(&rig).await;
        assert!(rig.knows_him());
        world.borrow_mut().power_off(rig.node);
        world.borrow_mut().power_on(rig.node);
        pass(&world, Duration::from_secs(2)).await;
        assert_eq!((rig.phase().as_str(), rig.knows_him()), ("claimed", false));
    });
}

#[test]
fn a_release_to_ones_own_anchor_is_none_unless_that_is_said() {
    let world = RefCell::new(World::new(34));
    simulate(async {
        let rig = Rig::new(&world).await;
        for (number, same_owner) in [(1, false), (2, true)] {
            let release = Release::to_anchor(&Anchor::alone(&rig.admin.anchor.public()), same_owner);
            let mut order = Order::new(Kind::Release, release.as_bytes());
            let warrant = &rig.title.warrant;
            (order.fleet, order.fiduciary, order.epoch) = (warrant.fleet, warrant.fiduciary, warrant.epoch);
            (order.set, order.counter) = (rig.title.set.hash(), U64::new(rig.title.binding.counter.get() + number));
            let signed = [order.sign(&rig.admin.anchor, 0).as_bytes(), release.as_bytes()].concat();
            let wanted = if same_owner { CommandResult::Done } else { CommandResult::Refused };
            assert_eq!(rig.apply(&signed, WAIT).await, Some(wanted), "same owner: {same_owner}");
        }
        pass(&world, SOON).await;
        assert_eq!(rig.phase(), "hold");
        // He finds it again; as what, his registry knows.
        let again = rig.admin.rival(0, 3).expect("the same with another registry");
        again.claim(None, WAIT).await.expect("a claim");
        pass(&world, SOON).await;
        assert_eq!(rig.phase(), "claimed");
    });
}

#[test]
fn the_tool_lets_a_node_go_has_its_word_and_may_claim_it_anew() {
    let world = RefCell::new(World::new(35));
    simulate(async {
        let rig = Rig::new(&world).await;
        let release = parting::release(Some(&Anchor::alone(&rig.admin.anchor.public())), true);
        let view = rig.admin.view().expect("a view");
        let members = || view.live().expect("members").into_iter().map(|node| node.member).collect::<Vec<_>>();
        let mut lane = Mesh(rig.admin.mesh.clone());
        let released = parting::run(&mut lane, &view, &rig.admin.anchor, members(), &release, WAIT);
        let account = within(&world, released).await;
        assert_eq!(account.error(), None);
        assert!(members().is_empty(), "it is a member still");
        pass(&world, SOON).await;
        assert_eq!(rig.phase(), "hold");
        // It was not revoked: nobody has to readmit it.
        let claimed = rig.admin.claim(None, WAIT).await.expect("a claim");
        // A release is an epoch too.
        assert_eq!(claimed.node.title.warrant.epoch.get(), rig.title.warrant.epoch.get() + 2);
        assert_eq!(members().len(), 1);
        assert_eq!(rig.admin.registry.has_left(&claimed.node), Ok(false));
    });
}
