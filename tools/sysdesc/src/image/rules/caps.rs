//! Rules about capabilities: for each slot that a domain can reach, what may stand there.

use std::collections::BTreeMap;

use super::{
    view::{FAULT, MONITOR, SIGNAL, Thread, View},
    violation::{Rule, Violation},
};
use crate::{
    description::Trigger,
    image::capdl::{BadgedCap, Cap, Id, Rights},
};

/// The slots of a domain's CNode, as libmicrokit and rust-sel4 know them.
const INPUT: u32 = 1;
const FAULT_ENDPOINT: u32 = 2;
const VSPACE: u32 = 3;
const REPLY: u32 = 4;
const NOTIFICATION: u32 = 10;
const IRQ: u32 = 138;
const CHILD: u32 = 202;

/// The slots of the monitor's.
const MONITOR_ENDPOINT: u32 = 1;
const MONITOR_REPLY: u32 = 2;
const MONITOR_TCB: u32 = 10;

/// What the tool gives with an endpoint.
const CALL: Rights = Rights { read: true, write: true, grant: true, grant_reply: false };

/// In the badge of a child's fault.
const FAULT_BADGE: u64 = 1 << 62;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Violation>) {
    let caps = Caps { view, expected: expected(view) };
    for (thread, _) in view.domains() {
        caps.domain(thread, broken);
    }
    caps.endpoints(broken);
    monitor(view, broken);
    interrupts(view, broken);
}

/// A notification that a domain is to have.
struct Signal<'a> {
    to: &'a str,
    id: u8,
    object: Option<Id>,
}

impl Signal<'_> {
    fn is(&self, cap: &BadgedCap) -> bool {
        Some(cap.object) == self.object && cap.badge == 1 << self.id && cap.rights == SIGNAL
    }
}

/// By domain and slot.
type Signals<'a> = BTreeMap<(&'a str, u32), Signal<'a>>;

fn expected<'a>(view: &View<'a>) -> Signals<'a> {
    let mut signals = Signals::new();
    for channel in &view.system.channels {
        let [a, b] = &channel.ends;
        for (from, to) in [(a, b), (b, a)] {
            if from.notify {
                let object = view.thread(&to.domain).and_then(|thread| thread.notification);
                let slot = NOTIFICATION + u32::from(from.id);
                signals.insert((&from.domain, slot), Signal { to: &to.domain, id: to.id, object });
            }
        }
    }
    signals
}

struct Caps<'a, 'v> {
    view: &'v View<'a>,
    expected: Signals<'a>,
}

impl Caps<'_, '_> {
    fn domain(&self, thread: &Thread<'_>, broken: &mut Vec<Violation>) {
        let root = self.view.spec.cnode(thread.root).map(|root| &root.slots);
        for (slot, cap) in root.into_iter().flat_map(|slots| slots.iter()).filter(|(slot, _)| *slot != 0) {
            broken.push(self.foreign(thread, &format!("slot {slot} of its root CNode"), cap));
        }
        let Some(slots) = self.view.slots(thread) else { return };
        for (slot, cap) in slots.iter() {
            if !self.may_hold(thread, slot, cap) {
                broken.push(self.foreign(thread, &format!("slot {slot}"), cap));
            }
        }
        for ((from, slot), signal) in &self.expected {
            if *from == thread.name && slots.get(*slot).is_none() {
                broken.push(Rule::Channels.broken(format!("{from} cannot notify {}: slot {slot} is empty", signal.to)));
            }
        }
    }

    fn may_hold(&self, thread: &Thread<'_>, slot: u32, cap: &Cap) -> bool {
        let Some(domain) = thread.domain else { return false };
        match cap {
            Cap::PageTable(cap) => slot == VSPACE && cap.object == thread.vspace,
            Cap::Tcb(cap) => domain.children.iter().any(|child| {
                slot == CHILD + u32::from(child.id.unwrap_or_default())
                    && child.name != self.view.policy.guarded
                    && self.view.thread(&child.name).is_some_and(|child| child.id == cap.object)
            }),
            // Which endpoint and badge they are is looked at for all domains together.
            Cap::Endpoint(_) => slot == FAULT_ENDPOINT || slot == INPUT && !domain.children.is_empty(),
            Cap::Notification(cap) if slot == INPUT => {
                domain.children.is_empty()
                    && Some(cap.object) == thread.notification
                    && cap.badge == 0
                    && cap.rights == SIGNAL
            }
            Cap::Notification(cap) => self.expected.get(&(thread.name, slot)).is_some_and(|expected| expected.is(cap)),
            Cap::Reply(_) => slot == REPLY && self.reply_is_own(thread, cap.object()),
            Cap::ArmIrqHandler(_) | Cap::RiscvIrqHandler(_) => {
                domain.irqs.iter().any(|irq| slot == IRQ + u32::from(irq.id))
            }
            Cap::CNode(_) | Cap::Frame(_) | Cap::SchedContext(_) => false,
        }
    }

