//! Random actions against real nodes, and a small model of who owns what. Whatever happens, a node has the identity that it
//! has shown, belongs to nobody or to the administrator who holds its anchor, and what was done stays done; and once the
//! weather is calm again and the power is back, it can be claimed, or answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use os_network_admin::{
    base::error::Exit,
    fleet::delivery::{Outcome, Task},
    registry::FromBackup,
};
use policy::{Direction, Protocol, Role, Rule};
use wire::{Key, command::Operation};

use crate::{
    admin::{pass, simulate},
    flash::Flash,
    fleet::Administrator,
    rng::Rng,
    scenario::rough,
    segment::Frame,
    trace::Trace,
    world::{Meddler, World},
};

const NODES: usize = 3;
/// After how many actions the world is calmed and looked at.
const ROUND: u32 = 25;
/// How long a node takes to be what it is, after its power has come back.
const SETTLED: Duration = Duration::from_secs(75);
/// As long as an operator waits for what need not come.
const SHORT: Duration = Duration::from_secs(8);
/// Longer than what must come takes.
const LONG: Duration = Duration::from_secs(180);
/// Lines of a console that are shown of a node which is not as it should be.
const LINES: usize = 30;
/// Frames that a stranger has kept.
const KEPT: usize = 64;

/// Whose a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// A claim was begun, and how it ended is not known.
    Perhaps,
    Ours,
}

/// What is known of what stands in a flash.
#[derive(Debug, Clone)]
struct Known {
    identity: Option<Key>,
    owner: Owner,
    /// `None`: not known.
    isolated: Option<bool>,
    revoked: bool,
    /// An older state of it is in the registry: what a claim or a command comes to is open.
    rolled_back: bool,
}

impl Known {
    const NEW: Self =
        Self { identity: None, owner: Owner::Nobody, isolated: Some(false), revoked: false, rolled_back: false };
}

struct Place {
    node: usize,
    known: Known,
    /// Lines of its console that were looked at.
    read: usize,
    old: Vec<(Flash, Known)>,
}

/// What was done, by kind, and how often.
pub type Tally = BTreeMap<&'static str, u32>;

struct Chance<'w> {
    world: &'w RefCell<World>,
    rng: Rng,
    owner: Administrator<'w>,
    stranger: Administrator<'w>,
    places: Vec<Place>,
    /// What went over the wire.
    kept: Rc<RefCell<VecDeque<Vec<u8>>>>,
    rough: bool,
    /// Claimed, and by a console that was dead not shown yet.
    unseen: Vec<Key>,
    /// An old copy of the registry.
    backup: Option<Vec<u8>>,
    tally: Tally,
}

/// So many actions of this seed. What was done, or what did not hold.
pub fn run(seed: u64, actions: u32) -> Result<Tally, String> {
    go(&RefCell::new(World::new(seed)), actions)
}

/// The same, with who said what to whom.
pub fn replay(seed: u64, actions: u32) -> (Trace, Result<Tally, String>) {
    let mut world = World::new(seed);
    world.record();
    let world = RefCell::new(world);
    let result = go(&world, actions);
    (world.into_inner().trace().clone(), result)
}

fn go(world: &RefCell<World>, actions: u32) -> Result<Tally, String> {
    world.borrow_mut().schedule_randomly();
    simulate(async {
        let mut chance = Chance::new(world).map_err(|error| error.to_string())?;
        for number in 0..actions {
            chance.act().await.map_err(|what| format!("action {number}: {what}"))?;
            if number % ROUND == ROUND - 1 {
                chance.settle().await.map_err(|what| format!("after action {number}: {what}"))?;
            }
        }
        Ok(chance.tally)
    })
}

