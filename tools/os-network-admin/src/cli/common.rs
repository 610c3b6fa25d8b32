//! What verbs share: options, where files are, the passphrase, the fleet that is meant.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use crypto::AnchorPublic;
use wire::Hash;
use zeroize::Zeroizing;

use crate::{
    base::{
        error::{Error, Exit},
        files::SecretBytes,
        input,
        key::{self, KeyFile},
    },
    fleet::View,
    output::{self, Document},
    registry::{Fleet, Registry, Signer},
};

/// Characters of a new passphrase (NIST SP 800-63B, 5.1.1.1).
const SHORTEST: usize = 8;

#[derive(Args)]
pub struct Common {
    /// Key file of the administrative fiduciary key [default: $XDG_CONFIG_HOME/os-network-admin/key]
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Read the passphrase from the first line of this file, which only you may be able to read
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Pairing registry [default: $XDG_DATA_HOME/os-network-admin/registry.sqlite]
    #[arg(long, global = true, value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// Network interface on the nodes' segment
    #[arg(long, global = true, value_name = "IF", value_parser = input::interface)]
    pub interface: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What a fleet is called if nobody says otherwise.
pub const DEFAULT_FLEET: &str = "default";

#[derive(Args)]
pub struct InFleet {
    /// The fleet
    #[arg(long, value_name = "NAME", default_value = DEFAULT_FLEET, value_parser = fleet_name)]
    pub fleet: String,
}

#[derive(Args)]
pub struct Wait {
    /// How long nodes have to show that they did it, in seconds
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
}

pub fn fleet_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err("a fleet's name has 1 to 64 bytes and no control characters".into());
    }
    Ok(text.into())
}

pub fn print(common: &Common, document: &impl Document) -> Result<(), Error> {
    output::print(common.json, document)
}

/// The fleet's id: the same for every holder of A, and opaque to nodes.
pub fn fleet_id(own: &AnchorPublic, name: &str) -> [u8; 32] {
    crypto::sha256(&[b"os-network-admin fleet\0", &own.sign[..], name.as_bytes()].concat())
}

pub fn key_path(common: &Common) -> Result<PathBuf, Error> {
    common.key.clone().map_or_else(|| default_path("XDG_CONFIG_HOME", ".config", "key", "--key"), Ok)
}

pub fn registry_path(common: &Common) -> Result<PathBuf, Error> {
    let default = || default_path("XDG_DATA_HOME", ".local/share", "registry.sqlite", "--registry");
    common.registry.clone().map_or_else(default, Ok)
}

fn default_path(variable: &str, under_home: &str, file: &str, flag: &str) -> Result<PathBuf, Error> {
    let absolute = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(under_home)));
    base.map(|base| base.join("os-network-admin").join(file)).ok_or_else(|| {
        Error::new(Exit::Usage, format!("neither ${variable} nor $HOME names a folder: give {flag} FILE"))
    })
}

/// From the file, or typed; a new one twice.
pub fn passphrase(common: &Common, new: bool) -> Result<SecretBytes, Error> {
    if let Some(file) = &common.passphrase_file {
        let read = key::read_passphrase(file)?;
        return if new { long_enough(read) } else { Ok(read) };
    }
    let typed = |prompt: &str| {
        rpassword::prompt_password(prompt).map(|text| Zeroizing::new(text.into_bytes())).map_err(|error| {
            Error::input(format!("there is no terminal to type the passphrase on ({error}): give --passphrase-file"))
        })
    };
    let first = typed(if new { "New passphrase: " } else { "Passphrase: " })?;
    if first.is_empty() {
        return Err(Error::input("the passphrase is empty: type one"));
    }
    let first = if new { long_enough(first)? } else { first };
    if new && typed("The same again: ")? != first {
        return Err(Error::input("the two passphrases differ: nothing was written; try again"));
    }
    Ok(first)
}

