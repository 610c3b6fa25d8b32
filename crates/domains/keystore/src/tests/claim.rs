//! The operations of the three clients, from the table of access to the acknowledged claim.

use calls::keystore::{
    Initiation, InitiationReply, OpenBlockRequest, SealBlockRequest,
    for_beacon::{CheckFind, CheckOpen, MakeHello},
    for_claim::{ClaimKey, ClaimRandom, Commit, ReadInitiation},
    for_lifecycle::{Status, StoreDown},
};
use crypto::noise::{PROTOCOL, Symmetric};
use wire::{
    binding::PairingRecord,
    handshake::{FinishHandshake, ReadHandshake, StartHandshake},
};

use super::{disk::Fault, *};

/// Puts a request into a mailbox by hand, so that any operation and length can be asked for. The layout is
/// that of [`shm::mailbox`].
pub fn ask_raw(rig: &mut Rig, mailbox: usize, op: u64, len: u64, body: &[u8]) -> u64 {
    let (request, reply) = rig.mailboxes[mailbox];
    let mut region = ReadWrite::new(request);
    let seq = region.load(0) + 1;
    region.write(40, body);
    region.store(8, op);
    region.store(16, len);
    region.store(0, seq);
    rig.run();
    assert_eq!(ReadOnly::new(reply).load(0), seq, "every request is answered");
    ReadOnly::new(reply).load(8)
}

/// Operations by mailbox, as [`calls::keystore`] has them: number, and size of the request.
const OPERATIONS: [(&[(u32, usize)], Channel); 4] = [
    (
        &[
            (1, 0),
            (2, 0),
            (3, 0),
            (4, 0),
            (5, size_of::<OrderRequest>()),
            (6, size_of::<SealBlockRequest>()),
            (7, size_of::<OpenBlockRequest>()),
            (8, 0),
            (9, size_of::<OrderRequest>()),
            (10, size_of::<Title>()),
            (11, size_of::<AuthorityRecord>()),
            (12, 0),
        ],
        Channel::Lifecycle,
    ),
    (&[(16, size_of::<Find>()), (17, 0), (18, size_of::<Open>()), (19, 0)], Channel::Beacon),
    (&[(32, size_of::<Initiation>()), (33, 0), (34, 32), (35, size_of::<Title>()), (36, 32), (37, 0)], Channel::Claim),
    (
        &[
            (48, 0),
            (49, size_of::<StartHandshake>()),
            (50, size_of::<FinishHandshake>()),
            (51, size_of::<ReadHandshake>()),
            (52, 0),
            (53, size_of::<Command>()),
            (54, 0),
        ],
        Channel::Mesh,
    ),
];

#[test]
fn every_operation_on_every_channel_is_done_only_as_the_table_says() {
    let not_allowed = u64::from(Refusal::NotAllowed.code());
    let mut rig = Rig::new(Board::anchored());
    for (mailbox, (own, peer)) in OPERATIONS.into_iter().enumerate() {
        for op in (1..600).chain([u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX, 1 << 32 | 1, 1 << 32 | 33]) {
            let listed = own.iter().find(|(number, _)| u64::from(*number) == op);
            let of_interface = match peer {
                Channel::Lifecycle => for_lifecycle::Op::from_number(op).is_some(),
                Channel::Beacon => for_beacon::Op::from_number(op).is_some(),
                Channel::Claim => for_claim::Op::from_number(op).is_some(),
                _ => for_mesh::Op::from_number(op).is_some(),
            };
            assert_eq!(listed.is_some(), of_interface);
            let lengths: &[u64] = match op {
                0..60 => {
                    &[0, 1, 16, 31, 32, 33, 64, 96, 104, 144, 176, 192, 600, 912, 1936, 1937, 2088, 2128, u64::MAX]
                }
                _ => &[0, 32],
            };
            for len in lengths.iter().copied() {
                let right = listed.is_some_and(|(_, size)| *size as u64 == len);
                let status = ask_raw(&mut rig, mailbox, op, len, &[0; 2200]);
                assert_eq!(status != not_allowed, right, "mailbox {mailbox}, operation {op}, length {len}");
            }
        }
    }
}

