//! `init`, `anchor`.

use std::{path::Path, sync::Arc};

use crypto::{AnchorPublic, AnchorSecret};
use wire::anchor::{AnchorFile, AnchorIn};
use zerocopy::{FromBytes, IntoBytes};

use super::common::{Common, key_path, passphrase, print, registry_path};
use crate::{
    base::{
        error::Error,
        files,
        guard::Locked,
        key::{self, Cost, KeyFile},
    },
    output,
    registry::{Event, Kind, Registry, Tag},
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
    match log(common)? {
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

pub fn anchor(common: &Common, out: &Path) -> Result<(), Error> {
    let public = KeyFile::load(&key_path(common)?)?.public();
    let is_anchor =
        |there: &[u8]| AnchorFile::read_from_bytes(there).is_ok_and(|there| matches!(there.read(), AnchorIn::Some(_)));
    let write = || files::replace_public(out, "anchor", AnchorFile::new(&public).as_bytes(), is_anchor);
    match log(common)? {
        Some(registry) => registry.whole(|registry| {
            registry.log(Event::new(Kind::AnchorWritten).bytes(Tag::Key, &public.sign))?;
            write()
        })?,
        None => write()?,
    }
    print(common, &document("anchor", out, &public))
}

/// The registry, if there is one: a log begins with it.
fn log(common: &Common) -> Result<Option<Registry>, Error> {
    // Without a home there is none.
    registry_path(common).map_or(Ok(None), |path| Registry::open_existing(&path))
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
