//! What a node is started with, on whatever it runs, and what of it outlasts its power.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use native::{flash, runner::Entropy};

/// Every node has all of it, native or on a board, and is switched on with it any number of times.
pub struct Boot {
    pub name: String,
    /// The text of the system description.
    pub description: String,
    /// For files of its own; readable for this user only.
    pub dir: PathBuf,
    /// Its own end of the cable, and the switch's.
    pub own: PathBuf,
    pub behind: PathBuf,
    pub device: Device,
    pub prefill: BTreeMap<String, Vec<u8>>,
    pub entropy: Entropy,
    /// The program in the workload's place.
    pub tenant: Option<String>,
    /// The domains whose program is the one with a fuse.
    pub faulty: Vec<String>,
    /// The image of a node on a board, once it is built.
    pub image: Option<PathBuf>,
}

/// The hardware.
pub struct Device {
    /// A directory, of which a board's machine has its flash.
    pub dir: PathBuf,
    pub mac: [u8; 6],
    pub secret: [u8; 32],
    /// A native node's. Whoever has the descriptor has the file for himself.
    pub flash: Option<OwnedFd>,
}

const SECRET: &str = "device-secret";
const MAC: &str = "mac";
const FLASH: &str = "flash";

impl Device {
    /// A new one, which is forgotten with its directory. A native flash is not even there.
    pub fn new(dir: PathBuf, secret: Option<[u8; 32]>, native: bool) -> Result<Self> {
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        let secret = secret.map_or_else(random, Ok)?;
        let flash = if native { Some(flash::anonymous().context("no memory for a flash")?) } else { None };
        Ok(Self { dir, mac: mac()?, secret, flash })
    }

    /// The one in a directory; what it lacks is made.
    pub fn kept(dir: PathBuf, native: bool) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let secret = kept(&dir.join(SECRET), random)?;
        let mac = kept(&dir.join(MAC), mac)?;
        let path = dir.join(FLASH);
        let flash = || flash::open(&path).with_context(|| path.display().to_string());
        let flash = if native { Some(flash()?.into()) } else { None };
        Ok(Self { dir, mac, secret, flash })
    }

    /// Takes away all that makes it this device: another is in its place when it is next switched on.
    pub fn wipe(&mut self) -> Result<()> {
        for name in [SECRET, FLASH] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| self.dir.join(name).display().to_string());
                }
                _ => {}
            }
        }
        let is_kept = self.dir.join(MAC).exists();
        self.secret = if is_kept { kept(&self.dir.join(SECRET), random)? } else { random()? };
        if self.flash.take().is_some() {
            let new = if is_kept { flash::open(&self.dir.join(FLASH)).map(Into::into) } else { flash::anonymous() };
            self.flash = Some(new.context("no new flash")?);
        }
        Ok(())
    }
}

/// The bytes in a file, or new ones that are there from now on.
fn kept<const N: usize>(path: &Path, new: impl FnOnce() -> Result<[u8; N]>) -> Result<[u8; N]> {
    match fs::read(path) {
        Ok(bytes) => {
            ensure!(bytes.len() == N, "{} has {} bytes, not {N}", path.display(), bytes.len());
            let mut array = [0; N];
            array.copy_from_slice(&bytes);
            Ok(array)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = new()?;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(&bytes)).with_context(|| path.display().to_string())?;
            Ok(bytes)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(bytes)
}

/// Locally administered, of one station.
fn mac() -> Result<[u8; 6]> {
    let mut mac = random::<6>()?;
    mac[0] = (mac[0] | 0x02) & 0xfe;
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    fn mark(device: &Device) -> File {
        File::from(device.flash.as_ref().unwrap().try_clone().unwrap())
    }

    #[test]
    fn a_device_that_is_kept_is_the_same_until_it_is_wiped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-1");
        let first = Device::kept(path.clone(), true).unwrap();
        mark(&first).write_all_at(b"it", 0).unwrap();
        let (mac, secret) = (first.mac, first.secret);
        // While one has it, no other does.
        drop(first);
        let mut second = Device::kept(path.clone(), true).unwrap();
        let mut bytes = [0; 2];
        mark(&second).read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((second.mac, second.secret, &bytes), (mac, secret, b"it"));
        second.wipe().unwrap();
        assert_ne!(second.secret, secret);
        let wiped = second.secret;
        drop(second);
        let third = Device::kept(path, true).unwrap();
        mark(&third).read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((third.secret, bytes), (wiped, [0xff; 2]));
    }

    #[test]
    fn a_new_device_is_another_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::new(dir.path().join("a"), None, true).unwrap();
        mark(&device).write_all_at(b"it", 0).unwrap();
        let before = device.secret;
        device.wipe().unwrap();
        assert_ne!(device.secret, before);
        let mut bytes = [0; 2];
        mark(&device).read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [0xff; 2]);
    }
}
