//! ChaCha20-Poly1305 with a key that seals one message only, so that the nonce is zero.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};

use crate::Secret;

pub const TAG: usize = 16;

/// Encrypts in place and returns the tag. `key` must be used for this one message.
pub fn seal(key: &Secret, associated: &[u8], text: &mut [u8]) -> [u8; TAG] {
    let cipher = ChaCha20Poly1305::new((&**key).into());
    match cipher.encrypt_inout_detached(&[0; 12].into(), associated, text.into()) {
        Ok(tag) => tag.into(),
        // Only for texts past 2^38 bytes.
        Err(_) => {
            text.fill(0);
            [0; TAG]
        }
    }
}

/// Decrypts in place. On failure the text is unspecified and must not be used.
#[must_use]
pub fn open(key: &Secret, associated: &[u8], text: &mut [u8], tag: &[u8; TAG]) -> bool {
    let cipher = ChaCha20Poly1305::new((&**key).into());
    cipher.decrypt_inout_detached(&[0; 12].into(), associated, text.into(), tag.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed() {
        let key = Secret::new([3; 32]);
        let mut text = *b"attack at dawn";
        let tag = seal(&key, b"ad", &mut text);
        for wrong in [false, true] {
            let mut copy = text;
            assert_eq!(open(&key, if wrong { b"da" } else { b"ad" }, &mut copy, &tag), !wrong);
            assert_eq!(&copy == b"attack at dawn", !wrong);
        }
    }
}
