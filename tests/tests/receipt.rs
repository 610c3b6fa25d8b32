//! A receipt is verified with public keys alone, by a program that has nothing of ours.

use std::{path::Path, process::Command};

use crypto::Secret;
use genesis_tests::receipt::verify;
use wire::receipt::{Kind, Receipt};
use zerocopy::IntoBytes;

#[test]
fn another_program_verifies_a_receipt_and_no_changed_one() {
    let seed = Secret::new([7; 32]);
    let key = crypto::sign_public(&seed);
    for kind in Kind::ALL {
        let receipt = Receipt::sign(&seed, &key, *kind, &[1; 32], 48, &[2; 32]);
        let said = verify(&receipt, &key).expect("a receipt");
        assert!(said.contains(&format!("kind {}, number 48, hash {}", *kind as u32, "02".repeat(32))), "{said}");
        for at in (0..size_of::<Receipt>()).step_by(7) {
            let mut changed = receipt;
            changed.as_mut_bytes()[at] ^= 4;
            assert_eq!(verify(&changed, &changed.fiduciary), None, "byte {at}");
        }
        assert_eq!(verify(&receipt, &[9; 32]), None, "another node's");
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/verify-receipt");
    let short = Command::new(tool).arg("00ff").output().expect("bash");
    assert_eq!(short.status.code(), Some(2));
}
