//! A node that its owners let go is its next owner's and nobody else's, or still theirs, wherever the power goes.

use calls::keystore::{AnchorKind, for_beacon::CheckFind, for_lifecycle::Order as CallOrder};
use wire::{command::Operation as Commanded, order::Release, receipt};

use super::{
    command::key_of,
    disk::Fault,
    orders::{configure, isolate, let_go, one},
    *,
};

/// Any cut of the power between two writes, before and after each.
fn cuts(writes: usize) -> impl Iterator<Item = (usize, Fault)> {
    (0..writes).flat_map(|write| [(write, Fault::Cut), (write, Fault::LateCut)])
}

/// Whoever owns a node, by all that it says and does.
fn assert_is_of(rig: &mut Rig, title: &Title) {
    let status = rig.status();
    assert_eq!((status.ownership(), status.fleet), (Ownership::Claimed, title.warrant.fleet));
    assert_eq!((status.anchor, status.ticket_waiting), (AnchorKind::None as u8, 0));
    assert!(rig.shown_ticket().is_none());
    assert_eq!(rig.identify().err(), Some(Refusal::Taken));
    assert_eq!(rig.hello_refused(), Some(Refusal::Taken));
}

impl Rig {
    fn hello_refused(&mut self) -> Option<Refusal> {
        self.ask::<for_beacon::MakeHello>(Channel::Beacon, &()).err()
    }

    /// The secret of the ticket that the console is to show, which replies are searched for from now on.
    fn next_ticket(&mut self) -> Option<[u8; 32]> {
        let secret = self.shown_ticket()?.secret;
        self.tickets.push(secret);
        Some(secret)
    }
}

/// A released node is its next owner's and nobody else's.
fn assert_is_free(rig: &mut Rig, title: &Title, next: &AnchorSecret, kind: AnchorKind) {
    let status = rig.status();
    assert_eq!((status.ownership(), status.epoch), (Ownership::Unclaimed, title.warrant.epoch.get() + 1));
    assert_eq!((status.fleet, status.configuration, status.sequence), ([0; 32], [0; 32], 0));
    assert_eq!((status.isolated, status.command_floors), (0, [0; 7]));
    assert_eq!(status.anchor, kind as u8);
    assert_eq!(status.fiduciary, title.warrant.fiduciary, "it is who it was");
    // The receipt stands in what it says next.
    let receipt = rig.receipt().unwrap();
    assert!(receipt.verify().is_some());
    let named = AnchorFile::new(&Anchor::alone(&next.public())).hash();
    assert_eq!((receipt.kind(), receipt.number.get()), (Some(receipt::Kind::Release), title.warrant.epoch.get()));
    assert_eq!((receipt.hash, receipt.fleet), (named, title.warrant.fleet));
    let identity = rig.identify().unwrap();
    assert_eq!(identity.released, receipt);
    assert!(identity.verify(&[7; 32]).is_some());
    // Those of before own nothing, order nothing and command nothing; the image's anchor is none either.
    assert_eq!(rig.timestamp(), Err(Refusal::NotReady));
    let command = key_of(&authority(), title, rig);
    let command = Command::new(&command, &title.warrant.fiduciary, Commanded::Status, 0, u32::MAX);
    assert_eq!(rig.command(&command), Err(Refusal::NotReady));
    assert_eq!(rig.order(&one(configure(title, u64::MAX, 1)), &[]), Err(Refusal::NotReady));
    for old in [admin(), authority()] {
        let find = Find::sign(&old, u64::MAX, SENDER.0, SENDER.1);
        assert_eq!(rig.ask::<CheckFind>(Channel::Beacon, &find), Err(Refusal::Forged));
        let theirs = bind(&rig.identify().unwrap(), &old, u64::MAX);
        assert_eq!(rig.commit(&theirs).err(), Some(Refusal::Forged));
    }
}

/// And its next owner claims it as anybody does.
fn claim_free(rig: &mut Rig, next: &AnchorSecret) {
    let find = Find::sign(next, 1, SENDER.0, SENDER.1);
    assert!(rig.ask::<CheckFind>(Channel::Beacon, &find).is_ok(), "finds begin at zero");
    rig.hello(next);
    rig.claim_with(next, 1);
    let title = rig.keystore_title();
    let command = key_of(&authority(), &title, rig);
    let command = Command::new(&command, &title.warrant.fiduciary, Commanded::Status, 0, 1);
    assert!(rig.command(&command).is_ok(), "commands begin at zero");
}

impl Rig {
    /// What the node is bound by.
    fn keystore_title(&self) -> Title {
        match &self.keystore.stage {
            Stage::Ready(node) => node.owner().title,
            _ => panic!("there are no keys"),
        }
    }
}

