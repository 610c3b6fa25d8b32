//! Rules about memory: who maps which frame, with which rights, and where frames lie.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    description::public,
    view::{Mapping, Thread, View},
    violation::{Rule, Violation},
};
use crate::{
    description::{Map, Perms, Region, System},
    image::capdl::{FillContent, FillData, FillEntry, Frame, FrameCap, Id, Object},
};

/// Which page of which region a frame is, by the name that the tool gave it.
type Pages<'a> = BTreeMap<Id, (&'a Region, u64)>;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Violation>) {
    let pages = pages(view, broken);
    for thread in &view.threads {
        for mapping in &thread.mappings {
            let Mapping { vaddr, cap, .. } = mapping;
            let what = |how: &str| format!("{} maps {} {how}", thread.name, view.spec.name(mapping.frame));
            if cap.rights.write && cap.executable {
                broken.push(Rule::WriteExecute.broken(what(&format!("writable and executable at {vaddr:#x}"))));
            }
            if !cap.rights.read || cap.rights.grant || cap.rights.grant_reply {
                broken.push(Rule::Capability.broken(what("with rights that the tool does not give")));
            }
            if *vaddr == 0 {
                broken.push(Rule::Thread.broken(what("at 0, where nothing may be")));
            }
        }
        declared(view, &pages, thread, broken);
    }
    own(view, &pages, broken);
    paths(view, &pages, broken);
    physical(view, &pages, broken);
    filled(view, &pages, broken);
}

/// Programs, and regions that may be in the image: nothing else is filled with anything.
fn filled(view: &View<'_>, pages: &Pages<'_>, broken: &mut Vec<Violation>) {
    for (id, name, object) in view.spec.all() {
        let Object::Frame(frame) = object else { continue };
        for FillEntry { content: FillContent::Data(data), .. } in &frame.init.entries {
            match (data, pages.get(&id)) {
                (FillData::BytesContent(_), Some((region, _))) => public(view.policy, &region.name, broken),
                (FillData::ElfContent(_), None) => {}
                (_, region) => {
                    let is = if region.is_some() { "a region's" } else { "no region's" };
                    broken.push(Rule::PublicImage.broken(format!("{name} is {is}, and filled with something else")));
                }
            }
        }
    }
}

fn pages<'a>(view: &View<'a>, broken: &mut Vec<Violation>) -> Pages<'a> {
    let mut pages = Pages::new();
    for (id, name, object) in view.spec.all() {
        let Object::Frame(_) = object else { continue };
        let Some(rest) = name.strip_prefix("frame_mr_") else { continue };
        let page = rest.rsplit_once('_').and_then(|(region, page)| Some((region, page.parse().ok()?)));
        match page.and_then(|(region, page)| Some((view.system.region(region)?, page))) {
            Some(page) => drop(pages.insert(id, page)),
            None => broken.push(Rule::SharedRegion.broken(format!("{name} is of no declared region"))),
        }
    }
    pages
}