/// What each operation answers to a request of zeros, in a state.
fn refusals(rig: &mut Rig) -> Vec<Option<Refusal>> {
    let mut all = Vec::new();
    for (mailbox, (own, _)) in OPERATIONS.into_iter().enumerate() {
        for (op, size) in own {
            let status = ask_raw(rig, mailbox, u64::from(*op), *size as u64, &[0; 2200]);
            all.push(Refusal::from_number(status));
            if *op == StoreDown::OP {
                rig.store.restart();
            }
        }
    }
    all
}

#[test]
fn every_operation_in_every_state_is_done_only_as_the_table_says() {
    use Refusal::*;
    const OK: Option<Refusal> = None;
    const NOT: Option<Refusal> = Some(NotReady);
    const TAKEN: Option<Refusal> = Some(Taken);
    const FORGED: Option<Refusal> = Some(Forged);
    let lifecycle = [OK, NOT, OK, NOT, NOT, NOT, NOT, OK, NOT, NOT, NOT, NOT];
    let without_keys = [&lifecycle[..], &[NOT; 17]].concat();
    let mut rig = Rig::cold(Board::anchored(), Disk::default());
    assert_eq!(refusals(&mut rig), without_keys);
    rig.source = Box::new(source::Stuck(1));
    rig.feed();
    assert_eq!(refusals(&mut rig), without_keys);

    // In the order of the table; what is refused here is refused for what it says.
    let mut rig = Rig::new(Board::anchored());
    let beacon = [FORGED, OK, FORGED, OK];
    let ready = [
        &[OK, OK, OK, NOT, NOT, OK, NOT, OK, NOT, Some(Nonce), NOT, NOT],
        &beacon[..],
        &[FORGED, OK, OK, Some(Nonce), Some(NotMine), OK],
        &[NOT; 7],
    ]
    .concat();
    assert_eq!(refusals(&mut rig), ready);
    let title = bind(&rig.identify().unwrap(), &admin(), 1);
    let record = rig.commit(&title).unwrap();
    // What would settle the node fails to.
    rig.disk.fail(Fault::Refused);
    let lifecycle = [OK, OK, OK, Some(Store), NOT, OK, FORGED, OK, NOT, TAKEN, NOT, OK];
    let mesh = [OK, FORGED, FORGED, FORGED, OK, Some(NotMine), NOT];
    let committed = [&lifecycle, &beacon[..], &[FORGED, OK, OK, TAKEN, FORGED, OK], &mesh].concat();
    assert_eq!(refusals(&mut rig), committed);

    let mut lost = Rig::boot(Board { seed: 2, ..Board::anchored() }, rig.disk.copy());
    lost.source = Box::new(source::Stuck(1));
    lost.feed();
    let fresh_is_gone = [
        &[OK, NOT, OK, NOT, NOT, NOT, FORGED, OK, NOT, NOT, NOT, OK],
        &[NOT; 4][..],
        &[FORGED, OK, NOT, NOT, NOT, NOT],
        &[OK, NOT, FORGED, FORGED, NOT, NOT, NOT],
    ];
    assert_eq!(refusals(&mut lost), fresh_is_gone.concat());

    assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
    let claimed = [
        &[OK, TAKEN, OK, OK, Some(NotMine), OK, FORGED, OK, Some(NotMine), TAKEN, FORGED, OK],
        &[TAKEN, TAKEN, TAKEN, OK][..],
        &[TAKEN, OK, TAKEN, TAKEN, FORGED, OK],
        &mesh,
    ];
    let claimed = claimed.concat();
    assert_eq!(refusals(&mut rig), claimed);
    rig.power_cycle();
    assert_eq!(refusals(&mut rig), claimed);
}

