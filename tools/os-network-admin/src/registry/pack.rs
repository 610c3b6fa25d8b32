//! How values stand in the file.

use serde::{Serialize, de::DeserializeOwned};
use wire::{Fingerprint, Hex, Key};

pub fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    // These are small values of fixed shape, for which the encoding has no error but a full buffer.
    postcard::to_allocvec(value).unwrap_or_default()
}

pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// The outer `None` is damage.
pub fn maybe_unpack<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> Option<Option<T>> {
    match bytes {
        Some(bytes) => unpack(&bytes).map(Some),
        None => Some(None),
    }
}

/// A fingerprint as it is looked for.
pub fn print(fiduciary: &Key) -> String {
    Hex(&Fingerprint::of(fiduciary).0).to_string()
}
