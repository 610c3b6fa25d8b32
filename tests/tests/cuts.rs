//! The whole machine is killed, at a write to its flash or at a frame, in every flow of a node's life: switched on again it
//! is the same node, in the state before or in the one after, and does what a node does. `make cuts` takes all points;
//! what goes wrong within a word only `sim/tests/cuts.rs` shows.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{
    collections::HashSet,
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use calls::store::{BLOCKS, COPIES, RECORDS};
use genesis_tests::{
    PATIENCE,
    bed::Bed,
    member::{Claimed, Implementation, Member},
    power::{Blade, Counts, Event},
};
use lab::NodeOptions;
use policy::{Role, Rule};
use segment::switch::Fate;
use sha2::{Digest, Sha256};
use wire::{Key, command::Operation};
use zerocopy::IntoBytes;

/// How long an administrator waits before he says it again.
const AGAIN: Duration = Duration::from_secs(2);
const ECHO: &str = "in authority icmp";
const MORE: &str = "in authority tcp 81";

/// What the power goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// From the first power-up of a device to hold.
    FirstBoot,
    /// Find, grant, acknowledgement.
    Claim,
    /// From the power-up of a claimed node to its session.
    BootClaimed,
    Update,
    Isolate,
}

impl Flow {
    fn is_claimed_before(self) -> bool {
        matches!(self, Self::BootClaimed | Self::Update | Self::Isolate)
    }
}

/// How many points, at writes and at frames.
const WHOLE: [(Flow, [u64; 2]); 5] = [
    (Flow::FirstBoot, [10, 0]),
    (Flow::Claim, [7, 6]),
    (Flow::BootClaimed, [4, 3]),
    (Flow::Update, [5, 2]),
    (Flow::Isolate, [3, 2]),
];
/// In the middle of each.
const SAMPLE: [(Flow, [u64; 2]); 3] = [(Flow::FirstBoot, [1, 0]), (Flow::Claim, [0, 1]), (Flow::Update, [1, 0])];

/// A node, its administrator, and a member of its mesh.
struct Rig {
    node: Claimed,
    member: Member,
    blade: Arc<Blade>,
    /// F, if it was ever shown.
    shown: Option<Key>,
    /// What of the configuration is in force.
    rules: Vec<Rule>,
    /// The flash as the last cut has left it.
    left: Vec<u8>,
    bed: Bed,
}

impl Rig {
    fn new() -> Self {
        let bed = Bed::new();
        let device = bed.dir().join("device");
        fs::create_dir(&device).expect("a directory for the device");
        let blade = Blade::over(&device);
        let mut member = Member::start(&bed, "authority", 1, Implementation::WireguardGo, true);
        member.listens();
        let peer = member.as_peer(Role::Authority, 1);
        let kept = |options| {
            NodeOptions { device: Some(device), ..options }.with(|params| {
                params.claim_ms = 4000.into();
                params.token_ms = 4000.into();
            })
        };
        let mut node = Claimed::in_hold(&bed, vec![peer], &[ECHO], kept);
        node.station.patience = AGAIN;
        let sees = Arc::clone(&blade);
        let impairment = move |_, _: &mut Vec<u8>| {
            sees.sees(Event::Frame);
            Fate::Pass
        };
        bed.impair(node.node.name(), Some(Box::new(impairment)));
        let rules = node.configuration.rules.to_vec();
        Self { node, member, blade, shown: None, rules, left: Vec::new(), bed }
    }

    fn on(&mut self) {
        self.node.on();
        self.blade.reaches(self.node.node.cutter());
    }

    /// A device that was never switched on.
    fn is_new(&mut self) {
        self.node.node.wipe();
        (self.node.fork, self.shown) = (None, None);
        self.node.configuration.rules = [ECHO].map(rule).into_iter().collect();
        self.rules = self.node.configuration.rules.to_vec();
    }

    /// It has never shown another identity than now.
    fn is_one(&mut self) {
        if let Some(now) = self.node.node.shown() {
            assert!(self.shown.replace(now).is_none_or(|before| before == now), "a second identity");
        }
    }