#[test]
fn a_find_counts_once_and_its_counter_is_stored_first() {
    let mut rig = Rig::new(Board::anchored());
    let first = rig.find(5).unwrap();
    assert_ne!(rig.find(6).unwrap(), first);
    for counter in [0, 5, 6] {
        assert_eq!(rig.find(counter), Err(Refusal::Stale));
    }
    let wrong = Find::sign(&stranger(), 7, SENDER.0, SENDER.1);
    assert_eq!(rig.ask::<CheckFind>(Channel::Beacon, &wrong), Err(Refusal::Forged));
    let good = Find::sign(&admin(), 7, SENDER.0, SENDER.1);
    for at in [0, 4, 5, 6, 15, 20, 35, 38, 60] {
        let mut changed = good;
        changed.as_mut_bytes()[at] ^= 1;
        assert!(rig.ask::<CheckFind>(Channel::Beacon, &changed).is_err(), "byte {at}");
    }
    // Not stored, not answered; and not counted.
    let good = Find::sign(&admin(), 70_000, SENDER.0, SENDER.1);
    rig.disk.fail(Fault::Refused);
    assert_eq!(rig.find(70_000), Err(Refusal::Store));
    rig.disk.set_busy(true);
    rig.beacon.call::<CheckFind>(&good, 0, Patience::ENDLESS);
    for _ in 0..3 {
        rig.run();
        assert!(rig.outcome::<CheckFind>(Channel::Beacon).is_none());
    }
    rig.disk.set_busy(false);
    rig.run();
    assert!(rig.outcome::<CheckFind>(Channel::Beacon).unwrap().is_ok());
    assert_eq!(rig.find(70_000), Err(Refusal::Stale));
}

#[test]
fn a_request_that_is_being_committed_leaves_the_others_where_they_are() {
    let mut rig = Rig::new(Board::anchored());
    let title = bind(&rig.identify().unwrap(), &admin(), 9);
    rig.disk.set_busy(true);
    let writes = rig.disk.writes();
    rig.lifecycle.call::<Fork>(&(), 0, Patience::ENDLESS);
    rig.run();
    rig.beacon.call::<CheckFind>(&Find::sign(&admin(), 5, SENDER.0, SENDER.1), 0, Patience::ENDLESS);
    rig.claim.call::<Commit>(&title, 0, Patience::ENDLESS);
    rig.run();
    assert_eq!(rig.disk.writes(), writes);
    rig.disk.set_busy(false);
    rig.run();
    assert_eq!(rig.disk.writes(), writes + 3);
    assert_eq!(rig.outcome::<Fork>(Channel::Lifecycle), Some(Ok(())));
    assert!(rig.outcome::<CheckFind>(Channel::Beacon).unwrap().is_ok());
    // The fork came first: the warrant need not know of it.
    assert!(rig.outcome::<Commit>(Channel::Claim).unwrap().is_ok());
    // A caller that has given up gets nothing of the old call, and the next one is taken.
    rig.disk.set_busy(true);
    rig.beacon.call::<CheckFind>(&Find::sign(&admin(), 6, SENDER.0, SENDER.1), 0, Patience::ENDLESS);
    rig.run();
    rig.beacon.call::<MakeHello>(&(), 0, Patience::ENDLESS);
    rig.disk.set_busy(false);
    rig.run();
    assert!(rig.outcome::<MakeHello>(Channel::Beacon).unwrap().is_ok());
    assert_eq!(rig.find(6), Err(Refusal::Stale));
}

#[test]
fn a_hello_is_for_the_anchor_and_fresh_each_time() {
    let mut rig = Rig::new(Board::anchored());
    let status = rig.status();
    let (first, second) = (rig.hello(&admin()), rig.hello(&admin()));
    assert_eq!((first.fiduciary, first.address, first.committed), (status.fiduciary, status.address, 0));
    assert_eq!(Ok(first.claim_key), rig.ask::<ClaimKey>(Channel::Claim, &()));
    assert_ne!(first.nonce, second.nonce);
    let reply = rig.ask::<MakeHello>(Channel::Beacon, &()).unwrap();
    assert!(reply.hello.open(&stranger()).is_none());
}

