//! `discover`, `claim`, `beacon`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal, Write},
    net::Ipv6Addr,
    path::PathBuf,
    time::Duration,
};

use clap::{ArgGroup, Args};
use crypto::{AnchorPublic, AnchorSecret};
use policy::{Endpoint, Prefix};
use tokio::signal::unix::{SignalKind, signal};
use wire::{Fingerprint, Hex, binding::Authority};
use zeroize::Zeroizing;

use super::common::{Common, fleet_id, fleet_name, key_path, passphrase, print, registry_path};
use crate::{
    base::{
        error::{Error, Exit},
        guard::Locked,
        host,
        input::{self, Print},
        interface::Interface,
        key::KeyFile,
        link::Sockets,
        progress::Progress,
    },
    claim::{
        self, Chooser, Claimed, Claimer, Configure, Context, Found, MeshTerms, Terms, Unlisted,
        beacon::{self, Event},
    },
    output,
    registry::{AnchorKind, Registry, State},
};

#[derive(Args)]
#[command(group = ArgGroup::new("which").multiple(false))]
#[command(group = ArgGroup::new("by_ticket").args(["ticket", "ticket_file"]))]
pub struct ClaimArguments {
    /// Claim the node that showed this ticket; others on this host can see it, --ticket-file is better
    #[arg(long, value_name = "TEXT", group = "which", value_parser = secret_text, conflicts_with_all = ["expect", "expect_file"])]
    pub ticket: Option<Zeroizing<String>>,
    /// Claim the node whose ticket is in this file; - is standard input
    #[arg(long, value_name = "FILE", group = "which", conflicts_with_all = ["expect", "expect_file"])]
    pub ticket_file: Option<PathBuf>,
    /// Claim the node with this fingerprint
    #[arg(long, value_name = "FP", group = "which", value_parser = input::fingerprint)]
    pub fingerprint: Option<Print>,
    /// Claim any one that --expect or --expect-file names, and never ask about another
    #[arg(long, group = "which")]
    pub any_listed: bool,
    #[command(flatten)]
    pub expected: ExpectedArguments,
    /// Claim any node that answers, without looking at its fingerprint; the pairing records this
    #[arg(long, conflicts_with_all = ["by_ticket", "fingerprint", "any_listed"])]
    pub accept_any: bool,
    #[command(flatten)]
    pub terms: TermsArguments,
    /// Static IPv6 address that the node takes on its link
    #[arg(long, value_name = "IP/LENGTH", value_parser = input::underlay, conflicts_with = "config")]
    pub underlay: Option<Prefix>,
    /// Its gateway there
    #[arg(long, value_name = "IP", requires = "underlay")]
    pub gateway: Option<Ipv6Addr>,
    #[command(flatten)]
    pub find: FindArguments,
    /// How long to try, in seconds; the time you take to answer a question is not counted
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
}

#[derive(Args)]
pub struct ExpectedArguments {
    /// Fingerprint of a node that may be claimed, as its console shows it
    #[arg(long, value_name = "FP", value_parser = input::fingerprint)]
    pub expect: Vec<Print>,
    /// List of such fingerprints, one a line; # begins a comment
    #[arg(long, value_name = "LIST")]
    pub expect_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct FindArguments {
    /// Skip the counter so many milliseconds ahead, if another holder of the key has used higher ones
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1 << 62))]
    pub counter_ahead: u64,
}

#[derive(Args)]
pub struct TermsArguments {
    /// Configuration to grant in place of one with a place in the mesh: bytes as docs/protocol.md has them; empty: no mesh
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where nodes reach this administrator, if not at the address of --interface
    #[arg(long, value_name = "[IP]:PORT", value_parser = input::endpoint, conflicts_with = "config")]
    pub endpoint: Option<Endpoint>,
    /// Fleet that the node joins
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = fleet_name)]
    pub fleet: String,
    /// A further authority of the fleet: a public key as `init` prints it, or its anchor.bin
    #[arg(long, value_name = "PUBKEY")]
    pub authority: Vec<String>,
    /// How many of the authorities must sign
    #[arg(long, value_name = "M", default_value_t = 1)]
    pub needed: u8,
}

fn secret_text(text: &str) -> Result<Zeroizing<String>, String> {
    Ok(Zeroizing::new(text.into()))
}

pub async fn discover(common: &Common, find: &FindArguments, wait: Duration) -> Result<(), Error> {
    let anchor = KeyFile::load(&key_path(common)?)?.unlock(&passphrase(common, false)?)?;
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    let progress = Progress::new(common.json);
    let context = Context {
        net: &net,
        registry: &registry,
        anchor: &anchor,
        ahead: find.counter_ahead,
        host: &host::system(),
        progress: &progress,
    };
    progress.say("listening for nodes");
    let found = claim::discover(&context, wait, |_| ()).await;
    progress.done();
    let found = found?;
    if found.is_empty() {
        return Err(Chooser::listed(BTreeSet::new(), Unlisted::Ignore).nothing());
    }
    let state = |found: &Found| registry.node(&found.fiduciary).map(|node| node.map(|node| node.state));
    let nodes = found.iter().map(|found| Ok(answered(found, state(found)?))).collect::<Result<_, Error>>()?;
    print(common, &output::Nodes { nodes })
}

