//! What a rehearsal has done, a line of JSON for each entry. A line names the hash of the line before, so that none can be
//! changed, left out or put in without all that follow. It is not signed: whoever can write anew all of it can do so, and
//! is found by a head that somebody else has noted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::step::Step;

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        let decoded = base16ct::lower::decode(text, &mut bytes).map(<[u8]>::len);
        if decoded == Ok(32) {
            Ok(Self(bytes))
        } else {
            Err(format!("\"{text}\" is no SHA-256: 64 hex digits, lower case"))
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1, 2, ...
    pub sequence: u64,
    /// Unix milliseconds, by this host's clock.
    pub time_ms: u64,
    /// Of the line before, without its end; zeros in the first.
    pub previous: Hash,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    Began(Began),
    /// By another process than before. `cut` are commands of which the end is not known, `torn` the bytes of a line that was
    /// not whole and is taken away.
    Resumed {
        tool_hash: Hash,
        cut: Vec<u64>,
        torn: u64,
    },
    /// What follows is of this step.
    Step(Step),
    /// A command is about to run.
    Command(Command),
    /// It has ended: with this exit code, and these words on its standard output and standard error.
    Ended {
        of: u64,
        code: i32,
        stdout: Hash,
        stderr: Hash,
    },
    /// A file is about to be written by the rehearsal itself. Without a text it is secret: 64 random hex digits.
    File {
        path: String,
        text: Option<String>,
        values: BTreeMap<String, String>,
    },
    /// What a command that was cut may have left is about to be removed, before the command runs again.
    Removed {
        path: String,
    },
    Done {
        step: Step,
        says: Vec<String>,
    },
    Failed {
        step: Step,
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Began {
    pub tool: String,
    pub tool_hash: Hash,
    pub lab_hash: Hash,
    pub nodes: u16,
    pub board: String,
    /// Head of the transcript that is replayed.
    pub replays: Option<Hash>,
}

/// A command line. What stands in braces in its words is a value of this lab, so that it can be run in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub program: Program,
    /// The port of the segment behind which it runs.
    pub segment: Option<String>,
    pub words: Vec<String>,
    pub values: BTreeMap<String, String>,
    /// The exit codes with which the rehearsal goes on.
    pub wanted: Vec<i32>,
    /// It is left running once it has said its first line, which is then its output.
    pub stays: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    #[serde(rename = "os-network-admin")]
    Tool,
    #[serde(rename = "lab")]
    Lab,
}

/// A transcript that holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    pub entries: Vec<Entry>,
    /// Of each entry.
    pub hashes: Vec<Hash>,
    /// Bytes after the last whole line: a write that was cut, and no entry.
    pub torn: usize,
    /// Commands that have begun and whose end is not known.
    pub open: BTreeSet<u64>,
}

/// Why it does not, and the line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub line: usize,
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not as it was written: {}", self.line, self.why)
    }
}

impl std::error::Error for Broken {}

impl Story {
    /// All entries, each after the one that it names. An entry has one form.
    pub fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let mut story = Self::default();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = story.entries.len() + 1;
            story.take(&rest[..end]).map_err(|why| Broken { line, why })?;
            rest = &rest[end + 1..];
        }
        story.torn = rest.len();
        Ok(story)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if serde_json::to_vec(&entry).ok().as_deref() != Some(line) {
            return Err("it is written in another form than this program writes".into());
        }
        if entry.previous != self.head() {
            return Err("it does not name the hash of the line before".into());
        }
        self.add(entry, Hash::of(line))
    }

    /// The entry must make sense where it is.
    fn add(&mut self, entry: Entry, hash: Hash) -> Result<(), String> {
        if entry.sequence != self.next() {
            return Err(format!("its sequence is {}, and not {}", entry.sequence, self.next()));
        }
        if matches!(entry.event, Event::Began(_)) != self.entries.is_empty() {
            return Err("a transcript begins once, with its first line".into());
        }
        match &entry.event {
            Event::Command(_) => drop(self.open.insert(entry.sequence)),
            Event::Ended { of, .. } if !self.open.remove(of) => return Err(format!("no command {of} runs")),
            Event::Resumed { cut, .. } => {
                if !self.open.iter().eq(cut) {
                    return Err("it does not name the commands that were cut".into());
                }
                self.open.clear();
            }
            _ => {}
        }
        self.entries.push(entry);
        self.hashes.push(hash);
        Ok(())
    }

    /// The hash of the last entry.
    pub fn head(&self) -> Hash {
        self.hashes.last().copied().unwrap_or_default()
    }

    fn next(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    pub fn began(&self) -> Option<&Began> {
        match self.entries.first().map(|entry| &entry.event) {
            Some(Event::Began(began)) => Some(began),
            _ => None,
        }
    }

    pub fn is_done(&self, step: Step) -> bool {
        self.entries.iter().any(|entry| matches!(&entry.event, Event::Done { step: done, .. } if *done == step))
    }

    /// Commands in their order, each with its entry and, if it ended, the entry of that.
    pub fn commands(&self) -> impl Iterator<Item = (u64, &Command, Option<&Event>)> {
        let mut ends = BTreeMap::new();
        for entry in &self.entries {
            if let Event::Ended { of, .. } = &entry.event {
                ends.insert(*of, &entry.event);
            }
        }
        self.entries.iter().filter_map(move |entry| match &entry.event {
            Event::Command(command) => Some((entry.sequence, command, ends.get(&entry.sequence).copied())),
            _ => None,
        })
    }
}

/// The file, and what stands in it.
pub struct Transcript {
    file: File,
    story: Story,
    /// What stands in the file is not known any more.
    has_failed: bool,
}

impl Transcript {
    /// Opens it, or makes an empty one. A line that was not whole is no entry, and is taken away.
    pub fn open(path: &Path) -> Result<(Self, usize)> {
        let at = || path.display().to_string();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).with_context(at)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(at)?;
        let mut story = Story::read(&bytes).with_context(at)?;
        let torn = std::mem::take(&mut story.torn);
        if torn > 0 {
            file.set_len((bytes.len() - torn) as u64).with_context(at)?;
        }
        Ok((Self { file, story, has_failed: false }, torn))
    }

    pub fn story(&self) -> &Story {
        &self.story
    }

    /// It is on the disk before this returns, with its sequence.
    pub fn append(&mut self, event: Event) -> Result<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let time_ms = u64::try_from(now).unwrap_or(u64::MAX);
        let entry = Entry { sequence: self.story.next(), time_ms, previous: self.story.head(), event };
        let mut line = serde_json::to_vec(&entry)?;
        let (sequence, hash) = (entry.sequence, Hash::of(&line));
        ensure!(!self.has_failed, "the transcript could not be written before");
        self.story.add(entry, hash).map_err(|why| anyhow!("an entry that makes no sense: {why}"))?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        self.has_failed = written.is_err();
        written.context("cannot write the transcript")?;
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests;
