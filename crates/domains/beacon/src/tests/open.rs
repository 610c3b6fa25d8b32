use zerocopy::IntoBytes;

use super::*;

#[test]
fn a_valid_open_gets_an_answer_and_one_solicitation() {
    let mut rig = Rig::holding();
    let open = rig.enter_gate(ADMIN);
    assert_eq!((rig.gates.opened, rig.sent.len()), (1, 3));
    let [_, answer, solicitation] = &rig.sent[..] else { panic!() };
    for frame in [answer, solicitation] {
        assert_eq!(frame[..12], [ADMIN.mac, US.mac].concat());
        assert_eq!(frame[22..54], [US.ip, ADMIN.ip].concat());
    }
    let claim_key = crypto::dh_public(&Secret::new(CLAIM));
    let token = Answer::parse(&answer[62..]).unwrap().open(&claim_key, &Secret::new(EPHEMERAL), &open);
    assert_eq!(token, Some(TOKEN));
    assert_eq!(
        (solicitation[20], solicitation[21], solicitation[54], &solicitation[62..78]),
        (58, 255, 135, &ADMIN.ip[..])
    );
    assert_eq!(solicitation[78..], [&[1, 1], &US.mac[..]].concat());
    rig.pass(3600 * SECOND);
    assert_eq!((rig.sent.len(), rig.alarm()), (3, None));
}

#[test]
fn an_open_must_come_from_the_addresses_that_it_names() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let open = rig.open(ADMIN, &hello);
    for from in [RIVAL, Station::new(ADMIN.ip, RIVAL.mac), Station::new(RIVAL.ip, ADMIN.mac)] {
        rig.say(from, &open);
    }
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (0, 0));
    rig.say(ADMIN, &open);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn an_accepted_open_is_never_accepted_again() {
    let mut rig = Rig::holding();
    let open = rig.enter_gate(ADMIN);
    rig.say(ADMIN, &open);
    rig.close_gate();
    rig.say(ADMIN, &open);
    // Also not while the gate is another's.
    rig.enter_gate(RIVAL);
    rig.say(ADMIN, &open);
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened, rig.gates.rivals), (2, 2, 0));
}

/// The frames with which the node answers an open, of all that it has sent.
fn answers(rig: &Rig) -> Vec<&[u8]> {
    rig.sent.iter().filter(|frame| is_answer(frame)).map(Vec::as_slice).collect()
}

#[test]
fn the_same_open_of_the_same_peer_has_the_same_answer_while_its_token_is_good() {
    let mut rig = Rig::holding();
    let open = rig.enter_gate(ADMIN);
    let calls = rig.asked.len();
    for again in 1..4 {
        rig.pass(SECOND);
        // A flood of them is one.
        for _ in 0..20 {
            rig.say(ADMIN, &open);
        }
        let all = answers(&rig);
        assert_eq!(all.len(), 1 + again);
        assert_eq!(all[0], all[again]);
    }
    assert_eq!((rig.asked.len(), rig.gates.opened, rig.alarm()), (calls, 1, None));
    // Not to anyone else, not if a bit differs, and not of another's gate.
    rig.pass(SECOND);
    let mut other = open;
    other.signature[0] ^= 1;
    rig.say(RIVAL, &open);
    rig.say(ADMIN, &other);
    assert_eq!(answers(&rig).len(), 4);
    // The last moment of the token, and the first after it.
    rig.pass(25 * SECOND);
    rig.say(ADMIN, &open);
    assert_eq!(answers(&rig).len(), 5);
    rig.rules.until += 60 * SECOND;
    rig.rules_out.publish(&rig.rules);
    rig.pass(SECOND);
    rig.say(ADMIN, &open);
    assert_eq!(answers(&rig).len(), 5);
}

#[test]
fn the_answer_to_an_open_is_gone_with_its_gate() {
    let mut rig = Rig::holding();
    let open = rig.enter_gate(ADMIN);
    let newer = rig.enter_gate(ADMIN);
    rig.pass(SECOND);
    rig.say(ADMIN, &open);
    assert_eq!(answers(&rig).len(), 2, "an older open than the gate's");
    rig.say(ADMIN, &newer);
    assert_eq!(answers(&rig).len(), 3);
    rig.close_gate();
    rig.pass(SECOND);
    rig.say(ADMIN, &newer);
    assert_eq!(answers(&rig).len(), 3);
}

#[test]
fn of_two_copies_that_arrive_together_one_is_looked_at() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let open = rig.open(ADMIN, &hello);
    for _ in 0..2 {
        rig.deliver(&frame_of(ADMIN, &open));
    }
    rig.run();
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (1, 1));
}