pub async fn claim(common: &Common, arguments: ClaimArguments) -> Result<(), Error> {
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
    if let Configure::Mesh(mesh) = &mut terms.configuration {
        let underlay = arguments.underlay.map(|address| input::static_address(address, arguments.gateway));
        mesh.underlay = underlay.transpose()?;
    }
    // By ticket, the ticket's key signs, and of A only the public half is needed.
    let anchor = match &ticket {
        Some(ticket) => Locked::new(AnchorSecret::from_seed(&ticket.secret)),
        None => key.unlock(&passphrase(common, false)?)?,
    };
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    authority(&registry, &mut terms)?;
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
        host: &host::system(),
        progress: &progress,
    };
    let claimed = Claimer::new(&context, &terms, &mut chooser).claim(Duration::from_secs(arguments.wait)).await;
    progress.done();
    print(common, &paired(&registry, &claimed?)?)
}

pub async fn beacon(
    common: &Common,
    find: &FindArguments,
    arguments: &TermsArguments,
    listed: &ExpectedArguments,
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
    authority(&registry, &mut terms)?;
    let progress = Progress::new(common.json);
    if !anchor.is_locked() {
        progress.warn("the kernel lets no memory be locked (see ulimit -l): while this runs the key may get into swap");
    }
    let context = Context {
        net: &net,
        registry: &registry,
        anchor: &anchor,
        ahead: find.counter_ahead,
        host: &host::system(),
        progress: &progress,
    };
    let mut unsaid = None;
    // That an event cannot be written keeps no node from being claimed: it is told at the end.
    let tell = |event: Event<'_>| {
        if let Err(error) = progress.pause(|| print_event(common, &registry, &event)) {
            unsaid.get_or_insert(error);
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = beacon::watch(&context, &terms, &listed, once, tell) => ended,
        // A claim that is cut here is resumed by the next.
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    progress.done();
    ended.and(unsaid.map_or(Ok(()), Err))
}

fn print_event(common: &Common, registry: &Registry, event: &Event<'_>) -> Result<(), Error> {
    let document = match event {
        Event::Unlisted(found) => output::Event::Unlisted { found: answered(found, None) },
        Event::Claimed(claimed) => output::Event::Claimed { claim: Box::new(paired(registry, claimed)?) },
        Event::Failed(found, error) => {
            output::Event::Failed { found: answered(found, None), error: output::Failure::from(*error) }
        }
    };
    print(common, &document)
}

/// A node that answered; `known` is its state in the registry.
fn answered(found: &Found, known: Option<State>) -> output::Found {
    output::Found {
        fingerprint: Fingerprint(found.print()).to_string(),
        fiduciary: Hex(&found.fiduciary).to_string(),
        address: found.address.to_string(),
        committed: found.committed,
        registry: known,
    }
}

fn paired(registry: &Registry, claimed: &Claimed) -> Result<output::Claimed, Error> {
    let inner = registry.mesh_address(&claimed.node.binding.fiduciary)?;
    Ok(output::Claimed { resumed: claimed.resumed, node: output::Node::new(&claimed.node, inner.as_ref()) })
}

fn expected(arguments: &ExpectedArguments) -> Result<BTreeSet<Print>, Error> {
    let mut prints = match &arguments.expect_file {
        Some(file) => input::fingerprints(file)?,
        None => BTreeSet::new(),
    };
    prints.extend(&arguments.expect);
    Ok(prints)
}

fn terms(arguments: &TermsArguments, own: &AnchorPublic, anchor: AnchorKind) -> Result<Terms, Error> {
    let authorities: Vec<Authority> = input::authorities(own, &arguments.authority, arguments.needed)?;
    let configuration = match &arguments.config {
        Some(file) => Configure::Bytes(input::configuration(file)?),
        None => Configure::Mesh(MeshTerms { endpoint: arguments.endpoint, ..MeshTerms::default() }),
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
fn authority(registry: &Registry, terms: &mut Terms) -> Result<(), Error> {
    if let Configure::Mesh(mesh) = &mut terms.configuration {
        mesh.authority = registry.make_mesh_key()?.public();
    }
    Ok(())
}

async fn link(common: &Common) -> Result<Sockets, Error> {
    let name = common
        .interface
        .as_deref()
        .ok_or_else(|| Error::new(Exit::Usage, "name the network interface on the nodes' segment: --interface IF"))?;
    Sockets::open(Interface::find(name).await?)
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
