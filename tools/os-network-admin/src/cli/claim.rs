//! `discover`, `claim`, `beacon`.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal, Write},
    net::Ipv6Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{ArgGroup, Args};
use crypto::{AnchorPublic, AnchorSecret};
use policy::{Endpoint, Prefix};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use wire::{Fingerprint, Hex};
use zeroize::Zeroizing;

use super::common::{
    Common, DEFAULT_FLEET, decided, fleet_id, fleet_name, key_path, optional, passphrase, print, registry_path,
};
use super::interrupt::Interrupt;
use crate::{
    base::{
        error::{Error, Exit},
        guard::Locked,
        host::{self, Host, System},
        input::{self, Print},
        interface::Interface,
        key::KeyFile,
        link::Sockets,
        paper::Papers,
        progress::Progress,
    },
    claim::{
        self, Chooser, Claimed, Claimer, Configure, Context, Found, MeshTerms, Pairing, Strangers, Terms, Unlisted,
        beacon::{self, Event, Listed},
    },
    fleet::{genesis, warrant},
    mesh::control::Client,
    output,
    registry::{AnchorKind, Node, Registry, State},
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
    /// Claim the node that a warrant names: files with the proposal and with enough approvals; repeatable
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by_ticket", "any_listed", "accept_any", "expect", "expect_file", "config", "authority", "endpoint", "underlay"])]
    pub warrant: Vec<PathBuf>,
    /// Claim only nodes that this genesis of a fleet lists, each once, and for its authorities
    #[arg(long, value_name = "FILE", conflicts_with_all = ["accept_any", "config", "authority", "endpoint", "warrant"])]
    pub genesis: Option<PathBuf>,
    /// Claim any node that answers, without looking at its fingerprint; the pairing records this
    #[arg(long, conflicts_with_all = ["by_ticket", "fingerprint", "any_listed"])]
    pub accept_any: bool,
    /// Look for the node although the registry says that it is claimed: it was released, or its storage put back
    #[arg(long)]
    pub again: bool,
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
    /// Fingerprint of a node that may be claimed although it was revoked
    #[arg(long, value_name = "FP", value_parser = input::fingerprint)]
    pub readmit: Vec<Print>,
}

