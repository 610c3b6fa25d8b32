//! The file that stands for a node's flash.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, MemfdFlags, flock, memfd_create},
    io::Errno,
};

/// As on the boards.
pub const ERASE_BLOCK: usize = 256 << 10;
/// Bytes of the flash, and so of its file.
pub const SIZE: usize = calls::store::BLOCKS * ERASE_BLOCK;

/// How long the processes of a runner that was killed may take to end: until then they have the file.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(5);

/// A flash that is new, and is forgotten when nobody has it any more.
pub fn anonymous() -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("flash", MemfdFlags::CLOEXEC)?);
    erase_rest(&mut file)?;
    Ok(file.into())
}

/// A flash in a file of this user's, which nobody else has meanwhile; where there is no file, a new one.
pub fn open(path: &Path) -> io::Result<File> {
    open_within(path, PATIENCE)
}

fn open_within(path: &Path, patience: Duration) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let deadline = Instant::now() + patience;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK {
            return Err(error.into());
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other("this flash is another node's that runs; each has one of its own"));
        }
        thread::sleep(AGAIN);
    }
    erase_rest(&mut file)?;
    Ok(file)
}

/// Makes a flash of a file that has none of it yet, or, if that was cut off, only erased bytes.
fn erase_rest(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == SIZE as u64 {
        return Ok(());
    }
    let mut stands = Vec::new();
    file.take(SIZE as u64 + 1).read_to_end(&mut stands)?;
    if stands.len() >= SIZE || stands.iter().any(|byte| *byte != 0xff) {
        let text = format!("no flash: a file of {length} bytes, not {SIZE}; nothing was changed, name another file");
        return Err(io::Error::other(text));
    }
    file.write_all(&vec![0xff; SIZE - stands.len()])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_no_flash_stays_as_it_is_and_one_that_was_cut_off_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flash");
        for (before, good) in [
            (vec![], true),
            (vec![0xff; 100], true),
            (vec![0; SIZE], true),
            (vec![0; 100], false),
            (vec![0xff; SIZE + 1], false),
        ] {
            fs::write(&path, &before).unwrap();
            let opened = open(&path);
            assert_eq!(opened.is_ok(), good, "{}", before.len());
            let mut after = before;
            if good {
                after.resize(SIZE, 0xff);
            }
            assert!(fs::read(&path).unwrap() == after);
        }
    }

    #[test]
    fn a_flash_has_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flash");
        let first = open(&path).unwrap();
        let error = open_within(&path, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("another node's"), "{error}");
        // As soon as it is free it can be had.
        let waits = thread::spawn(move || open(&path).is_ok());
        drop(first);
        assert!(waits.join().unwrap());
    }
}