/// Every page of every declared map is there, with the declared rights, and no other page of a region is mapped.
fn declared(view: &View<'_>, pages: &Pages<'_>, thread: &Thread<'_>, broken: &mut Vec<Violation>) {
    let name = thread.name;
    let maps: &[Map] = thread.domain.map_or(&[], |domain| &domain.maps);
    let mut covered: BTreeMap<&str, u64> = BTreeMap::new();
    for mapping in &thread.mappings {
        let frame = view.spec.name(mapping.frame);
        let page = pages.get(&mapping.frame);
        let Some((map, region)) = place(view.system, maps, mapping) else {
            if let Some((region, _)) = page {
                let rule = rule_of(view, region);
                let why = if rule == Rule::ForeignFrame {
                    format!("{} alone may", view.policy.guarded)
                } else {
                    "which is not declared".to_owned()
                };
                broken.push(rule.broken(format!("{name} maps {frame} at {:#x}, {why}", mapping.vaddr)));
            }
            continue;
        };
        *covered.entry(&map.region).or_default() += mapping.size;
        let offset = mapping.vaddr - map.vaddr;
        if page.is_none_or(|(is, page)| is.name != region.name || page.checked_mul(mapping.size) != Some(offset)) {
            let rule = page.map_or_else(|| own_rule(view, thread, mapping.frame), |(is, _)| rule_of(view, is));
            let what = format!(
                "{name} maps {frame} at {:#x}, declared is {} at offset {offset:#x}",
                mapping.vaddr, map.region
            );
            broken.push(rule.broken(what));
        } else if !as_declared(map, &mapping.cap) {
            let declared = format!("{}{}", map.perms.name(), if map.cached == Some(false) { ", uncached" } else { "" });
            let what = format!("{name} maps {frame} {}, declared is {declared}", words(&mapping.cap));
            broken.push(rule_of(view, region).broken(what));
        }
    }
    for map in maps {
        let size = view.system.region(&map.region).map_or(0, |region| region.size);
        let covered = covered.get(map.region.as_str()).copied().unwrap_or_default();
        if covered < size {
            broken.push(
                Rule::SharedRegion.broken(format!("{name} maps {covered:#x} of the {size:#x} bytes of {}", map.region)),
            );
        }
    }
}

/// The declared map that an address belongs to.
fn place<'m, 's>(system: &'s System, maps: &'m [Map], mapping: &Mapping) -> Option<(&'m Map, &'s Region)> {
    maps.iter().find_map(|map| {
        let region = system.region(&map.region)?;
        let end = map.vaddr.saturating_add(region.size);
        (map.vaddr <= mapping.vaddr && mapping.vaddr < end).then_some((map, region))
    })
}

fn as_declared(map: &Map, cap: &FrameCap) -> bool {
    cap.rights.write == (map.perms == Perms::ReadWrite) && !cap.executable && cap.cached == map.cached.unwrap_or(true)
}

fn words(cap: &FrameCap) -> String {
    let mut words = String::new();
    for (has, letter) in [(cap.rights.read, 'r'), (cap.rights.write, 'w'), (cap.executable, 'x')] {
        if has {
            words.push(letter);
        }
    }
    words + if cap.cached { "" } else { ", uncached" }
}

/// Whether the description gives a region to the guarded domain alone.
fn guarded_alone(view: &View<'_>, region: &Region) -> bool {
    let mut mappers = view.system.mappers(&region.name);
    mappers.next().is_some_and(|(domain, _)| domain.name == view.policy.guarded) && mappers.next().is_none()
}

/// The rule that a wrong mapping of a region breaks.
fn rule_of(view: &View<'_>, region: &Region) -> Rule {
    if guarded_alone(view, region) {
        Rule::ForeignFrame
    } else if view.system.is_dma(&region.name) {
        Rule::Dma
    } else if region.device_of.is_some() {
        Rule::DeviceFrame
    } else {
        Rule::SharedRegion
    }
}

/// The rule that a mapping of no region's frame breaks, where a region should be.
fn own_rule(view: &View<'_>, thread: &Thread<'_>, frame: Id) -> Rule {
    let foreign =
        |other: &&Thread<'_>| other.name != thread.name && other.mappings.iter().any(|mapping| mapping.frame == frame);
    if view.threads.iter().any(|other| foreign(&other)) { Rule::ForeignFrame } else { Rule::SharedRegion }
}

