//! `lab rehearse` as a person runs it, with the tool and the nodes that `make build` makes.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{
    NATIVE,
    rehearse::{
        step::Step,
        transcript::{Entry, Event, Story},
    },
};
use sysdesc::image::assemble::sel4_boards;
use tempfile::TempDir;

/// A hang detector, no more.
const PATIENCE: Duration = Duration::from_secs(120);

/// A rehearsal's directory. Whatever happens to the test, what runs there ends.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("it")
    }

    fn transcript(&self) -> PathBuf {
        self.dir().join("transcript")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("rehearse").args(words).arg("--dir").arg(self.dir());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    }

    fn fails(&self, words: &[&str], why: &str) {
        let output = self.run(words);
        assert!(!output.status.success() && said(&output).contains(why), "{words:?}: {}", said(&output));
    }

    fn story(&self) -> Story {
        Story::read(&fs::read(self.transcript()).unwrap_or_default()).unwrap()
    }

    /// Kills the rehearsal as soon as it has written what is looked for.
    fn killed_at(&self, what: impl Fn(&Event) -> bool) {
        let before = self.story().entries.len();
        let mut child = self.command(&["--nodes", "3"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.story().entries.iter().skip(before).any(|entry| what(&entry.event)) {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it does not come to that");
            thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.transcript().exists() {
            self.run(&["end"]);
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned()
}

fn begins(event: &Event, word: &str) -> bool {
    matches!(event, Event::Command(command) if command.words.iter().any(|other| other == word))
}

/// Killed before a paper is there, while nodes start, in a claim, while nodes are told of another set, and between two commands;
/// all that runs is ended too. Then it goes on with nothing done twice that would show, and can be done again by its transcript.
#[test]
fn a_rehearsal_that_is_killed_goes_on_and_can_be_verified_and_replayed() {
    let home = Home::new();
    for word in ["up", "propose"] {
        home.killed_at(|event| begins(event, word));
    }
    home.killed_at(|event| begins(event, "claim"));
    let lab: serde_json::Value = serde_json::from_slice(&fs::read(home.dir().join("lab/nodes.json")).unwrap()).unwrap();
    let identities = |lab: &serde_json::Value| [0, 1, 2].map(|node: usize| lab[node]["fiduciary"].clone());
    // All that runs is ended, in the midst of the claims, and the nodes are those of before.
    home.does(&["end"]);
    home.killed_at(|event| matches!(event, Event::Ended { .. }));
    home.killed_at(|event| begins(event, "push"));
    let steps = ["handover", "release", "transfer", "resignation", "refusals"];
    let told: String = steps.iter().map(|step| home.does(&[step])).collect();
    for said in [
        "set 1: 3 of 3 nodes",
        "set 2: 1 of 1 nodes",
        "1 of 1 nodes obey neither status nor isolate",
        "node-4 answered",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let now = serde_json::from_slice(&fs::read(home.dir().join("lab/nodes.json")).unwrap()).unwrap();
    assert_eq!(identities(&lab), identities(&now));

    // What is done is not done again; one node can be cut off from its power.
    home.does(&["stop", "node-2"]);
    home.does(&["start", "node-2"]);
    assert!(home.does(&["claims"]).contains("done already"));
    home.fails(&["--nodes", "4"], "has 3 nodes");
    home.does(&["end"]);
    let summary = home.does(&["summary"]);
    assert!(summary.contains("claims       done") && summary.contains("resumed"), "{summary}");

    let story = home.story();
    let file = home.transcript();
    let verify = |words: &[&str]| home.run(&[&["verify", file.to_str().unwrap()], words].concat());
    let verified = verify(&["--head", &story.hashes[3].to_string()]);
    assert!(verified.status.success(), "{}", said(&verified));
    let other = verify(&["--head", &"0".repeat(64)]);
    assert!(said(&other).contains("has never had the head"), "{}", said(&other));
    // An output that was changed afterwards.
    let of =
        story.entries.iter().find_map(|entry| if let Event::Ended { of, .. } = entry.event { Some(of) } else { None });
    let (of, output) = (of.unwrap(), home.dir().join("output"));
    fs::write(output.join(format!("{}.stderr", of)), "nothing").unwrap();
    assert!(said(&verify(&[])).contains(&format!("is not what command {of} said")));

    // As far as the first claim: what comes before it is a transcript too.
    let copy = home.0.path().join("copy");
    let is_ended = |entry: &&Entry| matches!(entry.event, Event::Done { step: Step::Warrants, .. });
    let until = story.entries.iter().find(is_ended).unwrap().sequence + 1;
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&copy, text.split_inclusive('\n').take(usize::try_from(until).unwrap()).collect::<String>()).unwrap();
    let again = Home::new();
    let replayed = again.does(&["replay", copy.to_str().unwrap()]);
    assert!(replayed.contains("have ended as the transcript says"), "{replayed}");
    assert_eq!(again.story().began().unwrap().replays, Some(story.hashes[usize::try_from(until).unwrap() - 1]));
}

/// Two leave the fleet, and what a former founder tries is refused by one of each board; a claim too, by one more of each.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn all_is_rehearsed_on_a_segment_of_native_nodes_and_both_boards() {
    let home = Home::new();
    let boards = [vec![NATIVE.to_owned()], sel4_boards().unwrap()].concat();
    let told = home.does(&["--nodes", &(boards.len() + 2).to_string(), "--board", &boards.join(",")]);
    for said in
        ["set 2: 3 of 3 nodes", "3 of 3 nodes obey neither status nor isolate", "node-6, node-7, node-8 answered"]
    {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert_eq!(home.story().began().unwrap().board, boards.join(","));
}

#[test]
fn what_cannot_be_rehearsed_is_said_before_anything_is_done() {
    let home = Home::new();
    home.fails(&["--tool", "/none"], "make build");
    home.fails(&["claims", "--nodes", "3"], "claims comes after keys, which is not done");
    assert_eq!(home.story().entries.len(), 1);
    home.fails(&["verify", "/none"], "/none");
    home.fails(&["replay", home.transcript().to_str().unwrap()], "no command in the transcript");
    let other = Home::new();
    fs::create_dir(other.dir()).unwrap();
    fs::write(other.dir().join("mine"), "").unwrap();
    other.fails(&[], "is not empty, and no rehearsal");
}
