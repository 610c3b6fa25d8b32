//! `native run FILE.xml`: runs a system description as Linux processes, and says how each ends.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    ptr::null_mut,
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use native::runner::{Config, Entropy, Event, Plug, StartError, Stopper, System};
use serde_json::json;
use sysdesc::{Board, DeviceKind};

#[derive(Parser)]
#[command(about = "Runs a system description as Linux processes")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a system until all its domains have finished, one dies, or it is told to stop.
    #[command(after_help = "Exit codes:
   0  all domains finished, or the runner was told to stop (SIGTERM, SIGINT)
   2  wrong usage
   3  the system description was refused
   4  the system could not start: something is missing or failed
  10  a domain was killed for a system call
  11  a domain was killed for a memory fault
  12  a domain panicked or aborted
  13  a domain exited although it must not
  14  a domain was killed by another signal
From 10 on, the code is of the first death.")]
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// The system description, in the project's dialect of Microkit SDF.
    file: PathBuf,
    /// The board: BOARD.toml in the board directory. The board `native` is also built in.
    #[arg(long, default_value = "native")]
    board: String,
    #[arg(long, default_value = "boards")]
    board_dir: PathBuf,
    /// Where programs and prefill files are; may be repeated [default: the directory of this program].
    #[arg(long, value_name = "DIR")]
    search_path: Vec<PathBuf>,
    /// Fills a region from a file, in place of what the description says.
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    region: Vec<(String, String)>,
    /// Gives a variable of the description a value, in place of the board's.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    var: Vec<(String, String)>,
    /// What stands behind a device: of a switch port OWN_SOCKET,SWITCH_SOCKET,MAC; of an entropy source as
    /// --entropy; of an output a file.
    #[arg(long, value_name = "DOMAIN.DEVICE=WHAT", value_parser = pair)]
    device: Vec<(String, String)>,
    /// What every entropy source gives: good, stuck, biased or fails-after:BYTES.
    #[arg(long, default_value_t)]
    entropy: Entropy,
    /// Where every output is appended to [default: standard output].
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// Lets the other domains run on after a death, and the parent of the dead start it anew.
    #[arg(long)]
    keep_going: bool,
    /// Reports on standard error as one JSON object per line.
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let Command::Run(run) = Arguments::parse().command;
    let json = run.json;
    let file = run.file.clone();
    match self::run(run) {
        Ok(code) => code.into(),
        Err(error) => {
            let start = error.downcast_ref::<StartError>();
            let text = match start {
                Some(StartError::Refused(refused)) => format!("{}: {refused}", file.display()),
                _ => format!("{error:#}"),
            };
            report(json, &text, || json!({ "error": text }));
            start.map_or(4, StartError::exit_code).into()
        }
    }
}

fn run(run: Run) -> Result<u8> {
    let json = run.json;
    // Blocked before any thread exists; each domain starts with no signal blocked.
    let signals = block_stop_signals()?;
    let system = System::start(config(run)?)?;
    let started = || json!({ "started": system.pids().iter().map(|(d, pid)| json!({ "domain": d, "pid": pid })).collect::<Vec<_>>() });
    report(json, &format!("{} domains started", system.pids().len()), started);
    stop_on(signals, system.stopper());
    for event in system.events() {
        match event {
            Event::Died(death) => report(json, &death.to_string(), || serde_json::to_value(&death).unwrap_or_default()),
            Event::Restarted { domain, pid } => {
                report(json, &format!("domain {domain} restarted"), || json!({ "restarted": domain, "pid": pid }));
            }
        }
    }
    Ok(system.wait().exit_code())
}

/// One line. Nobody may be reading: that stops nothing.
fn report(json: bool, text: &str, value: impl FnOnce() -> serde_json::Value) {
    let line = if json { value().to_string() } else { format!("native: {text}") };
    let _ = writeln!(io::stderr(), "{line}");
}

fn config(run: Run) -> Result<Config> {
    let description = fs::read_to_string(&run.file).with_context(|| run.file.display().to_string())?;
    let mut config = Config::new(description);
    if let Some(board) = board(&run.board, &run.board_dir)? {
        config.board = board;
    }
    for (name, value) in &run.var {
        config.board.set(name, value);
    }
    if !run.search_path.is_empty() {
        config.search_path = run.search_path;
    }
    for (name, file) in run.region {
        let bytes = fs::read(&file).with_context(|| format!("region {name}: {file}"))?;
        config.prefill.insert(name, bytes);
    }
    config.keep_going = run.keep_going;
    let mut wanted = run.device;
    let system = sysdesc::elaborate(&config.description, &config.board).map_err(StartError::from)?;
    for domain in system.all_domains() {
        for device in &domain.devices {
            let (name, Some(kind)) = (format!("{}.{}", domain.name, device.name), device.kind) else { continue };
            let plug = if let Some(index) = wanted.iter().position(|(wanted, _)| *wanted == name) {
                let (_, text) = wanted.swap_remove(index);
                Plug::parse(kind, &text).with_context(|| format!("--device {name}"))?
            } else if kind == DeviceKind::EntropyPipe {
                Plug::Entropy(run.entropy)
            } else if let (DeviceKind::File, Some(path)) = (kind, &run.console) {
                Plug::File(path.clone())
            } else {
                continue;
            };
            config.devices.insert(name, plug);
        }
    }
    match wanted.first() {
        Some((name, _)) => bail!("--device: no domain asks for a device {name}"),
        None => Ok(config),
    }
}

/// The board's file. Without one, none: for `native` it is built in.
fn board(name: &str, dir: &Path) -> Result<Option<Board>> {
    let path = dir.join(format!("{name}.toml"));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Board::parse(&text).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && name == "native" => Ok(None),
        Err(error) => Err(anyhow!(error)).with_context(|| path.display().to_string()),
    }
}

fn block_stop_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: the set is made by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &set, null_mut()) {
            0 => Ok(set),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn stop_on(signals: libc::sigset_t, stopper: Stopper) {
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: waits for one of a set that every thread blocks.
        while unsafe { libc::sigwait(&signals, &mut signal) } == 0 {
            stopper.stop();
        }
    });
}
