//! A node whose domains are Linux processes.

use anyhow::{Context, Result};
use native::runner::{Config, Plug, System};

use crate::node::{Place, Running, Started};

pub fn start(place: Place<'_>) -> Result<Started> {
    let (reader, writer) = std::io::pipe()?;
    let mut config = Config::new(place.description);
    config.prefill = place.prefill;
    config.prefill.insert("device_secret".into(), place.device_secret.to_vec());
    let nic = Plug::Switch { own: place.own, switch: place.behind, mac: place.mac };
    config.devices.insert("net.nic".into(), nic);
    config.devices.insert("entropy.source".into(), Plug::Entropy(place.entropy));
    config.devices.insert("console.serial".into(), Plug::Descriptor(writer.into()));
    // As on a board: what one domain's death does to the others is theirs to deal with.
    config.keep_going = true;
    let system = System::start(config).with_context(|| format!("{} (`make build` makes the programs)", place.name))?;
    Ok(Started {
        console: Box::new(reader),
        processes: system.pids().to_vec(),
        running: Running::Domains(Box::new(system)),
    })
}