/// Whoever gets hold of the key file can try passphrases for as long as he likes.
fn long_enough(passphrase: SecretBytes) -> Result<SecretBytes, Error> {
    if String::from_utf8_lossy(&passphrase).chars().count() < SHORTEST {
        return Err(Error::input(format!(
            "the passphrase has fewer than {SHORTEST} characters: take several words that nobody else would; nothing was \
             written"
        )));
    }
    Ok(passphrase)
}

/// Shows what will follow, and asks: only a typed yes goes on. Where there is nobody to ask, `--yes` says it.
pub fn confirm(yes: bool, consequences: &str, what: &str) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let message = format!("{consequences}\nNothing was done: there is no terminal to ask on; to {what}, add --yes");
        return Err(Error::new(Exit::Usage, message));
    }
    let mut line = String::new();
    let asked = writeln!(io::stderr(), "{consequences}\nType yes to {what}, anything else to leave it.");
    if asked.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "yes" {
        return Ok(());
    }
    Err(Error::new(Exit::Other, "nothing was done"))
}

/// An error if a fleet's authorities are named although records, or another's registry, say who they are. `named`: whether they
/// are.
pub fn decided(registry: &Registry, id: &Hash, fleet: &str, named: bool) -> Result<(), Error> {
    let others = registry.fleets_named(fleet)?.into_iter().filter(|known| known.id != *id).count();
    if others > 0 && registry.fleet(id)?.is_none() {
        return Err(Error::input(format!(
            "the fleet {fleet} of this registry was founded by a genesis, or taken over from another: claim its nodes with --genesis \
             or --warrant, or name another fleet with --fleet"
        )));
    }
    if !named || registry.records(id)?.is_empty() {
        return Ok(());
    }
    Err(Error::input(format!(
        "records say who owns the fleet {fleet}, and nodes that are claimed join the set that is in force: leave --authority and \
         --needed away; `os-network-admin authority propose` puts another set in force"
    )))
}

/// The fleet of this name; if keys have made several, that of the key in use.
pub fn fleet_named(common: &Common, registry: &Registry, name: &str) -> Result<Fleet, Error> {
    let mut fleets = registry.fleets_named(name)?;
    if fleets.len() > 1 {
        let id = fleet_id(&KeyFile::load(&key_path(common)?)?.public(), name);
        fleets.retain(|fleet| fleet.id == id);
    }
    fleets.pop().ok_or_else(|| {
        Error::new(
            Exit::Other,
            format!("the registry has no fleet {name}: claim a node, or run `os-network-admin mesh up`"),
        )
    })
}

/// The registry, which must be there.
pub fn open(common: &Common) -> Result<Registry, Error> {
    let path = registry_path(common)?;
    let registry = Registry::open_existing(&path)?;
    registry.ok_or_else(|| no_registry(&path))
}

/// The registry, if there is one: a log begins with it.
pub fn optional(common: &Common) -> Result<Option<Registry>, Error> {
    // Without a home there is none.
    registry_path(common).map_or(Ok(None), |path| Registry::open_existing(&path))
}

/// What is not there says nothing, least of all that there is nothing.
pub fn no_registry(path: &Path) -> Error {
    let path = path.display();
    Error::new(Exit::Other, format!("there is no registry {path}: claim a node, or name yours with --registry"))
}

/// A fleet of the registry.
pub fn view<'r>(common: &Common, registry: &'r Registry, fleet: &InFleet) -> Result<View<'r>, Error> {
    let fleet = fleet_named(common, registry, &fleet.fleet)?;
    // Whoever reads makes no key: before any node knows one there may be none.
    match registry.mesh_key()? {
        Some(key) => View::load(registry, &fleet, key.public()),
        None => Ok(View { registry, fleet }),
    }
}

/// The key; from here on it signs what is logged.
pub fn unlock(common: &Common, registry: &Registry) -> Result<Signer, Error> {
    let key = KeyFile::load(&key_path(common)?)?.unlock(&passphrase(common, false)?)?;
    let signer = Arc::new(key);
    registry.sign_with(&signer);
    Ok(signer)
}
