//! Anchors of several signers: whoever finds a node owns it only by a warrant of enough of them.

use calls::keystore::for_beacon::{self, CheckOpen};

use super::*;

/// Key 42 receives; three of five others sign.
fn signers() -> [AnchorSecret; 5] {
    [50, 51, 52, 53, 54].map(|byte| AnchorSecret::from_seed(&[byte; 32]))
}

fn three_of_five() -> Board {
    let keys = signers().map(|signer| signer.public().sign);
    Board { image: AnchorFile::new(&Anchor::new(&admin().public(), 3, &keys).unwrap()), ..Board::anchored() }
}

/// A warrant that these have signed, and the binding of the one who receives.
fn warranted(title: &Title, places: &[usize]) -> Title {
    let mut title = *title;
    title.warrant.set = title.set.hash();
    for place in places {
        title.warrant = title.warrant.sign(&signers()[*place], *place);
    }
    title.bind(&admin())
}

#[test]
fn the_reception_key_alone_finds_and_opens_and_owns_nothing() {
    let mut rig = Rig::new(three_of_five());
    let find = Find::sign(&admin(), 70, SENDER.0, SENDER.1);
    assert!(rig.ask::<for_beacon::CheckFind>(Channel::Beacon, &find).is_ok());
    let open = open_for(&rig.hello(&admin()), &admin(), 3);
    assert!(rig.ask::<CheckOpen>(Channel::Beacon, &open).is_ok());
    let writes = rig.disk.writes();
    for places in [&[][..], &[0], &[0, 4], &[1, 2]] {
        let title = warranted(&unsigned(&rig.identify().unwrap(), 11), places);
        assert_eq!(rig.commit(&title).err(), Some(Refusal::Forged), "{places:?}");
    }
    // By its own signature at a signer's place neither.
    let own = unsigned(&rig.identify().unwrap(), 11).sign(&admin());
    assert_eq!(rig.commit(&own).err(), Some(Refusal::Forged));
    assert_eq!((rig.status().ownership(), rig.disk.writes()), (Ownership::Unclaimed, writes));
    // Nor do the signers without it.
    let mut theirs = warranted(&unsigned(&rig.identify().unwrap(), 11), &[0, 1, 2]);
    theirs = theirs.bind(&signers()[0]);
    assert_eq!(rig.commit(&theirs).err(), Some(Refusal::Forged));
    let title = warranted(&unsigned(&rig.identify().unwrap(), 11), &[0, 2, 4]);
    let record = rig.commit(&title).unwrap();
    // A cut claim is resumed with the same bytes, also after a power cut, and by no others.
    for _ in 0..2 {
        assert_eq!(rig.commit(&title), Ok(record));
        assert_eq!(rig.commit(&warranted(&title, &[1])).err(), Some(Refusal::Taken));
        rig.power_cycle();
    }
    assert_eq!(rig.status().ownership(), Ownership::Committed);
}

#[test]
fn a_warrant_is_for_one_node_one_epoch_one_set_and_its_binding() {
    let mut rig = Rig::new(three_of_five());
    rig.fork().unwrap();
    let all = [0, 1, 2];
    let other_set = AuthoritySet::alone(place_of(&stranger()));
    type Change = fn(&mut Title);
    let changes: [(Refusal, Change); 4] = [
        (Refusal::NotMine, |t| t.warrant.fiduciary[0] ^= 1),
        (Refusal::NotMine, |t| t.warrant.fork[0] ^= 1),
        (Refusal::Stale, |t| t.warrant.epoch = U64::new(0)),
        (Refusal::Stale, |t| t.warrant.epoch = U64::new(2)),
    ];
    for (refusal, change) in changes {
        let mut title = unsigned(&rig.identify().unwrap(), 11);
        change(&mut title);
        assert_eq!(rig.commit(&warranted(&title, &all)).err(), Some(refusal));
    }
    // The set of another warrant, and the binding of another.
    let title = warranted(&unsigned(&rig.identify().unwrap(), 11), &all);
    assert_eq!(rig.commit(&Title { set: other_set, ..title }).err(), Some(Refusal::Forged));
    let title = warranted(&unsigned(&rig.identify().unwrap(), 11), &all);
    let mut other = title;
    other.warrant.configuration[0] ^= 1;
    let other = warranted(&other, &all);
    assert_eq!(rig.commit(&Title { binding: title.binding, ..other }).err(), Some(Refusal::Forged));
    // A set that a record put in force without that record, and a fleet's first set with one.
    for (sequence, record) in [(1, [0; 32]), (0, [9; 32])] {
        let mut title = unsigned(&rig.identify().unwrap(), 11);
        (title.warrant.sequence, title.warrant.record) = (U64::new(sequence), record);
        assert_eq!(rig.commit(&warranted(&title, &all)).err(), Some(Refusal::Forged));
    }
    // The fork record need not have been known when it was signed.
    let mut title = unsigned(&rig.identify().unwrap(), 11);
    title.warrant.fork = [0; 32];
    assert!(rig.commit(&warranted(&title, &all)).is_ok());
}
