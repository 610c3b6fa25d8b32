//! A node whose domains are Linux processes.

use std::io::PipeReader;

use anyhow::{Context, Result, ensure};
use native::runner::{Config, Plug, System};

use crate::boot::Boot;

/// Starts the domains. What the console says is read from the pipe.
pub fn start(boot: Boot<'_>) -> Result<(System, PipeReader)> {
    ensure!(boot.faulty.is_none(), "no domain has a fuse on native");
    let (reader, writer) = std::io::pipe()?;
    let mut config = Config::new(boot.description);
    if let Some(tenant) = &boot.tenant {
        ensure!(config.board.set("workload", tenant), "boards/native.toml has no variable workload");
    }
    config.prefill = boot.prefill;
    config.prefill.insert("device_secret".into(), boot.device_secret.to_vec());
    let nic = Plug::Switch { own: boot.own, switch: boot.behind, mac: boot.mac };
    config.devices.insert("net.nic".into(), nic);
    config.devices.insert("entropy.source".into(), Plug::Entropy(boot.entropy));
    config.devices.insert("console.serial".into(), Plug::Descriptor(writer.into()));
    // As on a board: what one domain's death does to the others is theirs to deal with.
    config.keep_going = true;
    let system = System::start(config).with_context(|| format!("{} (`make build` makes the programs)", boot.name))?;
    Ok((system, reader))
}
