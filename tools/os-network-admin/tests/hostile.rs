//! Whatever the other end sends, an exchange ends in an error that can be told, and nothing is stored.

use crypto::AnchorSecret;
use os_network_admin::{
    base::{host::system, progress::Progress},
    claim::{Configure, Failure, Session, Terms, exchange, read_hello},
    registry::{Accepted, AnchorKind, Registry},
};
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};
use wire::{
    link::{Hello, HelloBody},
    set::{Authority, AuthoritySet},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Runs an exchange with a peer that sends these bytes, after a good upgrade or in place of it, and hangs up or falls silent.
fn against(bytes: &[u8], upgraded: bool, hang_up: bool) -> Result<(), TestCaseError> {
    let anchor = AnchorSecret::from_seed(&[42; 32]);
    let own = anchor.public();
    let terms = Terms {
        fleet: "lab".into(),
        fleet_id: [5; 32],
        set: AuthoritySet::alone(Authority::signer(&own)),
        configuration: Configure::Bytes(Vec::new()),
        anchor: AnchorKind::Image,
        warrant: None,
    };
    let mut hello = HelloBody::new_zeroed();
    hello.claim_key = crypto::dh_public(&crypto::Secret::new([1; 32]));
    let folder = tempfile::tempdir().unwrap();
    let (registry, progress) = (Registry::open(&folder.path().join("r")).unwrap(), Progress::silent());
    let session = Session {
        anchor: &anchor,
        hello: &hello,
        token: [7; 16],
        terms: &terms,
        accepted: Accepted::Expected,
        interface: "memory",
        own: [0; 16],
        mac: None,
        ahead: 0,
        registry: &registry,
        host: &system(),
        progress: &progress,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let failure = runtime.block_on(async {
        let (mut ours, mut theirs) = duplex(4096);
        let peer = async {
            if upgraded {
                theirs = tokio_tungstenite::accept_async(theirs).await.unwrap().into_inner();
            }
            let _ = theirs.write_all(bytes).await;
            if !hang_up {
                std::future::pending::<()>().await;
            }
            drop(theirs);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = exchange::run(&mut ours, &session) => result.map(|_| ()),
            () = peer => Ok(()),
        }
    });
    prop_assert!(matches!(failure, Err(Failure::Cut(_))));
    prop_assert_eq!(registry.nodes().unwrap(), []);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_from_the_peer_end_the_exchange(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        upgraded: bool,
        hang_up: bool,
    ) {
        against(&bytes, upgraded, hang_up)?;
    }

    #[test]
    fn any_frame_from_the_peer_ends_the_exchange(
        opcode in 0u8..16,
        payload in prop::collection::vec(any::<u8>(), 0..126),
        length in prop_oneof![Just(48u8), 0u8..128],
    ) {
        // A last, unmasked frame; with 48 bytes of binary it is a Noise message that is not authentic.
        let frame = [&[0x80 | opcode, length][..], &payload].concat();
        against(&frame, true, false)?;
    }

    #[test]
    fn any_datagram_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..512), body: [u8; 104], tamed: bool) {
        let anchor = AnchorSecret::from_seed(&[42; 32]);
        prop_assert!(read_hello(&anchor, &bytes).is_none());
        // Sealed to the anchor, as anybody with an image can: only what is sensible comes through.
        let mut body = HelloBody::read_from_bytes(&body).unwrap();
        if tamed {
            body.address[..2].copy_from_slice(&[0xfe, 0x80]);
            (body.committed, body.zero) = (body.committed & 1, [0; 7]);
        }
        let hello = Hello::seal(&anchor.public(), &crypto::Secret::new([3; 32]), &body).unwrap();
        let sensible = body.address[0] == 0xfe && body.address[1] & 0xc0 == 0x80 && body.committed <= 1 && body.zero == [0; 7];
        prop_assert_eq!(read_hello(&anchor, hello.as_bytes()).is_some(), sensible);
    }
}
