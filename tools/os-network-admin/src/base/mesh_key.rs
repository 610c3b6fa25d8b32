//! The administrator's WireGuard key, in a file beside the registry: text as `wg` reads it, mode 0600.

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use crypto::Secret;
use wire::Key;
use zeroize::Zeroizing;

use super::{
    error::Error,
    files,
    host::{Host, System},
};

const NAME: &str = "mesh.key";
/// 32 bytes in base64.
pub const TEXT: usize = 44;

/// The private half. No `Debug`, no `Clone`; wiped on drop.
pub struct MeshKey(Secret);

impl MeshKey {
    /// A new key.
    pub fn generate(host: &dyn Host) -> Result<Self, Error> {
        // As `wg genkey` has it: clamped.
        let mut secret: Secret = Zeroizing::new(host.random()?);
        secret[0] &= 248;
        secret[31] = (secret[31] & 127) | 64;
        Ok(Self(secret))
    }

    /// The file of a registry's key.
    pub fn path(registry: &Path) -> PathBuf {
        registry.with_file_name(NAME)
    }

    /// Makes the key of a registry that has none. `Registry::make_mesh_key` says whether it may.
    pub fn make(registry: &Path) -> Result<Self, Error> {
        let key = Self::generate(&System)?;
        let mut text = key.text();
        text.push('\n');
        files::create_private(&Self::path(registry), "mesh key", text.as_bytes())?;
        Ok(key)
    }

    /// The key beside this registry, if there is one. `Registry::mesh_key` says whether it is the registry's.
    pub fn existing(registry: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(registry);
        if files::is_there(&path) { Self::read(&path).map(Some) } else { Ok(None) }
    }

    fn read(path: &Path) -> Result<Self, Error> {
        // With a mark before it and a line end after it.
        let bytes = files::read_private(path, "mesh key", TEXT + 5)?;
        Self::parse(&bytes).ok_or_else(|| {
            Error::input(format!("{} is no WireGuard key as `wg genkey` makes it: restore it", path.display()))
        })
    }

    /// Of a file's content.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        let decoded = Base64::decode(files::text(text).ok()?.trim_ascii(), &mut *secret).ok()?.len();
        (decoded == 32).then_some(Self(secret))
    }

    pub fn secret(&self) -> &Secret {
        &self.0
    }

    pub fn public(&self) -> Key {
        crypto::dh_public(&self.0)
    }

    pub fn text(&self) -> Zeroizing<String> {
        encode(&self.0)
    }
}

/// A key, as `wg` writes it.
pub fn encode(key: &Key) -> Zeroizing<String> {
    // Allocated once, with room for the end of a line, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(TEXT + 1));
    let mut buffer = Zeroizing::new([0; TEXT]);
    text.push_str(Base64::encode(key, &mut *buffer).unwrap_or_default());
    text
}

/// A public key, as `wg` writes it.
pub fn decode(text: &str) -> Option<Key> {
    let mut key = [0; 32];
    (Base64::decode(text, &mut key).ok()?.len() == 32).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_registry_has_one_key_in_a_private_file_as_wg_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("registry.sqlite");
        assert!(MeshKey::existing(&registry).unwrap().is_none());
        let key = MeshKey::make(&registry).unwrap();
        let path = folder.path().join("mesh.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), text.trim()), (TEXT + 1, key.text().as_str()));
        assert_eq!((key.secret()[0] & 7, key.secret()[31] & 0xc0), (0, 0x40));
        assert_eq!(MeshKey::existing(&registry).unwrap().unwrap().public(), key.public());
        assert_eq!(decode(&encode(&key.public())), Some(key.public()));
        assert!(MeshKey::make(&registry).err().unwrap().message.contains("is not overwritten"));
        fs::write(&path, format!("\u{feff}{}\r\n", text.trim())).unwrap();
        assert_eq!(MeshKey::existing(&registry).unwrap().unwrap().public(), key.public());
        for damaged in ["", "short\n", &text[1..], &text.replace('=', "!")] {
            fs::write(&path, damaged).unwrap();
            assert!(MeshKey::existing(&registry).is_err(), "{damaged:?}");
        }
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(MeshKey::existing(&registry).err().unwrap().message.contains("read by others"));
    }
}
