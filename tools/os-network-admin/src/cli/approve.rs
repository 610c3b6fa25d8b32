//! What `warrant sign` and `fleet accept` share: papers are shown, a person is asked, and his approvals are written.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use wire::{Hex, Key};

use super::common::{Common, confirm, key_path, optional, passphrase, registry_path};
use crate::{
    base::{
        error::Error,
        files,
        host::{Host, System},
        key::KeyFile,
        paper::{Paper, Papers},
    },
    fleet::papers::{log_approved, log_refused},
    registry::Registry,
};

/// What is signed, and where to.
#[derive(Args)]
pub struct Signing {
    /// Files with proposals; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

/// Which papers are meant, and what else there is to say of one: a line each.
pub struct Approving<'a> {
    pub which: fn(&Papers) -> Vec<Paper>,
    pub none: &'a str,
    pub differences: fn(&Registry, &Paper) -> Result<Vec<String>, Error>,
    /// What was approved is remembered for good: there must be a registry for it.
    pub durable: bool,
}

/// Everything that was read, the new approvals among it.
pub fn approve(
    common: &Common,
    Signing { files, out, yes }: &Signing,
    about: &Approving<'_>,
) -> Result<(Papers, Option<Registry>), Error> {
    let key = KeyFile::load(&key_path(common)?)?;
    free(out)?;
    let registry = if about.durable { Some(Registry::open(&registry_path(common)?)?) } else { optional(common)? };
    let (mut all, mut papers) = (Papers::default(), Vec::new());
    let approved = (|| {
        all = Papers::read(files)?;
        papers = (about.which)(&all);
        if papers.is_empty() {
            return Err(Error::input(about.none));
        }
        let mut shown = String::new();
        for paper in &papers {
            paper.current(System.now_ms()).map_err(Error::input)?;
            if let Some(registry) = &registry {
                promised(registry, &key.public().sign, paper)?;
            }
            if !paper.is_signer(&key.public().sign) {
                let message =
                    format!("your key is none of those who must sign for {}: nothing was written", paper.about());
                return Err(Error::input(message));
            }
            shown += &paper.text();
            let differences = registry.as_ref().map(|registry| (about.differences)(registry, paper)).transpose()?;
            differences.unwrap_or_default().iter().for_each(|line| shown += &format!("             {line}\n"));
            paper.warning().iter().for_each(|warning| shown += &format!("warning      {warning}\n"));
            shown.push('\n');
        }
        let many = papers.len();
        confirm(
            *yes,
            &shown,
            &format!("approve {}", if many == 1 { "it".into() } else { format!("all {many} of them") }),
        )
    })();
    if let Err(why) = approved {
        if let Some(registry) = &registry {
            log_refused(registry, &papers, &why)?;
        }
        return Err(why);
    }
    let signer = Arc::new(key.unlock(&passphrase(common, false)?)?);
    let approve = |paper: &Paper| {
        let approval = paper.approve(&signer);
        approval.ok_or_else(|| {
            Error::input(format!("{} names your key with another half: nothing was written", paper.about()))
        })
    };
    let approvals = papers.iter().map(approve).collect::<Result<Vec<_>, _>>()?;
    let write = || write(out, approvals.iter().map(|approval| Paper::Approval(*approval)));
    match &registry {
        Some(registry) => {
            registry.sign_with(&signer);
            registry.whole(|registry| {
                for (paper, approval) in papers.iter().zip(&approvals) {
                    promise(registry, &approval.signer, paper)?;
                    log_approved(registry, paper, approval)?;
                }
                write()
            })?;
        }
        None => write()?,
    }
    all.approvals.extend(approvals);
    Ok((all, registry))
}

/// An error if this key has signed another record of the same sequence.
fn promised(registry: &Registry, signer: &Key, paper: &Paper) -> Result<(), Error> {
    registry.trial(|registry| promise(registry, signer, paper))
}

/// From now on this key signs no other record of this sequence.
pub fn promise(registry: &Registry, signer: &Key, paper: &Paper) -> Result<(), Error> {
    let Paper::Record(change) = paper else { return Ok(()) };
    registry.promise_record(signer, &change.record)?.map_err(|other| {
        Error::input(format!(
            "your key has approved another record for set {} of {}: {}, and this is {}. Of one number it approves one, so that \
             the fleet has one set: nothing was written",
            change.record.sequence,
            change.fleet,
            Hex(&other),
            Hex(&change.record.hash())
        ))
    })
}

/// Nothing that somebody may have signed is overwritten.
pub fn free(out: &Path) -> Result<(), Error> {
    if files::is_there(out) { Err(files::exists(out, "file")) } else { Ok(()) }
}

pub fn write(out: &Path, papers: impl IntoIterator<Item = Paper>) -> Result<(), Error> {
    let text: Vec<String> = papers.into_iter().map(|paper| paper.to_string()).collect();
    files::replace_public(out, "file", text.join("\n").as_bytes(), |_| false)
}
