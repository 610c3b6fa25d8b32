use crypto::{AnchorSecret, Secret};
use policy::{Peer, Role};
use proptest::prelude::*;
use wire::{
    U64,
    anchor::Anchor,
    binding::configuration_hash,
    set::{Authority, AuthoritySet},
    title::Warrant,
};
use zerocopy::FromZeros;

use super::*;

fn key(n: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&[n; 32])
}

fn configuration(preshared: bool) -> Vec<u8> {
    let allowed = [policy::Prefix::v4([10, 8, 0, 1], 32)].into_iter().collect();
    let preshared = preshared.then_some(policy::Preshared([9; 32]));
    let authority = key(1).public().dh;
    let peer = Peer { key: authority, role: Role::Authority, preshared, endpoint: None, allowed, keepalive_s: 25 };
    let configuration = policy::Configuration {
        addresses: [policy::Prefix::v4([10, 8, 0, 2], 24)].into_iter().collect(),
        peers: [peer].into_iter().collect(),
        rules: ["in authority icmp".parse().unwrap()].into_iter().collect(),
        ..policy::Configuration::default()
    };
    configuration.write(&mut [0; 512]).unwrap().to_vec()
}

/// Received by key 1; three of keys 2 to 6 must approve; owned by two of three.
fn proposal(configuration: Vec<u8>) -> Proposal {
    let anchor = Anchor::new(&key(1).public(), 3, &[2, 3, 4, 5, 6].map(|n| key(n).public().sign)).unwrap();
    let set = AuthoritySet::new(2, &[7, 8, 9].map(|n| Authority::signer(&key(n).public()))).unwrap();
    let mut warrant = Warrant::new_zeroed();
    (warrant.fiduciary, warrant.fleet, warrant.epoch) =
        (crypto::sign_public(&Secret::new([20; 32])), [3; 32], U64::new(1));
    (warrant.set, warrant.configuration) = (set.hash(), configuration_hash(&configuration));
    place(&mut warrant, &configuration);
    Proposal { expires_s: 1_800_000_000, anchor, warrant, set, fleet: "lab".into(), configuration }
}

fn made() -> Proposal {
    proposal(configuration(false))
}

fn founding() -> Genesis {
    let placed = |n: u8| Authority { mesh: key(n + 100).public().dh, ..Authority::signer(&key(n).public()) };
    Genesis {
        name: "north".into(),
        nonce: [4; 16],
        needed: 2,
        authorities: vec![placed(7), placed(8), Authority::signer(&key(9).public())],
        network: ([10, 9, 0, 0].into(), 24),
        rules: vec!["in authority tcp 80".parse().unwrap(), "in node icmp".parse().unwrap()],
        activate: 2,
        members: vec![
            Listed::new(&crypto::sign_public(&Secret::new([20; 32])), "rack 4"),
            Listed::of_print([5; 20], ""),
            Listed::of_print([6; 20], "roof"),
        ],
    }
}

fn accepted(n: u8) -> Paper {
    Paper::Approval(founding().accept(&key(n)).unwrap())
}

