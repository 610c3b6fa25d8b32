//! The key file: the seed of the administrative fiduciary key A, sealed under a passphrase, and A's public half in clear.
//!
//! JSON, so that it can be told apart and backed up by hand. The seal covers the public half and the cost, so that
//! neither can be changed unnoticed by whoever unlocks it.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use crypto::{AnchorPublic, AnchorSecret, Secret};
use serde::{Deserialize, Serialize};
use wire::{
    Fingerprint,
    anchor::{Anchor, AnchorFile, AnchorIn, FIRST},
};

use super::{
    error::{Error, Exit},
    files::{self, SecretBytes},
    guard::Locked,
    host::{Host, System},
};

const FORMAT: &str = "os-network-admin key";
const VERSION: u32 = 1;
const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20poly1305";
/// The longest file that is read.
const LIMIT: usize = 4096;

/// What one try of a passphrase costs. Stored in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Cost {
    /// 64 MiB in three passes: a fraction of a second.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// A file may not ask for more than 1 GiB or some seconds.
    fn params(self) -> Option<Params> {
        let bearable = self.memory_kib <= 1024 * 1024 && self.passes <= 16 && self.lanes <= 16;
        bearable.then(|| Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()).flatten()
    }
}

/// A key file's content. Holds no secret in clear.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyFile {
    anchor: AnchorPublic,
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 24],
    sealed: [u8; 32],
    tag: [u8; 16],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    version: u32,
    /// `anchor.bin` in hex: it carries its own check, so that damage is found without the passphrase.
    anchor: String,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    cipher: String,
    nonce: String,
    sealed: String,
    tag: String,
}

impl KeyFile {
    pub fn seal(seed: &Secret, passphrase: &[u8], cost: Cost) -> Result<Self, Error> {
        let system: &dyn Host = &System;
        let mut file = Self {
            anchor: AnchorSecret::from_seed(seed).public(),
            cost,
            salt: system.random()?,
            nonce: system.random()?,
            sealed: [0; 32],
            tag: [0; 16],
        };
        let key = file.key(passphrase)?;
        let mut text = seed.clone();
        let cipher = XChaCha20Poly1305::new((&*key).into());
        let tag = cipher.encrypt_inout_detached(&file.nonce.into(), &file.header(), text.as_mut_slice().into());
        file.tag = tag.map_err(|_| Error::new(Exit::Other, "the key could not be sealed"))?.into();
        file.sealed = *text;
        Ok(file)
    }

    /// A's private half. A wrong passphrase and a changed file look the same.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<Locked<AnchorSecret>, Error> {
        let key = self.key(passphrase)?;
        let mut seed = Secret::new(self.sealed);
        let cipher = XChaCha20Poly1305::new((&*key).into());
        cipher
            .decrypt_inout_detached(&self.nonce.into(), &self.header(), seed.as_mut_slice().into(), (&self.tag).into())
            .map_err(|_| Error::input("wrong passphrase, or the key file was changed: try again, or restore it"))?;
        Ok(Locked::new(AnchorSecret::from_seed(&seed)))
    }

    pub fn public(&self) -> AnchorPublic {
        self.anchor
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text: Text = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if text.format != FORMAT {
            return Err(format!("its format is not {FORMAT:?}"));
        }
        if (text.version, &*text.kdf, &*text.cipher) != (VERSION, KDF, CIPHER) {
            return Err("it was made by another version of os-network-admin".into());
        }
        let cost = Cost { memory_kib: text.memory_kib, passes: text.passes, lanes: text.lanes };
        cost.params().ok_or("its cost is out of bounds")?;
        let anchor: [u8; FIRST] = hex("anchor", &text.anchor)?;
        let AnchorIn::Some(Anchor { reception: anchor, .. }) = AnchorFile::read_file(&anchor) else {
            return Err("its public key is damaged".into());
        };
        Ok(Self {
            anchor,
            cost,
            salt: hex("salt", &text.salt)?,
            nonce: hex("nonce", &text.nonce)?,
            sealed: hex("sealed", &text.sealed)?,
            tag: hex("tag", &text.tag)?,
        })
    }

    pub fn to_text(&self) -> String {
        let encode = base16ct::lower::encode_string;
        let text = Text {
            format: FORMAT.into(),
            version: VERSION,
            anchor: encode(&AnchorFile::first(&self.anchor)),
            kdf: KDF.into(),
            memory_kib: self.cost.memory_kib,
            passes: self.cost.passes,
            lanes: self.cost.lanes,
            salt: encode(&self.salt),
            cipher: CIPHER.into(),
            nonce: encode(&self.nonce),
            sealed: encode(&self.sealed),
            tag: encode(&self.tag),
        };
        // Strings and numbers only: this does not fail.
        serde_json::to_string_pretty(&text).unwrap_or_default() + "\n"
    }

    pub fn load(path: &Path) -> Result<Self, Error> {
        if !files::is_there(path) {
            return Err(Error::input(format!(
                "there is no key {}: make one with `os-network-admin init`, or name yours with --key",
                path.display()
            )));
        }
        let bytes = files::read_private(path, "key file", LIMIT)?;
        let parsed = files::text(&bytes).map_err(Into::into).and_then(Self::parse);
        parsed.map_err(|why| Error::input(format!("{} is no usable key file: {why}", path.display())))
    }

    /// Writes a new file; never overwrites one.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        files::make_parent(path)?;
        files::create_private(path, "key file", self.to_text().as_bytes())
    }

    fn key(&self, passphrase: &[u8]) -> Result<Secret, Error> {
        let mut key = Secret::default();
        let params = self.cost.params().ok_or_else(|| Error::input("the key file's cost is out of bounds"))?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, &mut *key)
            .map_err(|error| Error::new(Exit::Other, format!("the passphrase could not be processed: {error}")))?;
        Ok(key)
    }

    /// What the seal covers besides the seed.
    fn header(&self) -> Vec<u8> {
        let mut header = Vec::from(FORMAT.as_bytes());
        header.extend(VERSION.to_be_bytes());
        header.extend(AnchorFile::first(&self.anchor));
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            header.extend(number.to_be_bytes());
        }
        header.extend(self.salt);
        header
    }
}

