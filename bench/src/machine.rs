//! A machine whose instructions are counted: QEMU with `-icount shift=0,sleep=off`. Each instruction takes one
//! nanosecond of virtual time, the guest's counter is virtual time, and no clock of the host's is in it, so a run is
//! like the last to the tick.
//!
//! Time in which the processor waits would be counted too. [`exact`] sees to it that there is none.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use qemu::Setup;
use serde::Deserialize;

use crate::{
    elf,
    systems::{self, Built},
};

/// A hang detector.
const PATIENCE: Duration = Duration::from_secs(300);
/// By how much of a figure two runs may differ that have the same instructions and other timer interrupts.
const SLACK: f64 = 0.01;

/// The device's, of every machine.
pub const SECRET: [u8; 32] = [7; 32];

/// Instructions in a tick of the counter: nanoseconds, by what the kernel was configured for.
pub fn tick(board: &str) -> Result<f64> {
    #[derive(Deserialize)]
    struct Kernel {
        #[serde(rename = "TIMER_FREQUENCY")]
        hertz: String,
    }
    let file = systems::sdk_of(board)?.join("include/kernel/gen_config.json");
    let text = fs::read(&file).with_context(|| file.display().to_string())?;
    let kernel: Kernel = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    let hertz: u32 = kernel.hertz.parse().with_context(|| file.display().to_string())?;
    ensure!(hertz > 0, "the counter of {board} stands still");
    Ok(1e9 / f64::from(hertz))
}

/// What a system has said on its serial line until its `bench: end`.
pub struct Said {
    board: String,
    /// Each `bench: KEY VALUE`, in order. What ends in `ticks` is time.
    figures: Vec<(String, f64)>,
}

impl Said {
    /// All values of a key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = f64> {
        self.figures.iter().filter(move |(of, _)| of == key).map(|(_, value)| *value)
    }

    pub fn one(&self, key: &str) -> Result<f64> {
        let mut all = self.all(key);
        match (all.next(), all.next()) {
            (Some(value), None) => Ok(value),
            (first, _) => bail!("{} said {key} {}", self.board, if first.is_none() { "never" } else { "twice" }),
        }
    }
}

/// Dropping it is pulling the plug.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// QEMU with a system, its console a pipe. An instruction takes 2^`shift` nanoseconds. Each is a new device, with a flash
/// that was never written or holds what the system brings: a second boot in the same directory would find the first's.
fn machine(board: &str, built: &Built, shift: u32) -> Result<Command> {
    let dir = built.dir().join("machine");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    let setup = Setup {
        board,
        image: &built.image,
        dir: &dir,
        device_secret: &SECRET,
        mac: [2, 0, 0, 0, 0x4e, 1],
        net: None,
        // Nothing that is measured reads it.
        entropy: Path::new("/dev/urandom"),
    };
    let mut command = setup.command()?;
    if let Some(flash) = &built.flash {
        qemu::write_flash(board, &dir, flash)?;
    }
    command.arg("-icount").arg(format!("shift={shift},sleep=off"));
    command.args(["-rtc", "base=2026-01-01,clock=vm", "-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Instructions that the SDK's loader executes, all of them before the kernel has the processor: QEMU names each that
/// lies where the loader's program does, where no other ever is.
pub fn loader(board: &str, built: &Built) -> Result<f64> {
    let file = systems::sdk_of(board)?.join("elf/loader.elf");
    let program = fs::read(&file).with_context(|| file.display().to_string())?;
    let place = elf::place(&program).with_context(|| file.display().to_string())?;
    let mut command = machine(board, built, 0)?;
    let place = format!("{:#x}..{:#x}", place.start, place.end - 1);
    command.args(["-singlestep", "-d", "exec,nochain", "-dfilter", &place, "-D", "/dev/stderr"]).stderr(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| board.to_owned())?);
    let trace = running.0.stderr.take().context("no pipe to QEMU")?;
    let counter = thread::spawn(move || {
        BufReader::new(trace).split(b'\n').map_while(Result::ok).filter(|line| line.starts_with(b"Trace ")).count()
    });
    let console = running.0.stdout.take().context("no pipe to QEMU")?;
    let ended = BufReader::new(console).lines().map_while(Result::ok).any(|line| line.trim_end() == "bench: end");
    drop(running);
    let count = counter.join().ok().filter(|count| ended && *count > 0);
    Ok(count.with_context(|| format!("{board}: the loader's instructions were not told"))? as f64)
}

/// Boots a system and listens until it has said all.
fn run(board: &str, built: &Built, shift: u32) -> Result<Said> {
    let errors = built.dir().join("qemu.log");
    let mut command = machine(board, built, shift)?;
    command.stderr(File::create(&errors)?);
    let mut running = Running(command.spawn().with_context(|| board.to_owned())?);
    let console = running.0.stdout.take().context("no pipe to QEMU")?;
    let (tell, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if tell.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let mut said = Said { board: board.to_owned(), figures: Vec::new() };
    let mut all = String::new();
    loop {
        let Ok(line) = lines.recv_timeout(PATIENCE) else {
            bail!("{board} has not said all:\n{all}{}", fs::read_to_string(&errors).unwrap_or_default());
        };
        match line.strip_prefix("bench: ").map(|rest| rest.split_once(' ')) {
            Some(None) => break,
            Some(Some((key, value))) => {
                said.figures.push((key.to_owned(), value.parse().with_context(|| line.clone())?));
            }
            None => {}
        }
        all.push_str(&line);
        all.push('\n');
    }
    drop((running, lines));
    let _ = reader.join();
    Ok(said)
}

/// What a system says, if that can be trusted: a second run says the same, and one in which every instruction takes
/// twice as long takes twice as long. Time that was waited for would not.
pub fn exact(board: &str, built: &Built) -> Result<Said> {
    let (said, again, slow) = (run(board, built, 0)?, run(board, built, 0)?, run(board, built, 1)?);
    trusted(&said.figures, &again.figures, &slow.figures).with_context(|| board.to_owned())?;
    Ok(said)
}

fn trusted(said: &[(String, f64)], again: &[(String, f64)], slow: &[(String, f64)]) -> Result<()> {
    ensure!(said.len() == again.len() && said.len() == slow.len(), "runs differ in what they say");
    for (((key, value), (_, again)), (_, slow)) in said.iter().zip(again).zip(slow) {
        ensure!(value == again, "{key} was {value}, and {again} the next time: not the guest's alone");
        let expected = if key.ends_with("ticks") { value * 2.0 } else { *value };
        ensure!(
            (slow - expected).abs() <= expected * SLACK,
            "{key} was {value}, and {slow} of slow ones: it has waited"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_instructions_are_trusted() {
        let figures = |ticks: f64, count: f64| vec![("a_ticks".to_owned(), ticks), ("count".to_owned(), count)];
        let said = figures(1000.0, 16.0);
        assert!(trusted(&said, &said, &figures(2003.0, 16.0)).is_ok());
        for (again, slow) in [
            (figures(1001.0, 16.0), figures(2000.0, 16.0)),
            (figures(1000.0, 17.0), figures(2000.0, 16.0)),
            // Half of it was waiting.
            (figures(1000.0, 16.0), figures(1500.0, 16.0)),
            (figures(1000.0, 16.0), figures(2000.0, 32.0)),
            (figures(1000.0, 16.0), Vec::new()),
        ] {
            assert!(trusted(&said, &again, &slow).is_err());
        }
    }
}
