//! Where a rehearsal takes place: its directory, its transcript, and the commands that it runs there.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{self, Child, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use segment::enter;

use super::{
    act::{Act, fill},
    step::Step,
    transcript::{Began, Command, Event, Hash, Program, Story, Transcript},
};
use crate::files::{Dir, Record};

pub const TRANSCRIPT: &str = "transcript";
/// The lab's directory, and the outputs of the commands, in that of the rehearsal.
pub const LAB: &str = "lab";
pub const OUTPUT: &str = "output";
/// The mesh of the founder, whose port it is.
pub const FOUNDER: &str = "ada";
/// Held while a rehearsal runs; by each command that it runs, also where the rehearsal was killed; by the mesh.
const LOCKS: [&str; 3] = ["rehearsal.lock", "command.lock", "mesh.lock"];

/// Each may need as much memory as a passphrase costs.
const AT_ONCE: usize = 8;

/// What a command has said, and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A command that runs, or has no need to.
enum Begun {
    /// This step has run it to a good end before.
    Before(Said),
    Now(Run, Running),
}

struct Run {
    sequence: u64,
    command: Command,
    line: String,
    started: Instant,
}

enum Running {
    On(Child),
    /// It is left running, or did not come to that.
    Left(Said),
}

impl Running {
    fn wait(self) -> Result<Said> {
        match self {
            Self::Left(said) => Ok(said),
            Self::On(child) => {
                let output = child.wait_with_output()?;
                Ok(Said { code: code(output.status), stdout: output.stdout, stderr: output.stderr })
            }
        }
    }
}

pub struct Stage {
    pub dir: PathBuf,
    pub nodes: u16,
    pub board: String,
    tool: PathBuf,
    transcript: Transcript,
    /// The first entry of what this process or the step at hand has done.
    since: usize,
    step: Option<Step>,
    /// It ends with this process.
    _lock: File,
    /// The standard input of each command, so that whoever comes after a rehearsal that was killed waits for its end.
    busy: File,
}

/// What a rehearsal begins with.
pub struct Terms {
    pub dir: PathBuf,
    pub nodes: Option<u16>,
    pub board: Option<String>,
    pub tool: PathBuf,
    pub replays: Option<Hash>,
}

