//! `lab`: nodes on a segment of their own, and programs beside them. docs/lab.md documents every handle.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use lab::{
    AlreadyRunning, EXIT_ANSWERED, EXIT_NOT_RUNNING, EXIT_RUNNING, NotRunning, Power, Rehearse, Run, Stranger, Switch,
    Up, Visit, Wipe,
};
use segment::enter;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, and standard error says why
  2  wrong usage
  3  a lab runs in the directory already (up)
  4  no lab runs in the directory (status, power, wipe)
Of `enter` the code is the program's; 125 if it could not be put on the segment, 126 if it cannot be executed, 127 if \
it was not found, 128 and the number of the signal that killed it.";

#[derive(Parser)]
#[command(about = "Nodes on an Ethernet segment of their own, and programs beside them", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start nodes and leave them running
    Up(Up),
    /// Stop them, if they run
    Down(In),
    /// Show them
    Status(In),
    /// Switch a node on or off, or cut its power
    Power(Switch),
    /// Make a new device of a node; its identity is gone for ever
    Wipe(Wipe),
    /// Run a program on the segment
    Enter(Enter),
    /// Show a node's first life from power-on to its mesh
    Run(Run),
    /// Rehearse the founding of a fleet and all that follows, with the tool as it is installed (docs/rehearsal.md)
    Rehearse(Rehearse),
    /// What `up` leaves running
    #[command(hide = true)]
    Supervise(Up),
    /// What `run` shows to get no answer
    #[command(hide = true)]
    Stranger(Stranger),
    /// What `run` ends with
    #[command(hide = true)]
    Visit(Visit),
}

#[derive(Args)]
struct In {
    /// The lab's directory
    #[arg(long, default_value = "target/lab")]
    dir: PathBuf,
}

#[derive(Args)]
struct Enter {
    /// The lab's directory
    #[arg(long, value_name = "DIR", required_unless_present = "switch")]
    lab: Option<PathBuf>,
    /// Directory of a switch, in place of a lab's
    #[arg(long, value_name = "DIR", conflicts_with = "lab")]
    switch: Option<PathBuf>,
    /// Name of the switch port, and of the interface in the record [default: host-PID]
    #[arg(long)]
    name: Option<String>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code.into(),
        Err(error) => {
            say::tell!("lab: {error:#}");
            let code = if error.is::<AlreadyRunning>() {
                EXIT_RUNNING
            } else if error.is::<NotRunning>() {
                EXIT_NOT_RUNNING
            } else {
                1
            };
            code.into()
        }
    }
}

fn run(command: Command) -> Result<u8> {
    match command {
        Command::Up(up) => {
            // The same words, to a supervisor.
            let words = std::env::args_os().skip(2);
            return lab::up(&up, std::iter::once("supervise".into()).chain(words));
        }
        Command::Supervise(up) => return Ok(lab::supervise(&up)),
        Command::Enter(enter) => return Ok(self::enter(&enter)),
        Command::Stranger(stranger) => return Ok(if lab::stranger(&stranger)? { EXIT_ANSWERED } else { 0 }),
        Command::Visit(visit) => lab::visit(&visit)?,
        Command::Down(In { dir }) => {
            if !lab::down(&dir)? {
                say::show!("no lab runs in {}", dir.display());
            }
        }
        Command::Status(In { dir }) => lab::status(&dir)?,
        Command::Power(Switch { node, power, dir }) => lab::power(&dir, &node, power)?,
        Command::Wipe(Wipe { node, dir }) => {
            lab::power(&dir, &node, Power::Wipe)?;
            say::show!(
                "{node} is a new device. Its identity of before is gone for ever: nobody can claim or reach that again."
            );
        }
        Command::Run(run) => lab::run(&run)?,
        Command::Rehearse(arguments) => lab::rehearse(arguments)?,
    }
    Ok(0)
}

fn enter(enter: &Enter) -> u8 {
    let dir = match (&enter.switch, &enter.lab) {
        (Some(switch), _) => Ok(switch.clone()),
        (None, lab) => lab::switch_of(&lab.clone().unwrap_or_default()),
    };
    let ended = dir.and_then(|dir| enter::run(&dir, enter.name.as_deref(), &enter.command));
    ended.unwrap_or_else(|error| {
        say::tell!("lab enter: {error:#}");
        enter::EXIT_FAILED
    })
}
