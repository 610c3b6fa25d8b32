//! The file of a backup: what belongs together, in one piece, with a digest of each part and of all.
//!
//! magic (16), version (4), number of parts (4), time in Unix milliseconds (8); of each part its number (4), its length (8),
//! its SHA-256 (32) and its bytes; last the SHA-256 of all before. Integers are big-endian.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{
    error::{Error, Exit},
    files::{self, SecretBytes},
};

const MAGIC: &[u8; 16] = b"GENESIS-BACKUP\r\n";
const VERSION: u32 = 1;
const HEAD: usize = 32;
const DIGEST: usize = 32;
/// The longest that is read: a registry of some hundred thousand nodes.
const LIMIT: u64 = 1 << 30;
const WHAT: &str = "backup";

/// What is in a backup. There is nothing of it that is not secret.
pub struct Backup {
    pub made_ms: i64,
    /// The SQLite file.
    pub registry: SecretBytes,
    /// As the files are.
    pub mesh_key: Option<SecretBytes>,
    pub key: Option<SecretBytes>,
}

impl Backup {
    fn to_bytes(&self) -> SecretBytes {
        let parts = [(1u32, Some(&self.registry)), (2, self.mesh_key.as_ref()), (3, self.key.as_ref())];
        let parts: Vec<_> = parts.into_iter().filter_map(|(number, part)| Some((number, part?))).collect();
        let length: usize = parts.iter().map(|(_, part)| part.len() + 12 + DIGEST).sum();
        // Allocated once, so that no copy is left behind by growing.
        let mut bytes = SecretBytes::new(Vec::with_capacity(HEAD + length + DIGEST));
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(u32::try_from(parts.len()).unwrap_or_default().to_be_bytes());
        bytes.extend(self.made_ms.to_be_bytes());
        for (number, part) in parts {
            bytes.extend(number.to_be_bytes());
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(crypto::sha256(part));
            bytes.extend_from_slice(part);
        }
        let digest = crypto::sha256(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// All of it is whole, or why it is not.
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "is damaged or not whole: take another";
        let (content, digest) = bytes.split_last_chunk::<DIGEST>().ok_or("is no backup of this program's")?;
        let (magic, rest) = content.split_first_chunk::<16>().ok_or("is no backup of this program's")?;
        if magic != MAGIC {
            return Err("is no backup of this program's");
        }
        let (version, rest) = number(rest).ok_or(CUT)?;
        if version > VERSION {
            return Err("was made by a newer os-network-admin: use that one");
        }
        if version != VERSION || crypto::sha256(content) != *digest {
            return Err(CUT);
        }
        let (count, rest) = number(rest).ok_or(CUT)?;
        let (made_ms, mut rest) = rest.split_first_chunk::<8>().ok_or(CUT)?;
        let mut parts: [Option<SecretBytes>; 3] = Default::default();
        for _ in 0..count {
            let (name, after) = number(rest).ok_or(CUT)?;
            let (length, after) = after.split_first_chunk::<8>().ok_or(CUT)?;
            let (digest, after) = after.split_first_chunk::<DIGEST>().ok_or(CUT)?;
            let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| CUT)?;
            let (part, after) = after.split_at_checked(length).ok_or(CUT)?;
            let place = usize::try_from(name).ok().and_then(|name| parts.get_mut(name.wrapping_sub(1))).ok_or(CUT)?;
            if crypto::sha256(part) != *digest || place.is_some() {
                return Err(CUT);
            }
            *place = Some(part.to_vec().into());
            rest = after;
        }
        let [registry, mesh_key, key] = parts;
        let registry = registry.filter(|_| rest.is_empty()).ok_or(CUT)?;
        Ok(Self { made_ms: i64::from_be_bytes(*made_ms), registry, mesh_key, key })
    }

    /// Writes it, for its owner alone. What is there is replaced only by consent, and only if it is a backup and no link.
    pub fn write(&self, path: &Path, replace: bool) -> Result<(), Error> {
        let bytes = self.to_bytes();
        if !replace {
            return files::create_private(path, WHAT, &bytes);
        }
        files::replace_private(path, WHAT, &bytes, MAGIC)
    }

    /// Reads it and looks at all of it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: &dyn std::fmt::Display| Error::input(format!("the {WHAT} {} {why}", path.display()));
        let mut options = OpenOptions::new();
        let file: File = options.read(true).custom_flags(files::NO_LINK).open(path).map_err(|error| {
            Error::input(format!("cannot read the {WHAT} {}: {error}; a link is not followed", path.display()))
        })?;
        let meta = file.metadata().map_err(|error| bad(&format_args!("cannot be read: {error}")))?;
        if !meta.is_file() || meta.len() > LIMIT {
            return Err(bad(&"is no file, or too long for a backup"));
        }
        if let Some(why) = files::exposed(&meta, path) {
            return Err(bad(&why));
        }
        let mut bytes = SecretBytes::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1));
        let read = file.take(meta.len()).read_to_end(&mut bytes);
        read.map_err(|error| Error::new(Exit::Other, format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&bytes).map_err(|why| bad(&why))
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn backup() -> Backup {
        let bytes = |text: &[u8]| SecretBytes::new(text.to_vec());
        Backup { made_ms: 77, registry: bytes(b"the registry"), mesh_key: Some(bytes(b"mesh")), key: None }
    }

    #[test]
    fn what_is_read_is_what_was_written_and_every_other_byte_is_found() {
        let bytes = backup().to_bytes();
        let read = Backup::parse(&bytes).ok().unwrap();
        assert_eq!((read.made_ms, &**read.registry), (77, &b"the registry"[..]));
        assert_eq!((read.mesh_key.unwrap().as_slice(), read.key.is_none()), (&b"mesh"[..], true));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(Backup::parse(&changed).is_err(), "byte {at}");
            assert!(Backup::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(Backup::parse(&[&bytes[..], b"x"].concat()).is_err());
        let mut newer = bytes.to_vec();
        newer[19] = 2;
        assert!(Backup::parse(&newer).err().unwrap().contains("newer"));
    }

    #[test]
    fn it_is_its_owners_alone_and_replaces_only_a_backup_by_consent() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("b"), folder.path().join("elsewhere"));
        backup().write(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        let later = Backup { made_ms: 78, ..backup() };
        assert!(later.write(&path, false).unwrap_err().message.contains("is not overwritten"));
        assert_eq!(fs::read(&path).unwrap(), before);
        later.write(&path, true).unwrap();
        assert_eq!(Backup::read(&path).ok().unwrap().made_ms, 78);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(Backup::read(&path).err().unwrap().message.contains("read by others"));
        fs::remove_file(&path).unwrap();
        for there in [&b"of another kind"[..], b""] {
            fs::write(&elsewhere, there).unwrap();
            assert!(later.write(&elsewhere, true).unwrap_err().message.contains("is not overwritten"));
            symlink(&elsewhere, &path).unwrap();
            assert!(later.write(&path, true).is_err() && later.write(&path, false).is_err());
            assert!(Backup::read(&path).is_err());
            fs::remove_file(&path).unwrap();
            assert_eq!(fs::read(&elsewhere).unwrap(), there);
        }
    }
}
