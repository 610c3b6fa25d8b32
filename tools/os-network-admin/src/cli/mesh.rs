//! `mesh up`, `down`, `status`.

use std::{
    env, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use clap::Subcommand;
use tokio::time::{Instant, sleep};

use super::common::{Common, InFleet, fleet_id, fleet_named, key_path, no_registry, print, registry_path};
use crate::{
    base::{
        error::{Error, Exit},
        files,
        key::KeyFile,
        mesh_key::{self, MeshKey},
    },
    mesh::{
        backend::{self, EngineChoice, Plan},
        control::{Client, Request},
        daemon,
        run_files::{Condition, DaemonState, Paths},
    },
    output::{self, Died, Failed, Ready, Status},
    registry::{Changed, Fleet, NETWORK, Network, Registry},
};

#[derive(Subcommand)]
pub enum MeshVerb {
    /// Make the interface, and keep it as the registry says
    Up {
        /// Name of the interface
        #[arg(long, value_name = "IF", default_value = "genesis0", value_parser = interface_name)]
        name: String,
        /// Which WireGuard
        #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
        engine: EngineChoice,
        /// MeshAddress network of the fleet; only while it has no members [default: 10.8.0.0/24]
        #[arg(long, value_name = "NET")]
        network: Option<Network>,
        /// This host's WireGuard port; only while the fleet has no members [default: 51820]
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Stay in the foreground until interrupted; prints one line when the mesh is up
        #[arg(long)]
        foreground: bool,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Remove the interface
    Down,
    /// The interface and its peers
    Status,
}

pub fn interface_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 15 || !text.chars().all(plain) {
        return Err("an interface's name has 1 to 15 letters, digits, dashes and underscores".into());
    }
    Ok(text.into())
}

/// How often it is looked whether the daemon is up.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process that was killed may take to end.
const GONE: Duration = Duration::from_secs(2);

pub async fn run(common: &Common, command: MeshVerb) -> Result<(), Error> {
    match command {
        MeshVerb::Up { name, engine, network, port, foreground, fleet } => {
            let path = registry_path(common)?;
            files::make_parent(&path)?;
            // The child does it again; here its refusals are told at once, and nothing is left behind by them.
            let fleet = prepare(common, &path, &fleet.fleet, network, port)?;
            if foreground { stay(common, path, &fleet, name, engine).await } else { up(common, &path).await }
        }
        MeshVerb::Down => down(common).await,
        MeshVerb::Status => status(common).await,
    }
}

/// The fleet, made if it is new, with the settings that are asked for.
fn prepare(
    common: &Common,
    path: &Path,
    name: &str,
    network: Option<Network>,
    port: Option<u16>,
) -> Result<Fleet, Error> {
    let known = match Registry::open_existing(path)? {
        Some(registry) if !registry.fleets_named(name)?.is_empty() => Some(fleet_named(common, &registry, name)?),
        _ => None,
    };
    if let Some(known) = known.as_ref().filter(|known| known.host == 0) {
        return Err(Error::input(format!(
            "you have no place in the mesh of the fleet {}: its authorities give you one with `os-network-admin authority propose \
             --add` and a file of your `os-network-admin authority key`",
            known.name
        )));
    }
    let own = match &known {
        Some(_) => None,
        // A fleet's id comes from the key.
        None => Some(KeyFile::load(&key_path(common)?)?.public()),
    };
    let registry = Registry::open(path)?;
    let fleet = match (known, own) {
        (Some(fleet), _) => fleet,
        (None, Some(own)) => registry.make_fleet(&fleet_id(&own, name), name)?,
        (None, None) => return Err(Error::new(Exit::Other, "there is neither a fleet nor a key")),
    };
    let wanted = (network.unwrap_or(fleet.network), port.unwrap_or(fleet.port));
    if wanted == (fleet.network, fleet.port) {
        return Ok(fleet);
    }
    match registry.set_network(&fleet.id, wanted.0, wanted.1)? {
        Changed::Yes => fleet_named(common, &registry, name),
        Changed::HasMembers => Err(Error::input(format!(
            "the fleet {name} has members, who rely on its network {} and port {}: they stay (a new fleet has {NETWORK} \
             unless --network says otherwise)",
            fleet.network, fleet.port
        ))),
    }
}

async fn stay(
    common: &Common,
    registry: std::path::PathBuf,
    fleet: &Fleet,
    interface: String,
    choice: EngineChoice,
) -> Result<(), Error> {
    let plan = Plan { registry, fleet: fleet.id, interface, choice };
    let json = common.json;
    let ready = |state: &DaemonState| {
        let (interface, engine) = (state.interface.clone(), state.engine.clone());
        // If nobody reads it, the mesh is up all the same.
        let _ = output::print(json, &Ready { up: true, interface, engine, pid: state.pid });
    };
    daemon::run(plan, ready).await
}

/// Starts the daemon, and waits until the mesh is up.
async fn up(common: &Common, registry: &Path) -> Result<(), Error> {
    let paths = Paths::beside(registry);
    if let Ok(mut client) = Client::connect(registry).await {
        let trouble = client.status().await?.trouble;
        let already = "the mesh of this registry is up already: see `os-network-admin mesh status`";
        return Err(Error::network(match trouble.first() {
            Some(trouble) => format!("{already}; but it has trouble: {trouble}"),
            None => already.into(),
        }));
    }
    let log = files::open_log(&paths.log)?;
    let spawn = || -> io::Result<_> {
        let mut daemon = Command::new(env::current_exe()?);
        // This command line once more: it has no secret in it.
        daemon.args(env::args_os().skip(1)).arg("--foreground");
        // What the terminal sends to this process is not for the daemon.
        daemon.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    };
    let cannot = |error: io::Error| Error::new(Exit::Other, format!("the mesh's daemon cannot be started: {error}"));
    let mut child = spawn().map_err(cannot)?;
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            let said = std::fs::read_to_string(&paths.log).unwrap_or_default();
            let exit = match status.code() {
                Some(7) => Exit::Registry,
                Some(3) => Exit::Input,
                Some(4) => Exit::Network,
                _ => Exit::Other,
            };
            return Err(Error::new(
                exit,
                last_words(&said).unwrap_or_else(|| format!("the mesh's daemon ended: {status}")),
            ));
        }
        if let Ok(mut client) = Client::connect(registry).await {
            return print(common, &Status::from(client.status().await?));
        }
        sleep(LOOK).await;
    }
}

