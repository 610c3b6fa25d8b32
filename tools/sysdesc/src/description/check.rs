//! The rules that a whole system keeps, whatever the board. Each has a bad system in `tools/sysdesc/tests/bad/`.

use std::collections::BTreeMap;

use super::{
    model::{Domain, Map, Perms, Region, System},
    refused::{At, Refused},
};

type Result<T = ()> = std::result::Result<T, Refused>;

const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 0x20_0000;
/// Channels, interrupts and children each have ids up to this.
const MAX_ID: u8 = 61;
const MAX_PRIORITY: u8 = 254;
const MAX_STACK: u64 = 16 << 20;

pub(crate) fn system(system: &System) -> Result {
    let domains = system.all_domains();
    names(system, &domains)?;
    system.regions.iter().try_for_each(region)?;
    physical(&system.regions)?;
    for root in &system.domains {
        if root.id.is_some() || root.setvar_id.is_some() {
            return root.at.refuse(format!("domain {} has an id but no parent", root.name));
        }
    }
    for domain in &domains {
        scheduling(domain)?;
        children(domain)?;
        maps(system, domain)?;
    }
    writers(system, &domains)?;
    channels(system)?;
    for domain in &domains {
        ids(system, domain)?;
        symbols(system, domain)?;
    }
    Ok(())
}

