//! What each thread of an image is and reaches: its CSpace, and its VSpace as a list of mappings.

use std::collections::{BTreeMap, BTreeSet};

use super::violation::{Rule, Violation};
use crate::{
    description::{Domain, System},
    image::{
        capdl::{Cap, FrameCap, Id, Object, Rights, Slots, Spec, Tcb},
        policy::Policy,
    },
};

/// The slots of a TCB.
pub(super) const CSPACE: u32 = 0;
const VSPACE: u32 = 1;
pub(super) const IPC_BUFFER: u32 = 4;
pub(super) const FAULT: u32 = 5;
pub(super) const SCHED_CONTEXT: u32 = 6;
const BOUND_NOTIFICATION: u32 = 8;

/// What the tool gives with a notification. Another's receive on it is refused by the kernel: it is bound to its thread.
pub(super) const SIGNAL: Rights = Rights { read: true, write: true, grant: false, grant_reply: false };

const PAGE_BITS: u8 = 12;
/// By which each level of page tables divides.
const LEVEL_BITS: u8 = 9;

pub(super) const MONITOR: &str = "monitor";

pub(super) struct View<'a> {
    pub system: &'a System,
    pub policy: &'a Policy<'a>,
    pub spec: &'a Spec,
    /// The declared domains and the Microkit's monitor.
    pub threads: Vec<Thread<'a>>,
}

pub(super) struct Thread<'a> {
    pub name: &'a str,
    /// None for the monitor.
    pub domain: Option<&'a Domain>,
    pub id: Id,
    pub tcb: &'a Tcb,
    /// The CNode that is the CSpace.
    pub root: Id,
    /// The CNode with the Microkit's slots: of a domain in slot 0 of the root, of the monitor the root itself.
    pub cnode: Id,
    pub vspace: Id,
    pub notification: Option<Id>,
    pub mappings: Vec<Mapping>,
}

#[derive(Clone, Copy)]
pub(super) struct Mapping {
    pub vaddr: u64,
    pub size: u64,
    pub frame: Id,
    pub cap: FrameCap,
}

impl<'a> View<'a> {
    pub fn new(system: &'a System, policy: &'a Policy<'a>, spec: &'a Spec) -> Result<Self, Vec<Violation>> {
        let mut broken = Vec::new();
        let domains = system.all_domains();
        let names: Vec<(&str, Option<&Domain>)> = domains
            .iter()
            .map(|domain| (domain.name.as_str(), Some(*domain)))
            .chain(std::iter::once((MONITOR, None)))
            .collect();
        for (_, name, object) in spec.all() {
            let declared = || names.iter().any(|(thread, _)| name.strip_prefix("tcb_") == Some(*thread));
            if matches!(object, Object::Tcb(_)) && !declared() {
                broken.push(Rule::Thread.broken(format!("{name} is no declared domain's thread")));
            }
        }
        let walk = Walk::new(spec).map_err(|why| vec![why])?;
        let mut threads = Vec::new();
        for (name, domain) in names {
            match thread(spec, &walk, name, domain) {
                Ok(thread) => threads.push(thread),
                Err(why) => broken.push(why),
            }
        }
        let view = Self { system, policy, spec, threads };
        view.one_of_each(&mut broken);
        view.own_tables(&mut broken);
        if broken.is_empty() { Ok(view) } else { Err(broken) }
    }

    /// The declared domains.
    pub fn domains(&self) -> impl Iterator<Item = (&Thread<'a>, &'a Domain)> {
        self.threads.iter().filter_map(|thread| Some((thread, thread.domain?)))
    }

