use std::{collections::BTreeMap, vec};

use proptest::{prelude::*, sample::select};
use zerocopy::IntoBytes;

use super::*;

const EVERY_PHASE: [Phase; 7] =
    [Phase::Blind, Phase::Scan, Phase::Fork, Phase::Hold, Phase::Committed, Phase::Claimed, Phase::Sealed];

#[derive(Debug, Clone)]
enum Action {
    Find(Station),
    /// A find as it was once sent.
    OldFind(prop::sample::Index),
    ForgedFind,
    Open(Station, prop::sample::Index),
    OldOpen(prop::sample::Index),
    Pass(Micros),
    CloseGate,
    Phase(Phase),
    Keystore(Mood),
    Lifecycle(Mood),
    Junk(Vec<u8>),
}

fn action() -> impl Strategy<Value = Action> {
    let station = || select(vec![ADMIN, RIVAL, OTHER]);
    let mood = || {
        let bad = select(vec![Mood::Silent, Mood::Restarting, Mood::Refusing, Mood::Lying]);
        prop_oneof![2 => Just(Mood::Well), 1 => bad]
    };
    prop_oneof![
        6 => station().prop_map(Action::Find),
        2 => any::<prop::sample::Index>().prop_map(Action::OldFind),
        2 => Just(Action::ForgedFind),
        6 => (station(), any::<prop::sample::Index>()).prop_map(|(from, which)| Action::Open(from, which)),
        3 => any::<prop::sample::Index>().prop_map(Action::OldOpen),
        8 => select(vec![1, MS, 100 * MS, 500 * MS, 3 * SECOND, 31 * SECOND]).prop_map(Action::Pass),
        2 => Just(Action::CloseGate),
        1 => select(&EVERY_PHASE[..]).prop_map(Action::Phase),
        1 => mood().prop_map(Action::Keystore),
        1 => mood().prop_map(Action::Lifecycle),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Action::Junk),
    ]
}

/// What has been seen of a rig.
#[derive(Default)]
struct Seen {
    finds: Vec<(Station, Find)>,
    opens: Vec<(Station, Open)>,
    hellos: Vec<HelloBody>,
    /// By open.
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
    frames: usize,
}

impl Seen {
    fn look(&mut self, rig: &Rig) {
        for frame in &rig.sent[self.frames..] {
            if let Some(hello) = frame.get(62..).and_then(Hello::parse) {
                self.hellos.push(hello.open(&rig.anchor).unwrap());
            } else if is_answer(frame) {
                // An answer is sealed for one open, which may have the same one again.
                let claim_key = crypto::dh_public(&Secret::new(CLAIM));
                let answer = Answer::parse(&frame[62..]).unwrap();
                let of = |open: &Open| answer.open(&claim_key, &Secret::new(EPHEMERAL), open).is_some();
                let (sender, open) = self.opens.iter().find(|(_, open)| of(open)).expect("an open for the answer");
                assert_eq!(frame[..6], sender.mac);
                let first = self.answers.entry(open.as_bytes().to_vec()).or_insert_with(|| frame.clone());
                assert_eq!(first, frame);
            }
        }
        self.frames = rig.sent.len();
    }
}