/// One that has been used: finds, commands, a forked identity.
fn used() -> (Rig, Title) {
    let mut rig = Rig::new(Board::anchored());
    rig.fork().unwrap();
    rig.find(900_000).unwrap();
    let title = bind(&rig.identify().unwrap(), &admin(), 10);
    rig.commit(&title).unwrap();
    rig.guard_command_keys(&title);
    rig.settle().unwrap();
    isolate(&mut rig, &title, &authority(), 5000);
    (rig, title)
}

#[test]
fn a_node_is_let_go_to_an_anchor() {
    let next = stranger();
    let (mut rig, title) = used();
    let release = Release::to_anchor(&Anchor::alone(&next.public()), false);
    let (order, body) = let_go(&title, 20, &release);
    let mut other = body.clone();
    other[20] ^= 1;
    for (order, body) in [(order, &body[..]), (one(order), &other[..]), (one(order), &[])] {
        assert_eq!(rig.order(&order, body), Err(Refusal::Forged));
    }
    // Not to an anchor of those who let it go, unless they say so.
    for anchor in [admin(), authority()] {
        let (order, body) = let_go(&title, 20, &Release::to_anchor(&Anchor::alone(&anchor.public()), false));
        assert_eq!(rig.order(&one(order), &body), Err(Refusal::Forged));
    }
    assert_is_of(&mut rig, &title);
    rig.lifecycle.nudged();
    let purges = rig.disk.purges();
    assert_eq!(rig.order(&one(order), &body), Ok(()));
    assert!(rig.lifecycle.nudged());
    assert_eq!(rig.disk.purges(), purges + 1);
    assert!(rig.shown_ticket().is_none());
    for _ in 0..2 {
        assert_is_free(&mut rig, &title, &next, AnchorKind::Release);
        assert_nothing_is_left(&rig, &title);
        rig.power_cycle();
    }
    claim_free(&mut rig, &next);
    rig.power_cycle();
    assert_eq!((rig.status().ownership(), rig.status().epoch), (Ownership::Claimed, 3));
    assert!(rig.receipt().is_err(), "it is a member again");
}

#[test]
fn a_node_comes_back_to_its_owners_if_they_say_so() {
    let (mut rig, title) = used();
    let release = Release::to_anchor(&Anchor::alone(&admin().public()), true);
    let (order, body) = let_go(&title, 20, &release);
    assert_eq!(rig.order(&one(order), &body), Ok(()));
    // The binding of before is of an epoch that has ended.
    assert_eq!(rig.commit(&title).err(), Some(Refusal::Nonce));
    let mut again = title;
    again.binding.nonce = rig.identify().unwrap().nonce;
    assert_eq!(rig.commit(&again.bind(&admin())).err(), Some(Refusal::Stale));
    claim_free(&mut rig, &admin());
    // Nor does the order let it go a second time.
    assert!(rig.order(&one(order), &body).is_err());
    assert_eq!(rig.status().ownership(), Ownership::Claimed);
}

#[test]
fn a_node_is_let_go_to_a_ticket_again_and_again() {
    let (mut rig, mut title) = used();
    let mut tickets = vec![];
    for round in 0..3u64 {
        let (order, body) = let_go(&title, 100, &Release::to_ticket());
        // The ticket is new to the search, which comes to know it when it stands where the console reads it.
        assert_eq!(rig.order(&one(order), &body), Ok(()));
        let secret = rig.next_ticket().unwrap();
        assert_eq!(rig.status().ticket_waiting, 1);
        let next = AnchorSecret::from_seed(&secret);
        assert!(!tickets.contains(&secret), "each is drawn anew");
        tickets.push(secret);
        // The number of the ticket before is none of this one's.
        rig.shown.publish(&TicketShown { number: round });
        rig.step();
        assert_eq!(rig.status().ticket_waiting, 1);
        rig.show();
        rig.step();
        assert_eq!(rig.status().ticket_waiting, 0);
        assert_is_free(&mut rig, &title, &next, AnchorKind::Ticket);
        rig.power_cycle();
        assert_eq!(rig.shown_ticket().unwrap().secret, secret, "it is shown until the node is claimed");
        assert_is_free(&mut rig, &title, &next, AnchorKind::Ticket);
        claim_free(&mut rig, &next);
        title = rig.keystore_title();
        rig.guard_command_keys(&title);
        super::boot::assert_no_ticket_is_left(&rig);
    }
}

/// What the store has of a node that was let go.
fn assert_nothing_is_left(rig: &Rig, title: &Title) {
    let key = crypto::derive(&[], &rig.board.device_secret, label::STORE_KEY, &[]);
    for (sequence, mut sealed) in rig.disk.log(Record::Ownership) {
        crate::vault::open(&key, Record::Ownership, sequence, &mut sealed).unwrap();
        let has = |bytes: &[u8]| sealed.windows(bytes.len()).any(|window| window == bytes);
        assert!(!has(&title.warrant.configuration) && !has(&title.set.authorities[0].dh) && !has(&title.binding.nonce));
    }
}