    pub fn thread(&self, name: &str) -> Option<&Thread<'a>> {
        self.threads.iter().find(|thread| thread.name == name)
    }

    pub fn parent(&self, child: &Domain) -> Option<&'a Domain> {
        let domains = self.system.all_domains();
        domains.into_iter().find(|parent| parent.children.iter().any(|own| own.name == child.name))
    }

    /// The slots of a thread's own CNode.
    pub fn slots(&self, thread: &Thread<'_>) -> Option<&'a Slots> {
        Some(&self.spec.cnode(thread.cnode)?.slots)
    }

    /// Threads share neither CSpace nor VSpace nor notification nor scheduling context.
    fn one_of_each(&self, broken: &mut Vec<Violation>) {
        for (index, thread) in self.threads.iter().enumerate() {
            for other in self.threads.iter().take(index) {
                // Whose it is said to be: the guarded domain's, if it is one of the two.
                let guarded = |name: &str| name == self.policy.guarded;
                let (owner, guest) =
                    if guarded(thread.name) { (thread.name, other.name) } else { (other.name, thread.name) };
                if thread.vspace == other.vspace {
                    broken.push(Rule::ForeignVspace.broken(format!("{guest} runs in the VSpace of {owner}")));
                }
                if thread.root == other.root || thread.cnode == other.cnode {
                    broken.push(Rule::ForeignCnode.broken(format!("{guest} has the CNode of {owner}")));
                }
                if thread.notification.is_some() && thread.notification == other.notification {
                    broken.push(Rule::Channels.broken(format!("{guest} waits on the notification of {owner}")));
                }
                let context = |thread: &Thread<'_>| thread.tcb.slots.get(SCHED_CONTEXT).map(Cap::object);
                if context(thread) == context(other) {
                    broken.push(Rule::Thread.broken(format!("{guest} runs on the time of {owner}")));
                }
            }
        }
    }

    /// Each page table has one place.
    fn own_tables(&self, broken: &mut Vec<Violation>) {
        let mut seen = BTreeSet::new();
        for (_, _, object) in self.spec.all() {
            let Object::PageTable(table) = object else { continue };
            for (_, cap) in table.slots.iter() {
                if matches!(cap, Cap::PageTable(_)) && !seen.insert(cap.object()) {
                    let name = self.spec.name(cap.object());
                    broken.push(Rule::ForeignVspace.broken(format!("page table {name} stands in two places")));
                }
            }
        }
    }
}

fn thread<'a>(
    spec: &'a Spec,
    walk: &Walk<'a>,
    name: &'a str,
    domain: Option<&'a Domain>,
) -> Result<Thread<'a>, Violation> {
    let without = |what: &str| Rule::Thread.broken(format!("{name} has no {what}"));
    let id = spec.named(&format!("tcb_{name}")).ok_or_else(|| without("thread"))?;
    let tcb = spec.tcb(id).ok_or_else(|| without("thread"))?;
    let wanted: &[u32] = match domain {
        Some(_) => &[CSPACE, VSPACE, IPC_BUFFER, FAULT, SCHED_CONTEXT, BOUND_NOTIFICATION],
        None => &[CSPACE, VSPACE, IPC_BUFFER, SCHED_CONTEXT],
    };
    for (slot, cap) in tcb.slots.iter() {
        let fits = match (slot, cap) {
            (CSPACE, Cap::CNode(_))
            | (VSPACE, Cap::PageTable(_))
            | (FAULT, Cap::Endpoint(_))
            | (SCHED_CONTEXT, Cap::SchedContext(_)) => true,
            (IPC_BUFFER, Cap::Frame(cap)) => cap.rights.read && cap.rights.write && !cap.executable,
            (BOUND_NOTIFICATION, Cap::Notification(cap)) => cap.badge == 0 && cap.rights == SIGNAL,
            _ => false,
        };
        if !fits || !wanted.contains(&slot) {
            return Err(Rule::Thread
                .broken(format!("slot {slot} of the thread {name} holds {cap}, which is not the tool's way")));
        }
    }
    let root = tcb.slots.get(CSPACE).map(Cap::object).ok_or_else(|| without("CSpace"))?;
    let cnode = match domain {
        None => root,
        Some(_) => match spec.cnode(root).and_then(|root| root.slots.get(0)) {
            Some(Cap::CNode(own)) => own.object,
            _ => return Err(without("CNode in slot 0 of its CSpace")),
        },
    };
    let vspace = tcb.slots.get(VSPACE).map(Cap::object).ok_or_else(|| without("VSpace"))?;
    let notification = tcb.slots.get(BOUND_NOTIFICATION).map(Cap::object);
    if notification.is_none() && domain.is_some() {
        return Err(without("notification"));
    }
    if tcb.slots.get(SCHED_CONTEXT).is_none() {
        return Err(without("scheduling context"));
    }
    if !spec.page_table(vspace).is_some_and(|table| table.is_root) {
        return Err(without("page table of the highest level"));
    }
    let mut mappings = Vec::new();
    walk.table(vspace, 0, &mut mappings)
        .map_err(|why| Rule::Thread.broken(format!("the VSpace of {name} is none: {why}")))?;
    Ok(Thread { name, domain, id, tcb, root, cnode, vspace, notification, mappings })
}

