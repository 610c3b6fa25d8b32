//! `backup`, `restore`.

use std::path::Path;

use super::common::{Common, key_path, no_registry, print, registry_path};
use crate::{
    base::{
        backup::Backup,
        error::{Error, Exit},
        files,
        host::{self, Host, System},
        key::KeyFile,
        mesh_key::{MeshKey, TEXT},
    },
    mesh::run_files::{Condition, Paths},
    output::{self, BackedUp, Part},
    registry::{FromBackup, Registry, Restored},
};

/// No key file is longer.
const KEY_LIMIT: usize = 4096;

pub fn backup(common: &Common, file: &Path, force: bool) -> Result<(), Error> {
    let (path, key) = (registry_path(common)?, key_path(common)?);
    let mut registry = Registry::open_existing(&path)?.ok_or_else(|| no_registry(&path))?;
    // One that is not the registry's would be of no use.
    let mesh_key = match registry.mesh_key()? {
        Some(_) => Some(files::read_private(&MeshKey::path(&path), "mesh key", TEXT + 5)?),
        None => None,
    };
    let key = if files::is_there(&key) {
        KeyFile::load(&key)?;
        Some(files::read_private(&key, "key file", KEY_LIMIT)?)
    } else {
        None
    };
    let (has_mesh_key, has_key) = (mesh_key.is_some(), key.is_some());
    let made_ms = System.now_ms();
    let log = registry.audit_head()?.into();
    Backup { made_ms, registry: registry.copy()?, mesh_key, key }.write(file, force)?;
    let nodes = registry.nodes()?.len();
    print(
        common,
        &BackedUp { path: file.display().to_string(), made_ms, nodes, mesh_key: has_mesh_key, key: has_key, log },
    )
}

pub fn restore(common: &Common, file: &Path) -> Result<(), Error> {
    let (path, key_path) = (registry_path(common)?, key_path(common)?);
    let backup = Backup::read(file)?;
    if Paths::beside(&path).condition().is_ok_and(|condition| condition == Condition::Up) {
        return Err(Error::network("the mesh is up: `os-network-admin mesh down` first; nothing was restored"));
    }
    let key = part(&key_path, "key file", KEY_LIMIT, backup.key.as_ref().map(|key| &key[..]), |bytes| {
        let parsed = files::text(bytes).map_err(Into::into).and_then(KeyFile::parse);
        parsed.ok().map(|file| [file.public().sign, file.public().dh].concat())
    })?;
    let mesh_path = MeshKey::path(&path);
    let public = |bytes: &[u8]| MeshKey::parse(bytes).map(|key| key.public().to_vec());
    let mesh_key = part(&mesh_path, "mesh key", TEXT + 5, backup.mesh_key.as_ref().map(|key| &key[..]), public)?;
    files::make_parent(&path)?;
    let copy = FromBackup::open(&path, &backup.registry, host::system())?;
    let own = backup.mesh_key.as_ref().and_then(|bytes| public(bytes));
    if copy.registry().authorities()?.iter().any(|named| own.as_deref() != Some(&named[..])) {
        return Err(Error::input(format!(
            "the backup {} has not the mesh key that its registry names",
            file.display()
        )));
    }
    copy.check(&path)?;
    // Whatever ends this now, the same again goes on: what is there is the backup's.
    for (part, to, what, bytes) in
        [(key, &key_path, "key file", &backup.key), (mesh_key, &mesh_path, "mesh key", &backup.mesh_key)]
    {
        if let (Part::Restored, Some(bytes)) = (part, bytes) {
            files::make_parent(to)?;
            files::create_private(to, what, bytes)?;
        }
    }
    let restored = copy.restore(&path)?;
    let check = match restored {
        Restored::Made => output::Restored::lost(),
        Restored::Merged { higher, log } => output::Restored::kept(higher, &log),
    };
    let registry = if restored == Restored::Made { Part::Restored } else { Part::Merged };
    print(common, &output::Restored { made_ms: backup.made_ms, registry, mesh_key, key, check })
}

/// What is to be done with a file that the backup may have. What is there is another's only if it says another key.
fn part(
    path: &Path,
    what: &str,
    limit: usize,
    backed_up: Option<&[u8]>,
    public: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Part, Error> {
    let Some(backed_up) = backed_up else { return Ok(Part::None) };
    let named = public(backed_up).ok_or_else(|| Error::input(format!("the backup's {what} cannot be read")))?;
    if !files::is_there(path) {
        return Ok(Part::Restored);
    }
    let there = files::read_private(path, what, limit)?;
    if public(&there).as_deref() == Some(&named[..]) {
        return Ok(Part::Kept);
    }
    let path = path.display();
    Err(Error::new(
        Exit::Input,
        format!("the {what} {path} is not the backup's: nothing was restored; name another place, or move {path} away"),
    ))
}
