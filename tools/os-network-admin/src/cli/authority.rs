//! `authority`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ::policy::Endpoint;
use clap::{Args, Subcommand};
use wire::{U16, set::Authority};

use super::{
    approve::{Approving, Signing, approve, free, promise, write},
    common::{Common, InFleet, Wait, key_path, open, optional, passphrase, print, registry_path, unlock, view},
    interrupt::{Interrupt, Interruptible},
};
use crate::{
    base::{
        error::{Error, Exit},
        input,
        key::KeyFile,
        paper::{Card, Change, Paper, Papers},
    },
    fleet::{
        View,
        authority::{self, Wish},
        chain::Chain,
        papers::{log_approved, log_refused, told},
        show,
    },
    mesh::control::DaemonLane,
    output::{AuthorityKey, Failure, Records, SetPushed, SetRecord},
    registry::{Fleet, Kind, Registry},
};

#[derive(Subcommand)]
pub enum AuthorityVerb {
    /// Write your public keys, and where you are to be in the mesh, for those who propose you
    Key {
        /// Where nodes reach this host's end of the mesh; without it they wait until it speaks
        #[arg(long, value_name = "[IP]:PORT", value_parser = input::endpoint)]
        endpoint: Option<Endpoint>,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the proposal of a record: another set is to own the fleet
    Propose(Box<ProposeArguments>),
    /// Write the proposal of a record that removes yourself, with your own approval
    Resign {
        /// How many of the others must sign from then on; the smallest majority, if it is not said
        #[arg(long, value_name = "M")]
        needed: Option<u8>,
        #[command(flatten)]
        fleet: InFleet,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Approve it: shows it, asks, and writes the approval into a file of its own; of one number you approve one
    Approve(Signing),
    /// What a record changes, who has approved it, and which nodes have it
    Show {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Have all nodes walk to the last set; a node that was away is told every step
    Push {
        /// A proposal and its approvals; what was pushed before is here
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Which set nodes have proved, whose those are that have another, and forks; exit code 13 if there is one
    Status {
        /// Anchor of an image: how many of its signers have left the set; repeatable
        #[arg(long, value_name = "ANCHOR.bin")]
        image: Vec<PathBuf>,
        #[command(flatten)]
        fleet: InFleet,
    },
}

#[derive(Args)]
pub struct ProposeArguments {
    /// Who is new: a file of `authority key`, or without a place in the mesh a public key or its anchor.bin; repeatable
    #[arg(long, value_name = "KEYFILE")]
    add: Vec<String>,
    /// Who leaves: its fingerprint or Ed25519 key, or the beginning of one; repeatable
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Who cannot sign any more, such as one whose key is lost; repeatable
    #[arg(long, value_name = "NAME")]
    lost: Vec<String>,
    /// How many must sign from then on; the smallest majority, if it is not said
    #[arg(long, value_name = "M")]
    needed: Option<u8>,
    #[command(flatten)]
    fleet: InFleet,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub async fn run(common: &Common, verb: AuthorityVerb) -> Result<(), Error> {
    match verb {
        AuthorityVerb::Key { endpoint, out } => key(common, endpoint, &out),
        AuthorityVerb::Propose(arguments) => propose(common, &arguments),
        AuthorityVerb::Resign { needed, fleet, out } => resign(common, needed, &fleet, &out),
        AuthorityVerb::Approve(signing) => {
            let about = Approving {
                which: |papers| papers.records.iter().map(|one| Paper::Record(Box::new(one.clone()))).collect(),
                none: "there is no authority record in these files that could be approved",
                differences,
                durable: true,
            };
            let (papers, registry) = approve(common, &signing, &about)?;
            print(common, &document(Some(&signing.out), &papers, registry.as_ref())?)
        }
        AuthorityVerb::Show { files } => {
            print(common, &document(None, &Papers::read(&files)?, optional(common)?.as_ref())?)
        }
        AuthorityVerb::Push { files, fleet, wait } => push(common, &files, &fleet, &wait).await,
        AuthorityVerb::Status { image, fleet } => {
            let anchors = image.iter().map(|path| Ok((path.as_path(), input::anchor(path)?)));
            let anchors = anchors.collect::<Result<Vec<_>, Error>>()?;
            let registry = open(common)?;
            let view = view(common, &registry, &fleet)?;
            let mut status = authority::status(&view)?;
            status.images = authority::images(&view, &anchors)?;
            print(common, &status)?;
            if status.forks.is_empty() {
                return Ok(());
            }
            let message = if status.forks.iter().all(|fork| fork.both.is_empty()) {
                "nodes have signed for records that are not here, in place of those that are"
            } else {
                "there are two records of one set: more authorities lie than the set bears"
            };
            Err(Error { told: common.json, ..Error::new(Exit::Doubted, message) })
        }
    }
}

fn key(common: &Common, endpoint: Option<Endpoint>, out: &Path) -> Result<(), Error> {
    let own = KeyFile::load(&key_path(common)?)?.public();
    free(out)?;
    let registry = Registry::open(&registry_path(common)?)?;
    let mut one = Authority { mesh: registry.make_mesh_key()?.public(), ..Authority::signer(&own) };
    if let Some(Endpoint { ip, port }) = endpoint {
        (one.endpoint, one.port) = (ip, U16::new(port));
    }
    let named = (&one).into();
    write(out, [Paper::Authority(Box::new(Card(one)))])?;
    print(common, &AuthorityKey { path: out.display().to_string(), authority: named })
}

/// One who is to be an authority, with an address in the mesh if he is to have a place there.
fn newcomer(registry: &Registry, fleet: &Fleet, text: &str) -> Result<Authority, Error> {
    let Ok(papers) = Papers::read(&[PathBuf::from(text)]) else { return input::authority(text) };
    let [Card(one)] = papers.authorities.as_slice() else {
        return Err(Error::input(format!("{text} is no file of `os-network-admin authority key`")));
    };
    let mut one = *one;
    if one.mesh != [0; 32] {
        one.inner = fleet.addresses(registry.promise(fleet, &one.sign)?).1.octets();
    }
    Ok(one)
}

fn propose(common: &Common, arguments: &ProposeArguments) -> Result<(), Error> {
    free(&arguments.out)?;
    let registry = open(common)?;
    let view = view(common, &registry, &arguments.fleet)?;
    let made = registry.whole(|registry| {
        let head = Chain::of(registry, &view.fleet.id)?.head()?.set;
        let places = |names: &[String]| names.iter().map(|name| authority::find(&head, name)).collect::<Result<_, _>>();
        let add = arguments.add.iter().map(|text| newcomer(registry, &view.fleet, text)).collect::<Result<_, _>>()?;
        let (remove, lost) = (places(&arguments.remove)?, places(&arguments.lost)?);
        let change = authority::propose(&view, &Wish { add, remove, lost, needed: arguments.needed })?;
        let paper = Paper::Record(Box::new(change.clone()));
        registry.log(told(Kind::Proposed, &paper))?;
        write(&arguments.out, [paper])?;
        Ok(Papers { records: vec![change], ..Papers::default() })
    });
    proposed(common, &registry, &arguments.out, made)
}

fn proposed(common: &Common, registry: &Registry, out: &Path, made: Result<Papers, Error>) -> Result<(), Error> {
    match made {
        Ok(papers) => print(common, &document(Some(out), &papers, Some(registry))?),
        Err(why) => {
            log_refused(registry, &[], &why)?;
            Err(why)
        }
    }
}

fn resign(common: &Common, needed: Option<u8>, fleet: &InFleet, out: &Path) -> Result<(), Error> {
    free(out)?;
    let key = KeyFile::load(&key_path(common)?)?;
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let own = key.public();
    let made = || {
        let head = Chain::of(&registry, &view.fleet.id)?.head()?.set;
        let place = head.places().iter().position(|one| (one.sign, one.dh) == (own.sign, own.dh));
        let place = place.ok_or_else(|| Error::input("your key is no authority of the set that is in force"))?;
        authority::propose(&view, &Wish { remove: vec![place], needed, ..Wish::default() })
    };
    let made = made().and_then(|change| {
        let signer = std::sync::Arc::new(key.unlock(&passphrase(common, false)?)?);
        registry.sign_with(&signer);
        let paper = Paper::Record(Box::new(change.clone()));
        let approval = paper.approve(&signer).ok_or_else(|| Error::input("your key is no authority of it"))?;
        registry.whole(|registry| {
            promise(registry, &own.sign, &paper)?;
            registry.log(told(Kind::Proposed, &paper))?;
            log_approved(registry, &paper, &approval)?;
            write(out, [paper, Paper::Approval(approval)])
        })?;
        Ok(Papers { records: vec![change], approvals: vec![approval], ..Papers::default() })
    });
    proposed(common, &registry, out, made)
}

fn differences(registry: &Registry, paper: &Paper) -> Result<Vec<String>, Error> {
    match paper {
        Paper::Record(change) => of_change(registry, change),
        _ => Ok(Vec::new()),
    }
}

fn of_change(registry: &Registry, change: &Change) -> Result<Vec<String>, Error> {
    match registry.fleet(&change.record.fleet)? {
        Some(fleet) => authority::differences(&View { registry, fleet }, change),
        None => Ok(vec!["this registry has nothing of the fleet in force".into()]),
    }
}

fn document(path: Option<&Path>, papers: &Papers, registry: Option<&Registry>) -> Result<Records, Error> {
    let records = papers.records.iter().map(|change| {
        let (mut differences, mut having) = (Vec::new(), (0, 0));
        if let Some(registry) = registry {
            differences = of_change(registry, change)?;
            if let Some(fleet) = registry.fleet(&change.record.fleet)? {
                let chain = Chain::of(registry, &fleet.id)?;
                let sequence = change.record.sequence.get();
                having = authority::having(&View { registry, fleet }, &chain, sequence)?;
            }
        }
        Ok(SetRecord::new(change, &change.standing(papers), differences, having))
    });
    Ok(Records::new(path, records.collect::<Result<_, Error>>()?))
}

async fn push(common: &Common, files: &[PathBuf], fleet: &InFleet, wait: &Wait) -> Result<(), Error> {
    let registry = open(common)?;
    let papers = Papers::read(files)?;
    let named = papers.records.first().map(|change| registry.fleet(&change.record.fleet)).transpose()?.flatten();
    let view = match named {
        Some(fleet) => View { registry: &registry, fleet },
        None => view(common, &registry, fleet)?,
    };
    if let Err(why) = authority::adopt(&view, &papers) {
        log_refused(&registry, &[], &why)?;
        return Err(why);
    }
    let signer = unlock(common, &registry)?;
    let members = view.live()?.into_iter().map(|node| node.member).collect();
    let lane = DaemonLane::connect(&registry_path(common)?).await?;
    let mut mesh = Interruptible { lane, interrupt: Interrupt::watch()? };
    let account = authority::push(&mut mesh, &view, &signer, members, Duration::from_secs(wait.wait)).await?;
    let error = account.error();
    let chain = Chain::of(&registry, &view.fleet.id)?;
    let set = chain.head()?.sequence;
    let (has, of) = authority::having(&view, &chain, set)?;
    let nodes = account.entries.iter().map(show::told).collect();
    print(common, &SetPushed { set, has, of, nodes, error: error.as_ref().map(Failure::from) })?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}
