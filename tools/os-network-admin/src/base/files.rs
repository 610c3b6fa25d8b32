//! Files that hold secrets, and files that are whole or not there.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use super::error::{Error, Exit};

/// Bytes that are wiped when dropped.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Reads at most `limit` bytes of a file that nobody else may read. A pipe has no such mode and is taken.
pub fn read_private(path: &Path, what: &str, limit: usize) -> Result<SecretBytes, Error> {
    let mut file = open(path, what)?;
    let meta = file.metadata().map_err(|error| unreadable(path, what, &error))?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(Error::input(format!(
            "the {what} {} can be read by others (mode {:03o}); if they cannot have read it, run: chmod 600 {}",
            path.display(),
            meta.mode() & 0o777,
            path.display()
        )));
    }
    read_to_limit(&mut file, path, what, limit)
}

/// Reads at most `limit` bytes of any file; `-` is standard input.
pub fn read(path: &Path, what: &str, limit: usize) -> Result<SecretBytes, Error> {
    if path == Path::new("-") {
        return read_to_limit(&mut io::stdin().lock(), path, what, limit);
    }
    read_to_limit(&mut open(path, what)?, path, what, limit)
}

fn open(path: &Path, what: &str) -> Result<File, Error> {
    File::open(path).map_err(|error| unreadable(path, what, &error))
}

fn unreadable(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::input(format!("cannot read the {what} {}: {error}", path.display()))
}

fn read_to_limit(from: &mut impl Read, path: &Path, what: &str, limit: usize) -> Result<SecretBytes, Error> {
    // Allocated once, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut length = 0;
    while length <= limit {
        match from.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(path, what, &error)),
        }
    }
    if length > limit {
        return Err(Error::input(format!("the {what} {} is longer than {limit} bytes", path.display())));
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Makes the directory of a file, for its owner only, if it is not there.
pub fn make_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = parent(path) else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|error| Error::new(Exit::Other, format!("cannot make the directory {}: {error}", parent.display())))
}

/// Writes a new file, mode 0600, durably and whole. Never overwrites.
pub fn create_private(path: &Path, what: &str, bytes: &[u8]) -> Result<(), Error> {
    let written = write_beside(path, bytes, 0o600).and_then(|file| file.persist_noclobber(path).map_err(|e| e.error));
    match written.and_then(|_| sync_parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path, what)),
        result => result.map_err(|error| unwritable(path, what, &error)),
    }
}

/// Writes a file that everybody may read, durably and whole, in place of what is there.
pub fn replace_public(path: &Path, what: &str, bytes: &[u8]) -> Result<(), Error> {
    write_beside(path, bytes, 0o644)
        .and_then(|file| file.persist(path).map_err(|e| e.error))
        .and_then(|_| sync_parent(path))
        .map_err(|error| unwritable(path, what, &error))
}

/// The refusal to overwrite.
pub fn exists(path: &Path, what: &str) -> Error {
    Error::input(format!("{} exists and is not overwritten: name another {what}, or move it away", path.display()))
}

fn unwritable(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::new(Exit::Other, format!("cannot write the {what} {}: {error}; nothing was written", path.display()))
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let directory = parent(path).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".os-network-admin-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path).unwrap_or(Path::new(".")))?.sync_all()
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// Whether anything has this name, a dangling link too.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
