//! `lab up`, `lab down` and `lab status`: the side of a lab that returns to the shell.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use calls::params::Params;
use clap::Args;
use native::runner::Entropy;
use rustix::fs::{FlockOperation, flock};

use crate::{
    NATIVE,
    files::{self, Dir, LOCK, LOG, SWITCH_PREFIX},
};

/// Exit codes of `lab`, besides 0, 1 for what fails, and 2 for wrong usage.
pub const EXIT_RUNNING: u8 = 3;
pub const EXIT_NOT_RUNNING: u8 = 4;
/// Socket on which a supervisor takes its end, beside the switch's.
pub(super) const STOP: &str = "lab.sock";

/// What to start.
#[derive(Args, Clone)]
pub struct Up {
    /// Where the lab's files are
    #[arg(long, default_value = "target/lab")]
    pub dir: PathBuf,
    /// How many nodes; 0 starts the segment alone
    #[arg(long, default_value_t = 1)]
    pub nodes: u16,
    /// The nodes' image carries this anchor; without one each node shows a ticket
    #[arg(long, value_name = "FILE")]
    pub anchor: Option<PathBuf>,
    /// How long a node scans before it forks, in milliseconds [default: 30000]
    #[arg(long, value_name = "MS")]
    pub scan_ms: Option<u32>,
    /// A further window, deadline or budget, as docs/protocol.md names them; may be repeated
    #[arg(long, value_name = "NAME=NUMBER", value_parser = parameter)]
    pub param: Vec<(String, u32)>,
    /// What the entropy sources give: good, stuck, biased or fails-after:BYTES
    #[arg(long, value_name = "MODE", default_value_t)]
    pub entropy: Entropy,
    /// Return as soon as every node's scan has started
    #[arg(long)]
    pub no_wait: bool,
    /// What the nodes are: native, or a board whose image `make image CONFIG=release` has built, under QEMU; a list with
    /// commas goes round the nodes
    #[arg(long, value_name = "BOARD", value_delimiter = ',', default_value = NATIVE)]
    pub board: Vec<String>,
    /// Each node is the device that it was when the lab was last started with this: its flash, its device secret, its MAC,
    /// and the image's anchor, if no other is given
    #[arg(long)]
    pub keep: bool,
    /// The nodes' system description [default: the one that this program was built with]
    #[arg(long, value_name = "FILE")]
    pub system: Option<PathBuf>,
}

impl Up {
    pub(super) fn params(&self) -> Params {
        let mut params = Params::DEFAULT;
        let scan = self.scan_ms.map(|ms| ("scan_ms".to_owned(), ms));
        for (name, value) in self.param.iter().chain(&scan) {
            // The names have been checked.
            if let Some(field) = field(&mut params, name) {
                *field = (*value).into();
            }
        }
        params
    }

    /// What a node is, by its number from 0.
    pub(super) fn board_of(&self, index: usize) -> &str {
        self.board.iter().cycle().nth(index).map_or(NATIVE, String::as_str)
    }
}

fn field<'a>(params: &'a mut Params, name: &str) -> Option<&'a mut zerocopy::little_endian::U32> {
    Some(match name {
        "scan_ms" => &mut params.scan_ms,
        "scan_hellos" => &mut params.scan_hellos,
        "hello_delay_ms" => &mut params.hello_delay_ms,
        "nonce_ms" => &mut params.nonce_ms,
        "token_ms" => &mut params.token_ms,
        "pending_ms" => &mut params.pending_ms,
        "claim_ms" => &mut params.claim_ms,
        "find_budget" => &mut params.find_budget,
        "open_budget" => &mut params.open_budget,
        _ => return None,
    })
}

fn parameter(text: &str) -> Result<(String, u32), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
    field(&mut { Params::DEFAULT }, name).ok_or_else(|| format!("there is no parameter {name}"))?;
    let value = value.parse().map_err(|_| format!("\"{value}\" is no number"))?;
    Ok((name.to_owned(), value))
}

/// A lab runs in the directory already.
#[derive(Debug)]
pub struct AlreadyRunning(pub PathBuf);

impl fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.0.display();
        write!(f, "a lab runs in {dir} already; `make lab-stop`, or `lab down --dir {dir}`, ends it")
    }
}

impl std::error::Error for AlreadyRunning {}

/// No lab runs in the directory.
#[derive(Debug)]
pub struct NotRunning(pub PathBuf);

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no lab runs in {}; `make lab`, or `lab up`, starts one", self.0.display())
    }
}

impl std::error::Error for NotRunning {}

/// What a supervisor tells the `lab up` that started it, a line each.
pub(super) enum Word {
    Say(String),
    Ready,
    Fail(u8, String),
}