/// The message of an error that another process of this program has printed.
fn last_words(said: &str) -> Option<String> {
    let is_word = |line: &&str| !line.trim().is_empty() && !line.starts_with("up: ") && !line.starts_with("{\"up\"");
    let line = said.lines().rev().find(is_word)?;
    let failed: Option<Failed> = serde_json::from_str(line).ok();
    let said = || line.strip_prefix("os-network-admin: ").unwrap_or(line).to_owned();
    Some(failed.map_or_else(said, |failed| failed.error.message))
}

async fn down(common: &Common) -> Result<(), Error> {
    let path = registry_path(common)?;
    let paths = Paths::beside(&path);
    let condition =
        paths.condition().map_err(|error| Error::new(Exit::Other, format!("{}: {error}", paths.state.display())))?;
    let how = match condition {
        Condition::Down if !files::is_there(&path) => return Err(no_registry(&path)),
        Condition::Down => "was down",
        Condition::Died(state) => {
            backend::remove_leftovers(&paths, &state)?;
            "its daemon had died; removed what it left"
        }
        Condition::Up => {
            Client::connect(&path).await?.ask(&Request::Down).await?;
            "down"
        }
    };
    print(common, &output::Down { up: false, how })
}

async fn status(common: &Common) -> Result<(), Error> {
    let path = registry_path(common)?;
    let paths = Paths::beside(&path);
    // A daemon that has just died is given the time to be gone.
    let until = Instant::now() + GONE;
    let status = loop {
        let asked = async { Client::connect(&path).await?.status().await };
        let error = match asked.await {
            Ok(mut mesh) => {
                let own = MeshKey::existing(&path)?.map(|key| mesh_key::encode(&key.public()));
                if own.is_none_or(|own| *own != mesh.public_key) {
                    mesh.trouble.push(
                        "mesh.key beside the registry is not the key of this mesh: restore it, or restart the mesh with \
                         mesh down and mesh up"
                            .into(),
                    );
                }
                break mesh.into();
            }
            Err(error) => error,
        };
        match paths.condition() {
            Ok(Condition::Up) if Instant::now() < until => sleep(LOOK).await,
            Ok(Condition::Up) => return Err(error),
            Ok(Condition::Down) if !files::is_there(&path) => return Err(no_registry(&path)),
            Ok(Condition::Down) => break Status::default(),
            Ok(Condition::Died(state)) => break died(&paths, state).into(),
            Err(error) => return Err(Error::new(Exit::Other, format!("{}: {error}", paths.state.display()))),
        }
    };
    print(common, &status)
}

fn died(paths: &Paths, state: DaemonState) -> Died {
    let said = std::fs::read_to_string(&paths.log).unwrap_or_default();
    Died {
        pid: state.pid,
        interface: state.interface,
        engine: state.engine,
        since_ms: state.since_ms,
        log: paths.log.display().to_string(),
        last: state.ended.or_else(|| last_words(&said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_daemon_are_its_error() {
        assert_eq!(last_words("up\nos-network-admin: no room\n\n").unwrap(), "no room");
        assert_eq!(last_words("{\"error\":{\"code\":4,\"message\":\"no room\"}}\n").unwrap(), "no room");
        assert_eq!(last_words("up: genesis0\n"), None);
    }
}
