//! Valid inputs of the fuzz targets, for mutation.

use crypto::{AnchorSecret, Secret};
use wire::{
    Fingerprint, U16,
    anchor::AnchorFile,
    claim::{GrantHead, kind},
    link::{Find, Hello, HelloBody, Open, OpenFor},
    ticket::Ticket,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::station::{ALL_NODES_MAC, udp_frame};

/// The seed of a target's random numbers, so that a failure comes back.
pub fn seed(name: &str) -> [u8; 32] {
    crypto::sha256(name.as_bytes())
}

/// Valid inputs of a target.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    let anchor = AnchorSecret::from_seed(&[1; 32]);
    let body = HelloBody { claim_key: crypto::dh_public(&Secret::new([5; 32])), ..HelloBody::new_zeroed() };
    let find = Find::sign(&anchor, 1, [1; 16], [2; 6]);
    let about = OpenFor { hello: &body, sender_ip: [1; 16], sender_mac: [2; 6] };
    let open = Open::sign(&anchor, &Secret::new([6; 32]), &about).expect("good keys");
    let hello = Hello::seal(&anchor.public(), &Secret::new([7; 32]), &body).expect("good keys");
    let datagrams = || vec![hello.as_bytes().to_vec(), find.as_bytes().to_vec(), open.as_bytes().to_vec()];
    match name {
        "datagrams" => datagrams(),
        "grant" => {
            let mut head = GrantHead::new_zeroed();
            (head.kind, head.configuration) = (kind::GRANT, U16::new(9));
            vec![[head.as_bytes(), b"mesh data"].concat()]
        }
        "anchor_file" => vec![AnchorFile::new(&anchor.public()).as_bytes().to_vec()],
        "ticket" => vec![Ticket { secret: [1; 32], fiduciary: [2; 32] }.to_text().to_vec()],
        "fingerprint" => vec![Fingerprint::of(&[7; 32]).to_string().into_bytes()],
        name if name.ends_with("_frames") => {
            let from = ([2; 6], crate::station::link_local([2; 6]));
            let to = (ALL_NODES_MAC, wire::ALL_NODES);
            datagrams().iter().map(|datagram| udp_frame(from, to, (8090, 8090), datagram)).collect()
        }
        "claim_upgrade" => {
            let path = "07".repeat(16);
            let head = format!(
                "GET /{path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            vec![head.into_bytes()]
        }
        "claim_websocket" => {
            let short = [&[0x82, 0x80 | 96, 1, 2, 3, 4][..], &[7; 96]].concat();
            let long = [&[0x82, 0x80 | 126, 0, 150, 1, 2, 3, 4][..], &[7; 150]].concat();
            vec![short, long]
        }
        // Small numbers: counters, lengths and operations that nearly fit.
        _ => (0..4u64).map(|n| (0..40).flat_map(|word| (word % 5 + n).to_le_bytes()).collect()).collect(),
    }
}
