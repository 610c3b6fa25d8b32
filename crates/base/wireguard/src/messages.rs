//! The four messages to the byte (the paper, section 5.4). Type and length decide first; reserved bytes must be zero.

use crypto::noise::TAG;
use wire::Key;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

pub const DATA_HEADER: usize = 16;
/// Both MACs, at the end of either handshake message.
const MACS: usize = 32;

const INITIATION: [u8; 4] = [1, 0, 0, 0];
const RESPONSE: [u8; 4] = [2, 0, 0, 0];
const COOKIE: [u8; 4] = [3, 0, 0, 0];
const DATA: [u8; 4] = [4, 0, 0, 0];

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Initiation {
    kind: [u8; 4],
    pub sender: U32,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
    pub encrypted_timestamp: [u8; 28],
    macs: [u8; MACS],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Response {
    kind: [u8; 4],
    pub sender: U32,
    pub receiver: U32,
    pub ephemeral: Key,
    pub encrypted_nothing: [u8; TAG],
    macs: [u8; MACS],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CookieReply {
    kind: [u8; 4],
    pub receiver: U32,
    pub nonce: [u8; 24],
    pub cookie: [u8; 16],
    pub tag: [u8; TAG],
}

const _: () = {
    assert!(size_of::<Initiation>() == 148);
    assert!(size_of::<Response>() == 92);
    assert!(size_of::<CookieReply>() == 64);
};

impl Initiation {
    /// The MACs are still to be set.
    pub fn new(sender: u32, ephemeral: Key, encrypted_static: [u8; 48], encrypted_timestamp: [u8; 28]) -> Self {
        let macs = [0; MACS];
        Self { kind: INITIATION, sender: sender.into(), ephemeral, encrypted_static, encrypted_timestamp, macs }
    }
}

impl Response {
    /// The MACs are still to be set.
    pub fn new(sender: u32, receiver: u32, ephemeral: Key, encrypted_nothing: [u8; TAG]) -> Self {
        let (sender, receiver) = (sender.into(), receiver.into());
        Self { kind: RESPONSE, sender, receiver, ephemeral, encrypted_nothing, macs: [0; MACS] }
    }
}

impl CookieReply {
    pub fn new(receiver: u32, nonce: [u8; 24], cookie: [u8; 16], tag: [u8; TAG]) -> Self {
        Self { kind: COOKIE, receiver: receiver.into(), nonce, cookie, tag }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Initiation,
    Response,
    Cookie,
    Data,
}

/// What a datagram is, by its type and length.
pub fn kind(datagram: &[u8]) -> Option<Kind> {
    let kind = *datagram.first_chunk()?;
    match (kind, datagram.len()) {
        // Nearly every datagram is one.
        (DATA, length) if length >= DATA_HEADER + TAG => Some(Kind::Data),
        (INITIATION, 148) => Some(Kind::Initiation),
        (RESPONSE, 92) => Some(Kind::Response),
        (COOKIE, 64) => Some(Kind::Cookie),
        _ => None,
    }
}

/// The MACs of a handshake message, and what each covers.
pub struct Covered<'a> {
    pub by_mac1: &'a [u8],
    pub mac1: &'a [u8; 16],
    pub by_mac2: &'a [u8],
    pub mac2: &'a [u8; 16],
}

/// `None` only for what is shorter than both MACs.
pub fn covered(message: &[u8]) -> Option<Covered<'_>> {
    let (by_mac2, mac2) = message.split_last_chunk()?;
    let (by_mac1, mac1) = by_mac2.split_last_chunk()?;
    Some(Covered { by_mac1, mac1, by_mac2, mac2 })
}

/// The parts of a data message.
pub struct Data<'b> {
    pub receiver: u32,
    pub counter: u64,
    pub text: &'b mut [u8],
    pub tag: [u8; TAG],
}

pub fn data(datagram: &mut [u8]) -> Option<Data<'_>> {
    let (header, rest) = datagram.split_first_chunk_mut::<DATA_HEADER>()?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG>()?;
    let [_, _, _, _, receiver @ .., _, _, _, _, _, _, _, _] = *header;
    let counter = *header.last_chunk()?;
    Some(Data { receiver: u32::from_le_bytes(receiver), counter: u64::from_le_bytes(counter), text, tag: *tag })
}

pub fn write_data_header(header: &mut [u8; DATA_HEADER], receiver: u32, counter: u64) {
    let number = u128::from(u32::from_le_bytes(DATA)) | u128::from(receiver) << 32 | u128::from(counter) << 64;
    *header = number.to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_reserved_bytes_are_exact() {
        for (first, exact, expected) in [(1, 148, Kind::Initiation), (2, 92, Kind::Response), (3, 64, Kind::Cookie)] {
            for length in 0..200 {
                let mut bytes = [0; 200];
                bytes[0] = first;
                assert_eq!(kind(&bytes[..length]), (length == exact).then_some(expected));
                for reserved in 1..4 {
                    let mut bytes = bytes;
                    bytes[reserved] = 1;
                    assert_eq!(kind(&bytes[..length]), None);
                }
            }
        }
        let mut bytes = [0; 100];
        bytes[0] = 4;
        assert_eq!(kind(&bytes[..31]), None);
        assert_eq!(kind(&bytes[..32]), Some(Kind::Data));
        assert_eq!(kind(&bytes), Some(Kind::Data));
        bytes[2] = 1;
        assert_eq!(kind(&bytes), None);
        assert_eq!(kind(&[0; 148]), None);
        assert_eq!(kind(&[5, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_data_header_reads_as_it_was_written() {
        let mut bytes = [9; 40];
        write_data_header(bytes.first_chunk_mut().unwrap(), 0x0403_0201, 0x1817_1615_1413_1211);
        assert_eq!(bytes[..16], [4, 0, 0, 0, 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        let data = data(&mut bytes).unwrap();
        assert_eq!((data.receiver, data.counter), (0x0403_0201, 0x1817_1615_1413_1211));
        assert_eq!((data.text.len(), data.tag), (8, [9; 16]));
    }
}
