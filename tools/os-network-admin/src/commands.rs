//! What each command does, from its arguments to its output. Inputs are checked first, the passphrase among them, then
//! the interface, then the registry: a command that is refused has written nothing.

mod fleet;
mod mesh;

use std::{
    collections::HashSet,
    env,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use crypto::{AnchorPublic, AnchorSecret};
use policy::Underlay;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use wire::{Fingerprint, anchor::AnchorFile, binding::Authority};
use zerocopy::IntoBytes;
use zeroize::Zeroizing;

use crate::{
    beacon::{self, Event},
    choose::{Chooser, Found, Unlisted},
    claim::{self, Context, Hunt},
    cli::{self, Cli, Command, Common},
    error::{Error, Exit},
    exchange::{Configure, Terms},
    files::{self, SecretBytes},
    fleet::view::Place,
    input::{self, Print},
    interface::Interface,
    key::{self, Cost, KeyFile},
    link::Link,
    mesh::key::MeshKey,
    output,
    progress::Progress,
    registry::{AnchorKind, Node, Registry, State, fleet::Inner},
};

/// Runs one command to its end.
pub async fn run(cli: Cli) -> Result<(), Error> {
    let common = &cli.common;
    match cli.command {
        Command::Init { seed_file } => init(common, seed_file.as_deref()),
        Command::Anchor { out } => anchor(common, &out),
        Command::Discover { find, wait } => discover(common, &find, Duration::from_secs(wait)).await,
        Command::Claim(arguments) => claim(common, *arguments).await,
        Command::Beacon { find, terms, expected, once } => beacon(common, &find, &terms, &expected, once).await,
        Command::Nodes { command: cli::Nodes::List } => list(common),
        Command::Nodes { command: cli::Nodes::Show { fingerprint } } => show(common, &fingerprint),
        Command::Mesh { command } => mesh::run(common, command).await,
        Command::Policy { command } => fleet::policy(common, command).await,
        Command::Command { node, operation, fleet, wait } => {
            fleet::command(common, &node, operation, &fleet, &wait).await
        }
        Command::Telemetry { once, fleet } => fleet::telemetry(common, once, &fleet).await,
        Command::Revoke { member, fleet, wait } => fleet::revoke(common, &member, &fleet, &wait).await,
        Command::Export { name, public_key, fleet, wait } => {
            fleet::export(common, &name, public_key, &fleet, &wait).await
        }
    }
}

fn init(common: &Common, seed_file: Option<&Path>) -> Result<(), Error> {
    let path = key_path(common)?;
    if files::is_there(&path) {
        return Err(files::exists(&path, "key file"));
    }
    let seed = match seed_file {
        Some(file) => key::read_seed(file)?,
        None => key::new_seed()?,
    };
    let passphrase = passphrase(common, true)?;
    let file = KeyFile::seal(&seed, &passphrase, Cost::DEFAULT)?;
    file.store(&path)?;
    let public = file.public();
    print(common, || output::key_json(&path, &public), || output::key_text("key", &path, &public))
}

fn anchor(common: &Common, out: &Path) -> Result<(), Error> {
    let public = KeyFile::load(&key_path(common)?)?.public();
    files::replace_public(out, "anchor", AnchorFile::new(&public).as_bytes())?;
    print(common, || output::key_json(out, &public), || output::key_text("anchor", out, &public))
}

async fn discover(common: &Common, find: &cli::Find, wait: Duration) -> Result<(), Error> {
    let anchor = KeyFile::load(&key_path(common)?)?.unlock(&passphrase(common, false)?)?;
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    let progress = Progress::new(common.json);
    let context =
        Context { net: &net, registry: &registry, anchor: &anchor, ahead: find.counter_ahead, progress: &progress };
    progress.say("listening for nodes");
    let found = claim::discover(&context, wait, |_| ()).await;
    progress.done();
    let found = found?;
    if found.is_empty() {
        return Err(Chooser::listed(HashSet::new(), Unlisted::Ignore).nothing());
    }
    let state = |found: &Found| registry.node(&found.fiduciary).map(|node| node.map(|node| node.state));
    let known = found.iter().map(|found| Ok((*found, state(found)?))).collect::<Result<Vec<_>, Error>>()?;
    let json = || {
        let nodes: Vec<Value> = known.iter().map(|(found, state)| output::found_json(found, *state)).collect();
        json!({"nodes": nodes})
    };
    let line = |(found, state): &(Found, Option<State>)| output::found_text(found, *state);
    print(common, json, || known.iter().map(line).collect::<Vec<_>>().join("\n"))
}

async fn claim(common: &Common, arguments: cli::Claim) -> Result<(), Error> {
    let ticket = match (&arguments.ticket, &arguments.ticket_file) {
        (Some(text), _) => Some(input::ticket(text)?),
        (None, Some(file)) => Some(input::ticket_file(file)?),
        (None, None) => None,
    };
    let mut listed = expected(&arguments.expected)?;
    listed.extend(arguments.fingerprint);
    if arguments.any_listed && listed.is_empty() {
        return Err(Error::new(Exit::Usage, "--any-listed needs a list: add --expect FP or --expect-file LIST"));
    }
    let key = KeyFile::load(&key_path(common)?)?;
    let kind = if ticket.is_some() { AnchorKind::Ticket } else { AnchorKind::Image };
    let mut terms = terms(&arguments.terms, &key.public(), kind)?;
    if let Configure::Mesh(place) = &mut terms.configuration {
        let gateway = arguments.gateway.map(|gateway| gateway.octets());
        place.underlay = arguments.underlay.map(|address| Underlay { address, gateway });
    }
    // By ticket, the ticket's key signs, and of A only the public half is needed.
    let anchor = match &ticket {
        Some(ticket) => AnchorSecret::from_seed(&ticket.secret),
        None => key.unlock(&passphrase(common, false)?)?,
    };
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    authority(common, &mut terms)?;
    let policy = if arguments.accept_any {
        Unlisted::Take
    } else if arguments.any_listed || arguments.fingerprint.is_some() {
        Unlisted::Ignore
    } else if io::stdin().is_terminal() {
        Unlisted::Ask(Box::new(ask))
    } else {
        Unlisted::Refuse
    };
    let mut chooser = match &ticket {
        Some(ticket) => Chooser::ticket(ticket.fiduciary),
        None => Chooser::listed(listed, policy),
    };
    let progress = Progress::new(common.json);
    let context = Context {
        net: &net,
        registry: &registry,
        anchor: &anchor,
        ahead: arguments.find.counter_ahead,
        progress: &progress,
    };
    let claimed = Hunt::new(&context, &terms, &mut chooser).claim(Duration::from_secs(arguments.wait)).await;
    progress.done();
    let claimed = claimed?;
    let inner = registry.place(&claimed.node.binding.fiduciary)?;
    let inner = inner.as_ref();
    print(common, || output::claimed_json(&claimed, inner), || output::claimed_text(&claimed, inner))
}

async fn beacon(
    common: &Common,
    find: &cli::Find,
    arguments: &cli::Terms,
    listed: &cli::Expected,
    once: bool,
) -> Result<(), Error> {
    let listed = expected(listed)?;
    let key = KeyFile::load(&key_path(common)?)?;
    let mut terms = terms(arguments, &key.public(), AnchorKind::Image)?;
    let anchor = key.unlock(&passphrase(common, false)?)?;
    let stop = |error: io::Error| Error::new(Exit::Other, format!("signals cannot be awaited: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(stop)?;
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    authority(common, &mut terms)?;
    let progress = Progress::new(common.json);
    let context =
        Context { net: &net, registry: &registry, anchor: &anchor, ahead: find.counter_ahead, progress: &progress };
    let tell = |event: Event<'_>| progress.pause(|| print_event(common, &registry, &event));
    let ended = tokio::select! {
        ended = beacon::watch(&context, &terms, &listed, once, tell) => ended,
        // A claim that is cut here is resumed by the next.
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    progress.done();
    ended
}

fn print_event(common: &Common, registry: &Registry, event: &Event<'_>) -> Result<(), Error> {
    let inner = match event {
        Event::Claimed(claimed) => registry.place(&claimed.node.binding.fiduciary)?,
        Event::Unlisted(_) | Event::Failed(..) => None,
    };
    let inner = inner.as_ref();
    let json = || match event {
        Event::Unlisted(found) => json!({"event": "unlisted", "found": output::found_json(found, None)}),
        Event::Claimed(claimed) => json!({"event": "claimed", "claim": output::claimed_json(claimed, inner)}),
        Event::Failed(found, error) => json!({
            "event": "failed",
            "found": output::found_json(found, None),
            "error": {"code": error.exit as u8, "message": error.message},
        }),
    };
    let text = || match event {
        Event::Unlisted(found) => format!("not on the list, not claimed: {}", output::found_text(found, None)),
        Event::Claimed(claimed) => output::claimed_text(claimed, inner),
        Event::Failed(found, error) => format!("{}: {error}", Fingerprint(found.print())),
    };
    print(common, json, text)
}

fn list(common: &Common) -> Result<(), Error> {
    let nodes = known(common)?;
    let json = || json!({"nodes": nodes.iter().map(|(node, inner)| output::node_json(node, inner.as_ref())).collect::<Vec<_>>()});
    let text = || match nodes.as_slice() {
        [] => "no nodes".into(),
        nodes => {
            nodes.iter().map(|(node, inner)| output::node_line(node, inner.as_ref())).collect::<Vec<_>>().join("\n")
        }
    };
    print(common, json, text)
}

fn show(common: &Common, fingerprint: &Print) -> Result<(), Error> {
    let nodes = known(common)?;
    let node = nodes.into_iter().find(|(node, _)| Fingerprint::of(&node.binding.fiduciary).0 == *fingerprint);
    let (node, inner) = node.ok_or_else(|| {
        Error::new(Exit::Other, "the registry has no node with this fingerprint: see `os-network-admin nodes list`")
    })?;
    let inner = inner.as_ref();
    print(common, || json!({"node": output::node_json(&node, inner)}), || output::node_text(&node, inner))
}

/// The registry's nodes and where they are in the mesh.
fn known(common: &Common) -> Result<Vec<(Node, Option<Inner>)>, Error> {
    let Some(registry) = Registry::open_existing(&registry_path(common)?)? else { return Ok(Vec::new()) };
    let nodes = registry.nodes()?.into_iter();
    nodes.map(|node| registry.place(&node.binding.fiduciary).map(|inner| (node, inner))).collect()
}

fn print(common: &Common, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), Error> {
    if common.json { output::line(json()) } else { output::line(text()) }
}

fn expected(arguments: &cli::Expected) -> Result<HashSet<Print>, Error> {
    let mut prints = match &arguments.expect_file {
        Some(file) => input::fingerprints(file)?,
        None => HashSet::new(),
    };
    prints.extend(&arguments.expect);
    Ok(prints)
}

fn terms(arguments: &cli::Terms, own: &AnchorPublic, anchor: AnchorKind) -> Result<Terms, Error> {
    let authorities: Vec<Authority> = input::authorities(own, &arguments.authority, arguments.needed)?;
    let configuration = match &arguments.config {
        Some(file) => Configure::Bytes(input::configuration(file)?),
        None => Configure::Mesh(Place { endpoint: arguments.endpoint, ..Place::default() }),
    };
    Ok(Terms {
        fleet: arguments.fleet.clone(),
        fleet_id: fleet_id(own, &arguments.fleet),
        needed: arguments.needed,
        authorities,
        configuration,
        anchor,
    })
}

/// Names the authority of a mesh, whose key is made here if need be: after all that can be refused.
fn authority(common: &Common, terms: &mut Terms) -> Result<(), Error> {
    if let Configure::Mesh(place) = &mut terms.configuration {
        place.authority = MeshKey::of_registry(&registry_path(common)?)?.public();
    }
    Ok(())
}

/// The fleet's id: the same for every holder of A, and opaque to nodes.
pub fn fleet_id(own: &AnchorPublic, name: &str) -> [u8; 16] {
    let hash = crypto::sha256(&[b"os-network-admin fleet\0", &own.sign[..], name.as_bytes()].concat());
    core::array::from_fn(|i| hash[i])
}

async fn link(common: &Common) -> Result<Link, Error> {
    let name = common
        .interface
        .as_deref()
        .ok_or_else(|| Error::new(Exit::Usage, "name the network interface on the nodes' segment: --interface IF"))?;
    Link::open(Interface::find(name).await?)
}

fn key_path(common: &Common) -> Result<PathBuf, Error> {
    common.key.clone().map_or_else(|| default_path("XDG_CONFIG_HOME", ".config", "key", "--key"), Ok)
}

fn registry_path(common: &Common) -> Result<PathBuf, Error> {
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
fn passphrase(common: &Common, new: bool) -> Result<SecretBytes, Error> {
    if let Some(file) = &common.passphrase_file {
        return key::read_passphrase(file);
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
    if new && typed("The same again: ")? != first {
        return Err(Error::input("the two passphrases differ: nothing was written; try again"));
    }
    Ok(first)
}

fn ask(found: &Found) -> bool {
    let mut err = io::stderr().lock();
    let shown = writeln!(
        err,
        "A node answered that was not named beforehand:\n  fingerprint  {}\n  address      {}\n\
         Compare the fingerprint with the one on the node's console. Type yes to claim this node, anything else to leave it.",
        Fingerprint(found.print()),
        found.address
    );
    let mut line = String::new();
    shown.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "yes"
}
