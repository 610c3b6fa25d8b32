//! The process that a lab is: it holds the segment and the nodes, and keeps the lab's files true. Every write
//! follows an event; nothing is polled.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::FlockOperation;
use sysdesc::image::assemble;

use crate::{
    Lab, Node, NodeOptions, SYSTEM, Up,
    files::{Dir, Record, SEGMENT},
    power::Power,
    up::{AlreadyRunning, EXIT_RUNNING, STOP, Word, lock, tidy},
};

/// How long a node may take, besides its scan, before that is called a hang; and for each further node.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_EACH: Duration = Duration::from_secs(5);

enum Event {
    /// Something about a node has changed.
    Node(usize),
    /// The lab is to end. Closing the connection says that it has.
    Stop(UnixStream),
    /// A node is to get or to lose its power, or what it keeps without. The answer is a line.
    Power(String, Power, UnixStream),
}

/// Runs a lab until it is told to stop. Standard output goes to the `lab up` that waits.
pub fn supervise(up: &Up) -> u8 {
    let mut words = Some(std::io::stdout());
    match supervised(up, &mut words) {
        Ok(()) => 0,
        Err(error) => {
            let code = if error.is::<AlreadyRunning>() { EXIT_RUNNING } else { 1 };
            let text = format!("{error:#}");
            if words.is_none() || say(&mut words, &Word::Fail(code, text.clone())).is_err() {
                say::tell!("lab: {text}");
            }
            code
        }
    }
}

fn supervised(up: &Up, words: &mut Option<std::io::Stdout>) -> Result<()> {
    let dir = Dir(fs::canonicalize(&up.dir).with_context(|| up.dir.display().to_string())?);
    let Some(_lock) = lock(&dir, FlockOperation::NonBlockingLockExclusive)? else {
        return Err(AlreadyRunning(up.dir.clone()).into());
    };
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut anchor = up.anchor.as_deref().map(read).transpose()?;
    let description = match &up.system {
        Some(path) => String::from_utf8(read(path)?).with_context(|| path.display().to_string())?,
        None => SYSTEM.to_owned(),
    };
    // Also those of a list that no node comes to.
    up.board.iter().try_for_each(|name| assemble::board(name).map(drop))?;
    tidy(&dir)?;
    dir.clear()?;
    if up.keep {
        anchor = dir.keep_anchor(anchor)?;
    }

    let lab = Lab::start_with(Some(&dir.path(SEGMENT)), false, description)?;
    let (tell, events) = mpsc::channel();
    listen(lab.switch().dir(), tell.clone())?;
    let mut nodes = Vec::new();
    for index in 0..usize::from(up.nodes) {
        let tell = tell.clone();
        let (name, board) = (format!("node-{}", index + 1), up.board_of(index));
        nodes.push(lab.node(NodeOptions {
            // Each board has a flash of its own size.
            device: up.keep.then(|| dir.path(&name).join(board)),
            board: board.to_owned(),
            anchor: anchor.clone(),
            params: up.params(),
            entropy: up.entropy,
            log: Some(dir.console_of(&name)?),
            // Nobody listens any more: the lab ends.
            changed: Some(Box::new(move || drop(tell.send(Event::Node(index))))),
            ..NodeOptions::default()
        })?);
    }
    // What happens between this and the first event is told by that event.
    let mut records = nodes.iter().map(|node| dir.record(node)).collect::<Result<Vec<_>>>()?;
    dir.write_nodes(&records)?;
    dir.write_lab(lab.switch().dir())?;
    dir.write_enter()?;
    let ended = follow(up, &dir, &mut nodes, &mut records, &events, words);
    drop(nodes);
    drop(lab);
    dir.retire()?;
    // The connections of those who wait for the end.
    ended.map(drop)
}