impl<'w> Chance<'w> {
    fn new(world: &'w RefCell<World>) -> Result<Self, os_network_admin::base::error::Error> {
        let owner = Administrator::new(world, 0, 1)?;
        let stranger = Administrator::new(world, 0, 2)?;
        let plan = owner.plan_without_scan();
        let mut inside = world.borrow_mut();
        let place = |node| Place { node, known: Known::NEW, read: 0, old: Vec::new() };
        let places = (0..NODES).map(|_| place(inside.add(&plan))).collect();
        let rng = inside.rng().split();
        drop(inside);
        let (kept, tally) = (Rc::default(), Tally::new());
        let chance =
            Self { world, rng, owner, stranger, places, kept, rough: false, unseen: Vec::new(), backup: None, tally };
        chance.set_weather();
        Ok(chance)
    }

    /// A stranger keeps what he hears; of rough weather frames are lost besides.
    fn set_weather(&self) {
        let (kept, rng) = (self.kept.clone(), self.rng.split());
        let mut weather: Option<Meddler> = self.rough.then(|| rough(self.rng.split()));
        let meddler: Meddler = Box::new(move |world: &World, frame: &Frame| {
            let mut kept = kept.borrow_mut();
            if rng.below(4) == 0 {
                kept.push_back(frame.bytes.clone());
                while kept.len() > KEPT {
                    kept.pop_front();
                }
            }
            weather.as_mut().map_or_else(|| frame.passes(), |weather| weather(world, frame))
        });
        self.world.borrow_mut().meddle(Some(meddler));
    }

    fn pick(&self, count: usize) -> usize {
        usize::try_from(self.rng.below(count.max(1) as u64)).unwrap_or(0)
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// One action.
    async fn act(&mut self) -> Result<(), String> {
        let place = self.pick(NODES);
        let node = self.places[place].node;
        match self.rng.below(21) {
            0 | 1 => {
                self.count("power");
                self.world.borrow_mut().power_on(node);
            }
            2 => {
                self.count("cut");
                self.world.borrow_mut().power_off(node);
            }
            3 => self.later("kill", place, |world, node, domain| world.kill(node, domain)),
            4 => self.later("hang", place, |world, node, domain| world.hang(node, domain)),
            5 | 6 => self.later("cut later", place, |world, node, _| world.power_off(node)),
            7..10 => self.claim(place).await?,
            10 => {
                self.count("stranger's claim");
                let claimed = self.stranger.claim(None, Duration::from_secs(4)).await;
                if let Ok(claimed) = claimed {
                    return Err(format!("a stranger has claimed {:02x?}", claimed.node.title.warrant.fiduciary));
                }
            }
            11 => self.replay(),
            12 => self.forge(),
            13 => self.flood(),
            14 => self.update().await?,
            15 => self.isolate().await?,
            16 => self.revoke().await?,
            17 => {
                self.count("clock");
                let skews = [0, 3_600, -3_600, 40 * 86_400, -40 * 86_400];
                self.owner.set_clock_skew(skews[self.pick(skews.len())]);
            }
            18 => self.keep_or_put_back(place),
            19 => self.back_up_or_restore()?,
            _ => {
                self.count("weather");
                self.rough = !self.rough;
                self.set_weather();
            }
        }
        pass(self.world, Duration::from_millis(self.rng.below(3_000))).await;
        self.look()
    }

    /// Something befalls one domain, or the node, at some step that is to come.
    fn later(&mut self, what: &'static str, place: usize, deed: fn(&mut World, usize, &str)) {
        self.count(what);
        let node = self.places[place].node;
        let children = calls::Domain::CHILDREN;
        let domain = children[self.pick(children.len())].name();
        let step = self.rng.below(400);
        let mut world = self.world.borrow_mut();
        let step = world.steps() + step;
        world.before_step(step, move |world| deed(world, node, domain));
    }

    async fn claim(&mut self, place: usize) -> Result<(), String> {
        self.count("claim");
        let known = self.places[place].known.clone();
        let one = known.identity.filter(|_| self.rng.below(2) == 0);
        // Whoever is not known to be claimed may be claimed now, whether that is heard of or not.
        for place in &mut self.places {
            let asked = one.is_none() || place.known.identity == one;
            if place.known.owner == Owner::Nobody && asked {
                place.known.owner = Owner::Perhaps;
            }
        }
        match self.owner.claim(one.as_ref(), SHORT).await {
            Ok(claimed) => self.is_ours(&claimed.node.title.warrant.fiduciary),
            Err(error)
                if [Exit::NoAnswer, Exit::Failed, Exit::Unconfirmed, Exit::NotAccepted].contains(&error.exit) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("claim: {error}")),
        }
    }

