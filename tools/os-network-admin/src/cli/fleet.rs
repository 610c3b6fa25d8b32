//! `fleet`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use ::policy::Endpoint;
use clap::{Args, Subcommand};
use wire::{Fingerprint, Key, U16, set::Authority};

use super::{
    approve::{Approving, Signing, approve, free, write},
    common::{Common, InFleet, Wait, fleet_name, key_path, open, optional, print, registry_path},
    order::Proposing,
    policy, rehearse,
    share::{self, ImportArguments},
};
use crate::{
    base::{
        error::{Error, Exit},
        files,
        host::{Host, System},
        input,
        key::KeyFile,
        paper::{Card, Genesis, Listed, Paper, Papers},
    },
    fleet::{
        genesis::{close, founded, one, paired, taken},
        papers::{log_refused, told},
        rules,
    },
    output::Founding,
    registry::{Kind, NETWORK, Network, Registry, Rules},
};

#[derive(Subcommand)]
pub enum FleetVerb {
    /// Write a proposal of what a fleet begins with: its authorities, its nodes, its policy
    Propose(Box<ProposeArguments>),
    /// Accept it as one of the authorities: shows it, asks, and writes the acceptance into a file of its own
    Accept {
        /// File of `fleet propose`; - is standard input
        file: PathBuf,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Found the fleet, when all authorities have accepted: by the first of them
    Close {
        /// The proposal and all acceptances, in any order
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// File to write: the genesis with all acceptances
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// What a genesis says, who has accepted it, and which of its nodes are claimed
    Show {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Whether all authorities have accepted it; needs no key and no registry. Exit code 15 if not
    Verify {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Write what this registry has of a fleet for its other authorities: public halves, and what nodes have signed
    Export {
        /// File to write
        file: PathBuf,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Take over what another authority has exported: shows it, asks, and has the fleet here too
    Import(Box<ImportArguments>),
    /// Give all nodes the policy of the genesis, when enough of them are claimed
    Activate {
        /// The genesis
        file: PathBuf,
        #[command(flatten)]
        proposing: Proposing,
        #[command(flatten)]
        wait: Wait,
    },
    /// Go through all of it on a lab of this machine, from the keys to the resignation, with the program `lab`
    Rehearse {
        /// As of `lab rehearse`: --nodes N, --dir DIR, a step, ... (docs/rehearsal.md)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
pub struct ProposeArguments {
    /// The fleet's name
    #[arg(value_parser = fleet_name)]
    name: String,
    /// A further authority, beside your key: a file of `authority key`, or, of one who only signs, a public key as `init`
    /// prints it or its anchor.bin
    #[arg(long, value_name = "KEYFILE")]
    authority: Vec<String>,
    /// How many of the authorities must sign: a majority of them
    #[arg(long, value_name = "M", default_value_t = 1)]
    needed: u8,
    /// Where nodes reach this host's end of the mesh
    #[arg(long, value_name = "[IP]:PORT", value_parser = input::endpoint)]
    endpoint: Endpoint,
    /// The inner network
    #[arg(long, value_name = "NET", default_value_t = NETWORK)]
    network: Network,
    /// A rule that nodes have from the activation on, such as 'in authority tcp 80'; repeatable, or a file with a rule a line
    #[arg(long, value_name = "RULE|FILE")]
    rule: Vec<String>,
    /// A node: F (64 hex digits), its fingerprint or its ticket, and perhaps where it is to be; repeatable
    #[arg(long, value_name = "NODE[=SITE]", required_unless_present = "members")]
    member: Vec<String>,
    /// List of such nodes, one a line, the site after a blank; # begins a comment
    #[arg(long, value_name = "LIST")]
    members: Option<PathBuf>,
    /// So many nodes must be claimed for the activation; all, if it is not said
    #[arg(long, value_name = "K")]
    activate: Option<u16>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub async fn run(common: &Common, verb: FleetVerb) -> Result<(), Error> {
    match verb {
        FleetVerb::Propose(arguments) => propose(common, &arguments),
        FleetVerb::Accept { file, out, yes } => {
            let about = Approving {
                which: |papers| papers.foundings.iter().map(|one| Paper::Genesis(Box::new(one.clone()))).collect(),
                none: "there is no genesis of a fleet in this file that could be accepted",
                differences: |_, _| Ok(Vec::new()),
                durable: false,
            };
            let (papers, registry) = approve(common, &Signing { files: vec![file], out: out.clone(), yes }, &about)?;
            print(common, &document(Some(&out), &papers, one(&papers)?, registry.as_ref())?)
        }
        FleetVerb::Close { files, out } => found(common, &files, &out),
        FleetVerb::Show { files } => {
            let papers = Papers::read(&files)?;
            print(common, &document(None, &papers, one(&papers)?, optional(common)?.as_ref())?)
        }
        FleetVerb::Verify { files } => {
            let papers = Papers::read(&files)?;
            print(common, &document(None, &papers, one(&papers)?, None)?)?;
            let told = |error| Error { told: common.json, ..error };
            founded(&papers).map(|_| ()).map_err(told)
        }
        FleetVerb::Export { file, fleet } => share::export(common, &file, &fleet),
        FleetVerb::Import(arguments) => share::import(common, &arguments),
        FleetVerb::Activate { file, proposing, wait } => activate(common, file, &proposing, &wait).await,
        FleetVerb::Rehearse { arguments } => rehearse::run(common, &arguments),
    }
}

fn propose(common: &Common, arguments: &ProposeArguments) -> Result<(), Error> {
    let own = KeyFile::load(&key_path(common)?)?.public();
    let mut authorities = vec![Authority::signer(&own)];
    for text in &arguments.authority {
        authorities.push(match Papers::read(&[PathBuf::from(text)]).as_ref().map(|papers| &papers.authorities[..]) {
            Ok([Card(one)]) => *one,
            _ => input::authority(text)?,
        });
    }
    let rules = if arguments.rule.is_empty() { Rules::default() } else { rules::read(&arguments.rule)? };
    let members = members(arguments)?;
    free(&arguments.out)?;
    let registry = Registry::open(&registry_path(common)?)?;
    if !registry.fleets_named(&arguments.name)?.is_empty() {
        return Err(taken(&arguments.name));
    }
    let host: &dyn Host = &System;
    let nonce = host.random()?;
    if let Some(first) = authorities.first_mut() {
        first.mesh = registry.make_mesh_key()?.public();
        (first.endpoint, first.port) = (arguments.endpoint.ip, U16::new(arguments.endpoint.port));
    }
    let genesis = Genesis {
        name: arguments.name.clone(),
        nonce,
        needed: arguments.needed,
        authorities,
        network: (arguments.network.address, arguments.network.length),
        rules: rules.to_vec(),
        activate: arguments.activate.unwrap_or(members.len().try_into().unwrap_or(u16::MAX)),
        members,
    };
    genesis.sound().map_err(|why| Error::input(format!("the fleet cannot be founded like this: {why}")))?;
    let paper = Paper::Genesis(Box::new(genesis.clone()));
    registry.whole(|registry| {
        registry.log(told(Kind::Proposed, &paper))?;
        write(&arguments.out, [paper])
    })?;
    let papers = Papers { foundings: vec![genesis], ..Papers::default() };
    print(common, &document(Some(&arguments.out), &papers, one(&papers)?, Some(&registry))?)
}

fn members(arguments: &ProposeArguments) -> Result<Vec<Listed>, Error> {
    let mut members = Vec::new();
    for text in &arguments.member {
        let (node, site) = text.split_once('=').unwrap_or((text, ""));
        members.push(member(node, site.trim()).ok_or_else(|| not_a_node(node))?);
    }
    if let Some(path) = &arguments.members {
        let bytes = files::read(path, "list of nodes", 4 << 20)?;
        let text = files::text(&bytes).ok().and_then(|text| str::from_utf8(text).ok());
        let text =
            text.ok_or_else(|| Error::input(format!("the list {} is no text: save it as UTF-8", path.display())))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (node, site) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let listed = member(node, site.trim());
            members.push(listed.ok_or_else(|| {
                let why = not_a_node(node);
                Error::input(format!("{}, line {}: {why}", path.display(), number + 1))
            })?);
        }
    }
    Ok(members)
}

/// Of a ticket only F is taken: what it is secret for stays where it is.
fn member(node: &str, site: &str) -> Option<Listed> {
    let mut key = Key::default();
    if node.len() == 64 && base16ct::mixed::decode(node, &mut key).is_ok() {
        return Some(Listed::new(&key, site));
    }
    let print = Fingerprint::parse(node).map(|print| Listed::of_print(print.0, site));
    print.or_else(|| Some(Listed::new(&input::ticket(node).ok()?.fiduciary, site)))
}

fn not_a_node(text: &str) -> Error {
    // It may have been a ticket.
    let shown = text.get(..8).unwrap_or(text);
    Error::input(format!("{shown}… is no node: name it by F (64 hex digits), by its fingerprint or by its ticket"))
}

fn found(common: &Common, files: &[PathBuf], out: &Path) -> Result<(), Error> {
    free(out)?;
    let registry = open(common)?;
    let read = Papers::read(files);
    let closed = read.and_then(|papers| {
        let genesis = founded(&papers)?;
        let own = registry.mesh_key()?.map(|key| key.public());
        registry.whole(|registry| {
            close(registry, genesis, own.as_ref())?;
            let id = genesis.id();
            let approvals = papers.approvals_of(&id).map(|approval| Paper::Approval(*approval));
            write(out, [Paper::Genesis(Box::new(genesis.clone()))].into_iter().chain(approvals))
        })?;
        document(Some(out), &papers, genesis, Some(&registry))
    });
    match closed {
        Ok(document) => print(common, &document),
        Err(why) => {
            log_refused(&registry, &[], &why)?;
            Err(why)
        }
    }
}

async fn activate(common: &Common, file: PathBuf, proposing: &Proposing, wait: &Wait) -> Result<(), Error> {
    let papers = Papers::read(&[file])?;
    let genesis = founded(&papers)?;
    let registry = open(common)?;
    let claimed = paired(&registry, genesis)?.len();
    if claimed < usize::from(genesis.activate) {
        return Err(Error::new(
            Exit::Unapproved,
            format!(
                "{claimed} of {} nodes are claimed, and the fleet {} is activated with {}: claim more",
                genesis.members.len(),
                genesis.name,
                genesis.activate
            ),
        ));
    }
    let rules = genesis.rules.iter().copied().collect();
    policy::set(common, Some(rules), None, proposing, &InFleet { fleet: genesis.name.clone() }, wait).await
}

fn document(
    path: Option<&Path>,
    papers: &Papers,
    genesis: &Genesis,
    registry: Option<&Registry>,
) -> Result<Founding, Error> {
    let paired = registry.map_or(Ok(BTreeSet::new()), |registry| paired(registry, genesis))?;
    Ok(Founding::new(path, genesis, &genesis.accepted(papers), &paired))
}
