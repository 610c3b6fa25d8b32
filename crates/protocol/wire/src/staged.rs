//! How an order or an authority record comes to a node: in numbered chunks over UDP 8090 inside the tunnel. Chunks are staged
//! unread; the `apply` command names what they are to be, and only then is anything verified and used.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    U16, U32,
    order::{MAX_ORDER, Order, short},
    record::AuthorityRecord,
};

/// The most that is staged: an order and its body, or a record.
pub const MAX_STAGED: usize = MAX_ORDER;
/// Bytes of every chunk but the last, which may be shorter.
pub const CHUNK: usize = 1024;

const _: () = assert!(size_of::<Order>() < size_of::<AuthorityRecord>() && size_of::<AuthorityRecord>() <= MAX_STAGED);

/// What was staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged<'b> {
    /// With its body, of the length that it says.
    Order(&'b Order, &'b [u8]),
    Record(&'b AuthorityRecord),
}

impl Staged<'_> {
    /// What the `apply` command names. A body is named by its hash, which the order has.
    pub fn short(&self) -> u32 {
        match self {
            Self::Order(order, _) => order.short(),
            Self::Record(record) => short(record.as_bytes()),
        }
    }
}

/// The first word tells a record from an order, which begins with its kind.
pub fn parse(bytes: &[u8]) -> Option<Staged<'_>> {
    if bytes.starts_with(&AuthorityRecord::MAGIC) {
        return Some(Staged::Record(AuthorityRecord::ref_from_bytes(bytes).ok()?));
    }
    let (order, body) = Order::ref_from_prefix(bytes).ok()?;
    (bytes.len() <= MAX_STAGED && order.length.get() as usize == body.len()).then_some(Staged::Order(order, body))
}

/// First bytes of the datagram of a chunk; [`CHUNK`] bytes or the rest follow. A command is 16 bytes and a chunk is always
/// longer, so that the length tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkHead {
    /// [`Staged::short`] of what it is part of.
    pub short: U32,
    /// Length of the whole.
    pub length: U16,
    /// From 0.
    pub number: u8,
    pub zero: [u8; 17],
}

const _: () = assert!(size_of::<ChunkHead>() == 24);

/// A chunk with its head.
pub fn parse_chunk(bytes: &[u8]) -> Option<(&ChunkHead, &[u8])> {
    let (head, part) = ChunkHead::ref_from_prefix(bytes).ok()?;
    let length = usize::from(head.length.get());
    let start = usize::from(head.number) * CHUNK;
    let whole = head.zero == [0; 17]
        && (size_of::<Order>()..=MAX_STAGED).contains(&length)
        && start < length
        && part.len() == CHUNK.min(length - start);
    whole.then_some((head, part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;
    use crate::order::Kind;

    proptest! {
        #[test]
        fn chunks_are_taken_only_with_their_own_length(
            length in any::<u16>(), number in 0..8u8, part in proptest::collection::vec(any::<u8>(), 0..1100),
        ) {
            let head = ChunkHead { short: U32::new(1), length: U16::new(length), number, zero: [0; 17] };
            let bytes = [head.as_bytes(), &part].concat();
            let (start, length) = (usize::from(number) * CHUNK, usize::from(length));
            let fits = (600..=4096).contains(&length) && start < length && part.len() == CHUNK.min(length - start);
            prop_assert_eq!(parse_chunk(&bytes).is_some(), fits);
        }

        #[test]
        fn an_order_has_exactly_its_length(length in 0..5000u32, real in 0..5000usize) {
            let order = Order { length: U32::new(length), ..Order::new(Kind::Configuration, &[]) };
            let bytes = [order.as_bytes(), &std::vec![7; real]].concat();
            prop_assert_eq!(parse(&bytes).is_some(), length as usize == real && bytes.len() <= MAX_STAGED);
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4200), record: bool) {
            if record && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&AuthorityRecord::MAGIC);
                bytes.truncate(size_of::<AuthorityRecord>());
            }
            match parse(&bytes) {
                None => {}
                Some(staged @ Staged::Order(order, body)) => {
                    let _ = (staged.short(), order.kind(), order.carries(body));
                }
                Some(staged @ Staged::Record(record)) => {
                    let before = record.set;
                    let _ = (staged.short(), record.hash());
                    prop_assert!(record.verify(&before, &record.fleet, 0, &record.previous).is_err());
                }
            }
        }
    }

    #[test]
    fn a_record_is_told_from_an_order_by_its_first_word() {
        let record = AuthorityRecord { magic: AuthorityRecord::MAGIC, ..AuthorityRecord::new_zeroed() };
        assert_eq!(parse(record.as_bytes()), Some(Staged::Record(&record)));
        assert_eq!(parse(&record.as_bytes()[1..]), None);
        assert_eq!(parse(&[record.as_bytes(), &[0]].concat()), None, "nothing follows a record");
        for kind in Kind::ALL {
            let order = Order::new(*kind, b"body");
            let bytes = [order.as_bytes(), b"body"].concat();
            assert_eq!(parse(&bytes), Some(Staged::Order(&order, b"body")));
        }
        // Every signature counts: with another one it is another order, and needs another name.
        let order = Order::new(Kind::Rejoin, &[]);
        let mut signed = order;
        signed.signatures[6][63] = 1;
        assert_ne!(Staged::Order(&order, &[]).short(), Staged::Order(&signed, &[]).short());
    }
}