    fn reply_is_own(&self, thread: &Thread<'_>, reply: Id) -> bool {
        let holds = |other: &Thread<'_>| {
            let slots = self.view.slots(other).into_iter().flat_map(|slots| slots.iter());
            slots.filter(|(_, cap)| matches!(cap, Cap::Reply(_))).any(|(_, cap)| cap.object() == reply)
        };
        !self.view.threads.iter().any(|other| other.name != thread.name && holds(other))
    }

    /// The rule that a capability which a domain may not hold breaks.
    fn foreign(&self, thread: &Thread<'_>, place: &str, cap: &Cap) -> Violation {
        let name = thread.name;
        let object = self.view.spec.name(cap.object());
        let owner = |is: fn(&Thread<'_>) -> Id| {
            let owner = self.view.threads.iter().find(|thread| is(thread) == cap.object());
            owner.map_or("nobody", |owner| owner.name)
        };
        match cap {
            Cap::Tcb(_) => {
                Rule::ForeignTcb.broken(format!("{name} holds the TCB of {} in {place}", owner(|thread| thread.id)))
            }
            Cap::PageTable(_) => match owner(|thread| thread.vspace) {
                "nobody" => Rule::ForeignVspace.broken(format!("{name} holds page table {object} in {place}")),
                owner => Rule::ForeignVspace.broken(format!("{name} holds the VSpace of {owner} in {place}")),
            },
            Cap::CNode(_) => match (owner(|thread| thread.cnode), owner(|thread| thread.root)) {
                ("nobody", "nobody") => Rule::ForeignCnode.broken(format!("{name} holds CNode {object} in {place}")),
                ("nobody", owner) | (owner, _) => {
                    Rule::ForeignCnode.broken(format!("{name} holds the CNode of {owner} in {place}"))
                }
            },
            Cap::Endpoint(_) => Rule::Endpoint.broken(format!("{name} holds endpoint {object} in {place}")),
            Cap::Notification(cap) => Rule::Channels.broken(format!(
                "{name} holds notification {object} with badge {:#x} in {place}, which no channel declares",
                cap.badge
            )),
            Cap::Frame(_) => {
                Rule::ForeignFrame.broken(format!("{name} holds frame {object} in {place}: frames are only mapped"))
            }
            Cap::ArmIrqHandler(_) | Cap::RiscvIrqHandler(_) => {
                Rule::Interrupt.broken(format!("{name} holds {object} in {place}, which is not declared"))
            }
            Cap::Reply(_) | Cap::SchedContext(_) => {
                Rule::Capability.broken(format!("{name} holds {cap}, {object}, in {place}"))
            }
        }
    }

    /// Faults go to the parent, or else to the monitor, and say truly whose they are. Those who receive them are alone.
    fn endpoints(&self, broken: &mut Vec<Violation>) {
        let view = self.view;
        let input = |name: &str, slot: u32| match view.slots(view.thread(name)?)?.get(slot)? {
            Cap::Endpoint(cap) if cap.badge == 0 && cap.rights == CALL => Some(cap.object),
            _ => None,
        };
        let mut refuse = |what: String| broken.push(Rule::Endpoint.broken(what));
        let mut receivers = BTreeMap::from_iter(input(MONITOR, MONITOR_ENDPOINT).map(|object| (object, MONITOR)));
        for (thread, _) in view.domains().filter(|(_, domain)| !domain.children.is_empty()) {
            let name = thread.name;
            match input(name, INPUT).map(|object| receivers.insert(object, name)) {
                None => refuse(format!("{name} does not hear its children: slot {INPUT} is no endpoint of its own")),
                Some(None) => {}
                Some(Some(other)) => refuse(format!("{name} and {other} receive on the same endpoint")),
            }
        }
        let mut badges = BTreeMap::new();
        for (thread, domain) in view.domains() {
            let name = thread.name;
            let parent = view.parent(domain);
            let (receiver, object) = match parent {
                Some(parent) => (parent.name.as_str(), input(&parent.name, INPUT)),
                None => (MONITOR, input(MONITOR, MONITOR_ENDPOINT)),
            };
            let Some(Cap::Endpoint(cap)) = view.slots(thread).and_then(|slots| slots.get(FAULT_ENDPOINT)) else {
                refuse(format!("{name} has no fault endpoint in slot {FAULT_ENDPOINT}"));
                continue;
            };
            if cap.rights != CALL {
                refuse(format!("{name} has other rights to its fault endpoint than the tool gives"));
            }
            if Some(cap.object) != object {
                let has = view.spec.name(cap.object);
                refuse(format!("{name} has {has} in slot {FAULT_ENDPOINT}, not the endpoint of {receiver}"));
            }
            if thread.tcb.slots.get(FAULT) != Some(&Cap::Endpoint(*cap)) {
                refuse(format!("faults of {name} do not go where slot {FAULT_ENDPOINT} says"));
            }
            let badge = FAULT_BADGE | u64::from(domain.id.unwrap_or_default());
            if parent.is_some() && cap.badge != badge || parent.is_none() && !(1..FAULT_BADGE).contains(&cap.badge) {
                refuse(format!("faults of {name} have badge {:#x}, which is not its own", cap.badge));
            }
            if let Some(other) = badges.insert((cap.object, cap.badge), name) {
                refuse(format!("faults of {name} and {other} have the same badge"));
            }
        }
    }
}