/// What is no region's is one domain's own (its program, stack and IPC buffer): mapped once, by it alone.
fn own(view: &View<'_>, pages: &Pages<'_>, broken: &mut Vec<Violation>) {
    let mut mappers: BTreeMap<Id, Vec<&str>> = BTreeMap::new();
    for thread in &view.threads {
        for mapping in thread.mappings.iter().filter(|mapping| !pages.contains_key(&mapping.frame)) {
            mappers.entry(mapping.frame).or_default().push(thread.name);
        }
    }
    for (frame, mappers) in &mappers {
        let name = view.spec.name(*frame);
        let guarded = mappers.iter().find(|mapper| **mapper == view.policy.guarded);
        let Some(owner) = guarded.or(mappers.first()) else { continue };
        for guest in mappers.iter().filter(|mapper| mapper != &owner) {
            broken.push(Rule::ForeignFrame.broken(format!("{guest} maps {name}, which is {owner}'s own")));
        }
        if mappers.iter().filter(|mapper| mapper == &owner).count() > 1 {
            broken.push(Rule::ForeignFrame.broken(format!("{owner} maps {name} twice")));
        }
    }
    for (id, name, object) in view.spec.all() {
        let Object::Frame(frame) = object else { continue };
        if !pages.contains_key(&id) && frame.paddr.is_some() {
            broken.push(Rule::FixedMemory.broken(format!("{name} is of no region and has a physical address")));
        }
        let mapped = || view.threads.iter().any(|thread| thread.mappings.iter().any(|mapping| mapping.frame == id));
        if !mapped() {
            broken.push(Rule::FixedMemory.broken(format!("{name} is mapped by nobody")));
        }
    }
}

/// What the guarded domain writes, nobody maps but through an outlet.
fn paths(view: &View<'_>, pages: &Pages<'_>, broken: &mut Vec<Violation>) {
    let guarded = view.policy.guarded;
    let Some(thread) = view.thread(guarded) else { return };
    let written: BTreeSet<Id> = thread.mappings.iter().filter(|m| m.cap.rights.write).map(|m| m.frame).collect();
    for reader in view.threads.iter().filter(|reader| reader.name != guarded) {
        for mapping in reader.mappings.iter().filter(|mapping| written.contains(&mapping.frame)) {
            let region = pages.get(&mapping.frame).map_or("", |(region, _)| &region.name);
            if !view.policy.outlets.contains(&(region, reader.name)) {
                broken.push(Rule::NoPathOut.broken(format!(
                    "{guarded} writes {}, and {} maps it",
                    view.spec.name(mapping.frame),
                    reader.name
                )));
            }
        }
    }
}

/// Frames lie where the description says, or where the kernel chooses; no two are the same memory.
fn physical(view: &View<'_>, pages: &Pages<'_>, broken: &mut Vec<Violation>) {
    let mut refuse = |what: String| broken.push(Rule::FixedMemory.broken(what));
    let mut placed: Vec<(u64, u64, &str)> = Vec::new();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut starts: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, (region, page)) in pages {
        let Some(Frame { size_bits, paddr, .. }) = view.spec.frame(*id) else { continue };
        let name = view.spec.name(*id);
        let Some(size) = 1u64.checked_shl(u32::from(*size_bits)) else {
            refuse(format!("{name} has no size"));
            continue;
        };
        let bytes = seen.entry(&region.name).or_default();
        *bytes = bytes.saturating_add(size);
        let offset = page.saturating_mul(size);
        // A region that a device is told of is one piece, wherever the tool put it.
        let base = match (region.phys_addr, paddr) {
            (Some(base), _) => Some(base),
            (None, Some(paddr)) if view.system.is_dma(&region.name) => {
                Some(*starts.entry(&region.name).or_insert_with(|| paddr.saturating_sub(offset)))
            }
            _ => None,
        };
        let declared = base.map(|base| base.saturating_add(offset));
        if *paddr != declared {
            let address = |at: Option<u64>| at.map_or("no fixed address".to_owned(), |at| format!("{at:#x}"));
            refuse(format!("{name} lies at {}, declared is {}", address(*paddr), address(declared)));
        }
        if let Some(start) = paddr {
            placed.push((*start, start.saturating_add(size), name));
        }
    }
    for region in &view.system.regions {
        let has = seen.get(region.name.as_str()).copied().unwrap_or_default();
        if has != region.size {
            refuse(format!("{} has {has:#x} bytes of frames, declared is {:#x}", region.name, region.size));
        }
    }
    placed.sort_unstable();
    for pair in placed.windows(2) {
        let [(_, end, first), (start, _, second)] = pair else { continue };
        if start < end {
            refuse(format!("{first} and {second} are the same memory"));
        }
    }
}