/// Keeps the files true until the lab is to stop.
fn follow(
    up: &Up,
    dir: &Dir,
    nodes: &mut [Node],
    records: &mut [Record],
    events: &Receiver<Event>,
    words: &mut Option<std::io::Stdout>,
) -> Result<Option<UnixStream>> {
    let scan = Duration::from_millis(up.params().scan_ms.get().into());
    let mut said = vec![0; nodes.len()];
    let mut deadline = Some(Instant::now() + scan + PATIENCE + PATIENCE_EACH * u32::from(up.nodes));
    loop {
        if deadline.is_some() && records.iter().all(|record| settled(record, up.no_wait)) {
            say(words, &Word::Ready)?;
            let _ = words.take();
            silence_output()?;
            deadline = None;
        }
        let first = match deadline {
            None => events.recv().map_err(|_| anyhow!("all who could speak are gone"))?,
            Some(deadline) => match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => bail!("not all nodes are where they should be:\n{}", consoles(nodes)),
                Err(RecvTimeoutError::Disconnected) => bail!("all who could speak are gone"),
            },
        };
        let (mut changed, mut answers) = (BTreeSet::new(), Vec::new());
        for event in std::iter::once(first).chain(events.try_iter()) {
            match event {
                Event::Stop(stream) => return Ok(Some(stream)),
                Event::Node(index) => drop(changed.insert(index)),
                Event::Power(name, power, stream) => {
                    let answer = match nodes.iter().position(|node| node.name() == name) {
                        Some(index) => {
                            changed.insert(index);
                            said[index] = 0;
                            power.apply(&mut nodes[index])
                        }
                        None => Err(anyhow!("there is no {name} in this lab")),
                    };
                    let line = answer.map_or_else(|error| format!("error {error:#}\n"), |()| "ok\n".to_owned());
                    answers.push((stream, line));
                }
            }
        }
        let mut rewrite = false;
        for index in changed {
            let (Some(node), Some(record)) = (nodes.get(index), records.get_mut(index)) else { continue };
            if deadline.is_some() {
                let seen = node.seen();
                for phase in &seen.phases[said[index]..] {
                    let more = match phase.as_str() {
                        "blind" => String::new(),
                        "scan" => format!("for {} s, unless an administrator answers", scan.as_secs_f32()),
                        _ => seen.fingerprint.clone().unwrap_or_default(),
                    };
                    let text = format!("{:<8} {phase:<9} {more}", node.name());
                    say(words, &Word::Say(text.trim_end().to_owned()))?;
                }
                said[index] = seen.phases.len();
            }
            let now = dir.record(node)?;
            rewrite |= now != *record;
            *record = now;
        }
        if rewrite {
            dir.write_nodes(records)?;
        }
        // Who asked may have gone. What was done stands in the files before he hears of it.
        for (mut stream, line) in answers {
            let _ = stream.write_all(line.as_bytes());
        }
        // Whoever waits wants to know now. Later it is in the files, and what somebody did to a domain is his affair.
        if deadline.is_some() && records.iter().any(|record| !record.deaths.is_empty()) {
            bail!("a domain died while the lab started:\n{}", consoles(nodes));
        }
    }
}

/// Whether there is no more to wait for.
fn settled(record: &Record, no_wait: bool) -> bool {
    match record.phase.as_str() {
        "hold" | "committed" | "claimed" | "sealed" => true,
        "scan" | "fork" => no_wait,
        _ => false,
    }
}

fn consoles(nodes: &[Node]) -> String {
    let text = |node: &Node| {
        let deaths: Vec<_> = node.seen().deaths.into_iter().map(|(_, how)| how).collect();
        format!("--- {}: {}\n{}", node.name(), deaths.join("; "), node.console())
    };
    nodes.iter().map(text).collect()
}

fn say(words: &mut Option<std::io::Stdout>, word: &Word) -> Result<()> {
    let Some(out) = words else { return Ok(()) };
    // Nobody waits any more: he was interrupted, and wants no lab.
    out.write_all(word.line().as_bytes()).and_then(|()| out.flush()).context("`lab up` has gone")
}

/// The pipe to `lab up` ends, so that nobody waits for more.
fn silence_output() -> Result<()> {
    let null = fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(null)?)
}

/// Takes requests to stop.
fn listen(dir: &Path, tell: Sender<Event>) -> Result<()> {
    let listener = UnixListener::bind(dir.join(STOP))?;
    let serve = move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_err() {
                continue;
            }
            let event = match line.trim_end().split_once(' ') {
                None if line == "stop\n" => Event::Stop(stream),
                Some((name, power)) => match Power::from_name(power) {
                    Some(power) => Event::Power(name.to_owned(), power, stream),
                    None => continue,
                },
                None => continue,
            };
            // Nobody listens any more: the lab ends.
            let _ = tell.send(event);
        }
    };
    thread::Builder::new().name("stop".into()).spawn(serve)?;
    Ok(())
}
