use core::sync::atomic::AtomicU64;

use super::*;

/// One try, for ten microseconds.
const ONCE: Patience = Patience { each: 10, tries: 1 };

struct Add;
impl Operation for Add {
    const OP: u32 = 7;
    const REPEATABLE: bool = true;
    type Request = [u8; 2];
    type Reply = [u8; 1];
}

/// The same, but it counts what it is asked.
struct Count;
impl Operation for Count {
    const OP: u32 = 8;
    const REPEATABLE: bool = false;
    type Request = [u8; 2];
    type Reply = [u8; 1];
}

type Words = [AtomicU64; 16];

fn ends<'a>(request: &'a Words, reply: &'a Words) -> (Client<'a>, Server<'a, 8>) {
    let client = Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
    let server = Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap();
    (client, server)
}

#[test]
fn a_call_is_answered_once() {
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    assert!(server.take().unwrap().is_none());
    client.call::<Add>(&[2, 3], 0, ONCE);
    assert!(client.take_signal());
    assert_eq!(client.poll::<Add>(0), None);
    let incoming = server.take().unwrap().unwrap();
    let [a, b] = incoming.parse::<Add>().unwrap();
    server.reply::<Add>(&[a + b]);
    assert!(server.take().unwrap().is_none());
    assert_eq!(client.poll::<Add>(0), Some(Ok([5])));
    assert_eq!(client.poll::<Add>(99), None);
    assert!(!client.nudged());
    server.nudge();
    server.nudge();
    assert!(client.nudged() && !client.nudged());
}

#[test]
fn refusal_timeout_and_restart_are_told_apart() {
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    client.call::<Add>(&[2, 3], 0, ONCE);
    server.take().unwrap().unwrap();
    server.refuse(4);
    assert_eq!(client.poll::<Add>(0), Some(Err(CallError::Refused(4))));
    client.call::<Add>(&[2, 3], 0, ONCE);
    server.take().unwrap().unwrap();
    assert_eq!(client.poll::<Add>(9), None);
    assert_eq!(client.poll::<Add>(10), Some(Err(CallError::Timeout)));
    // A late answer is nobody's.
    server.reply::<Add>(&[5]);
    assert_eq!(client.poll::<Add>(11), None);
    // What was given up before the server has looked is asked no more.
    client.call::<Count>(&[2, 3], 0, ONCE);
    assert_eq!(client.poll::<Count>(10), Some(Err(CallError::Timeout)));
    assert!(server.take().unwrap().is_none());
    client.call::<Add>(&[2, 3], 0, ONCE);
    let mut server = Server::<8>::new(ReadOnly::new(&request), ReadWrite::new(&reply)).unwrap();
    assert!(server.take_signal());
    assert!(server.take().unwrap().is_none());
    assert_eq!(client.poll::<Add>(0), Some(Err(CallError::Restarted)));
    // A client that restarts goes on with the next number.
    let mut client = Client::new(ReadWrite::new(&request), ReadOnly::new(&reply)).unwrap();
    client.call::<Add>(&[1, 1], 0, ONCE);
    server.take().unwrap().unwrap();
    server.reply::<Add>(&[2]);
    assert_eq!(client.poll::<Add>(0), Some(Ok([2])));
}

#[test]
fn a_lying_peer_is_a_typed_error() {
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    client.call::<Add>(&[2, 3], 0, ONCE);
    ReadWrite::new(&request).store(LEN, u64::MAX);
    assert_eq!(server.take().err(), Some(Misbehaved));
    assert!(server.take().unwrap().is_none());
    ReadWrite::new(&reply).store(LEN, 5);
    ReadWrite::new(&reply).store(SEQ, 1);
    assert_eq!(client.poll::<Add>(0), Some(Err(CallError::Misbehaved)));
    client.call::<Add>(&[2, 3], 0, ONCE);
    ReadWrite::new(&reply).store(STATUS, u64::MAX);
    ReadWrite::new(&reply).store(SEQ, 3);
    assert_eq!(client.poll::<Add>(0), Some(Err(CallError::Misbehaved)));
}