fn names(system: &System, domains: &[&Domain]) -> Result {
    distinct("region", system.regions.iter().map(|region| (region.name.as_str(), region.at)))?;
    distinct("domain", domains.iter().map(|domain| (domain.name.as_str(), domain.at)))?;
    match domains.iter().find(|domain| domain.name == "monitor") {
        Some(domain) => domain.at.refuse("a domain cannot be named monitor: the Microkit's own is"),
        None => Ok(()),
    }
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = (&'a str, At)>) -> Result {
    let mut seen = BTreeMap::new();
    for (name, at) in names {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.len() > 64 || !name.chars().all(plain) {
            return at.refuse(format!("{what} \"{name}\": a name is up to 64 of a to z, 0 to 9, _ and -"));
        }
        if let Some(first) = seen.insert(name, at) {
            return at.refuse(format!("{what} {name} is there already: {first}"));
        }
    }
    Ok(())
}

fn region(region: &Region) -> Result {
    let name = &region.name;
    if !matches!(region.page_size, None | Some(PAGE | LARGE_PAGE)) {
        return region.at.refuse(format!("region {name}: pages are 0x1000 or 0x200000 bytes"));
    }
    let page = region.page_size.unwrap_or(PAGE);
    if region.size == 0 || !region.size.is_multiple_of(page) {
        return region.at.refuse(format!("region {name}: its size is no multiple of its page, {page:#x} bytes"));
    }
    if !region.phys_addr.unwrap_or(0).is_multiple_of(page) {
        return region.at.refuse(format!("region {name}: its physical address is not aligned to its page"));
    }
    Ok(())
}

/// No two regions may be the same memory.
fn physical(regions: &[Region]) -> Result {
    let mut placed: Vec<_> = regions.iter().filter_map(|r| r.phys_addr.map(|start| (start, r))).collect();
    placed.sort_by_key(|(start, _)| *start);
    for pair in placed.windows(2) {
        let [(start, first), (next, second)] = pair else { continue };
        if start.saturating_add(first.size) > *next {
            return second.at.refuse(format!("regions {} and {} share physical memory", first.name, second.name));
        }
    }
    Ok(())
}

fn scheduling(domain: &Domain) -> Result {
    let name = &domain.name;
    if domain.priority > MAX_PRIORITY {
        return domain.at.refuse(format!("domain {name}: the highest priority is {MAX_PRIORITY}"));
    }
    if let Some(period) = domain.period
        && domain.budget.is_none_or(|budget| budget > period)
    {
        return domain.at.refuse(format!("domain {name}: its budget is not within its period"));
    }
    if domain.budget == Some(0) {
        return domain.at.refuse(format!("domain {name}: it has no budget"));
    }
    if let Some(stack) = domain.stack_size
        && !(stack.is_multiple_of(PAGE) && (PAGE..=MAX_STACK).contains(&stack))
    {
        return domain.at.refuse(format!("domain {name}: a stack is a multiple of 0x1000 up to 0x1000000 bytes"));
    }
    Ok(())
}

fn children(parent: &Domain) -> Result {
    let mut seen = BTreeMap::new();
    for child in &parent.children {
        let Some(id) = child.id else {
            return child.at.refuse(format!("domain {} has a parent but no id", child.name));
        };
        if id > MAX_ID {
            return child.at.refuse(format!("domain {}: the highest id is {MAX_ID}", child.name));
        }
        if let Some(sibling) = seen.insert(id, &child.name) {
            return child.at.refuse(format!("domains {sibling} and {} have the same id {id}", child.name));
        }
    }
    Ok(())
}

fn maps(system: &System, domain: &Domain) -> Result {
    let mut placed: Vec<(u64, u64, &Map)> = Vec::new();
    for map in &domain.maps {
        let Some(region) = system.region(&map.region) else {
            return map.at.refuse(format!("domain {} maps {}, and there is no such region", domain.name, map.region));
        };
        if let Some(owner) = region.device_of.as_ref().filter(|owner| **owner != domain.name) {
            return map.at.refuse(format!("region {} is of {owner}'s device: no other domain may map it", region.name));
        }
        if placed.iter().any(|(_, _, other)| other.region == map.region) {
            return map.at.refuse(format!("domain {} maps region {} twice", domain.name, map.region));
        }
        if !map.vaddr.is_multiple_of(region.page_size.unwrap_or(PAGE)) || map.vaddr == 0 {
            return map.at.refuse(format!("region {} is mapped at no page's address", map.region));
        }
        let Some(end) = map.vaddr.checked_add(region.size) else {
            return map.at.refuse(format!("region {} is mapped past the end of memory", map.region));
        };
        if let Some((_, _, other)) = placed.iter().find(|(from, to, _)| map.vaddr < *to && *from < end) {
            return map
                .at
                .refuse(format!("in domain {} regions {} and {} overlap", domain.name, other.region, map.region));
        }
        if map.setvar_prefill_size.is_some() && region.prefill_path.is_none() {
            return map.at.refuse(format!("region {} is not prefilled: it has no prefill size", map.region));
        }
        placed.push((map.vaddr, end, map));
    }
    match domain.paddrs.iter().find(|paddr| domain.maps.iter().all(|map| map.region != paddr.region)) {
        Some(paddr) => paddr.at.refuse(format!("domain {} does not map region {}", domain.name, paddr.region)),
        None => Ok(()),
    }
}

/// Everything has one writer, and a region that nobody maps is a mistake.
fn writers(system: &System, domains: &[&Domain]) -> Result {
    for region in &system.regions {
        let mappers = || {
            domains
                .iter()
                .flat_map(|domain| domain.maps.iter().map(move |map| (domain, map)))
                .filter(|(_, map)| map.region == region.name)
        };
        let mut writers = mappers().filter(|(_, map)| map.perms == Perms::ReadWrite);
        if let (Some((first, _)), Some((second, map))) = (writers.next(), writers.next()) {
            return map.at.refuse(format!(
                "region {} has two writers, {} and {}: a region has one",
                region.name, first.name, second.name
            ));
        }
        if mappers().next().is_none() {
            return region.at.refuse(format!("region {} is mapped by no domain", region.name));
        }
    }
    Ok(())
}

fn channels(system: &System) -> Result {
    for channel in &system.channels {
        for end in &channel.ends {
            if system.domain(&end.domain).is_none() {
                return end.at.refuse(format!("there is no domain {}", end.domain));
            }
        }
        let [a, b] = &channel.ends;
        if a.domain == b.domain {
            return channel.at.refuse(format!("a channel from domain {} to itself", a.domain));
        }
        if !a.notify && !b.notify {
            return channel.at.refuse(format!("neither {} nor {} may notify on this channel", a.domain, b.domain));
        }
    }
    Ok(())
}

/// Channels and interrupts of a domain share their numbers.
fn ids(system: &System, domain: &Domain) -> Result {
    let ends =
        system.ends_of(&domain.name).map(|(own, other)| (own.id, own.at, format!("the channel to {}", other.domain)));
    let irqs = domain.irqs.iter().map(|irq| (irq.id, irq.at, format!("interrupt {}", irq.irq)));
    let mut seen = BTreeMap::new();
    for (id, at, what) in ends.chain(irqs) {
        if id > MAX_ID {
            return at.refuse(format!("in domain {} {what} has id {id}: the highest is {MAX_ID}", domain.name));
        }
        if let Some(first) = seen.insert(id, what.clone()) {
            return at.refuse(format!("in domain {} {first} and {what} have the same id {id}", domain.name));
        }
    }
    Ok(())
}

/// A symbol is set once.
fn symbols(system: &System, domain: &Domain) -> Result {
    let maps = domain.maps.iter().flat_map(|map| map.symbols().map(|symbol| (symbol, map.at)));
    let irqs = domain.irqs.iter().filter_map(|irq| Some((irq.setvar_id.as_deref()?, irq.at)));
    let paddrs = domain.paddrs.iter().map(|paddr| (paddr.symbol.as_str(), paddr.at));
    let children = domain.children.iter().filter_map(|child| Some((child.setvar_id.as_deref()?, child.at)));
    let ends = system.ends_of(&domain.name).filter_map(|(own, _)| Some((own.setvar_id.as_deref()?, own.at)));
    let mut seen = BTreeMap::new();
    for (symbol, at) in maps.chain(irqs).chain(paddrs).chain(children).chain(ends) {
        if let Some(first) = seen.insert(symbol, at) {
            return at.refuse(format!("in domain {} symbol {symbol} is set already: {first}", domain.name));
        }
    }
    Ok(())
}