    fn is_ours(&mut self, fiduciary: &Key) -> Result<(), String> {
        self.look()?;
        match self.places.iter_mut().find(|place| place.known.identity == Some(*fiduciary)) {
            Some(place) => place.known.owner = Owner::Ours,
            None => self.unseen.push(*fiduciary),
        }
        Ok(())
    }

    fn replay(&mut self) {
        self.count("replay");
        let kept = self.kept.borrow().iter().cloned().collect::<Vec<_>>();
        let mut world = self.world.borrow_mut();
        kept.into_iter().filter(|_| self.rng.below(2) == 0).for_each(|bytes| world.forge(0, bytes));
    }

    fn forge(&mut self) {
        self.count("forge");
        let kept = self.kept.borrow().iter().cloned().collect::<Vec<_>>();
        for mut bytes in kept.into_iter().filter(|bytes| bytes.len() > 14) {
            for _ in 0..=self.rng.below(4) {
                let at = self.pick(bytes.len());
                bytes[at] ^= 1 << self.rng.below(8);
            }
            bytes.truncate(if self.rng.below(8) == 0 { self.pick(bytes.len()) } else { bytes.len() });
            self.world.borrow_mut().forge(0, bytes);
        }
    }

    /// One frame, altered or not, very often.
    fn flood(&mut self) {
        self.count("flood");
        let chosen = {
            let kept = self.kept.borrow();
            kept.get(self.pick(kept.len())).cloned()
        };
        let Some(mut bytes) = chosen.filter(|bytes| bytes.len() > 14) else { return };
        if self.rng.below(2) == 0 {
            let at = 14 + self.pick(bytes.len() - 14);
            bytes[at] ^= 1;
        }
        let mut world = self.world.borrow_mut();
        (0..300).for_each(|_| world.forge(0, bytes.clone()));
    }