fn act(rig: &mut Rig, seen: &mut Seen, action: Action) {
    let listens = rig.rules.phase().listens();
    match action {
        Action::Find(from) if listens => {
            let find = rig.find(from);
            seen.finds.push((from, find));
            rig.say(from, &find);
        }
        Action::OldFind(which) if listens && !seen.finds.is_empty() => {
            let (from, find) = seen.finds[which.index(seen.finds.len())];
            rig.say(from, &find);
        }
        Action::ForgedFind if listens => {
            let mut find = Find::sign(&AnchorSecret::from_seed(&[9; 32]), u64::MAX, OTHER.ip, OTHER.mac);
            find.signature[5] ^= 1;
            rig.say(OTHER, &find);
        }
        Action::Open(from, which) if listens && !seen.hellos.is_empty() => {
            let hello = seen.hellos[which.index(seen.hellos.len())];
            let open = rig.open(from, &hello);
            seen.opens.push((from, open));
            rig.say(from, &open);
        }
        Action::OldOpen(which) if listens && !seen.opens.is_empty() => {
            let (from, open) = seen.opens[which.index(seen.opens.len())];
            rig.say(from, &open);
        }
        Action::Pass(time) => rig.pass(time),
        Action::CloseGate => rig.close_gate(),
        Action::Phase(phase) => rig.enter(phase),
        Action::Keystore(mood) => rig.keystore_mood = mood,
        Action::Lifecycle(mood) => rig.lifecycle_mood = mood,
        Action::Junk(frame) => {
            rig.deliver(&frame);
            rig.run();
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in whatever order: each find draws at most one hello, each open at most one answer, if need be again, closed phases
    /// are silent, and left alone the node becomes idle and claimable.
    #[test]
    fn any_course_of_events(actions in prop::collection::vec(action(), 0..80)) {
        let mut rig = Rig::in_phase(Phase::Hold, Params::DEFAULT);
        let mut seen = Seen::default();
        let mut scans = 0;
        for action in actions {
            let (before, silent) = (rig.sent.len(), !rig.rules.phase().listens());
            scans += usize::from(matches!(action, Action::Phase(Phase::Scan)));
            let moves = matches!(action, Action::Phase(_));
            act(&mut rig, &mut seen, action);
            prop_assert!(!silent || moves || rig.sent.len() == before);
            if !rig.rules.phase().listens() {
                prop_assert_eq!(rig.alarm(), None);
            }
            seen.look(&rig);
            // After every action all that was sent has been looked at.
            prop_assert!(seen.answers.len() as u64 <= rig.gates.opened);
        }
        prop_assert!(seen.hellos.len() <= seen.finds.len() + scans * 4);
        rig.keystore_mood = Mood::Well;
        rig.lifecycle_mood = Mood::Well;
        rig.enter(Phase::Fork);
        rig.enter(Phase::Hold);
        rig.pass(60 * SECOND);
        prop_assert_eq!(rig.alarm(), None);
        let gates = rig.gates.opened;
        rig.enter_gate(ADMIN);
        prop_assert_eq!(rig.gates.opened, gates + 1);
    }

    #[test]
    fn any_bytes_as_frames_draw_nothing(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..30)) {
        let mut rig = Rig::holding();
        frames.iter().for_each(|frame| rig.deliver(frame));
        rig.run();
        rig.pass(SECOND);
        prop_assert_eq!((rig.asked.len(), rig.sent.len(), rig.alarm()), (0, 0, None));
    }

    /// A find with changed bytes draws a hello only if what is signed and where it comes from is as it was.
    #[test]
    fn a_changed_find_draws_nothing(changes in prop::collection::vec((0usize..166, any::<u8>()), 1..3), len in prop_oneof![9 => Just(166usize), 1 => 0usize..166]) {
        let mut rig = Rig::holding();
        let find = rig.find(ADMIN);
        let good = frame_of(ADMIN, &find);
        let mut frame = good.clone();
        for (at, byte) in changes {
            frame[at] = byte;
        }
        rig.deliver(&frame[..len]);
        rig.run();
        rig.pass(SECOND);
        let same = frame[6..12] == good[6..12] && frame[22..38] == good[22..38] && frame[62..] == good[62..];
        prop_assert!(rig.sent.is_empty() || (same && len == 166));
    }

    /// Whatever stands in the regions of keystore and lifecycle: no panic, and nothing but a hello can be made of it.
    #[test]
    fn any_bytes_from_the_servers(words in prop::collection::vec((any::<bool>(), 0usize..64, prop_oneof![any::<u64>(), 0u64..4, Just(176), Just(88)]), 0..60)) {
        let mut rig = Rig::holding();
        rig.keystore_mood = Mood::Silent;
        rig.lifecycle_mood = Mood::Silent;
        for (which, at, word) in words {
            let region = if which { rig.keystore_regions[1] } else { rig.lifecycle_regions[1] };
            region[at].store(word, core::sync::atomic::Ordering::Relaxed);
            // As if it answered what was asked.
            let asked = rig.keystore_regions[0][0].load(core::sync::atomic::Ordering::Relaxed);
            rig.keystore_regions[1][0].store(asked, core::sync::atomic::Ordering::Relaxed);
            let find = rig.find(ADMIN);
            rig.deliver(&frame_of(ADMIN, &find));
            rig.now += 300 * MS;
            rig.core.step(rig.now, &mut rig.ports);
            let mut buf = [0; 2040];
            while let Some(len) = rig.perimeter.recv(&mut buf).unwrap() {
                prop_assert_eq!(len, 62 + Hello::SIZE);
                prop_assert_eq!(&buf[..6], [0x33, 0x33, 0, 0, 0, 1]);
            }
        }
    }
}