#[derive(Args)]
pub struct FindArguments {
    /// Skip the counter so many milliseconds ahead, if another holder of the key has used higher ones
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1 << 61))]
    pub counter_ahead: u64,
    /// For nodes that are silent because somebody with the key has used up their finds: switch them off and on first
    #[arg(long)]
    pub past_stored: bool,
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
    #[arg(long, value_name = "NAME", default_value = DEFAULT_FLEET, value_parser = fleet_name)]
    pub fleet: String,
    /// A further authority of the fleet: a public key as `init` prints it, or its anchor.bin
    #[arg(long, value_name = "PUBKEY")]
    pub authority: Vec<String>,
    /// How many of the authorities must sign: a majority of them
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
        past_stored: find.past_stored,
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
    let is_interrupted = Cell::new(false);
    let key = KeyFile::load(&key_path(common)?)?;
    let warranted = warranted(common, &arguments, &key.public())?;
    let mut listed = expected(&arguments.expected)?;
    listed.extend(arguments.fingerprint);
    listed.extend(warranted.iter().filter_map(|terms| Some(Fingerprint::of(&terms.warrant.as_ref()?.fiduciary).0)));
    let founding = arguments
        .genesis
        .as_ref()
        .map(|file| {
            let meant = ticket.iter().map(|ticket| Fingerprint::of(&ticket.fiduciary).0).collect();
            let anew = arguments.again || !arguments.expected.readmit.is_empty();
            founding(common, file, &meant, anew, &mut listed)
        })
        .transpose()?;
    if arguments.any_listed && listed.is_empty() {
        return Err(Error::new(Exit::Usage, "--any-listed needs a list: add --expect FP or --expect-file LIST"));
    }
    let policy = if arguments.accept_any {
        Unlisted::Take
    } else if arguments.any_listed || arguments.fingerprint.is_some() || warranted.is_some() || founding.is_some() {
        Unlisted::Ignore
    } else if io::stdin().is_terminal() {
        Unlisted::Ask(Box::new(|found| ask(found, &is_interrupted)))
    } else {
        Unlisted::Refuse
    };
    let chooser = match &ticket {
        Some(ticket) => Chooser::ticket(ticket.fiduciary),
        None => Chooser::listed(listed, policy),
    };
    let mut chooser = chooser.readmitting(arguments.expected.readmit.iter().copied().collect());
    if let (Some(meant), false) = (chooser.meant(), arguments.again)
        && let Some(node) = claimed_already(
            common,
            meant,
            warranted.as_ref().or(founding.as_ref()).map_or(&arguments.terms.fleet, |terms| &terms.fleet),
        )
        .await?
    {
        return print(common, &node);
    }
    let kind = if ticket.is_some() { AnchorKind::Ticket } else { AnchorKind::Image };
    let mut terms = match warranted.or(founding) {
        Some(terms) => Terms { anchor: kind, ..terms },
        None => terms(&arguments.terms, &key.public(), kind)?,
    };
    if let Configure::Mesh(mesh) = &mut terms.configuration {
        let underlay = arguments.underlay.map(|address| input::static_address(address, arguments.gateway));
        mesh.underlay = underlay.transpose()?;
    }
    if let Some(registry) = optional(common)?.filter(|_| arguments.genesis.is_none() && arguments.warrant.is_empty()) {
        let named = !arguments.terms.authority.is_empty() || arguments.terms.needed != 1;
        decided(&registry, &terms.fleet_id, &terms.fleet, named)?;
    }
    // By ticket, the ticket's key signs, and of A only the public half is needed.
    let anchor = Arc::new(match &ticket {
        Some(ticket) => Locked::new(AnchorSecret::from_seed(&ticket.secret)),
        None => key.unlock(&passphrase(common, false)?)?,
    });
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    if ticket.is_none() {
        registry.sign_with(&anchor);
    }
    authority(&registry, &mut terms)?;
    let progress = Progress::new(common.json);
    let context = Context {
        net: &net,
        registry: &registry,
        anchor: &anchor,
        ahead: arguments.find.counter_ahead,
        past_stored: arguments.find.past_stored,
        host: &host::system(),
        progress: &progress,
    };
    let (mut interrupt, since) = (Interrupt::watch()?, context.host.now_ms());
    let claim = Claimer::new(&context, &terms, &mut chooser).claim(Duration::from_secs(arguments.wait));
    let claimed = tokio::select! {
        claimed = claim => claimed,
        () = interrupt.came() => {
            is_interrupted.set(true);
            Err(Error::new(Exit::Interrupted, "interrupted"))
        }
    };
    progress.done();
    match claimed {
        Err(_) if is_interrupted.get() => Err(interrupted(&registry, since)),
        claimed => print(common, &paired(&registry, &claimed?)?),
    }
}

/// A node that is claimed and has heard it answers nobody: the registry does, or the mesh.
async fn claimed_already(common: &Common, print: Print, fleet: &str) -> Result<Option<output::Claimed>, Error> {
    let path = registry_path(common)?;
    let Some(registry) = Registry::open_existing(&path)? else { return Ok(None) };
    let Some(mut node) = registry.node_with(&Fingerprint(print))? else { return Ok(None) };
    let fiduciary = node.title.warrant.fiduciary;
    if node.state != State::Paired || registry.is_revoked(&fiduciary)? || registry.has_left(&node)? {
        return Ok(None);
    }
    if !node.acknowledged && has_session(&path, &Fingerprint(print)).await {
        node = registry.store_acknowledged(&node)?;
    }
    if !node.acknowledged {
        return Ok(None);
    }
    if node.fleet != fleet {
        let its = &node.fleet;
        return Err(Error::failed(format!("{} is claimed already, for the fleet {its}", Fingerprint(print))));
    }
    let inner = registry.mesh_address(&fiduciary)?;
    Ok(Some(output::Claimed { resumed: false, already: true, node: output::Node::new(&node, inner.as_ref()) }))
}