#[test]
fn a_genesis_is_read_again_and_its_hash_is_the_fleet() {
    let paper = Paper::Genesis(Box::new(founding()));
    assert_eq!(parse(&paper.to_string()), Ok(vec![paper.clone()]));
    let set = founding().set().unwrap();
    let inner = |at: usize| std::net::Ipv6Addr::from(set.authorities[at].inner);
    assert_eq!([inner(0), inner(1)], [1, 2].map(|host| super::inner(&founding().id(), host)));
    assert_eq!(set.authorities[2].inner, [0; 16]);
    let papers = gathered([paper, accepted(7), accepted(9)]).unwrap();
    assert_eq!(
        founding().accepted(&papers).iter().map(|(_, accepted)| *accepted).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert!(founding().accept(&key(1)).is_none());
    let forged = |change: fn(&mut Approval)| {
        let mut acceptance = founding().accept(&key(7)).unwrap();
        change(&mut acceptance);
        gathered([Paper::Genesis(Box::new(founding())), Paper::Approval(acceptance)]).unwrap_err()
    };
    assert!(forged(|one| one.signature[9] ^= 1).contains("its signature is false"));
    assert!(forged(|one| one.signer = key(8).public().sign).contains("its signature is false"));
    assert!(forged(|one| one.signer = key(1).public().sign).contains("does not name this key"));
    // Whoever wants a warrant signed cannot have it taken for an acceptance, nor the other way round.
    let other =
        Approval { signature: made().approve(&key(2)).unwrap().signature, ..founding().accept(&key(7)).unwrap() };
    assert!(founding().check(&other).is_err());
    assert!(gathered([accepted(7)]).is_err() && gathered([of(&made()), accepted(7)]).is_err());
}

#[test]
fn a_genesis_lists_each_node_once_and_leaves_nothing_open() {
    let wrong: [fn(&mut Genesis); 16] = [
        |g| g.needed = 1,
        |g| g.needed = 4,
        |g| g.authorities[1] = g.authorities[0],
        |g| g.authorities[1].mesh = g.authorities[0].mesh,
        |g| g.authorities[2].dh = g.authorities[0].mesh,
        |g| g.authorities.clear(),
        |g| g.members.clear(),
        |g| g.members[1].print = g.members[0].print,
        |g| g.members[1].fiduciary = g.members[0].fiduciary,
        |g| g.activate = 4,
        |g| g.activate = 0,
        |g| g.network.1 = 31,
        |g| g.network = ([10, 9, 0, 0].into(), 30),
        |g| g.rules[1] = g.rules[0],
        |g| g.name.clear(),
        |g| g.members[0].site = "rack\u{202e}4".into(),
    ];
    assert_eq!(founding().sound(), Ok(()));
    for (at, change) in wrong.into_iter().enumerate() {
        let mut other = founding();
        change(&mut other);
        assert!(other.sound().is_err(), "{at}");
        assert!(parse(&Paper::Genesis(Box::new(other)).to_string()).is_err(), "{at}");
    }
}

fn gathered(papers: impl IntoIterator<Item = Paper>) -> Result<Papers, String> {
    let mut all = Papers::default();
    papers.into_iter().for_each(|paper| all.add(paper));
    all.check().map(|()| all)
}

fn of(proposal: &Proposal) -> Paper {
    Paper::Warrant(Box::new(proposal.clone()))
}

fn by(n: u8) -> Paper {
    Paper::Approval(made().approve(&key(n)).unwrap())
}

#[test]
fn what_was_written_is_read_again_whatever_ends_its_lines() {
    let papers = vec![of(&made()), by(2), by(3)];
    let text: String = papers.iter().map(|paper| format!("{paper}\n")).collect();
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("\n\n{}", text.trim())] {
        assert_eq!(parse(&text), Ok(papers.clone()));
    }
    let shown = of(&made()).to_string();
    for said in
        ["3 of 5 must approve", "2 of 3 must sign", "10.8.0.2/24", "in authority icmp", "epoch        1\n", "lab, 0303"]
    {
        assert!(shown.contains(said), "{said}\n{shown}");
    }
    assert!(shown.is_ascii());
}

#[test]
fn a_text_that_was_edited_is_no_text_of_this_paper() {
    let text = of(&made()).to_string();
    for (from, to) in [
        ("2 of 3 must sign", "3 of 3 must sign"),
        ("lab, ", "lap, "),
        ("epoch        1", "epoch        2"),
        ("rule         in authority icmp\n", ""),
        ("\n\n", "\n\nApproved by all.\n"),
        ("Proposal", "Harmless proposal"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text, "{from}");
        assert!(parse(&edited).unwrap_err().contains("was edited"), "{from}");
    }
    assert!(parse(&text[..text.len() - 20]).is_err());
    assert!(parse(&(text.clone() + "and more")).unwrap_err().contains("without a block"));
    assert!(parse(&text.replace("WARRANT PROPOSAL", "CERTIFICATE")).unwrap_err().contains("none of this program's"));
    assert_eq!(parse(" \n"), Err("it is empty".into()));
}

#[test]
fn a_bundle_with_a_secret_is_refused_by_name() {
    let text = of(&made()).to_string();
    for (secret, name) in [
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a private key"),
        ("[Interface]\nPrivateKey = x\n", "a private key"),
        ("{\"format\": \"os-network-admin key\"}", "key file"),
    ] {
        for bundle in [format!("{text}{secret}"), format!("{secret}{text}")] {
            assert!(parse(&bundle).unwrap_err().contains(name), "{name}");
        }
    }
    let with_preshared = of(&proposal(configuration(true))).to_string();
    assert!(parse(&with_preshared).unwrap_err().contains("a preshared key in it"));
}

