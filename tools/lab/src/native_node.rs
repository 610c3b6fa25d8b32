//! A node whose domains are Linux processes.

use std::io::PipeReader;

use anyhow::{Context, Result, ensure};
use native::runner::{Config, Plug, System};

use crate::boot::Boot;

/// Starts the domains. What the console says is read from the pipe.
pub fn start(boot: &Boot) -> Result<(System, PipeReader)> {
    ensure!(boot.faulty.is_empty(), "no domain has a fuse on native");
    let (reader, writer) = std::io::pipe()?;
    let mut config = Config::new(&*boot.description);
    if let Some(tenant) = &boot.tenant {
        ensure!(config.board.set("workload", tenant), "boards/native.toml has no variable workload");
    }
    config.prefill = boot.prefill.clone();
    config.prefill.insert("device_secret".into(), boot.device.secret.to_vec());
    let nic = Plug::Switch { own: boot.own.clone(), switch: boot.behind.clone(), mac: boot.device.mac };
    config.devices.insert("net.nic".into(), nic);
    config.devices.insert("entropy.source".into(), Plug::Entropy(boot.entropy));
    let flash = boot.device.flash.as_ref().context("a native node without a flash")?.try_clone()?;
    config.devices.insert("store.flash".into(), Plug::Descriptor(flash));
    config.devices.insert("console.serial".into(), Plug::Descriptor(writer.into()));
    // As on a board: what one domain's death does to the others is theirs to deal with.
    config.keep_going = true;
    let system = System::start(config).with_context(|| format!("{} (`make build` makes the programs)", boot.name))?;
    Ok((system, reader))
}