#[test]
fn an_open_is_answered_to_the_holder_of_the_anchor_only() {
    let mut rig = Rig::new(Board::anchored());
    let hello = rig.hello(&admin());
    let open = open_for(&hello, &admin(), 3);
    let reply = rig.ask::<CheckOpen>(Channel::Beacon, &open).unwrap();
    assert_eq!(reply.answer.open(&hello.claim_key, &Secret::new([3; 32]), &open), Some(reply.token));
    let again = rig.ask::<CheckOpen>(Channel::Beacon, &open).unwrap();
    assert!(again.token != reply.token && again.answer.ephemeral != reply.answer.ephemeral);

    let mut refused = |open: &Open| rig.ask::<CheckOpen>(Channel::Beacon, open).err();
    assert_eq!(refused(&open_for(&hello, &stranger(), 3)), Some(Refusal::Forged));
    let other = HelloBody { fiduciary: [1; 32], ..hello };
    assert_eq!(refused(&open_for(&other, &admin(), 3)), Some(Refusal::NotMine));
    // N of another node.
    let other = HelloBody { claim_key: crypto::dh_public(&Secret::new([1; 32])), ..hello };
    assert_eq!(refused(&open_for(&other, &admin(), 3)), Some(Refusal::Forged));
    for bit in (0..size_of::<Open>() * 8).step_by(3) {
        let mut changed = open;
        changed.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&changed).is_some(), "bit {bit}");
    }
    // A good cheap check does not stand in for the signature.
    let keys = Keys::derive(&Board::anchored().root_seed());
    let key = wire::link::open_mac_key(&crypto::dh(&keys.claim, &admin().public().dh).unwrap());
    let mut forged = open;
    forged.signature[0] ^= 1;
    forged.mac = crypto::mac16(&key, &[&forged.as_bytes()[..size_of::<Open>() - 16]]);
    assert!(forged.check_mac(&key));
    assert_eq!(refused(&forged), Some(Refusal::Forged));
    // A small-order ephemeral key, properly signed, yields no secret to seal with.
    let mut small = open;
    small.ephemeral = [0; 32];
    small.signature = crypto::sign(&admin().sign, label::OPEN, &[&small.as_bytes()[..size_of::<Open>() - 80]]);
    small.mac = crypto::mac16(&key, &[&small.as_bytes()[..size_of::<Open>() - 16]]);
    assert!(small.verify(&admin().public()).is_some());
    assert_eq!(refused(&small), Some(Refusal::Forged));
}

fn initiator(anchor: &AnchorSecret, claim_key: &[u8; 32], prologue: &[u8]) -> snow::HandshakeState {
    snow::Builder::new(core::str::from_utf8(PROTOCOL).unwrap().parse().unwrap())
        .local_private_key(&*anchor.dh)
        .unwrap()
        .remote_public_key(claim_key)
        .unwrap()
        .prologue(prologue)
        .unwrap()
        .build_initiator()
        .unwrap()
}

/// What `claim` makes of Noise message 1 before it asks.
fn initiation(message: &[u8], claim_key: &[u8; 32], prologue: &[u8]) -> Initiation {
    let mut state = Symmetric::new(&[prologue]);
    state.mix_hash(&[claim_key]);
    state.mix_hash(&[&message[..32]]);
    Initiation {
        chaining_key: state.chaining_key,
        hash: state.hash,
        ephemeral: message[..32].try_into().unwrap(),
        encrypted_static: message[32..80].try_into().unwrap(),
    }
}

#[test]
fn the_static_steps_make_a_noise_ik_responder() {
    let mut rig = Rig::new(Board::anchored());
    let hello = rig.hello(&admin());
    let prologue = prologue_of(&hello);
    let mut snow = initiator(&admin(), &hello.claim_key, &prologue);
    let mut message = [0; 200];
    let len = snow.write_message(&[], &mut message).unwrap();
    assert_eq!(len, wire::claim::INITIATION);
    let request = initiation(&message, &hello.claim_key, &prologue);
    let InitiationReply { chaining_key, hash, key, peer } =
        rig.ask::<ReadInitiation>(Channel::Claim, &request).unwrap();
    assert_eq!(peer, admin().public().dh);
    let mut state = Symmetric { chaining_key, hash };
    assert!(state.decrypt_and_hash(&Secret::new(key), &mut [], message[80..96].try_into().unwrap()));
    // Message 2: e, ee, se.
    let ephemeral = Secret::new(rig.ask::<ClaimRandom>(Channel::Claim, &()).unwrap());
    let public = crypto::dh_public(&ephemeral);
    state.mix_hash(&[&public]);
    state.mix_key(&*crypto::dh(&ephemeral, &request.ephemeral).unwrap());
    let key = state.mix_key(&*crypto::dh(&ephemeral, &peer).unwrap());
    let tag = state.encrypt_and_hash(&key, &mut []);
    let response = [public.as_slice(), &tag].concat();
    assert_eq!(response.len(), wire::claim::RESPONSE);
    assert_eq!(snow.read_message(&response, &mut []), Ok(0));
    assert_eq!(snow.get_handshake_hash(), state.hash);
    // The identity is signed for this session, and reads on the other side.
    let identity = rig.ask::<Identify>(Channel::Claim, &state.hash).unwrap();
    assert!(identity.verify(&state.hash).is_some() && identity.verify(&[0; 32]).is_none());
    let [mut from_initiator, mut to_initiator] = state.split();
    let mut snow = snow.into_transport_mode().unwrap();
    let mut text = *b"to the administrator";
    let tag = to_initiator.encrypt(&mut text).unwrap();
    let mut read = [0; 64];
    let len = snow.read_message(&[text.as_slice(), &tag].concat(), &mut read).unwrap();
    assert_eq!(&read[..len], b"to the administrator");
    let len = snow.write_message(b"to the node", &mut message).unwrap();
    let (text, tag) = message[..len].split_at_mut(11);
    assert_eq!(from_initiator.decrypt(text, (&*tag).try_into().unwrap()), Ok(()));
    assert_eq!(text, b"to the node");
}