    async fn update(&mut self) -> Result<(), String> {
        self.count("update");
        let port = 1 + u16::try_from(self.rng.below(1_000)).unwrap_or(0);
        let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Udp, port };
        let outcomes = self.owner.set_rules(&[rule].into_iter().collect(), SHORT).await;
        outcomes.map(drop).map_err(|error| format!("update: {error}"))
    }

    async fn isolate(&mut self) -> Result<(), String> {
        let isolate = self.rng.below(2) == 0;
        self.count(if isolate { "isolate" } else { "rejoin" });
        let task = if isolate { Task::Command(Operation::Isolate) } else { Task::Rejoin };
        for (place, outcome) in self.told(&task, SHORT).await? {
            let done = matches!(outcome, Outcome::Done { .. });
            self.places[place].known.isolated = done.then_some(isolate);
        }
        Ok(())
    }

    /// Commands every live member; how it went with those that are here, by their places.
    async fn told(&mut self, task: &Task, wait: Duration) -> Result<Vec<(usize, Outcome)>, String> {
        let text = |error: os_network_admin::base::error::Error| error.to_string();
        let view = self.owner.view().map_err(text)?;
        let live = view.live().map_err(text)?;
        let whose: Vec<_> = live.iter().map(|node| node.member.fiduciary().copied()).collect();
        let outcomes = self.owner.ask_all(task, wait).await.map_err(text)?;
        let place = |fiduciary: Option<Key>| {
            self.places.iter().position(|place| fiduciary.is_some() && place.known.identity == fiduciary)
        };
        Ok(whose.into_iter().map(place).zip(outcomes).filter_map(|(place, outcome)| Some((place?, outcome))).collect())
    }

    /// Once in a while, so that there is something left.
    async fn revoke(&mut self) -> Result<(), String> {
        if self.rng.below(4) != 0 {
            return Ok(());
        }
        self.count("revoke");
        let text = |error: os_network_admin::base::error::Error| error.to_string();
        let view = self.owner.view().map_err(text)?;
        let live = view.live().map_err(text)?;
        if live.is_empty() {
            return Ok(());
        }
        let member = &live[self.pick(live.len())].member;
        let (id, fiduciary) = (member.id, member.fiduciary().copied());
        for place in self.places.iter_mut().filter(|place| place.known.identity == fiduciary) {
            place.known.revoked = true;
            place.old.iter_mut().for_each(|(_, known)| known.revoked = true);
        }
        self.owner.revoke(id, SHORT).await.map(drop).map_err(text)
    }

    /// Somebody copies a node's flash, or puts an old copy back, or a new flash in.
    fn keep_or_put_back(&mut self, place: usize) {
        let (choice, node) = (self.rng.below(4), self.places[place].node);
        let chosen = self.pick(self.places[place].old.len());
        let mut world = self.world.borrow_mut();
        world.power_off(node);
        let place = &mut self.places[place];
        let what = match choice {
            0 | 1 => {
                if place.old.len() < 4 {
                    place.old.push((world.flash(node).copy(), place.known.clone()));
                }
                "flash copied"
            }
            2 if !place.old.is_empty() => {
                let (flash, known) = &place.old[chosen];
                world.setup(node).flash = flash.copy();
                place.known = Known { rolled_back: true, ..known.clone() };
                "old flash put back"
            }
            _ => {
                world.setup(node).flash = Flash::new();
                (place.known, place.old) = (Known::NEW, Vec::new());
                "new flash"
            }
        };
        // Whatever was claimed and not seen may be gone with it.
        self.unseen.clear();
        drop(world);
        self.count(what);
    }

    /// The registry is copied, or an old copy of it restored: what it says then is no older.
    fn back_up_or_restore(&mut self) -> Result<(), String> {
        let Some(copy) = self.backup.take().filter(|_| self.rng.below(2) == 0) else {
            self.count("registry copied");
            let copy = self.owner.registry.copy().map_err(|error| error.to_string())?;
            self.backup = Some(copy.to_vec());
            return Ok(());
        };
        // The copy is looked through in a file beside one of this name.
        let path = std::env::temp_dir().join("registry");
        let copy = FromBackup::open(&path, &copy, self.owner.host()).map_err(|error| error.to_string())?;
        match copy.merge_into(&self.owner.registry) {
            Ok(_) => self.count("old registry restored"),
            // It knows a claim that the copy does not.
            Err(error) if error.exit == Exit::Input => self.count("old registry refused"),
            Err(error) => return Err(format!("restore: {error}")),
        }
        self.owner.reload().map_err(|error| error.to_string())
    }

    /// What consoles have said since: an identity that was shown stays.
    fn look(&mut self) -> Result<(), String> {
        let world = self.world.borrow();
        for place in &mut self.places {
            let lines = world.console(place.node);
            for line in lines.get(place.read..).unwrap_or(&[]) {
                let shown = line.split(" identity ").nth(1).and_then(|rest| key(rest.split(' ').next()?));
                match (shown, place.known.identity) {
                    (Some(shown), Some(known)) if shown != known => {
                        return Err(format!("node {} was {known:02x?} and is {shown:02x?}", place.node));
                    }
                    (Some(shown), _) => {
                        place.known.identity = Some(shown);
                        if self.unseen.contains(&shown) {
                            place.known.owner = Owner::Ours;
                        }
                        self.unseen.retain(|unseen| *unseen != shown);
                    }
                    _ => {}
                }
            }
            place.read = lines.len();
        }
        Ok(())
    }

    /// The weather is calm, everybody has power, and nothing more befalls anybody: each node is what the model says.
    async fn settle(&mut self) -> Result<(), String> {
        self.rough = false;
        self.set_weather();
        self.owner.set_clock_skew(0);
        // What was to befall a node at a step that has not come does so now.
        pass(self.world, Duration::from_secs(1)).await;
        self.world.borrow_mut().forget_deeds();
        self.look()?;
        {
            let mut world = self.world.borrow_mut();
            self.places.iter().for_each(|place| world.power_on(place.node));
        }
        pass(self.world, SETTLED).await;
        self.look()?;
        if let Some(unseen) = self.unseen.first() {
            return Err(format!("{unseen:02x?} was claimed and is no node"));
        }
        for place in 0..NODES {
            self.check(place).await.map_err(|what| self.described(place, &what))?;
        }
        self.answers().await
    }

    /// How often a node has been switched on, as its console has said last.
    fn boots(&self, place: usize) -> u64 {
        let world = self.world.borrow();
        let mut said = world.console(self.places[place].node).iter().rev();
        said.find_map(|line| {
            let number = line.strip_prefix("genesis: boot ").and_then(|rest| rest.split(':').next()?.parse().ok());
            number.or_else(|| line.starts_with("genesis: first boot").then_some(1))
        })
        .unwrap_or(0)
    }

    /// What did not hold, with what is known of the node and what its console has said last.
    fn described(&self, place: usize, what: &str) -> String {
        let world = self.world.borrow();
        let (node, known) = (self.places[place].node, &self.places[place].known);
        let said = world.console(node).iter().filter(|line| line.starts_with("genesis: ")).rev();
        let said: Vec<_> = said.take(LINES).map(String::as_str).collect();
        let said: Vec<_> = said.into_iter().rev().collect();
        format!("node {node}: {what}; {known:?}\n{}", said.join("\n"))
    }

    async fn check(&mut self, at: usize) -> Result<(), String> {
        let node = self.places[at].node;
        let phase = self.world.borrow().phase(node).unwrap_or("none").to_owned();
        let owner = self.places[at].known.owner;
        let fits = match owner {
            Owner::Nobody => phase == "hold",
            Owner::Perhaps => ["hold", "committed", "claimed"].contains(&phase.as_str()),
            Owner::Ours => ["committed", "claimed"].contains(&phase.as_str()),
        };
        if !fits {
            return Err(format!("the phase is {phase}"));
        }
        let known = &mut self.places[at].known;
        known.owner = if phase == "hold" { Owner::Nobody } else { Owner::Ours };
        let identity = known.identity.ok_or("it has shown no identity")?;
        // What is not claimed can be; what was committed is claimed at last. The registry may know a node better that has
        // been put back.
        let open = phase != "claimed" && !known.revoked && !known.rolled_back;
        if open && (phase == "committed" || self.rng.below(2) == 0) {
            self.owner.claim(Some(&identity), LONG).await.map_err(|error| format!("it cannot be claimed: {error}"))?;
            self.is_ours(&identity)?;
        }
        Ok(())
    }

    /// Whoever is claimed answers, and is as isolated as was done.
    async fn answers(&mut self) -> Result<(), String> {
        for (place, outcome) in self.told(&Task::Command(Operation::Status), LONG).await? {
            let known = &self.places[place].known;
            if known.owner != Owner::Ours || known.revoked || known.rolled_back {
                continue;
            }
            let Outcome::Done { record, .. } = &outcome else {
                return Err(self.described(place, &format!("it does not answer: {outcome:?}")));
            };
            let isolated = record.isolated == 1;
            if known.isolated.is_some_and(|known| known != isolated) {
                return Err(self.described(place, &format!("isolated: {isolated}")));
            }
            self.places[place].known.isolated = Some(isolated);
            let boots = self.boots(place);
            if record.boots.get() != boots {
                let said = format!("telemetry says boot {}, the console {boots}", record.boots.get());
                return Err(self.described(place, &said));
            }
        }
        Ok(())
    }
}

fn key(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * key.len() {
        return None;
    }
    for (to, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *to = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}
