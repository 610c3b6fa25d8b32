//! Files that hold secrets, and files that are whole or not there.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use super::error::{Error, Exit};

/// Bytes that are wiped when dropped.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Reads at most `limit` bytes of a file that nobody else may read; `-` is standard input. A pipe has no such mode and is taken.
pub fn read_private(path: &Path, what: &str, limit: usize) -> Result<SecretBytes, Error> {
    if path == Path::new("-") {
        return read(path, what, limit);
    }
    let mut file = open(path, what)?;
    let meta = file.metadata().map_err(|error| unreadable(path, what, &error))?;
    if let Some(why) = exposed(&meta, path) {
        return Err(Error::input(format!("the {what} {} {why}", path.display())));
    }
    read_to_limit(&mut file, path, what, limit)
}

/// Why a file is not the user's alone, and what to do.
pub fn exposed(meta: &Metadata, path: &Path) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    if meta.is_file() { exposed_as(meta.mode(), meta.uid(), own, path) } else { None }
}

fn exposed_as(mode: u32, owner: u32, own: u32, path: &Path) -> Option<String> {
    let path = path.display();
    // What root has is no less the user's for it.
    if owner != own && owner != 0 {
        return Some(format!(
            "belongs to another user ({owner}, and you are {own}): use it as that user, or make it yours, chown {own} {path}"
        ));
    }
    let (can, have) = match (mode & 0o044 != 0, mode & 0o022 != 0) {
        _ if mode & 0o077 == 0 => return None,
        (_, false) => ("read", "cannot have read it"),
        (false, true) => ("changed", "have not changed it"),
        (true, true) => ("read and changed", "have done neither"),
    };
    Some(format!("can be {can} by others (mode {:03o}); if they {have}, run: chmod 600 {path}", mode & 0o777))
}

/// Text as its author meant it: without the mark that some editors put before it.
pub fn text(bytes: &[u8]) -> Result<&[u8], &'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(text),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err("is text in UTF-16: save it as UTF-8"),
        text => Ok(text),
    }
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

/// The same in place of a file that begins like this; of what else is there nothing is changed.
pub fn replace_private(path: &Path, what: &str, bytes: &[u8], begins: &[u8]) -> Result<(), Error> {
    replace(path, what, bytes, 0o600, |path| {
        let mut there = vec![0; begins.len()];
        let read = OpenOptions::new().read(true).custom_flags(NO_LINK).open(path)?.read_exact(&mut there);
        Ok(read.is_ok() && there == begins)
    })
}

/// Writes a file that everybody may read, durably and whole. What is there is replaced only if it is such a file too.
pub fn replace_public(path: &Path, what: &str, bytes: &[u8], is_such: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
    replace(path, what, bytes, 0o644, |path| {
        Ok(is_such(&read_to_limit(&mut File::open(path)?, path, what, bytes.len()).unwrap_or_default()))
    })
}

fn replace(
    path: &Path,
    what: &str,
    bytes: &[u8],
    mode: u32,
    is_such: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), Error> {
    let replaced = || {
        let is_file = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found?.is_file(),
        };
        if is_file && is_such(path)? { Ok(true) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    };
    let written = replaced().and_then(|replaced| {
        let file = write_beside(path, bytes, mode)?;
        let kept = if replaced { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map_err(|e| e.error)
    });
    match written.and_then(|_| sync_parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path, what)),
        result => result.map_err(|error| unwritable(path, what, &error)),
    }
}

/// Opens a log anew, for its owner only: neither a link nor what somebody else has put there.
pub fn open_log(path: &Path) -> Result<File, Error> {
    let open = || {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).mode(0o600).custom_flags(NO_LINK).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is no file of yours"));
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
        Ok(file)
    };
    open().map_err(|error| {
        Error::new(Exit::Other, format!("the log {} cannot be written: {error}; move it away", path.display()))
    })
}

/// Opens no symbolic link.
pub const NO_LINK: i32 = nix::libc::O_NOFOLLOW;

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_the_users_alone_or_it_is_said_why_not() {
        let (path, own) = (Path::new("f"), 1000);
        let why = |mode, owner| exposed_as(mode, owner, own, path);
        assert_eq!([why(0o100_600, own), why(0o400, own), why(0o600, 0)], [None, None, None]);
        for (mode, expected) in [
            (0o644, "can be read by others (mode 644); if they cannot have read it, run: chmod 600 f"),
            (0o640, "can be read by others"),
            (0o602, "can be changed by others (mode 602); if they have not changed it, run: chmod 600 f"),
            (0o666, "can be read and changed by others (mode 666); if they have done neither"),
            (0o611, "can be read by others"),
        ] {
            assert!(why(mode, own).unwrap().contains(expected), "{mode:o}");
        }
        assert!(why(0o600, 1001).unwrap().contains("belongs to another user (1001, and you are 1000)"));
        assert!(exposed_as(0o600, 1001, 0, path).unwrap().contains("chown 0 f"));
    }

    #[test]
    fn only_a_file_of_the_same_kind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let write = |bytes: &[u8]| replace_public(&path, "thing", bytes, |there| there.starts_with(b"thing"));
        write(b"thing 1").unwrap();
        write(b"thing 2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"thing 2");
        for other in [&b"other"[..], b"", b"thing that is longer"] {
            fs::write(&path, other).unwrap();
            assert!(write(b"thing 3").unwrap_err().message.contains("is not overwritten"));
            assert_eq!(fs::read(&path).unwrap(), other);
        }
        fs::remove_file(&path).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        for there in [true, false] {
            if there {
                fs::write(&elsewhere, "thing 0").unwrap();
            }
            symlink(&elsewhere, &path).unwrap();
            assert!(write(b"thing 4").is_err());
            fs::remove_file(&path).unwrap();
            assert_eq!(fs::read(&elsewhere).ok(), there.then(|| b"thing 0".to_vec()));
            let _ = fs::remove_file(&elsewhere);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a temporary file was left");
    }

    #[test]
    fn a_log_is_the_owners_and_goes_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("log"), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(open_log(&path).is_err());
        assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        // One of before, or made under another umask.
        fs::write(&path, "old words").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        open_log(&path).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_editors_mark_is_no_part_of_a_text() {
        assert_eq!(text(b"\xef\xbb\xbfhello"), Ok(&b"hello"[..]));
        assert_eq!(text(b"hello"), Ok(&b"hello"[..]));
        for utf16 in [&b"\xff\xfeh\0"[..], b"\xfe\xff\0h"] {
            assert!(text(utf16).unwrap_err().contains("UTF-8"));
        }
    }
}