    /// Does it again and again, as an administrator does, until it is done or the power has gone.
    fn insists(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) && !self.blade.counts().fell {
            assert!(Instant::now() < deadline, "{what}: it is not done\n{}", self.node.node.console());
        }
    }

    fn says(&self, line: &str) -> bool {
        self.node.node.says(AGAIN, |said| said == line)
    }

    fn claim(&mut self) {
        self.insists("claim", |this| {
            let Some((hello, token)) = this.node.admin.try_reach(&mut this.node.station) else {
                // Told, and the acknowledgement of that is lost.
                return this.says("genesis: phase claimed");
            };
            this.node.claim(&hello, &token).is_ok() && this.says("genesis: phase claimed")
        });
    }

    fn command(&mut self, operation: Operation, argument: u32, done: &str) {
        self.insists(done, |this| {
            let command = this.node.command(operation, argument);
            this.member.say(command.as_bytes());
            this.says(done)
        });
    }

    /// Ends the isolation by whichever command it was.
    fn rejoin(&mut self) {
        self.insists("rejoin", |this| {
            let Some(record) = this.member.record().filter(|record| record.isolated == 1) else { return false };
            let (order, chunks) = this.node.rejoin(record.isolation.counter.get());
            chunks.iter().for_each(|chunk| this.member.say(chunk));
            let command = this.node.command(Operation::Apply, order.short());
            this.member.say(command.as_bytes());
            this.says("genesis: rejoined")
        });
    }

    fn update(&mut self) {
        let wanted = &mut self.node.configuration;
        wanted.rules = [ECHO].map(rule).into_iter().collect();
        if self.rules.len() == 1 {
            wanted.rules.push(rule(MORE)).expect("room for two");
        }
        let wanted = wanted.clone();
        let (head, chunks) = self.node.update(&wanted);
        let done = in_force(&head.body);
        self.insists("update", |this| {
            chunks.iter().for_each(|chunk| this.member.say(chunk));
            let command = this.node.command(Operation::Apply, head.short());
            this.member.say(command.as_bytes());
            this.node.node.says(AGAIN, |line| line.starts_with(&done))
        });
    }

    /// The member and the node are in one mesh.
    fn meets(&mut self) {
        self.member.meet(&self.node, true);
        self.member.ping();
    }

    /// What must have been before the flow. Every flow before has left a claimed node.
    fn prepare(&mut self, flow: Flow) {
        if !flow.is_claimed_before() {
            self.is_new();
        }
        match flow {
            Flow::FirstBoot => {}
            Flow::Claim => {
                self.on();
                self.node.node.wait_phase("hold");
                self.is_one();
            }
            Flow::Update | Flow::Isolate => {
                self.node.node.forget_lines();
                self.node.leave_blocks();
            }
            Flow::BootClaimed => self.node.node.cut(),
        }
    }

    fn perform(&mut self, flow: Flow) {
        match flow {
            Flow::FirstBoot | Flow::BootClaimed => {
                self.on();
                let last = if flow == Flow::FirstBoot { "genesis: phase hold" } else { "genesis: joined" };
                self.insists("boot", |this| this.says(last));
            }
            Flow::Claim => self.claim(),
            Flow::Update => self.update(),
            Flow::Isolate => self.command(Operation::Isolate, 0, "genesis: isolated"),
        }
    }

    /// The node is what it was or what it was to become, and does what a node does.
    fn check(&mut self, flow: Flow) {
        self.on();
        let phases = ["hold", "committed", "claimed", "sealed"];
        self.node.node.wait_line(|line| phases.iter().any(|phase| line.strip_prefix("genesis: phase ") == Some(phase)));
        let phase = self.node.node.phases().pop().unwrap_or_default();
        let allowed: &[&str] = match flow {
            Flow::FirstBoot => &["hold"],
            Flow::Claim => &["hold", "committed", "claimed"],
            Flow::BootClaimed | Flow::Update | Flow::Isolate => &["claimed"],
        };
        assert!(allowed.contains(&&*phase), "{phase} after {flow:?}\n{}", self.node.node.console());
        self.node.node.fiduciary();
        self.is_one();
        if phase != "claimed" {
            self.claim();
        }
        self.is_configured(flow);
        self.meets();
        if flow == Flow::Isolate {
            self.command(Operation::Isolate, 0, "genesis: isolated");
            self.rejoin();
        }
        let console = self.node.node.console();
        assert!(!console.contains("genesis: fault"), "{console}");
    }

    /// The configuration of before is in force, or, after an update, that one.
    fn is_configured(&mut self, flow: Flow) {
        let line = self.node.node.wait_line(|line| line.starts_with("genesis: configuration "));
        let wanted = self.node.configuration.clone();
        let mut before = wanted.clone();
        before.rules = self.rules.iter().copied().collect();
        let is = |configuration| line.starts_with(&in_force(&Claimed::hash(configuration)));
        assert!(is(&before) || (flow == Flow::Update && is(&wanted)), "{line}");
        if !is(&wanted) {
            self.node.configuration = before;
        }
        self.rules = self.node.configuration.rules.to_vec();
    }

    /// Power goes at this point, if the flow has it; if not, at its end.
    fn cut(&mut self, flow: Flow, at: Option<(Event, u64)>) -> Cut {
        self.prepare(flow);
        self.blade.arm(at);
        self.perform(flow);
        let counts = self.blade.rest();
        self.is_one();
        self.node.node.cut();
        self.left = self.node.node.flash();
        self.check(flow);
        Cut { counts, digest: Sha256::digest(&self.left).into(), is_within: is_within(&self.left) }
    }

    /// Power goes at this point, or at an earlier one if this time the flow has not so many.
    fn cut_within(&mut self, flow: Flow, event: Event, mut at: u64) -> Cut {
        loop {
            let cut = self.cut(flow, Some((event, at)));
            if cut.counts.fell || at <= 1 {
                return cut;
            }
            at = at.div_ceil(2);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            let path = self.bed.segment().join("flash");
            eprintln!("what the last cut has left is in {}: {:?}", path.display(), fs::write(&path, &self.left));
        }
    }
}

