//! Whatever the mesh hands over, it survives, and serves the next who asks.

use std::{vec, vec::Vec};

use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        IpAddress, IpProtocol, IpRepr, Ipv4Address, Ipv4Packet, Ipv6Address, TcpControl, TcpPacket, TcpRepr,
        TcpSeqNumber,
    },
};

use super::{
    pages::{GET, page},
    placed,
    world::{FAR4, FAR6, own4, own6},
};
use crate::{CONNECTION_MICROS, PORT};

/// A segment from a far port, in order by its checksums and in nothing else.
#[derive(Debug, Clone)]
struct Segment {
    v6: bool,
    port: u16,
    control: TcpControl,
    seq: i32,
    /// Relative to what the tenant has sent last, or none.
    ack: Option<i32>,
    window: u16,
    mss: Option<u16>,
    scale: Option<u8>,
    payload: Vec<u8>,
}

fn segments() -> impl Strategy<Value = Segment> {
    let control = prop_oneof![
        3 => Just(TcpControl::Syn),
        4 => Just(TcpControl::None),
        2 => Just(TcpControl::Psh),
        2 => Just(TcpControl::Fin),
        1 => Just(TcpControl::Rst),
    ];
    let seq = prop_oneof![6 => 0..40i32, 1 => any::<i32>()];
    let ack = prop::option::weighted(0.8, prop_oneof![6 => -2..1_000i32, 1 => any::<i32>()]);
    let payload = prop_oneof![
        Just(GET.to_vec()),
        Just(GET[..9].to_vec()),
        Just(vec![]),
        prop::collection::vec(any::<u8>(), 0..1300),
    ];
    let options = (prop::option::of(any::<u16>()), prop::option::of(any::<u8>()));
    (any::<bool>(), 1..7u16, control, seq, ack, any::<u16>(), options, payload).prop_map(
        |(v6, port, control, seq, ack, window, (mss, scale), payload)| Segment {
            v6,
            port,
            control,
            seq,
            ack,
            window,
            mss,
            scale,
            payload,
        },
    )
}

impl Segment {
    fn bytes(&self, last: TcpSeqNumber) -> Vec<u8> {
        let (src, dst): (IpAddress, IpAddress) = match self.v6 {
            true => (Ipv6Address::from(FAR6).into(), own6()),
            false => (Ipv4Address::from(FAR4).into(), own4()),
        };
        let syn = self.control == TcpControl::Syn;
        let tcp = TcpRepr {
            src_port: self.port,
            dst_port: PORT,
            control: self.control,
            seq_number: TcpSeqNumber(self.seq),
            ack_number: self.ack.map(|ack| TcpSeqNumber(last.0.wrapping_add(ack))),
            window_len: self.window,
            window_scale: self.scale.filter(|_| syn),
            max_seg_size: self.mss.filter(|_| syn),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &self.payload,
        };
        let ip = IpRepr::new(src, dst, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let mut packet = vec![0; ip.buffer_len()];
        ip.emit(&mut packet[..], &ChecksumCapabilities::default());
        let to = &mut packet[ip.header_len()..];
        tcp.emit(&mut TcpPacket::new_unchecked(to), &src, &dst, &ChecksumCapabilities::default());
        packet
    }
}

/// The number of the last segment that was sent.
fn last(sent: &[Vec<u8>]) -> TcpSeqNumber {
    let number = sent.last().and_then(|packet| {
        let tcp = if packet[0] >> 4 == 4 { &packet[20..] } else { &packet[40..] };
        Some(TcpPacket::new_checked(tcp).ok()?.seq_number())
    });
    number.unwrap_or_default()
}

const SYN: Segment = Segment {
    v6: false,
    port: 7,
    control: TcpControl::Syn,
    seq: 1,
    ack: None,
    window: 1024,
    mss: None,
    scale: None,
    payload: Vec::new(),
};

/// The header's checksum, put right.
fn right(mut packet: Vec<u8>) -> Vec<u8> {
    Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
    packet
}

#[test]
fn whole_segments_to_an_own_address_are_heard_and_nothing_else() {
    let syn = SYN.bytes(TcpSeqNumber(0));
    let changed = |at: usize, value: u8| {
        let mut packet = syn.clone();
        packet[at] = value;
        right(packet)
    };
    // A first fragment, a later one, UDP, ICMP, another protocol, another address, one byte less.
    let ignored = [
        changed(6, 0x20),
        changed(7, 1),
        changed(9, 17),
        changed(9, 1),
        changed(9, 132),
        changed(19, 3),
        syn[..syn.len() - 1].to_vec(),
        vec![],
    ];
    let mut world = placed();
    for packet in ignored {
        world.give(&packet);
        assert!(world.sent.is_empty(), "{packet:?}");
    }
    world.give(&right(syn));
    assert_eq!(world.sent.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_segments_are_survived(actions in prop::collection::vec((segments(), 0..2_000_000u64), 1..60)) {
        let mut world = placed();
        for (segment, pause) in actions {
            let packet = segment.bytes(last(&world.sent));
            world.give(&packet);
            world.later(pause);
        }
        world.later(2 * CONNECTION_MICROS);
        prop_assert!(page(&mut world, own4()).contains("200 OK"));
    }

    #[test]
    fn any_packets_are_survived(packets in prop::collection::vec(
        (segments(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>(), any::<bool>()), 1..60,
    )) {
        let mut world = placed();
        for (segment, changes, len, cut) in packets {
            let mut packet = segment.bytes(last(&world.sent));
            for (at, value) in changes {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            if cut {
                packet.truncate(len.index(packet.len() + 1));
            }
            world.give(&packet);
        }
        world.later(2 * CONNECTION_MICROS);
        prop_assert!(page(&mut world, own6()).contains("200 OK"));
    }
}