/// A's fingerprint, over both halves; formed as a node's is.
pub fn fingerprint(anchor: &AnchorPublic) -> Fingerprint {
    Fingerprint::of(&crypto::sha256(&[anchor.sign, anchor.dh].concat()))
}

/// A's public half as text: Ed25519 and X25519 key, 128 hex digits.
pub fn public_text(anchor: &AnchorPublic) -> String {
    base16ct::lower::encode_string(&[anchor.sign, anchor.dh].concat())
}

/// A new seed, from the system.
pub fn new_seed() -> Result<Secret, Error> {
    let system: &dyn Host = &System;
    system.random().map(Secret::new)
}

/// Reads one's own seed: exactly 32 bytes, or 64 hex digits and perhaps a line end.
pub fn read_seed(path: &Path) -> Result<Secret, Error> {
    let bytes = files::read_private(path, "seed file", 128)?;
    let seed = parse_seed(&bytes).map_err(|why| Error::input(format!("the seed file {} {why}", path.display())))?;
    if seed.iter().all(|byte| *byte == seed[0]) {
        return Err(Error::input(format!("the seed file {} holds one byte 32 times: no seed", path.display())));
    }
    Ok(seed)
}

fn parse_seed(bytes: &[u8]) -> Result<Secret, String> {
    let mut seed = Secret::default();
    if bytes.len() == seed.len() {
        seed.copy_from_slice(bytes);
        return Ok(seed);
    }
    let digits = files::text(bytes)?;
    let digits = digits.strip_suffix(b"\n").unwrap_or(digits);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != 64 {
        return Err(format!("must have exactly 32 bytes or 64 hex digits, and has {} bytes", bytes.len()));
    }
    base16ct::mixed::decode(digits, &mut *seed).map_err(|_| "has 64 characters that are not all hex digits")?;
    Ok(seed)
}

/// Reads the first line of a file that only its owner can read.
pub fn read_passphrase(path: &Path) -> Result<SecretBytes, Error> {
    let mut bytes = files::read_private(path, "passphrase file", 4096)?;
    let mark = bytes.len()
        - files::text(&bytes)
            .map_err(|why| Error::input(format!("the passphrase file {} {why}", path.display())))?
            .len();
    // In place, so that no copy is left behind.
    bytes.rotate_left(mark);
    let length = bytes.len() - mark;
    bytes.truncate(length);
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(Error::input(format!("the passphrase file {} has an empty first line", path.display())));
    }
    Ok(bytes)
}