#[test]
fn a_request_is_sent_again_only_if_it_may_be_and_no_answer_came() {
    let twice = Patience { each: 10, tries: 2 };
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    client.call::<Add>(&[2, 3], 0, twice);
    server.take().unwrap().unwrap();
    assert!(client.take_signal());
    assert_eq!((client.poll::<Add>(9), client.take_signal()), (None, false));
    assert_eq!((client.poll::<Add>(10), client.take_signal()), (None, true));
    assert_eq!(client.deadline(), Some(20));
    assert_eq!(server.take().unwrap().unwrap().parse::<Add>(), Some([2, 3]));
    assert_eq!(client.poll::<Add>(20), Some(Err(CallError::Timeout)));
    // A server that restarts is asked again at once.
    client.call::<Add>(&[4, 3], 0, twice);
    server.take().unwrap().unwrap();
    let mut server = Server::<8>::new(ReadOnly::new(&request), ReadWrite::new(&reply)).unwrap();
    assert_eq!(client.poll::<Add>(1), None);
    assert_eq!(server.take().unwrap().unwrap().parse::<Add>(), Some([4, 3]));
    server.reply::<Add>(&[7]);
    assert_eq!(client.poll::<Add>(2), Some(Ok([7])));
    // A refusal is an answer.
    client.call::<Add>(&[2, 3], 0, twice);
    server.take().unwrap().unwrap();
    server.refuse(4);
    assert_eq!(client.poll::<Add>(10), Some(Err(CallError::Refused(4))));
    assert!(server.take().unwrap().is_none());
    client.call::<Count>(&[2, 3], 0, twice);
    server.take().unwrap().unwrap();
    assert_eq!(client.poll::<Count>(10), Some(Err(CallError::Timeout)));
    assert!(server.take().unwrap().is_none());
}

/// What stands in both regions behind their heads.
fn bodies(request: &Words, reply: &Words) -> [[u8; 16 * WORD - BODY]; 2] {
    [request, reply].map(|region| {
        let mut body = [0; _];
        ReadOnly::new(region).read(BODY, &mut body);
        body
    })
}

/// Larger than those of the others.
struct Keep;
impl Operation for Keep {
    const OP: u32 = 9;
    const REPEATABLE: bool = true;
    type Request = [u8; 8];
    type Reply = [u8; 24];
}

#[test]
fn nothing_stays_of_what_was_asked_and_answered() {
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    let [nothing, _] = bodies(&request, &reply);
    let clean = |server: &mut Server<'_, 8>, client: &mut Client<'_>| {
        // The server looks because it is notified.
        assert!(client.take_signal());
        assert!(server.take().unwrap().is_none());
        assert_eq!(bodies(&request, &reply), [nothing; 2]);
    };
    for answer in
        [|server: &mut Server<'_, 8>| server.reply::<Keep>(&[5; 24]), |server: &mut Server<'_, 8>| server.refuse(4)]
    {
        client.call::<Keep>(&[7; 8], 0, ONCE);
        assert!(client.take_signal());
        server.take().unwrap().unwrap();
        answer(&mut server);
        assert!(client.poll::<Keep>(0).is_some());
        clean(&mut server, &mut client);
    }
    // Timed out, abandoned, and of a client that is gone, before and after the server has looked and answered.
    for end in 0..3 {
        for looks in 0..3 {
            client.call::<Keep>(&[7; 8], 0, ONCE);
            assert!(client.take_signal());
            if looks > 0 {
                server.take().unwrap().unwrap();
            }
            if looks > 1 {
                server.reply::<Keep>(&[5; 24]);
            }
            match end {
                0 if looks < 2 => assert_eq!(client.poll::<Keep>(10), Some(Err(CallError::Timeout))),
                1 => client = Client::new(ReadWrite::new(&request), ReadOnly::new(&reply)).unwrap(),
                _ => client.abandon(),
            }
            clean(&mut server, &mut client);
            // A late answer goes too, with the next look.
            if looks == 1 {
                server.reply::<Keep>(&[5; 24]);
                client.call::<Add>(&[1, 2], 0, ONCE);
                assert!(server.take().unwrap().is_some());
                assert_eq!(bodies(&request, &reply)[1], nothing);
                client.abandon();
                clean(&mut server, &mut client);
            }
        }
    }
    // The longer of two requests leaves nothing behind the shorter one.
    client.call::<Keep>(&[7; 8], 0, ONCE);
    client.call::<Add>(&[1, 2], 0, ONCE);
    assert_eq!(bodies(&request, &reply)[0][..4], [1, 2, 0, 0]);
    assert_eq!(bodies(&request, &reply)[0][2..], nothing[2..]);
    server.take().unwrap().unwrap();
    server.reply::<Keep>(&[5; 24]);
    let _ = Server::<8>::new(ReadOnly::new(&request), ReadWrite::new(&reply)).unwrap();
    assert_eq!(bodies(&request, &reply)[1], nothing);
}