/// What a cut was, and what it has left.
struct Cut {
    counts: Counts,
    digest: [u8; 32],
    /// Whether an entry was being written.
    is_within: bool,
}

fn rule(text: &str) -> Rule {
    text.parse().expect("a rule")
}

/// How the line begins that says so.
fn in_force(hash: &[u8; 32]) -> String {
    format!("genesis: configuration {} ", wire::Hex(hash))
}

/// Whether a record stands in one of its blocks and not, or not yet whole, in the other.
fn is_within(flash: &[u8]) -> bool {
    let blocks: Vec<_> = flash.chunks(flash.len() / BLOCKS).collect();
    let is_written = |block: &[u8]| block[128..].chunks(4).map(|word| word != [0xff; 4]).collect::<Vec<_>>();
    (0..RECORDS).any(|record| is_written(blocks[COPIES * record]) != is_written(blocks[COPIES * record + 1]))
}

fn power_goes(points: &[(Flow, [u64; 2])]) {
    let mut rig = Rig::new();
    let mut cuts = Vec::new();
    for (flow, [at_writes, at_frames]) in points {
        // Power goes at the end of it, and so it is known how long it is.
        let whole = rig.cut(*flow, None).counts;
        let kinds = [(Event::Write, whole.writes, *at_writes), (Event::Frame, whole.frames, *at_frames)];
        for (event, of, count) in kinds.into_iter().filter(|(.., count)| *count > 0) {
            let before = cuts.len();
            for number in 0..count {
                cuts.push(rig.cut_within(*flow, event, (of * (2 * number + 1)).div_ceil(2 * count)));
            }
            let reached = cuts[before..].iter().filter(|cut| cut.counts.fell).count();
            println!("{flow:?}: of {count} cuts at one of {of} {event:?}s {reached} came before the end");
        }
    }
    let distinct = cuts.iter().map(|cut| cut.digest).collect::<HashSet<_>>().len();
    let reached = cuts.iter().filter(|cut| cut.counts.fell).count();
    let within = cuts.iter().filter(|cut| cut.is_within).count();
    println!(
        "{} cuts, {reached} before the end of a flow, {within} within an entry; {distinct} distinct images left",
        cuts.len()
    );
}

#[test]
fn power_that_goes_in_the_middle_of_a_flow_leaves_the_node_that_was_there() {
    power_goes(&SAMPLE);
}

#[test]
#[ignore = "takes minutes: make cuts"]
fn power_that_goes_anywhere_leaves_the_node_that_was_there() {
    power_goes(&WHOLE);
}
