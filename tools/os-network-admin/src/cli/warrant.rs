//! `warrant`.

use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use policy::{Endpoint, Prefix};
use wire::{Fingerprint, Key, anchor::Anchor};

use super::{
    approve::{Approving, Signing, approve, free, write},
    common::{Common, DEFAULT_FLEET, decided, fleet_id, fleet_name, key_path, optional, print, registry_path},
};
use crate::{
    base::{
        error::{Error, Exit},
        host::{Host, System},
        input,
        key::KeyFile,
        paper::{Paper, Papers},
    },
    fleet::{
        genesis,
        warrant::{self, State, Wish},
    },
    output::{self, Warrants},
    registry::Registry,
};

#[derive(Subcommand)]
pub enum WarrantVerb {
    /// Write proposals of warrants, which those whom the nodes' image names are to sign
    Propose(Box<ProposeArguments>),
    /// Approve warrants: shows them, asks, and writes the approvals into a file of their own
    Sign(Signing),
    /// Who has approved; exit code 15 if those are fewer than must
    Check {
        /// Files with proposals and approvals, in any order
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
pub struct ProposeArguments {
    /// Node: its public key F, 64 hex digits as `discover --json` shows them, or its ticket; repeatable
    #[arg(long, value_name = "F|TICKET", required = true, value_parser = node)]
    node: Vec<Key>,
    /// Anchor of the nodes' image, with those who must sign; without it your key alone
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Fleet that the nodes join
    #[arg(long, value_name = "NAME", default_value = DEFAULT_FLEET, value_parser = fleet_name)]
    fleet: String,
    /// Genesis of the fleet, which says its name and its authorities, and lists the nodes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authority", "endpoint"])]
    genesis: Option<PathBuf>,
    /// A further authority of the fleet, beside your key: a public key as `init` prints it, or its anchor.bin
    #[arg(long, value_name = "PUBKEY")]
    authority: Vec<String>,
    /// How many of the authorities must sign from then on: a majority of them
    #[arg(long, value_name = "M", default_value_t = 1)]
    needed: u8,
    /// Where nodes reach this host's end of the mesh; without it they wait until it speaks
    #[arg(long, value_name = "[IP]:PORT", value_parser = input::endpoint)]
    endpoint: Option<Endpoint>,
    /// Static IPv6 address that the one node takes on its link
    #[arg(long, value_name = "IP/LENGTH", value_parser = input::underlay)]
    underlay: Option<Prefix>,
    /// Its gateway there
    #[arg(long, value_name = "IP", requires = "underlay")]
    gateway: Option<Ipv6Addr>,
    /// The node's next epoch, if the registry does not know the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    epoch: Option<u64>,
    /// How long it may be signed and used, such as 30days
    #[arg(long = "for", value_name = "TIME", default_value = "30days", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn node(text: &str) -> Result<Key, String> {
    let mut key = Key::default();
    if text.len() == 64 && base16ct::mixed::decode(text, &mut key).is_ok() {
        return if crypto::sign_usable(&key) { Ok(key) } else { Err("there can be no node of this key".into()) };
    }
    input::ticket(text).map(|ticket| ticket.fiduciary).map_err(|_| {
        "a node is named by its public key F, 64 hex digits, or by its ticket; its fingerprint is too short for a warrant".into()
    })
}

pub fn run(common: &Common, verb: WarrantVerb) -> Result<(), Error> {
    match verb {
        WarrantVerb::Propose(arguments) => propose(common, &arguments),
        WarrantVerb::Sign(signing) => sign(common, &signing),
        WarrantVerb::Check { files } => check(common, &files),
    }
}

fn propose(common: &Common, arguments: &ProposeArguments) -> Result<(), Error> {
    let own = KeyFile::load(&key_path(common)?)?.public();
    let anchor = match &arguments.anchor {
        Some(file) => input::anchor(file)?,
        None => Anchor::alone(&own),
    };
    let papers = arguments.genesis.as_ref().map(|file| Papers::read(std::slice::from_ref(file))).transpose()?;
    let genesis = papers.as_ref().map(genesis::founded).transpose()?;
    let (fleet, id, set, endpoint) = match genesis {
        Some(genesis) => {
            let meant = arguments.node.iter().map(|node| Fingerprint::of(node).0).collect();
            genesis::check_members(None, genesis, &meant, false)?;
            let first = genesis.authorities.first();
            let endpoint = first.map(|one| Endpoint { ip: one.endpoint, port: one.port.get() });
            (genesis.name.clone(), genesis.id(), genesis.set().map_err(Error::input)?, endpoint)
        }
        None => {
            let set = input::authorities(&own, &arguments.authority, arguments.needed)?;
            (arguments.fleet.clone(), fleet_id(&own, &arguments.fleet), set, arguments.endpoint)
        }
    };
    let underlay = arguments.underlay.map(|address| input::static_address(address, arguments.gateway)).transpose()?;
    if underlay.is_some() && arguments.node.len() > 1 {
        return Err(Error::new(Exit::Usage, "--underlay is for one node: propose the others with another call"));
    }
    free(&arguments.out)?;
    let registry = Registry::open(&registry_path(common)?)?;
    if genesis.is_none() {
        decided(&registry, &id, &fleet, !arguments.authority.is_empty() || arguments.needed != 1)?;
    }
    let mesh_key = registry.make_mesh_key()?.public();
    if genesis.is_some_and(|genesis| genesis.authorities.first().is_none_or(|one| one.mesh != mesh_key)) {
        return Err(Error::input(
            "the genesis names another mesh than this registry's: propose warrants from the registry that closed it",
        ));
    }
    let proposals = registry.whole(|registry| {
        let wish = |node: &Key| Wish {
            node: *node,
            fleet: &fleet,
            fleet_id: id,
            anchor,
            set,
            endpoint,
            underlay,
            epoch: arguments.epoch,
            expires_s: System.since_1970().saturating_add(arguments.lasts).as_secs(),
        };
        let proposals = arguments.node.iter().map(|node| warrant::propose(registry, &mesh_key, &wish(node)));
        let proposals = proposals.collect::<Result<Vec<_>, _>>()?;
        write(&arguments.out, proposals.iter().map(|proposal| Paper::Warrant(Box::new(proposal.clone()))))?;
        Ok(proposals)
    })?;
    let papers = Papers { warrants: proposals, ..Papers::default() };
    print(common, &document(Some(&arguments.out), &papers, Some(&registry))?)
}

fn sign(common: &Common, signing: &Signing) -> Result<(), Error> {
    let about = Approving {
        which: |papers| papers.warrants.iter().map(|one| Paper::Warrant(Box::new(one.clone()))).collect(),
        none: "there is no warrant in these files that could be approved",
        differences: |registry, paper| match paper {
            Paper::Warrant(proposal) => warrant::differences(registry, proposal),
            _ => Ok(Vec::new()),
        },
        durable: false,
    };
    let (papers, registry) = approve(common, signing, &about)?;
    print(common, &document(Some(&signing.out), &papers, registry.as_ref())?)
}

fn check(common: &Common, files: &[PathBuf]) -> Result<(), Error> {
    let papers = Papers::read(files)?;
    for proposal in &papers.warrants {
        proposal.current(System.now_ms()).map_err(Error::input)?;
    }
    print(common, &document(None, &papers, optional(common)?.as_ref())?)?;
    let lacking = papers.warrants.iter().filter(|proposal| !proposal.standing(&papers).is_enough()).count();
    if lacking == 0 {
        return Ok(());
    }
    let message = format!("{lacking} of {} warrants are approved by fewer than must sign", papers.warrants.len());
    Err(Error { told: common.json, ..Error::new(Exit::Unapproved, message) })
}

fn document(path: Option<&Path>, papers: &Papers, registry: Option<&Registry>) -> Result<Warrants, Error> {
    let warrants = papers.warrants.iter().map(|proposal| {
        let standing = proposal.standing(papers);
        let state = match warrant::state(registry, proposal, &standing)? {
            State::Proposed => "proposed",
            State::Approved => "approved",
            State::Claimed => "claimed",
        };
        let differences = registry.map(|registry| warrant::differences(registry, proposal)).transpose()?;
        Ok(output::Warrant::new(proposal, &standing, state, differences.unwrap_or_default()))
    });
    let warrants = warrants.collect::<Result<_, Error>>()?;
    Ok(Warrants { path: path.map(|path| path.display().to_string()), warrants })
}
