//! Rule `thread`: what runs is what is declared, as it is declared.

use super::{
    view::{CSPACE, IPC_BUFFER, SCHED_CONTEXT, Thread, View},
    violation::{Rule, Violation},
};
use crate::{description::Domain, image::capdl::Cap};

/// Of a capability's address, and of those the bits that the first CNode of a domain decodes.
const ADDRESS_BITS: u64 = 64;
const ROOT_BITS: u64 = 6;
/// The monitor's priority: no domain can have it.
const HIGHEST: u64 = 255;
/// Microseconds, where nothing is declared.
const BUDGET: u64 = 1000;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Violation>) {
    for thread in &view.threads {
        match thread.domain {
            Some(domain) => scheduling(view, thread, domain, broken),
            None => monitor(view, thread, broken),
        }
        cspace(view, thread, broken);
        ipc_buffer(view, thread, broken);
    }
}

fn scheduling(view: &View<'_>, thread: &Thread<'_>, domain: &Domain, broken: &mut Vec<Violation>) {
    let name = thread.name;
    let mut refuse = |what: String| broken.push(Rule::Thread.broken(what));
    let extra = &thread.tcb.extra;
    let declared = u64::from(domain.priority);
    if extra.prio != declared {
        refuse(format!("{name} runs at priority {}, declared is {declared}", extra.prio));
    }
    if extra.max_prio != declared {
        refuse(format!("{name} may give priority {}, its own is {declared}", extra.max_prio));
    }
    if extra.affinity != 0 {
        refuse(format!("{name} runs on core {}", extra.affinity));
    }
    if extra.fpu_disabled != (domain.fpu == Some(false)) {
        refuse(format!("whether {name} has floating point is not as declared"));
    }
    let budget = domain.budget.unwrap_or(BUDGET);
    let period = domain.period.unwrap_or(budget);
    let context = thread.tcb.slots.get(SCHED_CONTEXT).and_then(|cap| view.spec.sched_context(cap.object()));
    if let Some(context) = context.map(|context| &context.extra)
        && (context.budget, context.period) != (budget, period)
    {
        let (has, of) = (context.budget, context.period);
        refuse(format!("{name} has {has} of {of} microseconds, declared is {budget} of {period}"));
    }
}

/// Whoever receives faults outranks whoever makes them, and has all the time it wants.
fn monitor(view: &View<'_>, thread: &Thread<'_>, broken: &mut Vec<Violation>) {
    let extra = &thread.tcb.extra;
    let context = thread.tcb.slots.get(SCHED_CONTEXT).and_then(|cap| view.spec.sched_context(cap.object()));
    let highest = (extra.prio, extra.max_prio) == (HIGHEST, HIGHEST);
    let whole = context.is_some_and(|context| context.extra.budget == context.extra.period);
    if !highest || !whole || extra.affinity != 0 || extra.fpu_disabled {
        broken.push(Rule::Thread.broken("the monitor does not come before all domains"));
    }
}

/// The Microkit's layout: 64 bits of address end in one slot of the thread's own CNode, and nowhere else.
fn cspace(view: &View<'_>, thread: &Thread<'_>, broken: &mut Vec<Violation>) {
    let bits = |id| view.spec.cnode(id).map_or(0, |cnode| u64::from(cnode.size_bits));
    let guards = |cap: Option<&Cap>| match cap {
        Some(Cap::CNode(cap)) => Some((cap.guard, u64::from(cap.guard_size))),
        _ => None,
    };
    let root = guards(thread.tcb.slots.get(CSPACE)).map(|(guard, size)| (guard, size + bits(thread.root)));
    let own = guards(view.spec.cnode(thread.root).and_then(|root| root.slots.get(0)));
    let own = own.map(|(guard, size)| (guard, size + bits(thread.cnode)));
    let laid_out = if thread.domain.is_some() {
        root == Some((0, ROOT_BITS)) && own == Some((0, ADDRESS_BITS - ROOT_BITS))
    } else {
        root == Some((0, ADDRESS_BITS))
    };
    if !laid_out {
        broken.push(Rule::Thread.broken(format!("the CSpace of {} is not laid out as the Microkit's", thread.name)));
    }
}

/// The kernel writes messages into it: it is the thread's own memory.
fn ipc_buffer(view: &View<'_>, thread: &Thread<'_>, broken: &mut Vec<Violation>) {
    let addr = thread.tcb.extra.ipc_buffer_addr;
    let Some(Cap::Frame(cap)) = thread.tcb.slots.get(IPC_BUFFER) else { return };
    if !thread.mappings.iter().any(|mapping| mapping.vaddr == addr && mapping.cap == *cap) {
        broken.push(Rule::ForeignFrame.broken(format!(
            "the IPC buffer of {} is {}, which is not mapped so at its address {addr:#x}",
            thread.name,
            view.spec.name(cap.object)
        )));
    }
}