#[test]
fn no_one_but_the_anchor_starts_a_session() {
    let mut rig = Rig::new(Board::anchored());
    let hello = rig.hello(&admin());
    let prologue = prologue_of(&hello);
    let mut message = [0; 200];
    let mut refused = |request: &Initiation| rig.ask::<ReadInitiation>(Channel::Claim, request).err();
    // Another key; the right one under another prologue or for another N.
    initiator(&stranger(), &hello.claim_key, &prologue).write_message(&[], &mut message).unwrap();
    assert_eq!(refused(&initiation(&message, &hello.claim_key, &prologue)), Some(Refusal::Forged));
    initiator(&admin(), &hello.claim_key, &[1; 80]).write_message(&[], &mut message).unwrap();
    assert_eq!(refused(&initiation(&message, &hello.claim_key, &prologue)), Some(Refusal::Forged));
    let other = crypto::dh_public(&Secret::new([9; 32]));
    initiator(&admin(), &other, &prologue).write_message(&[], &mut message).unwrap();
    assert_eq!(refused(&initiation(&message, &other, &prologue)), Some(Refusal::Forged));
    // Every byte counts.
    initiator(&admin(), &hello.claim_key, &prologue).write_message(&[], &mut message).unwrap();
    let good = initiation(&message, &hello.claim_key, &prologue);
    assert_eq!(refused(&good), None);
    for at in 0..size_of::<Initiation>() {
        let mut changed = initiation(&message, &hello.claim_key, &prologue);
        changed.as_mut_bytes()[at] ^= 0x10;
        assert_eq!(refused(&changed), Some(Refusal::Forged), "byte {at}");
    }
    // Small-order ephemerals force an all-zero secret.
    for ephemeral in [[0; 32], [[1].as_slice(), &[0; 31]].concat().try_into().unwrap()] {
        let request = Initiation { ephemeral, ..initiation(&message, &hello.claim_key, &prologue) };
        assert_eq!(refused(&request), Some(Refusal::Forged));
    }
}

#[test]
fn a_fork_is_made_once_and_is_in_the_identity() {
    let mut rig = Rig::new(Board::anchored());
    let before = rig.identify().unwrap();
    assert_eq!((before.forked, before.fork().is_none()), (0, true));
    for _ in 0..2 {
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.fork(), Err(Refusal::Store));
        assert_eq!(rig.status().forked, 0);
    }
    rig.fork().unwrap();
    assert!(rig.lifecycle.nudged());
    let writes = rig.disk.writes();
    rig.fork().unwrap();
    assert_eq!((rig.disk.writes(), rig.status().forked), (writes, 1));
    let identity = rig.identify().unwrap();
    let fork = *identity.fork().unwrap();
    assert!(fork.verify().is_some());
    assert_eq!((fork.fiduciary, fork.mesh_key), (identity.fiduciary, identity.mesh_key));
    assert_eq!(fork.address, rig.status().address);
    assert_eq!(Ok(fork.claim_key), rig.ask::<ClaimKey>(Channel::Claim, &()));
}