/// The monitor is the Microkit's and sees every TCB. It gets no more than that.
fn monitor(view: &View<'_>, broken: &mut Vec<Violation>) {
    let slots = view.thread(MONITOR).and_then(|monitor| view.slots(monitor));
    for (slot, cap) in slots.into_iter().flat_map(|slots| slots.iter()) {
        let may = match cap {
            Cap::Endpoint(_) => slot == MONITOR_ENDPOINT,
            Cap::Reply(_) => slot == MONITOR_REPLY,
            Cap::Tcb(_) => slot >= MONITOR_TCB,
            _ => false,
        };
        if !may {
            let object = view.spec.name(cap.object());
            broken.push(Rule::Capability.broken(format!("the monitor holds {cap}, {object}, in slot {slot}")));
        }
    }
}

/// Each declared interrupt is its owner's, and there is no other.
fn interrupts(view: &View<'_>, broken: &mut Vec<Violation>) {
    let mut refuse = |what: String| broken.push(Rule::Interrupt.broken(what));
    let mut declared = Vec::new();
    for (thread, domain) in view.domains() {
        let name = thread.name;
        for irq in &domain.irqs {
            let number = irq.irq;
            let held = view.slots(thread).and_then(|slots| slots.get(IRQ + u32::from(irq.id)));
            let Some(handler @ (Cap::ArmIrqHandler(_) | Cap::RiscvIrqHandler(_))) = held else {
                refuse(format!("{name} does not hold interrupt {number}"));
                continue;
            };
            let handler = handler.object();
            let mut entries = view.spec.irqs.iter().filter(|entry| entry.handler == handler).map(|entry| entry.irq);
            if (entries.next(), entries.next()) != (Some(u64::from(number)), None) {
                refuse(format!("what {name} holds for interrupt {number} is for another"));
            }
            let Some((slots, trigger)) = view.spec.irq(handler) else { continue };
            let own = |cap: &Cap| {
                matches!(cap, Cap::Notification(cap)
                    if Some(cap.object) == thread.notification && cap.badge == 1 << irq.id && cap.rights == SIGNAL)
            };
            if slots.iter().count() != 1 || !slots.get(0).is_some_and(own) {
                refuse(format!("interrupt {number} does not notify {name} as channel {}", irq.id));
            }
            if trigger != u8::from(irq.trigger == Some(Trigger::Edge)) {
                refuse(format!("interrupt {number} of {name} is not triggered as declared"));
            }
            declared.push(handler);
        }
    }
    for (id, name, object) in view.spec.all() {
        if object.is_irq() && !declared.contains(&id) {
            refuse(format!("{name} is of no declared interrupt"));
        }
    }
    let mut numbers = BTreeMap::new();
    for entry in &view.spec.irqs {
        if let Some(first) = numbers.insert(entry.irq, entry.handler) {
            let (first, second) = (view.spec.name(first), view.spec.name(entry.handler));
            refuse(format!("interrupt {} is both {first} and {second}", entry.irq));
        }
    }
}
