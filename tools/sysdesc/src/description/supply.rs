//! Puts what the board has for each `<device>` in its place. A board adds regions and interrupts to the one
//! domain that asked for the device. It can name no other domain, channel or shared region.

use super::{
    board::{Board, DeviceIrq, DeviceRegion, Platform, Supply},
    model::{Device, Domain, Irq, Map, PaddrOf, Region, System},
    parse,
    refused::{At, Refused},
};

pub(crate) fn devices(system: &mut System, board: &Board) -> Result<(), Refused> {
    let mut regions = Vec::new();
    for domain in &mut system.domains {
        supply(domain, board, &mut regions)?;
    }
    system.regions.append(&mut regions);
    Ok(())
}

fn supply(domain: &mut Domain, board: &Board, regions: &mut Vec<Region>) -> Result<(), Refused> {
    // A domain that the system does not have is no error: one board serves several systems.
    if let Some(stray) = board.supplied_to(&domain.name).find(|name| domain.devices.iter().all(|d| d.name != *name)) {
        return At::Board.refuse(format!("domain {} asks for no device {stray}", domain.name));
    }
    for (index, device) in domain.devices.iter().enumerate() {
        if domain.devices.iter().take(index).any(|earlier| earlier.name == device.name) {
            return device.at.refuse(format!("domain {} asks for device {} twice", domain.name, device.name));
        }
    }
    match board.platform {
        Platform::Native => {
            for device in &mut domain.devices {
                native(&domain.name, device, board)?;
            }
        }
        Platform::Microkit => {
            for device in std::mem::take(&mut domain.devices) {
                let supply = expected(&domain.name, &device, board)?;
                if supply.kind.is_some() || device.kind.is_some() {
                    return device
                        .at
                        .refuse(format!("device {}.{} has a kind: that is for native", domain.name, device.name));
                }
                for region in &supply.region {
                    regions.push(add_region(domain, region)?);
                }
                for irq in &supply.irq {
                    domain.irqs.push(add_irq(irq)?);
                }
            }
        }
    }
    domain.children.iter_mut().try_for_each(|child| supply(child, board, regions))
}

fn native(domain: &str, device: &mut Device, board: &Board) -> Result<(), Refused> {
    if let Some(supply) = board.supply(domain, &device.name) {
        if !supply.region.is_empty() || !supply.irq.is_empty() {
            return At::Board
                .refuse(format!("device {domain}.{} has regions or interrupts: native has none", device.name));
        }
        if device.kind.is_some() && device.kind != supply.kind {
            return device.at.refuse(format!("device {domain}.{} is of another kind on this board", device.name));
        }
        device.kind = supply.kind;
    }
    match device.kind {
        Some(_) => Ok(()),
        None => device.at.refuse(format!("the board has no kind for device {domain}.{}", device.name)),
    }
}

fn expected<'a>(domain: &str, device: &Device, board: &'a Board) -> Result<&'a Supply, Refused> {
    board
        .supply(domain, &device.name)
        .map_or_else(|| device.at.refuse(format!("the board has nothing for device {domain}.{}", device.name)), Ok)
}

fn add_region(domain: &mut Domain, from: &DeviceRegion) -> Result<Region, Refused> {
    domain.maps.push(Map {
        region: from.name.clone(),
        vaddr: from.vaddr,
        perms: parse::perms(&from.perms, &from.name, At::Board)?,
        cached: from.cached,
        setvar_vaddr: from.setvar_vaddr.clone(),
        setvar_size: from.setvar_size.clone(),
        setvar_prefill_size: None,
        at: At::Board,
    });
    if let Some(symbol) = &from.setvar_paddr {
        domain.paddrs.push(PaddrOf { symbol: symbol.clone(), region: from.name.clone(), at: At::Board });
    }
    Ok(Region {
        name: from.name.clone(),
        size: from.size,
        page_size: from.page_size,
        phys_addr: from.phys_addr,
        prefill_path: None,
        device_of: Some(domain.name.clone()),
        at: At::Board,
    })
}

fn add_irq(from: &DeviceIrq) -> Result<Irq, Refused> {
    Ok(Irq {
        irq: from.irq,
        id: from.id,
        trigger: from.trigger.as_deref().map(|text| parse::trigger(text, At::Board)).transpose()?,
        setvar_id: from.setvar_id.clone(),
        at: At::Board,
    })
}