/// Whether a node has a session with this host's end of the mesh, which it can have only as a claimed one. A mesh that is not up
/// or does not answer knows of none: then the node is looked for on the link.
async fn has_session(registry: &Path, print: &Fingerprint) -> bool {
    let asked = async { Client::connect(registry).await?.status().await };
    let print = Some(print.to_string());
    let has = |up: output::Up| up.peers.iter().any(|peer| peer.fingerprint == print && peer.handshake_s.is_some());
    asked.await.is_ok_and(has)
}

/// What a claim that was interrupted has left.
fn interrupted(registry: &Registry, since_ms: i64) -> Error {
    let nodes = match registry.nodes() {
        Ok(nodes) => nodes,
        Err(error) => {
            return Error::new(Exit::Interrupted, format!("interrupted; what is stored is not known: {error}"));
        }
    };
    let is_ours = |node: &Node| node.pending_ms.max(node.paired_ms.unwrap_or_default()) >= since_ms;
    let what = |node: &Node| {
        let state = match node.state {
            State::Pending => "a grant was made, and whether it has it is not known",
            State::Paired if node.acknowledged => "claimed",
            State::Paired => "claimed and recorded as paired, but it may still wait for the acknowledgement",
        };
        format!("{}: {state}", Fingerprint::of(&node.title.warrant.fiduciary))
    };
    let left: Vec<String> = nodes.iter().filter(|node| is_ours(node)).map(what).collect();
    let message = match left.as_slice() {
        [] => "interrupted: no node was granted anything, and nothing is stored of this claim".into(),
        _ => format!("interrupted; stored is {}; run the same claim again", left.join("; ")),
    };
    Error::new(Exit::Interrupted, message)
}

pub async fn beacon(
    common: &Common,
    find: &FindArguments,
    arguments: &TermsArguments,
    named: &ExpectedArguments,
    genesis: Option<&Path>,
    once: bool,
) -> Result<(), Error> {
    let readmitted = named.readmit.iter().copied().collect();
    let mut nodes = expected(named)?;
    let key = KeyFile::load(&key_path(common)?)?;
    let mut terms = match genesis {
        Some(file) => founding(common, file, &BTreeSet::new(), !named.readmit.is_empty(), &mut nodes)?,
        None => terms(arguments, &key.public(), AnchorKind::Image)?,
    };
    let listed = Listed { nodes, readmitted };
    let anchor = Arc::new(key.unlock(&passphrase(common, false)?)?);
    let mut interrupt = Interrupt::watch()?;
    let net = link(common).await?;
    let registry = Registry::open(&registry_path(common)?)?;
    registry.sign_with(&anchor);
    if genesis.is_none() {
        let named = !arguments.authority.is_empty() || arguments.needed != 1;
        decided(&registry, &terms.fleet_id, &terms.fleet, named)?;
    }
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
        past_stored: find.past_stored,
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
        () = interrupt.came() => Ok(()),
    };
    progress.done();
    ended.and(unsaid.map_or(Ok(()), Err))
}