impl Word {
    pub fn line(&self) -> String {
        // One line each, whatever it says.
        let one = |text: &str| text.replace('\\', r"\\").replace('\n', r"\n");
        match self {
            Self::Say(text) => format!("say {}\n", one(text)),
            Self::Ready => "ready\n".into(),
            Self::Fail(code, text) => format!("fail {code} {}\n", one(text)),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let text = |text: &str| {
            let (mut whole, mut chars) = (String::new(), text.chars());
            while let Some(c) = chars.next() {
                whole.push(match c {
                    '\\' if chars.next() == Some('n') => '\n',
                    c => c,
                });
            }
            whole
        };
        match line.split_once(' ') {
            None if line == "ready" => Some(Self::Ready),
            Some(("say", rest)) => Some(Self::Say(text(rest))),
            Some(("fail", rest)) => {
                let (code, rest) = rest.split_once(' ')?;
                Some(Self::Fail(code.parse().ok()?, text(rest)))
            }
            _ => None,
        }
    }
}

/// Starts a supervisor in a session of its own by running this program with `arguments`, and returns once its
/// nodes are where they were to get to: 0, or the code to exit with.
pub fn up(up: &Up, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<u8> {
    fs::create_dir_all(&up.dir).with_context(|| up.dir.display().to_string())?;
    let log = Dir(up.dir.clone()).path(LOG);
    // Another lab's supervisor may be writing to it.
    let log_file =
        OpenOptions::new().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
    // SAFETY: between fork and exec it only makes system calls.
    unsafe { command.pre_exec(detach) };
    let mut child = command.spawn().context("cannot start the supervisor")?;
    let words = child.stdout.take().context("the supervisor has no output")?;
    for line in BufReader::new(words).lines() {
        match Word::read(&line?) {
            Some(Word::Say(text)) => say::show!("{text}"),
            Some(Word::Ready) => return Ok(0),
            Some(Word::Fail(code, text)) => {
                say::tell!("lab up: {text}");
                child.wait()?;
                return Ok(code);
            }
            None => break,
        }
    }
    let status = child.wait()?;
    bail!("the supervisor ended ({status}); see {}", log.display())
}

/// A session of its own, and no descriptor but the standard ones: whoever waits for the end of a pipe of the
/// caller's must not wait for the lab.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: only marks descriptors; exec closes them.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The lock that a running lab holds. It is free, or whose it is does not matter.
pub(super) fn lock(dir: &Dir, how: FlockOperation) -> Result<Option<File>> {
    let path = dir.path(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    match flock(&file, how) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Ends the lab in a directory, if one runs there. True if one did.
pub fn down(dir: &Path) -> Result<bool> {
    if !dir.is_dir() {
        return Ok(false);
    }
    let dir = Dir(dir.to_owned());
    let stopped = match dir.read_lab().and_then(|lab| UnixStream::connect(lab.switch.join(STOP)).ok()) {
        None => false,
        Some(mut stream) => {
            stream.write_all(b"stop\n").context("cannot tell the lab to stop")?;
            // It closes the connection when all has ended.
            stream.read_to_end(&mut Vec::new()).context("the lab did not stop")?;
            true
        }
    };
    if stopped {
        lock(&dir, FlockOperation::LockExclusive)?;
    } else {
        match lock(&dir, FlockOperation::NonBlockingLockExclusive)? {
            None => bail!("a lab in {} is starting or stopping; try again", dir.0.display()),
            Some(_lock) => tidy(&dir)?,
        }
    }
    Ok(stopped)
}

/// Takes away what a lab left that was killed. The caller has the lock.
pub(super) fn tidy(dir: &Dir) -> Result<()> {
    if let Some(lab) = dir.read_lab() {
        let ours = lab.switch.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with(SWITCH_PREFIX));
        if ours && lab.switch.starts_with(std::env::temp_dir()) {
            let _ = fs::remove_dir_all(&lab.switch);
        }
    }
    dir.retire()
}

/// Prints the nodes of a running lab.
pub fn status(dir: &Path) -> Result<()> {
    let lab = running(dir)?;
    for node in lab.read_nodes()? {
        let fingerprint = node.fingerprint.as_deref().unwrap_or("no identity");
        say::result(format_args!("{:<8} {:<9} {fingerprint}", node.name, node.phase))?;
        for trouble in node.faults.iter().chain(&node.deaths) {
            say::result(format_args!("         {trouble}"))?;
        }
    }
    Ok(())
}

/// The switch's directory of the lab in a directory.
pub fn switch_of(dir: &Path) -> Result<PathBuf> {
    let lab = running(dir)?;
    Ok(lab.read_lab().with_context(|| format!("the lab in {} is starting or stopping", dir.display()))?.switch)
}

fn running(dir: &Path) -> Result<Dir> {
    let lab = Dir(dir.to_owned());
    let locked = dir.is_dir()
        && lab.path(files::LAB).exists()
        && lock(&lab, FlockOperation::NonBlockingLockExclusive)?.is_none();
    if locked { Ok(lab) } else { Err(NotRunning(dir.to_owned()).into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_read_back(text in "[\\\\na-z\n ]*", code: u8) {
            let line = Word::Fail(code, text.clone()).line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            match Word::read(line.trim_end_matches('\n')) {
                Some(Word::Fail(read, back)) => prop_assert_eq!((read, back), (code, text)),
                _ => prop_assert!(false, "{}", line),
            }
        }
    }

    #[test]
    fn parameters_are_checked_by_name_and_number() {
        assert_eq!(parameter("token_ms=5"), Ok(("token_ms".into(), 5)));
        for wrong in ["token_ms", "magic=1", "token_ms=-1", "token_ms=4294967296"] {
            assert!(parameter(wrong).is_err(), "{wrong}");
        }
    }
}
