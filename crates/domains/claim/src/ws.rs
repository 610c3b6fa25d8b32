//! WebSocket frames as this protocol uses them: from the peer one masked, final, binary frame per message, of
//! a length that the message may have, in the shortest encoding; to the peer the same unmasked. A
//! fragment, text, ping, pong or close is a breach like any other.

use core::ops::RangeInclusive;

use edge_ws::{Error, FrameHeader, FrameType};

/// The peer's stream is not what the protocol allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads one frame after the other from a stream that arrives in pieces.
pub struct Receiver {
    head: [u8; FrameHeader::MAX_LEN],
    have: usize,
    /// The header of the frame whose payload is arriving.
    frame: Option<FrameHeader>,
    got: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    pub const fn new() -> Self {
        Self { head: [0; FrameHeader::MAX_LEN], have: 0, frame: None, got: 0 }
    }

    /// Takes bytes up to the frame's end and puts its payload into `into`. Returns how many it took, and
    /// the payload's length once it is whole.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        allowed: &RangeInclusive<usize>,
        into: &mut [u8],
    ) -> Result<(usize, Option<usize>), Malformed> {
        let mut rest = bytes;
        while self.frame.is_none() {
            let Some((byte, after)) = rest.split_first() else {
                return Ok((bytes.len(), None));
            };
            rest = after;
            *self.head.get_mut(self.have).ok_or(Malformed)? = *byte;
            self.have += 1;
            self.frame = header(self.head.get(..self.have).ok_or(Malformed)?, allowed)?;
        }
        let Some(frame) = &self.frame else { return Err(Malformed) };
        let len = usize::try_from(frame.payload_len).map_err(|_| Malformed)?;
        let room = into.get_mut(self.got..len).ok_or(Malformed)?;
        let take = room.len().min(rest.len());
        let (Some(to), Some(from)) = (room.get_mut(..take), rest.get(..take)) else { return Err(Malformed) };
        to.copy_from_slice(from);
        frame.mask(to, self.got);
        self.got += take;
        let taken = bytes.len() - rest.len() + take;
        if self.got < len {
            return Ok((taken, None));
        }
        *self = Self::new();
        Ok((taken, Some(len)))
    }
}

/// The header, once it is whole.
fn header(bytes: &[u8], allowed: &RangeInclusive<usize>) -> Result<Option<FrameHeader>, Malformed> {
    let (header, len) = match FrameHeader::deserialize(bytes) {
        Ok(parsed) => parsed,
        Err(Error::Incomplete(_)) => return Ok(None),
        Err(_) => return Err(Malformed),
    };
    let length = usize::try_from(header.payload_len).map_err(|_| Malformed)?;
    let strict = header.frame_type == FrameType::Binary(false)
        && header.mask_key.is_some()
        && header.serialized_len() == len
        && allowed.contains(&length);
    if strict { Ok(Some(header)) } else { Err(Malformed) }
}

/// The header of a frame to the peer.
pub struct SendHeader {
    bytes: [u8; FrameHeader::MAX_LEN],
    len: usize,
}

impl SendHeader {
    pub fn new(payload_len: usize) -> Self {
        let header =
            FrameHeader { frame_type: FrameType::Binary(false), payload_len: payload_len as u64, mask_key: None };
        let mut bytes = [0; FrameHeader::MAX_LEN];
        // The buffer holds the longest header.
        let len = header.serialize(&mut bytes).unwrap_or(0);
        Self { bytes, len }
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