/// From page tables to addresses.
struct Walk<'a> {
    spec: &'a Spec,
    /// The level whose tables hold pages of 4 KiB.
    last: u8,
}

impl<'a> Walk<'a> {
    /// How deep the tables of this architecture go is seen where their smallest pages are.
    fn new(spec: &'a Spec) -> Result<Self, Violation> {
        let mut levels: BTreeMap<u8, &str> = BTreeMap::new();
        for (_, name, object) in spec.all() {
            let Object::PageTable(table) = object else { continue };
            let small = |cap: &Cap| spec.frame(cap.object()).is_some_and(|frame| frame.size_bits == PAGE_BITS);
            if table.slots.iter().any(|(_, cap)| small(cap)) {
                levels.insert(table.level, name);
            }
        }
        match (levels.first_key_value(), levels.last_key_value()) {
            (Some((first, _)), Some((last, _))) if first == last && *last <= 3 => Ok(Self { spec, last: *last }),
            (Some((_, a)), Some((_, b))) if a != b => {
                Err(Rule::Thread
                    .broken(format!("page tables {a} and {b} are of two levels, and both hold small pages")))
            }
            _ => Err(Rule::Thread.broken("no page table of a known level holds small pages")),
        }
    }

    fn table(&self, id: Id, base: u64, into: &mut Vec<Mapping>) -> Result<(), String> {
        let name = self.spec.name(id);
        let table = self.spec.page_table(id).ok_or_else(|| format!("{name} is no page table"))?;
        let below = self.last.checked_sub(table.level).ok_or_else(|| format!("{name} is of level {}", table.level))?;
        let bits = PAGE_BITS + LEVEL_BITS * below;
        // With 40 bits of address, the root on AArch64 at EL2 is twice as wide.
        let width = if table.is_root { 2 << LEVEL_BITS } else { 1 << LEVEL_BITS };
        for (slot, cap) in table.slots.iter() {
            if slot >= width {
                return Err(format!("{name} has no slot {slot}"));
            }
            let vaddr = base + (u64::from(slot) << bits);
            match cap {
                Cap::PageTable(cap) => {
                    let child = self.spec.page_table(cap.object);
                    if !child.is_some_and(|child| !child.is_root && child.level == table.level + 1) {
                        return Err(format!("{} is not of the level below {name}", self.spec.name(cap.object)));
                    }
                    self.table(cap.object, vaddr, into)?;
                }
                Cap::Frame(cap) => {
                    if self.spec.frame(cap.object).is_none_or(|frame| frame.size_bits != bits) {
                        return Err(format!("{} is no page for {name}", self.spec.name(cap.object)));
                    }
                    into.push(Mapping { vaddr, size: 1 << bits, frame: cap.object, cap: *cap });
                }
                _ => return Err(format!("{name} holds {cap}")),
            }
        }
        Ok(())
    }
}
