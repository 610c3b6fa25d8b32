//! `fleet export`, `fleet import`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    approve::{free, write},
    common::{Common, InFleet, confirm, key_path, open, passphrase, print, registry_path, view},
};
use crate::{
    base::{
        error::{Error, Exit},
        key::KeyFile,
        paper::{Paper, Papers},
    },
    fleet::{
        papers::{log_refused, told},
        share::{self, Own},
    },
    output::{Failure, HandedOn},
    registry::{Kind, Registry},
};

#[derive(Args)]
pub struct ImportArguments {
    /// File of `fleet export`; - is standard input
    file: PathBuf,
    /// Genesis of the fleet, which it must be; without it, that its nodes are the fleet's is the word of whoever exported it
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

pub fn export(common: &Common, out: &Path, fleet: &InFleet) -> Result<(), Error> {
    let key = KeyFile::load(&key_path(common)?)?;
    free(out)?;
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let export = share::export(&view, registry.now_ms())?;
    let signer = Arc::new(key.unlock(&passphrase(common, false)?)?);
    let approval = export.approve(&signer).ok_or_else(|| {
        Error::input(format!(
            "your key is and was no authority of the fleet {}: nobody would take it over",
            export.fleet
        ))
    })?;
    registry.sign_with(&signer);
    let document = HandedOn::new(out, &export);
    let paper = Paper::Export(Box::new(export));
    registry.whole(|registry| {
        registry.log(told(Kind::HandedOn, &paper))?;
        write(out, [paper, Paper::Approval(approval)])
    })?;
    print(common, &document)
}

pub fn import(common: &Common, ImportArguments { file, genesis, yes }: &ImportArguments) -> Result<(), Error> {
    let own = KeyFile::load(&key_path(common)?)?.public();
    let files: Vec<PathBuf> = [file].into_iter().chain(genesis).cloned().collect();
    let registry = Registry::open(&registry_path(common)?)?;
    let mesh = registry.mesh_key()?.map(|key| key.public());
    let own = Own { key: &own, mesh, interface: common.interface.as_deref() };
    let taken = Papers::read(&files).and_then(|papers| {
        let (export, _) = share::checked(&papers, &own)?;
        confirm(*yes, &Paper::Export(Box::new(export.clone())).text(), "take it over")?;
        share::import(&registry, &papers, &own)
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(why) => {
            log_refused(&registry, &[], &why)?;
            return Err(why);
        }
    };
    let error = match taken.kept() {
        0 => None,
        kept => Some(Error::new(
            Exit::Input,
            format!("{kept} of {} nodes are otherwise here, and stay so: see why at each", taken.nodes.len()),
        )),
    };
    taken.error = error.as_ref().map(Failure::from);
    print(common, &taken)?;
    error.map_or(Ok(()), |error| Err(Error { told: common.json, ..error }))
}
