use proptest::prelude::*;

use super::*;

fn began() -> Event {
    Event::Began(Began {
        tool: "/usr/bin/os-network-admin".into(),
        tool_hash: Hash::of(b"tool"),
        lab_hash: Hash::of(b"lab"),
        nodes: 3,
        board: "native".into(),
        replays: None,
    })
}

fn command(words: &[String]) -> Event {
    Event::Command(Command {
        program: Program::Tool,
        segment: Some("ada".into()),
        words: words.to_vec(),
        values: BTreeMap::from([("fiduciary node-1".into(), "ab".repeat(32))]),
        wanted: vec![0, 9],
        stays: false,
    })
}

fn ended(of: u64, code: i32) -> Event {
    Event::Ended { of, code, stdout: Hash::of(b"out"), stderr: Hash::of(b"") }
}

/// A transcript with these commands, of which the last has not ended.
fn written(commands: &[Vec<String>]) -> (tempfile::TempDir, Vec<u8>, Story) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript");
    let (mut transcript, torn) = Transcript::open(&path).unwrap();
    assert_eq!(torn, 0);
    transcript.append(began()).unwrap();
    transcript.append(Event::Step(Step::Keys)).unwrap();
    for (at, words) in commands.iter().enumerate() {
        let of = transcript.append(command(words)).unwrap();
        if at + 1 < commands.len() {
            transcript.append(ended(of, 0)).unwrap();
        }
    }
    let story = transcript.story().clone();
    (dir, std::fs::read(path).unwrap(), story)
}

fn texts() -> impl Strategy<Value = Vec<Vec<String>>> {
    proptest::collection::vec(proptest::collection::vec("[ -~\n\"\\\\é\u{1b}]{0,12}", 0..4), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back_and_goes_on(commands in texts()) {
        let (dir, bytes, story) = written(&commands);
        prop_assert_eq!(&Story::read(&bytes).unwrap(), &story);
        prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), story.entries.len());
        let (mut transcript, _) = Transcript::open(&dir.path().join("transcript")).unwrap();
        let cut: Vec<u64> = transcript.story().open.iter().copied().collect();
        prop_assert_eq!(cut.len(), 1);
        transcript.append(Event::Resumed { tool_hash: Hash::of(b"tool"), cut, torn: 0 }).unwrap();
        let bytes = std::fs::read(dir.path().join("transcript")).unwrap();
        prop_assert_eq!(Story::read(&bytes).unwrap().head(), transcript.story().head());
    }

    /// Whatever is done to it: it does not hold, or all but its last line are as they were, and the head says whether that is.
    #[test]
    fn no_change_goes_unseen(commands in texts(), at: prop::sample::Index, how in 0..4, byte: u8) {
        let (_dir, bytes, story) = written(&commands);
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        match how {
            0 => changed[at] = byte,
            1 => changed.insert(at, byte),
            2 => drop(changed.remove(at)),
            _ => changed.truncate(at),
        }
        if let Ok(read) = Story::read(&changed) {
            let but_last = read.hashes.len().saturating_sub(1);
            prop_assert!(story.hashes.starts_with(&read.hashes[..but_last]));
            prop_assert!(story.entries.starts_with(&read.entries[..but_last]));
            prop_assert!(read.head() != story.head() || read.entries == story.entries);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Story::read(&bytes);
    }
}

#[test]
fn a_line_that_is_left_out_changed_or_moved_is_named() {
    let (_dir, bytes, _) = written(&[vec!["one".into()], vec!["two".into()]]);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let broken = |lines: &[&[u8]]| Story::read(&lines.concat()).unwrap_err();
    assert_eq!(broken(&[lines[0], lines[2], lines[3]]).line, 2);
    assert_eq!(broken(&[lines[0], lines[1], lines[3], lines[2]]).line, 3);
    let code = String::from_utf8(lines[3].to_vec()).unwrap().replace("\"code\":0", "\"code\":1");
    assert_eq!(broken(&[lines[0], lines[1], lines[2], code.as_bytes(), lines[4]]).line, 5);
    // The same thing in other words is another line, also where nothing follows.
    let spaced = String::from_utf8(lines[4].to_vec()).unwrap().replace(":", ": ");
    let other = broken(&[lines[0], lines[1], lines[2], lines[3], spaced.as_bytes()]);
    assert_eq!((other.line, other.why.contains("another form")), (5, true), "{other}");
}

#[test]
fn a_line_that_was_cut_is_taken_away_and_the_rest_goes_on() {
    let (dir, bytes, story) = written(&[vec!["one".into()]]);
    let path = dir.path().join("transcript");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let (mut transcript, torn) = Transcript::open(&path).unwrap();
    assert_eq!(transcript.story().entries, story.entries[..2]);
    assert!(torn > 5);
    transcript.append(Event::Resumed { tool_hash: Hash::of(b""), cut: vec![], torn: torn as u64 }).unwrap();
    assert_eq!(Story::read(&std::fs::read(&path).unwrap()).unwrap().entries.len(), 3);
}

#[test]
fn an_entry_must_make_sense_where_it_is() {
    let (dir, ..) = written(&[vec!["one".into()]]);
    let (mut transcript, _) = Transcript::open(&dir.path().join("transcript")).unwrap();
    let resumed = |cut: Vec<u64>| Event::Resumed { tool_hash: Hash::of(b""), cut, torn: 0 };
    for wrong in [began(), ended(2, 0), ended(9, 0), resumed(vec![]), resumed(vec![3, 4])] {
        assert!(transcript.append(wrong.clone()).is_err(), "{wrong:?}");
    }
    transcript.append(ended(3, 0)).unwrap();
    assert!(transcript.append(ended(3, 0)).is_err());
}