#[test]
fn a_nonce_must_be_known_and_young() {
    let mut rig = Rig::holding();
    let mut hello = rig.greet(ADMIN);
    let said = rig.now;
    rig.pass(29 * SECOND);
    let open = rig.open(ADMIN, &hello);
    let by = |rig: &mut Rig, open| {
        rig.say(ADMIN, open);
        rig.count(CheckOpen::OP)
    };
    // The hello went out up to half a second before the greeting was over.
    rig.now = said + 30 * SECOND;
    assert_eq!(by(&mut rig, &open), 0);
    hello = rig.greet(ADMIN);
    hello.nonce[15] ^= 1;
    let unknown = rig.open(ADMIN, &hello);
    assert_eq!(by(&mut rig, &unknown), 0);
    hello.nonce[15] ^= 1;
    rig.pass(29 * SECOND);
    let good = rig.open(ADMIN, &hello);
    assert_eq!(by(&mut rig, &good), 1);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn the_fifth_hello_forgets_the_first() {
    let mut rig = Rig::holding();
    let hellos: [HelloBody; 5] = core::array::from_fn(|_| rig.greet(ADMIN));
    let first = rig.open(ADMIN, &hellos[0]);
    rig.say(ADMIN, &first);
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (0, 0));
    for hello in &hellos[1..] {
        let open = rig.open(ADMIN, hello);
        rig.say(ADMIN, &open);
    }
    // The same peer may open anew, with another nonce each time.
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (4, 4));
}

#[test]
fn a_forged_open_uses_up_nothing() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let open = rig.open(ADMIN, &hello);
    for bit in [8 * 8, 80 * 8, 112 * 8, 191 * 8] {
        let mut forged = open;
        forged.as_mut_bytes()[bit / 8] ^= 1;
        rig.say(ADMIN, &forged);
    }
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (4, 0));
    rig.say(ADMIN, &open);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn a_rival_is_turned_away_counted_once_and_may_come_again() {
    let mut rig = Rig::holding();
    rig.enter_gate(ADMIN);
    let sent = rig.sent.len();
    let open = rig.enter_gate(RIVAL);
    assert_eq!((rig.gates.opened, rig.gates.rivals, rig.sent.len()), (1, 1, sent + 1), "its hello, no answer");
    for _ in 0..5 {
        rig.say(RIVAL, &open);
    }
    assert_eq!((rig.gates.rivals, rig.count(CheckOpen::OP)), (1, 2));
    rig.close_gate();
    rig.say(RIVAL, &open);
    assert_eq!((rig.gates.opened, rig.rules.peer), (2, RIVAL));
    assert!(is_answer(&rig.sent[rig.sent.len() - 2]));
}

#[test]
fn of_two_with_the_same_hello_one_wins_and_the_other_is_counted() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let (first, second) = (rig.open(ADMIN, &hello), rig.open(RIVAL, &hello));
    rig.say(ADMIN, &first);
    for _ in 0..3 {
        rig.say(RIVAL, &second);
        rig.say(ADMIN, &first);
    }
    assert_eq!((rig.gates.opened, rig.gates.rivals, rig.rules.peer), (1, 1, ADMIN));
    // The nonce stays used.
    rig.close_gate();
    rig.say(RIVAL, &second);
    rig.say(ADMIN, &first);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn a_find_is_answered_while_the_gate_is_open() {
    let mut rig = Rig::holding();
    rig.enter_gate(ADMIN);
    rig.greet(ADMIN);
    rig.greet(RIVAL);
}

#[test]
fn a_hello_for_which_there_was_no_room_is_as_if_never_made() {
    let mut rig = Rig::holding();
    let find = rig.find(ADMIN);
    rig.say(ADMIN, &find);
    while rig.ports.perimeter.send(&[]).is_ok() {}
    rig.now += SECOND;
    rig.core.step(rig.now, &mut rig.ports);
    rig.serve_keystore();
    rig.core.step(rig.now, &mut rig.ports);
    let mut buf = [0; 2040];
    while rig.perimeter.recv(&mut buf).unwrap().is_some_and(|len| len == 0) {}
    assert_eq!((rig.alarm(), rig.count(MakeHello::OP)), (None, 1));
    let nonce = crypto::sha256(&rig.keystore.drawn.to_le_bytes())[..16].try_into().unwrap();
    let now = Now { time: rig.now, lifetime: SECOND, gate: None };
    assert!(!rig.core.nonces.admits(&nonce, &ADMIN, &now));
    let hello = rig.greet(ADMIN);
    assert!(rig.core.nonces.admits(&hello.nonce, &ADMIN, &Now { time: rig.now, ..now }));
}