#[test]
fn a_binding_is_refused_for_each_thing_that_is_wrong_with_it() {
    for forked in [false, true] {
        let mut rig = Rig::new(Board::anchored());
        if forked {
            rig.fork().unwrap();
        }
        type Change = fn(&mut Title);
        let changes: [(Refusal, Change); 12] = [
            (Refusal::Nonce, |t| t.binding.nonce[0] ^= 1),
            (Refusal::Nonce, |t| t.binding.nonce = [0; 32]),
            (Refusal::NotMine, |t| t.warrant.fiduciary[0] ^= 1),
            (Refusal::NotMine, |t| t.binding.mesh_key[31] ^= 1),
            (Refusal::NotMine, |t| t.warrant.fork[0] ^= 1),
            (Refusal::Stale, |t| t.warrant.epoch = U64::new(0)),
            (Refusal::Stale, |t| t.warrant.epoch = U64::new(2)),
            (Refusal::Stale, |t| t.warrant.epoch = U64::new(u64::MAX)),
            (Refusal::Stale, |t| t.binding.counter = U64::new(0)),
            (Refusal::Forged, |t| t.set.needed = 0),
            (Refusal::Forged, |t| t.set.count = 9),
            (Refusal::Forged, |t| t.set.zero[0] = 1),
        ];
        let writes = rig.disk.writes();
        for (refusal, change) in changes {
            let mut title = unsigned(&rig.identify().unwrap(), 11);
            change(&mut title);
            assert_eq!(rig.commit(&title.sign(&admin())).err(), Some(refusal));
        }
        let signed = bind(&rig.identify().unwrap(), &stranger(), 11);
        assert_eq!(rig.commit(&signed).err(), Some(Refusal::Forged));
        let mut altered = bind(&rig.identify().unwrap(), &admin(), 11);
        altered.warrant.configuration[0] ^= 1;
        assert_eq!(rig.commit(&altered).err(), Some(Refusal::Forged));
        let status = rig.status();
        assert_eq!((status.ownership, status.epoch, rig.disk.writes()), (Ownership::Unclaimed as u8, 0, writes));
        rig.claim_with(&admin(), 11);
    }
}

#[test]
fn a_nonce_is_good_for_one_attempt_while_its_gate_is_open() {
    let mut rig = Rig::new(Board::anchored());
    let mut never = unsigned(&rig.identify().unwrap(), 1);
    never.binding.nonce = [0; 32];
    let never = never.sign(&admin());
    // Drawn anew: the one before is void.
    let (first, second) = (rig.identify().unwrap(), rig.identify().unwrap());
    assert_ne!(first.nonce, second.nonce);
    assert_eq!(rig.commit(&bind(&first, &admin(), 1)).err(), Some(Refusal::Nonce));
    // Used by what was no binding.
    assert_eq!(rig.commit(&bind(&second, &stranger(), 1)).err(), Some(Refusal::Forged));
    assert_eq!(rig.commit(&bind(&second, &admin(), 1)).err(), Some(Refusal::Nonce));
    // The gate has closed.
    let third = rig.identify().unwrap();
    assert_eq!(rig.ask::<CloseGate>(Channel::Lifecycle, &()), Ok(()));
    assert_eq!(rig.commit(&bind(&third, &admin(), 1)).err(), Some(Refusal::Nonce));
    assert_eq!(rig.commit(&never).err(), Some(Refusal::Nonce));
    // Nor does one outlive the power.
    let fourth = rig.identify().unwrap();
    rig.power_cycle();
    assert_eq!(rig.commit(&bind(&fourth, &admin(), 1)).err(), Some(Refusal::Nonce));
    rig.claim_with(&admin(), 1);
}

/// A committed node: its binding and its record.
fn committed(board: Board, anchor: &AnchorSecret) -> (Rig, Title, PairingRecord) {
    let mut rig = Rig::new(board);
    rig.fork().unwrap();
    rig.find(3).ok();
    let title = bind(&rig.identify().unwrap(), anchor, 20);
    let record = rig.commit(&title).unwrap();
    (rig, title, record)
}