fn print_event(common: &Common, registry: &Registry, event: &Event<'_>) -> Result<(), Error> {
    let document = match event {
        Event::Unlisted(found) => output::Event::Unlisted { found: answered(found, None) },
        Event::Revoked(found) => output::Event::Revoked { found: answered(found, None) },
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
    let inner = registry.mesh_address(&claimed.node.title.warrant.fiduciary)?;
    Ok(output::Claimed {
        resumed: claimed.resumed,
        already: false,
        node: output::Node::new(&claimed.node, inner.as_ref()),
    })
}

fn expected(arguments: &ExpectedArguments) -> Result<BTreeSet<Print>, Error> {
    let mut prints = match &arguments.expect_file {
        Some(file) => input::fingerprints(file)?,
        None => BTreeSet::new(),
    };
    prints.extend(arguments.expect.iter().chain(&arguments.readmit));
    Ok(prints)
}

fn terms(arguments: &TermsArguments, own: &AnchorPublic, anchor: AnchorKind) -> Result<Terms, Error> {
    let set = input::authorities(own, &arguments.authority, arguments.needed)?;
    let configuration = match &arguments.config {
        Some(file) => Configure::Bytes(input::configuration(file)?),
        None => Configure::Mesh(MeshTerms { endpoint: arguments.endpoint, ..MeshTerms::default() }),
    };
    let fleet_id = fleet_id(own, &arguments.fleet);
    Ok(Terms { fleet: arguments.fleet.clone(), fleet_id, set, configuration, anchor, warrant: None })
}

/// The terms that a warrant sets, if one is given.
fn warranted(common: &Common, arguments: &ClaimArguments, own: &AnchorPublic) -> Result<Option<Terms>, Error> {
    if arguments.warrant.is_empty() {
        return Ok(None);
    }
    let terms = Papers::read(&arguments.warrant)
        .and_then(|papers| warrant::terms(&papers, arguments.fingerprint, own, System.now_ms()));
    let (named, is_default) = (&arguments.terms.fleet, arguments.terms.fleet == DEFAULT_FLEET);
    let terms = terms.and_then(|terms| match terms.fleet == *named || is_default {
        true => Ok(terms),
        false => Err(Error::input(format!("the warrant is for the fleet {}, and not for {named}", terms.fleet))),
    });
    if let (Err(why), Some(registry)) = (&terms, optional(common)?) {
        registry.refused(None, why, &Strangers::default())?;
    }
    terms.map(Some)
}

/// The terms of a fleet's genesis; `listed` are the nodes that are meant besides `tickets`, all that are left if none is named.
fn founding(
    common: &Common,
    file: &Path,
    tickets: &BTreeSet<Print>,
    anew: bool,
    listed: &mut BTreeSet<Print>,
) -> Result<Terms, Error> {
    let registry = optional(common)?;
    let terms = Papers::read(&[file.to_path_buf()]).and_then(|papers| {
        let genesis = genesis::founded(&papers)?;
        let mut meant = listed.clone();
        meant.extend(tickets);
        genesis::check_members(registry.as_ref(), genesis, &meant, anew)?;
        if meant.is_empty() {
            let paired = registry.as_ref().map(|registry| genesis::paired(registry, genesis)).transpose()?;
            let paired = paired.unwrap_or_default();
            listed.extend(genesis.members.iter().map(|one| one.print).filter(|print| !paired.contains(print)));
        }
        if meant.is_empty() && listed.is_empty() {
            return Err(Error::new(Exit::NotAccepted, format!("all nodes of the fleet {} are claimed", genesis.name)));
        }
        genesis::terms(genesis, AnchorKind::Image)
    });
    if let (Err(why), Some(registry)) = (&terms, &registry) {
        registry.refused(None, why, &Strangers::default())?;
    }
    terms
}

/// Names the authority of a mesh, whose key is made here if need be: after all that can be refused.
fn authority(registry: &Registry, terms: &mut Terms) -> Result<(), Error> {
    if let Configure::Mesh(mesh) = &mut terms.configuration {
        mesh.authority = registry.make_mesh_key()?.public();
    }
    if let Configure::Warranted { own, .. } = &mut terms.configuration {
        *own = registry.mesh_key()?.map(|key| key.public());
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

/// Once the operator has interrupted, the answer is no.
fn ask(found: &Found, is_interrupted: &Cell<bool>) -> bool {
    if is_interrupted.get() {
        return false;
    }
    let mut err = io::stderr().lock();
    let shown = writeln!(
        err,
        "A node answered that was not named beforehand:\n  fingerprint  {}\n  address      {}\n\
         Compare the fingerprint with the one on the node's console. Type yes to claim this node, anything else to leave it.",
        Fingerprint(found.print()),
        found.address
    );
    let stdin = io::stdin();
    // A signal ends this wait, but would not end the reading of a line.
    if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None) == Err(Errno::INTR) {
        is_interrupted.set(true);
        return false;
    }
    let mut line = String::new();
    shown.is_ok() && stdin.lock().read_line(&mut line).is_ok() && line.trim() == "yes"
}
