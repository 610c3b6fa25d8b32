use super::*;

fn scanning() -> Rig {
    Rig::in_phase(Phase::Scan, Params::DEFAULT)
}

#[test]
fn a_scan_says_its_hellos_one_per_slice_at_random_times() {
    let mut rig = scanning();
    let start = rig.now;
    let mut times = Vec::new();
    while let Some(at) = rig.alarm() {
        let before = rig.sent.len();
        rig.pass(at - rig.now);
        times.extend((before..rig.sent.len()).map(|_| rig.now - start));
    }
    let slice = 7500 * MS;
    let slices: Vec<u64> = times.iter().map(|time| time / slice).collect();
    assert_eq!(slices, [0, 1, 2, 3]);
    assert!(times.windows(2).any(|pair| pair[1] - pair[0] != slice));
    assert!(rig.sent.iter().all(|frame| is_hello(frame)));
    rig.pass(3600 * SECOND);
    assert_eq!(rig.sent.len(), 4);
}

#[test]
fn a_scan_ends_with_its_phase() {
    let mut rig = scanning();
    rig.pass(15 * SECOND);
    assert_eq!(rig.sent.len(), 2);
    rig.enter(Phase::Fork);
    assert_eq!(rig.alarm(), None);
    rig.enter(Phase::Hold);
    rig.pass(3600 * SECOND);
    assert_eq!((rig.sent.len(), rig.alarm()), (2, None));
}

#[test]
fn an_open_may_answer_a_hello_of_the_scan_and_stops_the_rest() {
    let mut rig = scanning();
    rig.pass(8 * SECOND);
    let open = rig.open(ADMIN, &rig.hello());
    rig.say(ADMIN, &open);
    assert_eq!(rig.gates.opened, 1);
    let sent = rig.sent.len();
    rig.pass(22 * SECOND);
    assert_eq!(rig.sent.len(), sent);
    // But a find is answered.
    rig.greet(ADMIN);
}

#[test]
fn a_find_is_answered_in_a_scan() {
    let mut rig = scanning();
    let find = rig.find(ADMIN);
    rig.say(ADMIN, &find);
    rig.pass(30 * SECOND);
    assert_eq!(rig.sent.len(), 5);
}

#[test]
fn parameters_without_sense_do_no_harm() {
    for (window, hellos) in [(0, 0), (30_000, 0), (0, u32::MAX), (1, u32::MAX), (u32::MAX, u32::MAX)] {
        let params = Params { scan_ms: window.into(), scan_hellos: hellos.into(), ..Params::DEFAULT };
        let mut rig = Rig::in_phase(Phase::Scan, params);
        rig.pass(10_000_000 * SECOND);
        assert_eq!(rig.sent.len() as u32, hellos.min(64));
        assert_eq!(rig.alarm(), None);
    }
}
