//! `init`, `anchor`.

use std::path::Path;

use crypto::AnchorPublic;
use wire::anchor::{AnchorFile, AnchorIn};
use zerocopy::{FromBytes, IntoBytes};

use super::common::{Common, key_path, passphrase, print};
use crate::{
    base::{
        error::Error,
        files,
        key::{self, Cost, KeyFile},
    },
    output,
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
    file.store(&path)?;
    let public = file.public();
    let advice = "copy this file to a safe place, and the registry beside it once nodes are claimed: without the file and its \
                  passphrase nobody can claim nodes or tell yours anything, and nothing brings it back";
    print(common, &output::KeyFile { backup: Some(advice), ..document("key", &path, &public) })
}

pub fn anchor(common: &Common, out: &Path) -> Result<(), Error> {
    let public = KeyFile::load(&key_path(common)?)?.public();
    let is_anchor =
        |there: &[u8]| AnchorFile::read_from_bytes(there).is_ok_and(|there| matches!(there.read(), AnchorIn::Some(_)));
    files::replace_public(out, "anchor", AnchorFile::new(&public).as_bytes(), is_anchor)?;
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
