//! A node whose power is cut and comes back, in every phase: it is the one that it was, and goes on where it was, with
//! nobody's help.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use crypto::AnchorSecret;
use os_network_admin::fleet::delivery::Outcome;
use policy::{Direction, Protocol, Role, Rule};
use sim::{
    Administrator, Plan, Port, World,
    admin::{pass, simulate},
    nor::Cut,
    scenario::WAIT,
    trace,
};
use wire::{Phase, command::Operation, ticket::Ticket};

const SOON: Duration = Duration::from_secs(5);

struct Rig<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    node: usize,
}

impl<'w> Rig<'w> {
    async fn holding(world: &'w RefCell<World>) -> Self {
        let admin = Administrator::new(world, 0, 1).unwrap();
        let plan = admin.plan_without_scan();
        let node = world.borrow_mut().add(&plan);
        let rig = Self { world, admin, node };
        rig.power_on().await;
        rig.assert_phase("hold");
        rig
    }

    async fn claimed(world: &'w RefCell<World>) -> Self {
        let rig = Self::holding(world).await;
        rig.admin.claim(None, WAIT).await.unwrap();
        rig.command(Operation::Status).await;
        rig.assert_phase("claimed");
        rig
    }

    async fn power_on(&self) {
        self.world.borrow_mut().power_on(self.node);
        pass(self.world, SOON).await;
    }

    fn phase(&self) -> String {
        self.world.borrow().phase(self.node).unwrap_or("none").to_owned()
    }

    fn assert_phase(&self, phase: &str) {
        assert_eq!(self.phase(), phase, "{:#?}", self.world.borrow().console(self.node));
    }

    /// What the console has said that begins so.
    fn said(&self, what: &str) -> Vec<String> {
        let world = self.world.borrow();
        world.console(self.node).iter().filter_map(|line| line.strip_prefix(what).map(str::to_owned)).collect()
    }

    /// There was only ever one identity.
    fn assert_one(&self) {
        let identity = |line: String| line.split(' ').next().map(str::to_owned);
        let shown: BTreeSet<_> = self.said("genesis: identity ").into_iter().filter_map(identity).collect();
        assert_eq!(shown.len(), 1, "{shown:?}");
    }

    async fn command(&self, operation: Operation) {
        let outcomes = self.admin.command(operation, WAIT).await.unwrap();
        let done = matches!(outcomes[..], [Outcome::Done { .. }]);
        assert!(done, "{operation:?}: {outcomes:?}: {:#?}", self.said("genesis: "));
    }
}

/// Nothing is decided before it is committed, and what is committed is there again.
#[test]
fn a_node_is_the_one_that_it_was_in_hold_and_can_be_claimed() {
    let world = RefCell::new(World::new(21));
    simulate(async {
        let rig = Rig::holding(&world).await;
        for _ in 0..3 {
            rig.power_on().await;
            rig.assert_phase("hold");
        }
        // It forks once.
        assert_eq!(rig.said("genesis: phase fork").len(), 1);
        rig.admin.claim(None, WAIT).await.unwrap();
        rig.command(Operation::Status).await;
        rig.assert_phase("claimed");
        rig.assert_one();
    });
}

#[test]
fn a_node_that_is_cut_off_in_the_scan_scans_again() {
    let world = RefCell::new(World::new(22));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let plan = sim::Plan { anchor: admin.anchor_file(), ..sim::Plan::default() };
        let node = world.borrow_mut().add(&plan);
        let rig = Rig { world: &world, admin, node };
        for _ in 0..2 {
            rig.power_on().await;
            rig.assert_phase("scan");
        }
        pass(&world, Duration::from_secs(60)).await;
        rig.assert_phase("hold");
        rig.assert_one();
    });
}

/// A binding is committed, and the acknowledgement does not come: the gate opens for the same binding after a reboot.
#[test]
fn a_committed_node_goes_on_with_its_claim() {
    let world = RefCell::new(World::new(23));
    simulate(async {
        let rig = Rig::holding(&world).await;
        let node = rig.node;
        world.borrow_mut().meddle(Some(Box::new(move |world, frame| {
            let committed = world.rules(node).is_some_and(|rules| rules.phase() == Phase::Committed);
            if committed && trace::frame(&frame.bytes).starts_with("TCP") && frame.from == Port::Node(node) {
                frame.lost()
            } else {
                frame.passes()
            }
        })));
        let _ = rig.admin.claim(None, SOON).await;
        world.borrow_mut().meddle(None);
        rig.assert_phase("committed");
        rig.power_on().await;
        rig.assert_phase("committed");
        // It has its configuration again before anyone brings it.
        assert_eq!(rig.said("genesis: configuration ").len(), 2);
        rig.admin.claim(None, WAIT).await.unwrap();
        rig.command(Operation::Status).await;
        rig.assert_phase("claimed");
        rig.assert_one();
    });
}

#[test]
fn a_claimed_node_is_back_in_the_mesh_with_nobodys_help() {
    let world = RefCell::new(World::new(24));
    simulate(async {
        let rig = Rig::claimed(&world).await;
        for _ in 0..3 {
            rig.power_on().await;
            rig.assert_phase("claimed");
            // Commands count on where they were, and so does WireGuard's timestamp.
            rig.command(Operation::Status).await;
        }
        rig.assert_one();
        let configurations: BTreeSet<_> = rig.said("genesis: configuration ").into_iter().collect();
        assert_eq!(configurations.len(), 1);
    });
}