fn hex<const N: usize>(name: &str, text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    match base16ct::mixed::decode(text, &mut bytes) {
        Ok(decoded) if decoded.len() == N => Ok(bytes),
        _ => Err(format!("its field {name:?} is not {} hex digits", 2 * N)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn file() -> KeyFile {
        KeyFile::seal(&Secret::new([7; 32]), b"open sesame", CHEAP).unwrap()
    }

    #[test]
    fn unlocks_with_its_passphrase_only() {
        let file = KeyFile::parse(file().to_text().as_bytes()).unwrap();
        let expected = AnchorSecret::from_seed(&[7; 32]).public();
        assert_eq!(file.public(), expected);
        assert_eq!(file.unlock(b"open sesame").unwrap().public(), expected);
        for wrong in [&b"open sesamE"[..], b"", b"open sesame\n"] {
            assert_eq!(file.unlock(wrong).err().unwrap().exit, Exit::Input);
        }
    }

    #[test]
    fn the_seed_is_not_in_the_text_and_two_files_of_one_seed_differ() {
        let (a, b) = (file().to_text(), file().to_text());
        assert!(!a.contains(&base16ct::lower::encode_string(&[7; 32])));
        assert_ne!(a, b);
    }

    #[test]
    fn every_change_to_the_content_is_found() {
        let changes: [fn(&mut KeyFile); 6] = [
            |f| f.anchor = AnchorSecret::from_seed(&[8; 32]).public(),
            |f| f.cost.passes = 2,
            |f| f.salt[0] ^= 1,
            |f| f.nonce[0] ^= 1,
            |f| f.sealed[31] ^= 1,
            |f| f.tag[0] ^= 1,
        ];
        for change in changes {
            let mut file = file();
            change(&mut file);
            assert!(file.unlock(b"open sesame").is_err());
        }
    }

    #[test]
    fn a_file_that_asks_for_too_much_is_refused() {
        for (from, to) in
            [("\"memory_kib\": 8", "\"memory_kib\": 4000000000"), ("\"passes\": 1", "\"passes\": 1000000")]
        {
            let text = file().to_text().replace(from, to);
            assert_eq!(KeyFile::parse(text.as_bytes()), Err("its cost is out of bounds".into()));
        }
    }

    #[test]
    fn an_editors_mark_is_part_of_no_passphrase_and_of_no_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let write = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        };
        write("\u{feff}open sesame\r\nnot this".as_bytes());
        assert_eq!(read_passphrase(&path).unwrap().as_slice(), b"open sesame");
        write("\u{feff}\n".as_bytes());
        assert!(read_passphrase(&path).unwrap_err().message.contains("empty first line"));
        write(b"\xff\xfeo\0\n\0");
        assert!(read_passphrase(&path).unwrap_err().message.contains("UTF-16"));
        write(format!("\u{feff}{}", file().to_text()).as_bytes());
        assert_eq!(KeyFile::load(&path).unwrap().public(), file().public());
    }

    #[test]
    fn a_seed_is_32_bytes_or_64_digits() {
        let digits = "00ff".repeat(16);
        let expected = [0, 255].repeat(16);
        assert_eq!(parse_seed(&expected).unwrap()[..], expected);
        assert_eq!(parse_seed(digits.as_bytes()).unwrap()[..], expected);
        for text in [digits.clone() + "\n", digits.clone() + "\r\n", format!("\u{feff}{digits}\n")] {
            assert_eq!(parse_seed(text.as_bytes()).unwrap()[..], expected);
        }
        // 32 bytes are a seed whatever they begin with.
        let marked = [&[0xef, 0xbb, 0xbf], &expected[3..]].concat();
        assert_eq!(parse_seed(&marked).unwrap()[..], marked);
        for wrong in
            [&[1; 31][..], &[1; 33], &[b'g'; 64], &digits.as_bytes()[1..], (digits.clone() + "0").as_bytes(), b""]
        {
            assert!(parse_seed(wrong).is_err());
        }
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(KeyFile::parse(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_is_an_error_or_the_same_key_in_other_words(at in 0usize..600, by in 1u8..) {
            let file = file();
            let mut text = file.to_text().into_bytes();
            let at = at % text.len();
            text[at] ^= by;
            if let Ok(other) = KeyFile::parse(&text) {
                // Parsed all the same: then either nothing was changed, or unlocking finds it.
                prop_assert!(other == file || other.unlock(b"open sesame").is_err());
            }
        }
    }
}
