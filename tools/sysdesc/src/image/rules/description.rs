//! The rules as far as the description alone can break them: what would be refused in any image made from it.

use super::violation::{Rule, Violation};
use crate::{
    description::{Board, Perms, System, board::Memory},
    image::policy::Policy,
};

pub(super) fn check(system: &System, board: &Board, policy: &Policy<'_>, broken: &mut Vec<Violation>) {
    paths_out(system, policy, broken);
    parents(system, broken);
    dma(system, policy, broken);
    fixed(system, board, broken);
    for region in system.regions.iter().filter(|region| region.prefill_path.is_some()) {
        public(policy, &region.name, broken);
    }
}

/// A region that is prefilled stands in clear in the image and in every copy of it, so it holds nothing secret.
pub(super) fn public(policy: &Policy<'_>, region: &str, broken: &mut Vec<Violation>) {
    if !policy.public.contains(&region) {
        broken.push(Rule::PublicImage.broken(format!(
            "{region} is prefilled, and anyone who has the image can read it: only {} may be. A secret is put at a fixed \
             address beside the image",
            policy.public.join(", ")
        )));
    }
}

/// What leaves the guarded domain is the policy's list, and the list is no longer than that.
fn paths_out(system: &System, policy: &Policy<'_>, broken: &mut Vec<Violation>) {
    let guarded = policy.guarded;
    let mut refuse = |what: String| broken.push(Rule::NoPathOut.broken(what));
    let Some(domain) = system.domain(guarded) else {
        return refuse(format!("there is no domain {guarded}"));
    };
    if domain.id.is_some() {
        refuse(format!("{guarded} has a parent, which can read its registers"));
    }
    for map in domain.maps.iter().filter(|map| map.perms == Perms::ReadWrite) {
        for (reader, _) in system.mappers(&map.region).filter(|(reader, _)| reader.name != guarded) {
            if !policy.outlets.contains(&(&map.region, &reader.name)) {
                refuse(format!("{guarded} writes {}, and {} maps it", map.region, reader.name));
            }
        }
        if system.region(&map.region).is_some_and(|region| region.device_of.is_some() || region.phys_addr.is_some()) {
            refuse(format!("{guarded} writes {}, which is no memory of the kernel's choosing", map.region));
        }
    }
    for (region, reader) in policy.outlets {
        let writes = domain.maps.iter().any(|map| map.region == *region && map.perms == Perms::ReadWrite);
        if !writes || !system.mappers(region).any(|(domain, _)| domain.name == *reader) {
            refuse(format!("the policy lets {region} carry bytes to {reader}, and it does not"));
        }
    }
}

/// Who restarts the others runs when they do not, and with all the time it wants. A child that never waits leaves some to
/// all others, whatever its priority.
fn parents(system: &System, broken: &mut Vec<Violation>) {
    let mut refuse = |what: String| broken.push(Rule::Thread.broken(what));
    for parent in system.all_domains().into_iter().filter(|domain| !domain.children.is_empty()) {
        for child in parent.children.iter().filter(|child| child.priority >= parent.priority) {
            refuse(format!("{} does not outrank its child {}", parent.name, child.name));
        }
        for child in &parent.children {
            if child.budget.zip(child.period).is_none_or(|(budget, period)| budget >= period) {
                refuse(format!("{} may take all time: its budget is not below its period", child.name));
            }
        }
        if parent.period.is_some() && parent.budget != parent.period {
            refuse(format!("{} is a parent, and its budget is not its whole period", parent.name));
        }
    }
}

/// A region whose physical address is known is for a device: its driver has it, and one that copies.
fn dma(system: &System, policy: &Policy<'_>, broken: &mut Vec<Violation>) {
    let mut refuse = |what: String| broken.push(Rule::Dma.broken(what));
    for region in system.regions.iter().filter(|region| system.is_dma(&region.name)) {
        let mappers: Vec<_> = system.mappers(&region.name).map(|(domain, _)| domain.name.as_str()).collect();
        if mappers.contains(&policy.guarded) {
            refuse(format!("a device reaches {}, and {} maps it", region.name, policy.guarded));
        }
        if mappers.len() > 2 {
            refuse(format!("{} is for a driver and one neighbour: {} map it", region.name, mappers.join(", ")));
        }
        let drivers = system.all_domains().into_iter().filter(|domain| domain.knows_paddr(&region.name)).count();
        if drivers > 1 {
            refuse(format!("{drivers} domains tell devices of {}", region.name));
        }
    }
}

/// A fixed address is a device's registers, or an exception by name, address and size.
fn fixed(system: &System, board: &Board, broken: &mut Vec<Violation>) {
    let mut refuse = |what: String| broken.push(Rule::FixedMemory.broken(what));
    let Some(ram) = &board.ram else {
        return refuse("the board does not say where its memory is".into());
    };
    for region in &system.regions {
        let Some(phys_addr) = region.phys_addr else { continue };
        let memory = Memory { phys_addr, size: region.size };
        if region.device_of.is_some() {
            if ram.overlaps(&memory) {
                refuse(format!("{} is a device's, and lies in memory at {phys_addr:#x}", region.name));
            }
        } else if board.fixed.get(&region.name) != Some(&memory) {
            refuse(format!(
                "{} lies at {phys_addr:#x} with {:#x} bytes, and the board has no such exception",
                region.name, region.size
            ));
        }
    }
}