#[test]
fn a_release_cut_short_leaves_the_old_owners_or_the_next_one() {
    // To an anchor: ownership, and that it was purged. To a ticket: the identity with it before.
    for (by_ticket, writes, gone_from) in [(false, 2, 0), (true, 3, 1)] {
        for (write, fault) in cuts(writes) {
            let (mut rig, title) = used();
            let release = match by_ticket {
                true => Release::to_ticket(),
                false => Release::to_anchor(&Anchor::alone(&stranger().public()), false),
            };
            let (order, body) = let_go(&title, 20, &release);
            let order = OrderRequest::new(&one(order), &body).unwrap();
            let before = rig.disk.writes();
            rig.lifecycle.call::<CallOrder>(&order, 0, Patience::ENDLESS);
            rig.run_to_write(before + write);
            rig.disk.fail(fault);
            rig.run();
            assert!(rig.outcome::<CallOrder>(Channel::Lifecycle).is_none());
            rig.power_cycle();
            let gone = write > gone_from || (write == gone_from && fault == Fault::LateCut);
            if !gone {
                assert_is_of(&mut rig, &title);
                let key = key_of(&authority(), &title, &rig);
                let command = Command::new(&key, &title.warrant.fiduciary, Commanded::Status, 0, 9000);
                assert!(rig.command(&command).is_ok());
                // They can do it again, and nothing of the first time is left.
                assert_eq!(rig.ask::<CallOrder>(Channel::Lifecycle, &order), Ok(()), "{write}, {fault:?}");
            }
            let (next, kind) = match by_ticket {
                true => (AnchorSecret::from_seed(&rig.next_ticket().unwrap()), AnchorKind::Ticket),
                false => (stranger(), AnchorKind::Release),
            };
            for _ in 0..2 {
                assert_is_free(&mut rig, &title, &next, kind);
                assert_nothing_is_left(&rig, &title);
                rig.power_cycle();
            }
            claim_free(&mut rig, &next);
        }
    }
}

#[test]
fn a_release_that_the_store_does_not_keep_is_none() {
    for by_ticket in [false, true] {
        for (write, fault) in [(0, Fault::Refused), (0, Fault::Dead), (1, Fault::Refused), (1, Fault::Dead)] {
            if !by_ticket && write == 1 {
                continue;
            }
            let (mut rig, title) = used();
            let release = match by_ticket {
                true => Release::to_ticket(),
                false => Release::to_anchor(&Anchor::alone(&stranger().public()), false),
            };
            let (order, body) = let_go(&title, 20, &release);
            let request = OrderRequest::new(&one(order), &body).unwrap();
            let before = rig.disk.writes();
            rig.lifecycle.call::<CallOrder>(&request, 0, Patience::ENDLESS);
            rig.run_to_write(before + write);
            rig.disk.fail(fault);
            rig.run();
            assert_eq!(rig.outcome::<CallOrder>(Channel::Lifecycle), Some(Err(Refusal::Store)), "{write}, {fault:?}");
            rig.disk.power_on();
            for _ in 0..2 {
                assert_is_of(&mut rig, &title);
                rig.power_cycle();
            }
            assert_eq!(rig.ask::<CallOrder>(Channel::Lifecycle, &request), Ok(()));
            assert_eq!(rig.status().ownership(), Ownership::Unclaimed);
        }
    }
}

#[test]
fn a_release_that_was_kept_though_nobody_said_so_is_one() {
    for (by_ticket, write) in [(false, 0), (true, 1)] {
        let (mut rig, title) = used();
        let release = match by_ticket {
            true => Release::to_ticket(),
            false => Release::to_anchor(&Anchor::alone(&stranger().public()), false),
        };
        let (order, body) = let_go(&title, 20, &release);
        let request = OrderRequest::new(&one(order), &body).unwrap();
        let before = rig.disk.writes();
        rig.lifecycle.call::<CallOrder>(&request, 0, Patience::ENDLESS);
        rig.run_to_write(before + write);
        rig.disk.fail(Fault::LateDead);
        rig.run();
        assert_eq!(rig.outcome::<CallOrder>(Channel::Lifecycle), Some(Err(Refusal::Store)));
        assert_eq!(rig.status().store, Store::Doubtful as u8);
        rig.disk.power_on();
        // Whoever asks for anything has it looked up.
        let _ = rig.ask::<for_beacon::BeaconRandom>(Channel::Beacon, &());
        let (next, kind) = match by_ticket {
            true => (AnchorSecret::from_seed(&rig.next_ticket().unwrap()), AnchorKind::Ticket),
            false => (stranger(), AnchorKind::Release),
        };
        assert_is_free(&mut rig, &title, &next, kind);
        assert_nothing_is_left(&rig, &title);
        claim_free(&mut rig, &next);
    }
}