#[test]
fn a_proposal_is_whole_and_says_one_thing() {
    let wrong: [fn(&mut Proposal); 11] = [
        |p| p.warrant.sequence = U64::new(1),
        |p| p.warrant.record[31] = 1,
        |p| p.set.needed = 3,
        |p| p.set.needed = 1,
        |p| p.configuration.push(0),
        |p| p.warrant.epoch = U64::new(0),
        |p| p.warrant.zero[0] = 1,
        |p| p.warrant.signatures[6][0] = 1,
        |p| p.warrant.fiduciary = [0; 32],
        |p| p.warrant.addresses[0].ip[15] ^= 1,
        |p| p.fleet = "a\u{202e}b".into(),
    ];
    assert_eq!(made().sound(), Ok(()));
    let mut later = made();
    (later.warrant.sequence, later.warrant.record) = (U64::new(3), [8; 32]);
    assert!(parse(&of(&later).to_string()).is_ok() && later.text().contains("by record    0808"));
    for (at, change) in wrong.into_iter().enumerate() {
        let mut other = made();
        change(&mut other);
        assert!(other.sound().is_err(), "{at}");
        assert!(parse(&of(&other).to_string()).is_err(), "{at}");
    }
    assert!(made().current(1_800_000_000_000).is_ok());
    assert!(made().current(1_800_000_001_000).unwrap_err().contains("has expired"));
}

#[test]
fn three_of_five_approve_each_once_and_nobody_else() {
    let standing = |papers: Vec<Paper>| made().standing(&gathered(papers).unwrap());
    let two = standing(vec![of(&made()), by(2), by(2), by(4)]);
    assert_eq!((two.signatures(), two.needed, two.count, two.is_enough()), (2, 3, 5, false));
    assert!(two.warrant.verify(&made().anchor).is_none());
    let three = standing(vec![by(6), of(&made()), by(2), by(4), of(&made())]);
    assert_eq!(three.signed, [true, false, true, false, true, false, false]);
    assert!(three.is_enough() && three.warrant.verify(&made().anchor).is_some());
    assert!(made().approve(&key(1)).is_none() && made().approve(&key(7)).is_none());
}

#[test]
fn an_approval_of_something_else_or_by_somebody_else_is_an_error() {
    let refused = |papers: Vec<Paper>| gathered(papers).unwrap_err();
    let mut other = made();
    other.warrant.epoch = U64::new(2);
    assert!(refused(vec![of(&other), by(2)]).contains("of nothing that was named here"));
    assert!(refused(vec![by(2)]).contains("of nothing that was named here"));
    assert!(refused(vec![of(&made()), of(&other)]).contains("there are two warrants for"));
    let approval = made().approve(&key(2)).unwrap();
    let changed = |change: fn(&mut Approval)| {
        let mut other = approval;
        change(&mut other);
        refused(vec![of(&made()), Paper::Approval(other)])
    };
    assert!(changed(|a| a.signature[5] ^= 1).contains("its signature is false"));
    assert!(changed(|a| a.signer = key(3).public().sign).contains("its signature is false"));
    assert!(changed(|a| a.signer = key(9).public().sign).contains("does not name this key"));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,400}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_in_a_block_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2400)) {
        for label in [Proposal::LABEL, Genesis::LABEL, Approval::LABEL] {
            let _ = Paper::parse(label, &bytes);
        }
    }

    /// What is taken has one form: nothing in the bytes is without meaning, and nothing is signed that the text does not say.
    #[test]
    fn a_changed_byte_is_an_error_or_another_text(at in 0usize..2500, by in 1u8..) {
        let whole = made();
        let mut bytes = whole.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= by;
        if let Ok(other) = Proposal::parse(&bytes) {
            prop_assert_eq!(other.to_bytes(), bytes);
            prop_assert_ne!(&other, &whole);
            prop_assert_ne!(other.text(), whole.text());
        }
    }

    #[test]
    fn a_changed_byte_of_a_genesis_is_an_error_or_another_fleet(at in 0usize..1000, by in 1u8..) {
        let whole = founding();
        let mut bytes = whole.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= by;
        if let Ok(other) = Genesis::parse(&bytes) {
            prop_assert_eq!(other.to_bytes(), bytes);
            prop_assert!(other.id() != whole.id() && other.text() != whole.text());
        }
    }

    #[test]
    fn a_changed_character_of_a_file_is_an_error(at in 0usize..9000, by in 1u8..64) {
        let text = of(&made()).to_string() + &super::Form::write(&made().approve(&key(2)).unwrap());
        let mut bytes = text.trim().as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= by;
        if let Ok(other) = str::from_utf8(&bytes) {
            let same = other.replace("\r\n", "\n").trim() == text.trim();
            prop_assert!(same || parse(other).and_then(gathered).is_err());
        }
    }
}
