//! `init`, `anchor`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use crypto::{AnchorPublic, AnchorSecret};
use wire::anchor::{AnchorFile, AnchorIn};
use zerocopy::IntoBytes;

use super::common::{Common, key_path, optional, passphrase, print};
use crate::{
    base::{
        error::Error,
        files,
        guard::Locked,
        input,
        key::{self, Cost, KeyFile},
    },
    output,
    registry::{Event, Kind, Tag},
};

pub fn init(common: &Common, seed_file: Option<&Path>) -> Result<(), Error> {
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
    let public = file.public();
    match optional(common)? {
        Some(registry) => {
            registry.sign_with(&Arc::new(Locked::new(AnchorSecret::from_seed(&seed))));
            registry.whole(|registry| {
                registry.log(Event::new(Kind::KeyMade).bytes(Tag::Key, &public.sign))?;
                file.store(&path)
            })?;
        }
        None => file.store(&path)?,
    }
    let advice = "copy this file to a safe place, and the registry beside it once nodes are claimed: without the file and its \
                  passphrase nobody can claim nodes or tell yours anything, and nothing brings it back";
    print(common, &output::KeyFile { backup: Some(advice), ..document("key", &path, &public) })
}

#[derive(Args)]
pub struct AnchorArguments {
    /// File to write, usually anchor.bin
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Who must sign for a node's first owners, beside this key, which then only finds nodes: a public key as `init` prints it,
    /// or its anchor.bin. Name this key's own too if it is to be one of them
    #[arg(long, value_name = "PUBKEY")]
    pub authority: Vec<String>,
    /// How many of them must sign, more than half; the smallest such number if it is not given
    #[arg(long, value_name = "M", requires = "authority")]
    pub needed: Option<u8>,
}

pub fn anchor(common: &Common, arguments: &AnchorArguments) -> Result<(), Error> {
    let out = arguments.out.as_path();
    let public = KeyFile::load(&key_path(common)?)?.public();
    let is_anchor = |there: &[u8]| matches!(AnchorFile::read_file(there), AnchorIn::Some(_));
    let bytes = if arguments.authority.is_empty() {
        AnchorFile::first(&public).to_vec()
    } else {
        let anchor = input::signers(&public, &arguments.authority, arguments.needed)?;
        AnchorFile::new(&anchor).as_bytes().to_vec()
    };
    let write = || files::replace_public(out, "anchor", &bytes, is_anchor);
    match optional(common)? {
        Some(registry) => registry.whole(|registry| {
            registry.log(Event::new(Kind::AnchorWritten).bytes(Tag::Key, &public.sign))?;
            write()
        })?,
        None => write()?,
    }
    print(common, &document("anchor", out, &public))
}

fn document(what: &'static str, path: &Path, anchor: &AnchorPublic) -> output::KeyFile {
    output::KeyFile {
        what,
        backup: None,
        path: path.display().to_string(),
        fingerprint: key::fingerprint(anchor).to_string(),
        public_key: key::public_text(anchor),
    }
}