impl Stage {
    /// Begins in an empty directory, or goes on where a rehearsal was left.
    pub fn open(terms: Terms) -> Result<Self> {
        let tool = fs::canonicalize(&terms.tool).with_context(|| {
            let tool = terms.tool.display();
            format!("there is no {tool}: `make build` makes it, or name one with --tool")
        })?;
        let at = || terms.dir.display().to_string();
        DirBuilder::new().recursive(true).mode(0o700).create(&terms.dir).with_context(at)?;
        let dir = fs::canonicalize(&terms.dir).with_context(at)?;
        let is_new = !dir.join(TRANSCRIPT).exists();
        if is_new {
            let is_other = |name: &OsStr| LOCKS.iter().all(|lock| name != *lock);
            let others = fs::read_dir(&dir).with_context(at)?.flatten().any(|entry| is_other(&entry.file_name()));
            ensure!(!others, "{} is not empty, and no rehearsal: name another directory with --dir", dir.display());
        }
        let lock = lock_file(&dir.join(LOCKS[0]))?;
        if !taken(&lock) {
            bail!("a rehearsal runs in {} already", dir.display());
        }
        let busy = lock_file(&dir.join(LOCKS[1]))?;
        if flock(&busy, FlockOperation::NonBlockingLockExclusive).is_err() {
            say::tell!("waiting for a command of the rehearsal that was killed");
            flock(&busy, FlockOperation::LockExclusive)?;
        }
        let (mut transcript, torn) = Transcript::open(&dir.join(TRANSCRIPT))?;
        let hash = |path: &Path| {
            Ok::<_, anyhow::Error>(Hash::of(&fs::read(path).with_context(|| path.display().to_string())?))
        };
        let tool_hash = hash(&tool)?;
        match transcript.story().began().cloned() {
            None => {
                let own = std::env::current_exe().context("cannot find this program")?;
                transcript.append(Event::Began(Began {
                    tool: tool.display().to_string(),
                    tool_hash,
                    lab_hash: hash(&own)?,
                    nodes: terms.nodes.unwrap_or(super::NODES),
                    board: terms.board.clone().unwrap_or_else(|| crate::NATIVE.to_owned()),
                    replays: terms.replays,
                }))?;
            }
            Some(began) => {
                let same = terms.nodes.is_none_or(|nodes| nodes == began.nodes)
                    && terms.board.as_ref().is_none_or(|board| *board == began.board);
                let (at, nodes, board) = (dir.display(), began.nodes, &began.board);
                ensure!(same, "the rehearsal in {at} has {nodes} nodes on {board}: name another directory with --dir");
                let cut = transcript.story().open.iter().copied().collect();
                transcript.append(Event::Resumed { tool_hash, cut, torn: torn as u64 })?;
            }
        }
        let began = transcript.story().began().context("the transcript has no beginning")?;
        let (nodes, board, since) = (began.nodes, began.board.clone(), transcript.story().entries.len());
        for name in [OUTPUT, "shared"] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir.join(name))?;
        }
        Ok(Self { dir, nodes, board, tool, transcript, since, step: None, _lock: lock, busy })
    }

    pub fn story(&self) -> &Story {
        self.transcript.story()
    }

    /// Nodes of the same image that nobody lists, one of each board.
    pub fn spares(&self) -> Vec<String> {
        (1..).zip(self.board.split(',')).map(|(more, _)| format!("node-{}", self.nodes + more)).collect()
    }

    /// The names of all nodes of the fleet.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.nodes).map(|number| format!("node-{number}"))
    }

    /// What follows is of this step. What it has done before, in another process, is not done again.
    pub fn begin(&mut self, step: Step) -> Result<()> {
        let is_this = |event: &Event| matches!(event, Event::Step(begun) if *begun == step);
        let begun = self.story().entries.iter().position(|entry| is_this(&entry.event));
        self.since = begun.unwrap_or(self.story().entries.len());
        self.step = Some(step);
        self.transcript.append(Event::Step(step)).map(drop)
    }

    pub fn end(&mut self, outcome: &Result<Vec<String>>) -> Result<()> {
        let Some(step) = self.step.take() else { return Ok(()) };
        self.since = self.story().entries.len();
        let event = match outcome {
            Ok(says) => Event::Done { step, says: says.clone() },
            Err(error) => Event::Failed { step, why: format!("{error:#}") },
        };
        self.transcript.append(event).map(drop)
    }

    /// Runs a command to its end, unless this step has done it before. An exit code that is not wanted is an error.
    pub fn run(&mut self, act: Act) -> Result<Said> {
        self.run_all(vec![act])?.pop().context("a command without an end")
    }

    /// The same of several that need not wait for each other.
    pub fn run_all(&mut self, acts: Vec<Act>) -> Result<Vec<Said>> {
        let (tell, ends) = mpsc::channel();
        let (mut left, mut runs) = (acts.into_iter(), BTreeMap::new());
        let (mut all, mut wrong) = (Vec::new(), None);
        // Whatever comes of one, the end of each other is written down.
        loop {
            while runs.len() < AT_ONCE
                && wrong.is_none()
                && let Some(act) = left.next()
            {
                match self.start(act) {
                    Ok(Begun::Before(said)) => all.push(said),
                    Ok(Begun::Now(run, child)) => {
                        let (sequence, tell) = (run.sequence, tell.clone());
                        runs.insert(sequence, run);
                        // Nobody listens any more: the rehearsal has ended.
                        thread::spawn(move || drop(tell.send((sequence, child.wait()))));
                    }
                    Err(error) => wrong = Some(error),
                }
            }
            if runs.is_empty() {
                return wrong.map_or(Ok(all), Err);
            }
            let (sequence, said) = ends.recv()?;
            let run = runs.remove(&sequence).context("a command that does not run has ended")?;
            match said.and_then(|said| self.finish(run, said)) {
                Ok(said) => all.push(said),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
    }

    fn start(&mut self, act: Act) -> Result<Begun> {
        let made = act.made();
        let Act { mut command, again, .. } = act;
        if !again && let Some(said) = self.done(&command)? {
            return Ok(Begun::Before(said));
        }
        let was_cut = self.story().commands().any(|(_, other, end)| end.is_none() && is_same(other, &command));
        if was_cut
            && let Some(path) = made
            && self.dir.join(&path).exists()
        {
            self.transcript.append(Event::Removed { path: path.clone() })?;
            fs::remove_file(self.dir.join(&path)).with_context(|| path.clone())?;
        }
        let words = command.words.clone();
        let words: Vec<String> =
            words.iter().map(|word| fill(word, &mut command.values, |name| self.value(name))).collect::<Result<_>>()?;
        let line = shown(&command, &words);
        say::show!("   {line}");
        let sequence = self.transcript.append(Event::Command(command.clone()))?;
        let started = Instant::now();
        let child = if command.stays { self.leave(&command, &words) } else { self.spawn(&command, &words) };
        let child = child.with_context(|| line.clone())?;
        Ok(Begun::Now(Run { sequence, command, line, started }, child))
    }

    fn finish(&mut self, run: Run, said: Said) -> Result<Said> {
        let Run { sequence, command, line, started } = run;
        for (kind, bytes) in [("stdout", &said.stdout), ("stderr", &said.stderr)] {
            write(&self.output(sequence, kind), bytes)?;
        }
        let (stdout, stderr) = (Hash::of(&said.stdout), Hash::of(&said.stderr));
        self.transcript.append(Event::Ended { of: sequence, code: said.code, stdout, stderr })?;
        let took = started.elapsed().as_secs_f32();
        if took >= 5.0 {
            say::show!("     {took:.0} s");
        }
        if !command.wanted.contains(&said.code) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let (out, err, code) = (text(&said.stdout), text(&said.stderr), said.code);
            bail!("command {sequence} ended with {code}, wanted was {:?}: {line}\n{out}\n{err}", command.wanted);
        }
        Ok(said)
    }

    /// Whether this step has run this command to a good end.
    pub fn has_done(&self, command: &Command) -> bool {
        matches!(self.done(command), Ok(Some(_)))
    }

    /// Whether this step has begun to run it, whatever has come of that.
    pub fn has_begun(&self, command: &Command) -> bool {
        self.story().commands().any(|(sequence, other, _)| sequence > self.since as u64 && is_same(other, command))
    }

    /// What the same command said when this step ran it to a good end.
    fn done(&self, command: &Command) -> Result<Option<Said>> {
        let begin = self.since as u64;
        for (sequence, other, end) in self.story().commands() {
            if let Some(Event::Ended { code, stdout, stderr, .. }) = end
                && sequence > begin
                && is_same(other, command)
                && command.wanted.contains(code)
            {
                let read = |kind: &str, hash: &Hash| {
                    let path = self.output(sequence, kind);
                    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                    ensure!(Hash::of(&bytes) == *hash, "{} is not what command {sequence} said", path.display());
                    Ok(bytes)
                };
                return Ok(Some(Said {
                    code: *code,
                    stdout: read("stdout", stdout)?,
                    stderr: read("stderr", stderr)?,
                }));
            }
        }
        Ok(None)
    }

    fn process(&self, command: &Command, words: &[String]) -> Result<process::Command> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let program = match command.program {
            Program::Tool => &self.tool,
            Program::Lab => &own,
        };
        let mut process = process::Command::new(if command.segment.is_some() { &own } else { program });
        if let Some(port) = &command.segment {
            process.args(["enter", "--lab", LAB, "--name", port]).arg(program).args(["--interface", enter::INTERFACE]);
        }
        process.args(words).current_dir(&self.dir);
        Ok(process)
    }

    fn spawn(&self, command: &Command, words: &[String]) -> Result<Running> {
        let mut process = self.process(command, words)?;
        // `lab up` leaves a lab running, which must not be waited for.
        let stdin = if command.program == Program::Tool { self.busy.try_clone()?.into() } else { Stdio::null() };
        let child = process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Ok(Running::On(child))
    }

    /// The lock of a mesh that runs, if none does. One that ends has its port until it has ended.
    pub fn mesh_place(&self) -> Result<Option<File>> {
        let lock = lock_file(&self.dir.join(LOCKS[2]))?;
        Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(lock))
    }

    /// Starts it, and returns with its first line, or with its end if it has none.
    fn leave(&self, command: &Command, words: &[String]) -> Result<Running> {
        let mesh = self.mesh_place()?.context("another mesh of this rehearsal runs")?;
        let log = self.dir.join(OUTPUT).join("mesh.stderr");
        let log_file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&log)?;
        let mut process = self.process(command, words)?;
        let mut child = process.process_group(0).stdin(mesh).stdout(Stdio::piped()).stderr(log_file).spawn()?;
        let mut line = Vec::new();
        let stdout = child.stdout.take().context("it has no output")?;
        BufReader::new(stdout).read_until(b'\n', &mut line)?;
        if !line.is_empty() {
            return Ok(Running::Left(Said { code: 0, stdout: line, stderr: Vec::new() }));
        }
        Ok(Running::Left(Said { code: code(child.wait()?), stdout: line, stderr: fs::read(log)? }))
    }

    /// Writes a file whose text may have values of this lab in it; without a text, a secret one, which stays if it is there.
    pub fn file(&mut self, path: &str, text: Option<&str>) -> Result<()> {
        let mut values = BTreeMap::new();
        let filled = text.map(|text| fill(text, &mut values, |name| self.value(name))).transpose()?;
        let at = self.dir.join(path);
        if filled.is_none() && at.exists() {
            return Ok(());
        }
        self.transcript.append(Event::File { path: path.into(), text: text.map(str::to_owned), values })?;
        if let Some(parent) = at.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        match filled {
            Some(text) => write(&at, text.as_bytes()),
            None => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).context("no random bytes")?;
                write(&at, base16ct::lower::encode_string(&secret).as_bytes())
            }
        }
    }

    fn output(&self, sequence: u64, kind: &str) -> PathBuf {
        self.dir.join(OUTPUT).join(format!("{sequence}.{kind}"))
    }

    /// What the lab says of its nodes.
    pub fn records(&self) -> Result<Vec<Record>> {
        Dir(self.dir.join(LAB)).read_nodes()
    }

    pub fn record(&self, node: &str) -> Result<Record> {
        let found = self.records()?.into_iter().find(|record| record.name == node);
        found.with_context(|| format!("there is no {node}"))
    }

    /// A founder's fingerprint, as his key was made with it.
    fn authority(&self, who: &str) -> Result<String> {
        let key = format!("{who}/key");
        let is_his =
            |command: &Command| command.words.get(1) == Some(&key) && command.words.iter().any(|w| w == "init");
        let made = self.story().commands().filter(|(_, command, end)| end.is_some() && is_his(command)).last();
        let (sequence, ..) = made.with_context(|| format!("{who} has no key"))?;
        let said: serde_json::Value = serde_json::from_slice(&fs::read(self.output(sequence, "stdout"))?)?;
        Ok(said["fingerprint"].as_str().context("a key without a fingerprint")?.to_owned())
    }

    /// A value of this lab, by its name in braces.
    fn value(&self, name: &str) -> Result<String> {
        let (what, of) = name.split_once(' ').unwrap_or((name, ""));
        let shown = |value: Option<String>| value.with_context(|| format!("{of} has shown no {what}"));
        match what {
            "fiduciary" => shown(self.record(of)?.fiduciary),
            "fingerprint" => shown(self.record(of)?.fingerprint),
            "authority" => self.authority(of),
            "address" => Ok(enter::address(of).to_string()),
            _ => Err(anyhow!("there is no value {name}")),
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The same command line, whatever its values are.
fn is_same(one: &Command, other: &Command) -> bool {
    (one.program, &one.segment, &one.words) == (other.program, &other.segment, &other.words)
}

/// A command line for a person: whose it is stands before it, in place of the words that name his files.
fn shown(command: &Command, words: &[String]) -> String {
    /// A line with thirty keys in it is for the transcript.
    const LONGEST: usize = 140;
    let key = words.iter().position(|word| word == "--key").and_then(|at| words.get(at + 1));
    let (who, words) = match (command.program, key.and_then(|key| key.split_once('/'))) {
        (Program::Tool, Some((who, _))) => (who, words.get(Act::FILES..).unwrap_or_default()),
        (Program::Tool, None) => ("anybody", words),
        (Program::Lab, _) => ("", words),
    };
    let name = match command.program {
        Program::Tool => "os-network-admin",
        Program::Lab => "lab",
    };
    let quoted = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let mut line = format!("{who}$ {name} {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "));
    if let Some((at, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// Takes the lock of a rehearsal. What one that was killed had just forked, and has not become its command yet, has it too.
fn taken(lock: &File) -> bool {
    const FORKING: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + FORKING;
    while flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(FORKING / 50);
    }
    true
}

fn lock_file(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path);
    opened.with_context(|| path.display().to_string())
}

/// Whole or not at all, and for nobody else.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().context("a path without a directory")?;
    let new = || {
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)
    };
    new().map(drop).with_context(|| format!("cannot write {}", path.display()))
}