#[test]
fn asking_makes_the_call_once_and_abandons_another() {
    let (request, reply) = Default::default();
    let (mut client, mut server) = ends(&request, &reply);
    client.call::<Count>(&[9, 9], 0, ONCE);
    assert_eq!(client.ask::<Add>(0, ONCE, || [2, 3]), Ok(None));
    assert_eq!(client.ask::<Add>(0, ONCE, || panic!("it is outstanding")), Ok(None));
    assert_eq!(server.take().unwrap().unwrap().parse::<Add>(), Some([2, 3]));
    server.reply::<Add>(&[5]);
    assert_eq!(client.ask::<Add>(99, ONCE, || panic!("it is answered")), Ok(Some([5])));
    assert_eq!(client.ask::<Add>(99, ONCE, || [1, 1]), Ok(None));
    assert_eq!(client.ask::<Add>(109, ONCE, || panic!("it is over")), Err(CallError::Timeout));
}

proptest::proptest! {
    /// Whatever the server does and whenever it restarts: a call has one outcome, in its time; the server sees its request
    /// as often as the caller's patience allows, and never after it has answered; a reply is the call's own.
    #[test]
    fn a_call_has_one_outcome_and_no_more_requests_than_tries(
        repeatable: bool,
        tries in 1u8..5,
        actions in proptest::collection::vec((0u8..6, 1u64..8), 0..60),
    ) {
        let (request, reply) = Default::default();
        let (mut client, mut server) = ends(&request, &reply);
        let patience = Patience { each: 10, tries };
        let allowed = if repeatable { usize::from(tries) } else { 1 };
        let (mut now, mut seen, mut answered) = (0, 0, None);
        if repeatable { client.call::<Add>(&[2, 3], now, patience) } else { client.call::<Count>(&[2, 3], now, patience) }
        let poll = |client: &mut Client<'_>, now| {
            if repeatable { client.poll::<Add>(now) } else { client.poll::<Count>(now) }
        };
        let mut outcome = None;
        for (action, time) in actions {
            match action {
                0 => now += time,
                5 => server = Server::new(ReadOnly::new(&request), ReadWrite::new(&reply)).unwrap(),
                action => {
                    if let Some(call) = server.take().unwrap() {
                        proptest::prop_assert_eq!(call.op, if repeatable { Add::OP } else { Count::OP });
                        proptest::prop_assert!(answered.is_none());
                        seen += 1;
                        match action {
                            1 => server.reply::<Add>(&[5]),
                            2 => server.refuse(4),
                            _ => continue,
                        }
                        // A late answer is nobody's.
                        if outcome.is_none() {
                            answered = Some(if action == 1 { Ok([5]) } else { Err(CallError::Refused(4)) });
                        }
                    }
                }
            }
            proptest::prop_assert!(seen <= allowed, "{seen} of {allowed}");
            if let Some(come) = poll(&mut client, now) {
                proptest::prop_assert_eq!(outcome, None);
                proptest::prop_assert!(come == answered.unwrap_or(come), "{come:?} for {answered:?}");
                outcome = Some(come);
            }
            proptest::prop_assert!(outcome.is_some() || client.deadline().is_some());
            proptest::prop_assert!(outcome.is_some() || now < 10 * allowed as u64 + 8);
        }
        if answered.is_some() {
            proptest::prop_assert_eq!(outcome, answered);
        }
    }
}
