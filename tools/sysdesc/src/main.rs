//! `sysdesc elaborate BOARD`: the system description, completed for a board, as plain SDF.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sysdesc::Board;

#[derive(Parser)]
#[command(about = "Completes and checks the system description")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes plain SDF for a board. Exits 1 if the description breaks a rule, naming line and rule.
    Elaborate {
        /// The board: boards/BOARD.toml.
        board: String,
        #[arg(long, default_value = "system.xml")]
        system: PathBuf,
        #[arg(long, default_value = "boards")]
        board_dir: PathBuf,
        /// Gives a variable another value than the board's file does.
        #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
        set: Vec<(String, String)>,
        /// Where to write [default: target/BOARD/system.xml].
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Command::Elaborate { board, system, board_dir, set, output } = Arguments::parse().command;
    match elaborate(&board, &system, &board_dir, &set, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sysdesc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn elaborate(
    board: &str,
    system: &Path,
    board_dir: &Path,
    set: &[(String, String)],
    output: Option<PathBuf>,
) -> Result<()> {
    let board_file = board_dir.join(format!("{board}.toml"));
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let mut values = Board::parse(&read(&board_file)?).with_context(|| board_file.display().to_string())?;
    for (name, value) in set {
        anyhow::ensure!(values.set(name, value), "{} has no variable {name}", board_file.display());
    }
    let elaborated = sysdesc::elaborate(&read(system)?, &values).with_context(|| system.display().to_string())?;
    let output = output.unwrap_or_else(|| PathBuf::from(format!("target/{board}/system.xml")));
    if let Some(parent) = output.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    let origin = format!("{} for {board}", system.display());
    fs::write(&output, elaborated.to_xml(&origin)).with_context(|| output.display().to_string())
}
