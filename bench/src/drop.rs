//! How many instructions a held node spends on a stranger's frame: from where `net` has it from the device until the
//! perimeter has dropped it.

use anyhow::{Result, ensure};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv6Address, Ipv6Packet, Ipv6Repr,
        TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};
use wire::{
    BEACON_PORT, CLAIM_PORT,
    link::{Datagram, Find},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    Outcome,
    figures::{Figures, Goal},
    machine::{exact, tick},
    systems,
};

pub const GOALS: &[(&str, Goal)] = &[];

/// The frames in the order in which they are recorded, after the one that has to pass.
const KINDS: [&str; 3] = ["arp", "syn", "full"];
/// As `bench-net` has it.
const SLOT: usize = 2048;

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    let recording = recording();
    for board in &systems::boards()? {
        let said = exact(board, &systems::perimeter(board, &recording)?)?;
        ensure!(said.one("lost")? == 0.0, "{board}: frames did not reach the perimeter");
        ensure!(said.one("passed")? == 0.0, "{board}: the perimeter has let a stranger's frame pass");
        ensure!(said.one("listens")? == 1.0, "{board}: the perimeter is not that of a node that holds");
        let (alone, burst, frames) =
            (said.all("alone_ticks"), said.all("burst_ticks"), said.all("frames").collect::<Vec<_>>());
        ensure!(frames.len() == 2 * KINDS.len(), "{board} has measured {} bursts", frames.len());
        for (index, (kind, (alone, burst))) in KINDS.iter().zip(alone.zip(burst)).enumerate() {
            figures.put(format!("{board}/{kind}_alone"), alone * tick(board)? / frames[2 * index]);
            figures.put(format!("{board}/{kind}"), burst * tick(board)? / frames[2 * index + 1]);
        }
    }
    Ok(Outcome::Done)
}

/// What `bench-net` replays.
fn recording() -> Vec<u8> {
    let mut slots = Vec::new();
    for frame in [find(), arp(), syn(), full()] {
        let start = slots.len();
        slots.extend((frame.len() as u64).to_le_bytes());
        slots.extend(frame);
        slots.resize(start + SLOT, 0);
    }
    // One without a frame ends it.
    slots.resize(slots.len() + SLOT, 0);
    slots
}

const STRANGER: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
const STRANGER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x57, 1]);
const NODE: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const NODE_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x4e, 1]);
const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);

/// A find of the right length and kind that nobody has signed, which the perimeter cannot know.
fn find() -> Vec<u8> {
    let mut find = Find::new_zeroed();
    find.header =
        wire::link::Header { magic: wire::link::MAGIC, version: wire::VERSION, kind: Find::KIND, zero: [0; 2] };
    datagram(find.as_bytes())
}

/// Dropped for its Ethernet type.
fn arp() -> Vec<u8> {
    let mut frame = vec![0; 60];
    let ethernet =
        EthernetRepr { src_addr: STRANGER_MAC, dst_addr: EthernetAddress::BROADCAST, ethertype: EthernetProtocol::Arp };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    frame
}

/// Well-formed, and dropped because no gate is open.
fn syn() -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 50_000,
        dst_port: CLAIM_PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 64_000,
        window_scale: None,
        max_seg_size: Some(1440),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    frame((NODE_MAC, NODE), IpProtocol::Tcp, tcp.buffer_len(), |payload| {
        let (source, destination) = (STRANGER.into(), NODE.into());
        tcp.emit(&mut TcpPacket::new_unchecked(payload), &source, &destination, &ChecksumCapabilities::default());
    })
}

/// The longest way to a drop: as long as frames get, to the right port, checksummed from end to end, and no datagram
/// of the protocol.
fn full() -> Vec<u8> {
    datagram(&[0x5a; 1500 - 40 - 8])
}

fn datagram(bytes: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: BEACON_PORT, dst_port: BEACON_PORT };
    frame((ALL_NODES_MAC, ALL_NODES), IpProtocol::Udp, udp.header_len() + bytes.len(), |payload| {
        let (source, destination) = (STRANGER.into(), ALL_NODES.into());
        let fill = |to: &mut [u8]| to.copy_from_slice(bytes);
        let capabilities = ChecksumCapabilities::default();
        udp.emit(&mut UdpPacket::new_unchecked(payload), &source, &destination, bytes.len(), fill, &capabilities);
    })
}

fn frame(
    to: (EthernetAddress, Ipv6Address),
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut frame = vec![0; 14 + 40 + payload_len];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
    EthernetRepr { src_addr: STRANGER_MAC, dst_addr: to.0, ethertype: EthernetProtocol::Ipv6 }.emit(&mut ethernet);
    let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    Ipv6Repr { src_addr: STRANGER, dst_addr: to.1, next_header, payload_len, hop_limit: 255 }.emit(&mut ip);
    fill(ip.payload_mut());
    frame
}

#[cfg(test)]
mod tests {
    use calls::{mesh::Stations, rules::Rules};
    use perimeter::{Reason, Side, decide};
    use wire::Phase;

    use super::*;

    #[test]
    fn each_frame_is_dropped_for_its_reason_and_the_first_passes() {
        let link = link::Station::new(NODE.octets(), NODE_MAC.0);
        let rules = Rules { phase: Phase::Hold as u64, link, ..Rules::CLOSED };
        let verdicts =
            [find(), arp(), syn(), full()].map(|frame| decide(&rules, &Stations::NONE, 0, Side::Net, &frame));
        let expected = [Ok(Side::Beacon), Err(Reason::NotIpv6), Err(Reason::Gate), Err(Reason::Datagram)];
        assert_eq!(verdicts, expected);
        assert_eq!(full().len(), 1514);
    }

    #[test]
    fn the_recording_is_slots_with_an_empty_one_at_the_end() {
        let recording = recording();
        assert_eq!(recording.len(), 5 * SLOT);
        let lengths = recording.chunks(SLOT).map(|slot| u64::from_le_bytes(slot[..8].try_into().unwrap()));
        assert_eq!(lengths.collect::<Vec<_>>(), [54 + 8 + 104, 60, 54 + 28, 1514, 0]);
    }
}