#[test]
fn what_an_update_brought_and_that_the_node_is_isolated_outlive_the_power() {
    let world = RefCell::new(World::new(25));
    simulate(async {
        let rig = Rig::claimed(&world).await;
        let rule = |port| Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
        for port in 1..4 {
            let rules = (1..=port).map(rule).collect();
            let outcomes = rig.admin.set_rules(&rules, WAIT).await.unwrap();
            assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
            let now = rig.said("genesis: configuration ");
            rig.power_on().await;
            let after = rig.said("genesis: configuration ");
            assert_eq!(after.len(), now.len() + 1);
            assert_eq!(after.last(), now.last());
        }
        rig.command(Operation::Isolate).await;
        rig.power_on().await;
        assert_eq!(rig.said("genesis: isolated").len(), 2);
        let outcomes = rig.admin.rejoin(WAIT).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
        rig.power_on().await;
        assert_eq!((rig.said("genesis: isolated").len(), rig.said("genesis: rejoined").len()), (2, 1));
        rig.command(Operation::Status).await;
        rig.assert_one();
    });
}

/// Power goes before any step of a node from its first one to the end of its claim.
#[test]
fn power_that_goes_at_any_step_leaves_one_node_that_is_claimed_in_the_end() {
    let stride = if std::env::var_os("SIM_WHOLE").is_some() { 1 } else { 37 };
    for step in (0..2000).step_by(stride) {
        let world = RefCell::new(World::new(26));
        let over = simulate(async {
            let admin = Administrator::new(&world, 0, 1).unwrap();
            let plan = admin.plan_without_scan();
            let node = world.borrow_mut().add(&plan);
            let rig = Rig { world: &world, admin, node };
            world.borrow_mut().power_on(node);
            world.borrow_mut().before_step(step, move |world| world.power_off(node));
            let first = rig.admin.claim(None, SOON).await;
            if world.borrow().machine(node).is_some() {
                return true;
            }
            rig.power_on().await;
            if rig.phase() != "claimed" {
                let again = rig.admin.claim(None, WAIT).await;
                let why = again.err().map(|error| error.to_string());
                assert!(first.is_ok() || why.is_none(), "step {step}: {why:?} {:#?}", rig.said("genesis: "));
            }
            rig.command(Operation::Status).await;
            rig.assert_phase("claimed");
            rig.assert_one();
            false
        });
        if over {
            assert!(step > 200, "{step} steps are no claim");
            return;
        }
    }
}

/// The claim of a node by its ticket, with a cut of power in it, and again. Returns the points of the flash between which that
/// claim was.
fn claimed_by_ticket(cut: Option<Cut>) -> (u64, u64) {
    let world = RefCell::new(World::new(27));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let mut plan = Plan::default();
        plan.params.scan_ms = 0.into();
        let node = world.borrow_mut().add(&plan);
        let mut rig = Rig { world: &world, admin, node };
        for boots in 1..4 {
            rig.power_on().await;
            rig.assert_phase("hold");
            assert_eq!(rig.said("genesis: ticket ").len(), boots);
        }
        let secret = Ticket::from_text(&rig.said("genesis: ticket ")[0]).expect("a ticket").secret;
        let own = std::mem::replace(&mut rig.admin.anchor, AnchorSecret::from_seed(&secret));
        let flash = world.borrow().flash(node);
        let before = flash.nor().points();
        if let Some(cut) = cut {
            flash.cut_at(Cut { point: cut.point + before, ..cut });
        }
        let first = rig.admin.claim(None, SOON).await;
        pass(&world, SOON).await;
        let after = flash.nor().points();
        assert_eq!(flash.is_cut(), cut.is_some(), "{cut:?}");
        if cut.is_some() {
            rig.power_on().await;
            // A claim that is committed goes on for who has begun it, who has the ticket.
            let times = if rig.phase() == "hold" { 4 } else { 3 };
            assert_eq!(rig.said("genesis: ticket ").len(), times, "{cut:?}: {:#?}", rig.said("genesis: "));
            let again = rig.admin.claim(None, WAIT).await;
            assert!(first.is_ok() || again.is_ok() || rig.phase() == "claimed", "{cut:?}");
            pass(&world, SOON).await;
        }
        let shown = rig.said("genesis: ticket ");
        assert_eq!(BTreeSet::from_iter(&shown).len(), 1, "one ticket: {shown:?}");
        // The authority's own key commands, and the ticket is worth nothing any more.
        rig.admin.anchor = own;
        rig.command(Operation::Status).await;
        rig.assert_phase("claimed");
        rig.power_on().await;
        rig.assert_phase("claimed");
        assert_eq!(rig.said("genesis: ticket "), shown, "{cut:?}");
        rig.command(Operation::Status).await;
        rig.assert_one();
        (before, after)
    })
}

#[test]
fn a_ticket_is_shown_until_a_claim_is_committed_wherever_power_goes_in_it_and_never_after() {
    let (before, after) = claimed_by_ticket(None);
    let points = after - before;
    assert!(points > 4000, "{points}: a binding, an acknowledgement, an identity without the ticket, and purges");
    let cuts = if std::env::var_os("SIM_WHOLE").is_some() { 400 } else { 16 };
    for number in 0..cuts {
        claimed_by_ticket(Some(Cut { point: number * points / cuts, seed: number % 2 }));
    }
}