#[test]
fn a_committed_node_goes_on_with_its_owner_and_no_other() {
    let (mut rig, title, record) = committed(Board::anchored(), &admin());
    assert!(rig.lifecycle.nudged());
    assert!(record.verify(&title).is_some());
    for _ in 0..2 {
        let status = rig.status();
        assert_eq!(
            (status.ownership, status.epoch, status.fleet),
            (Ownership::Committed as u8, 1, title.warrant.fleet)
        );
        assert_eq!(status.configuration, CONFIGURATION);
        // The identity repeats nonce and epoch, and is signed for each session.
        let identity = rig.identify().unwrap();
        assert!(identity.verify(&[7; 32]).is_some());
        assert_eq!((identity.committed, identity.nonce, identity.epoch.get()), (1, title.binding.nonce, 1));
        assert_eq!(rig.hello(&admin()).committed, 1);
        // The same bytes bring the same record; whatever else is signed is refused.
        assert_eq!(rig.commit(&title), Ok(record));
        let mut others = vec![bind(&identity, &admin(), 21), bind(&identity, &stranger(), 21)];
        for at in (0..size_of::<Title>()).step_by(5) {
            let mut altered = title;
            altered.as_mut_bytes()[at] ^= 1;
            others.push(altered);
            let signed = altered.sign(&admin());
            others.extend((signed != title).then_some(signed));
        }
        let writes = rig.disk.writes();
        for other in others {
            assert_eq!(rig.commit(&other).err(), Some(Refusal::Taken));
        }
        assert_eq!(rig.fork(), Ok(()));
        assert_eq!(rig.disk.writes(), writes);
        // Finds have a counter of their own, which nobody else raises.
        let later = 1 + rig.whole_status().boots * (1 << 17);
        rig.find(later).unwrap();
        assert_eq!(rig.commit(&title), Ok(record));
        rig.power_cycle();
    }
    // Its anchor is the one that it is bound to, whatever the image says now.
    rig.board.image = AnchorFile::new(&Anchor::alone(&stranger().public()));
    rig.power_cycle();
    assert_eq!(rig.hello(&admin()).committed, 1);
    assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
}

#[test]
fn a_lost_reply_is_asked_for_again() {
    let mut rig = Rig::new(Board::anchored());
    let title = bind(&rig.identify().unwrap(), &admin(), 1);
    rig.claim.call::<Commit>(&title, 0, Patience::ENDLESS);
    rig.run();
    rig.claim.abandon();
    // As claim does after its restart.
    let (request, reply) = rig.mailboxes[2];
    rig.claim = Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
    assert!(rig.commit(&title).unwrap().verify(&title).is_some());
}

#[test]
fn a_binding_that_cannot_be_stored_leaves_no_owner() {
    for _ in 0..2 {
        let mut rig = Rig::new(Board::anchored());
        let before = rig.status();
        let title = bind(&rig.identify().unwrap(), &admin(), 5);
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.commit(&title).err(), Some(Refusal::Store));
        assert_eq!(rig.status(), before);
        // The claim is tried again, by a rival as well.
        assert_eq!(rig.commit(&title).err(), Some(Refusal::Nonce));
        rig.claim_with(&admin(), 5);
        rig.power_cycle();
        assert_eq!(rig.status().ownership, Ownership::Claimed as u8);
    }
}

#[test]
fn an_acknowledgement_is_of_this_record_and_final() {
    for (board, anchor) in
        [(Board::anchored(), admin()), (Board::ticket(), AnchorSecret::from_seed(&ticket_seed(&Board::ticket())))]
    {
        let mut rig = Rig::new(board);
        assert_eq!(rig.acknowledge(&[0; 32]), Err(Refusal::NotMine));
        let (mut rig, title, record) = committed(board, &anchor);
        assert_eq!(rig.acknowledge(&[0; 32]), Err(Refusal::Forged));
        let other = PairingRecord { epoch: U64::new(2), ..record };
        assert_eq!(rig.acknowledge(&other.hash()), Err(Refusal::Forged));
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.acknowledge(&record.hash()), Err(Refusal::Store));
        assert_eq!(rig.status().ownership, Ownership::Committed as u8);
        assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
        assert!(rig.lifecycle.nudged());
        assert!(rig.shown_ticket().is_none());
        for _ in 0..2 {
            assert_eq!(rig.status().ownership, Ownership::Claimed as u8);
            assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
            assert_eq!(rig.commit(&title).err(), Some(Refusal::Taken));
            assert_eq!(rig.identify().err(), Some(Refusal::Taken));
            assert_eq!(rig.find(99), Err(Refusal::Taken));
            rig.power_cycle();
        }
    }
}

#[test]
fn lifecycle_is_told_of_a_change_and_of_nothing_else() {
    let mut rig = Rig::new(Board::anchored());
    assert!(rig.lifecycle.nudged());
    rig.hello(&admin());
    rig.find(1).unwrap();
    rig.identify().unwrap();
    rig.ask::<Status>(Channel::Lifecycle, &()).unwrap();
    assert!(!rig.lifecycle.nudged());
    rig.fork().unwrap();
    assert!(rig.lifecycle.nudged());
}
