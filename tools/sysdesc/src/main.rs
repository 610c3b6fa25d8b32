//! `sysdesc elaborate BOARD`: the system description, completed for a board, as plain SDF.
//! `sysdesc kernel BOARD CONFIG`: whether the SDK's kernel is the one that the design counts on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use sysdesc::{
    Board,
    kernel::{self, Properties},
};

#[derive(Parser)]
#[command(about = "Completes and checks the system description")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes plain SDF for a board. Exits 1 if the description breaks a rule, naming line and rule.
    Elaborate(Elaborate),
    /// Compares kernel-config/ with the SDK's kernel. Exits 1 if a demand is not met, naming each.
    Kernel(Kernel),
}

#[derive(Args)]
struct Elaborate {
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
}

#[derive(Args)]
struct Kernel {
    board: String,
    /// The SDK's configuration: release or debug.
    config: String,
    /// The Microkit SDK.
    #[arg(long)]
    sdk: PathBuf,
    #[arg(long, default_value = "kernel-config")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Elaborate(elaborate) => elaborate.run(),
        Command::Kernel(kernel) => kernel.run(),
    };
    match done {
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

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

impl Elaborate {
    fn run(self) -> Result<()> {
        let Self { board, system, board_dir, set, output } = self;
        let board_file = board_dir.join(format!("{board}.toml"));
        let mut values = Board::parse(&read(&board_file)?).with_context(|| board_file.display().to_string())?;
        for (name, value) in &set {
            ensure!(values.set(name, value), "{} has no variable {name}", board_file.display());
        }
        let elaborated = sysdesc::elaborate(&read(&system)?, &values).with_context(|| system.display().to_string())?;
        let output = output.unwrap_or_else(|| PathBuf::from(format!("target/{board}/system.xml")));
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        let origin = format!("{} for {board}", system.display());
        fs::write(&output, elaborated.to_xml(&origin)).with_context(|| output.display().to_string())
    }
}

impl Kernel {
    fn run(self) -> Result<()> {
        let built = self.sdk.join("board").join(&self.board).join(&self.config).join("include/kernel/gen_config.json");
        let built: Properties = serde_json::from_str(&read(&built)?).with_context(|| built.display().to_string())?;
        let files = ["all", &self.config, &self.board].map(|name| format!("{name}.toml"));
        let mut demands = Vec::new();
        for file in &files {
            let path = self.dir.join(file);
            let properties = toml::from_str(&read(&path)?).with_context(|| path.display().to_string())?;
            demands.push((file.as_str(), properties));
        }
        let unmet = kernel::unmet(&demands, &built);
        if !unmet.is_empty() {
            bail!(
                "the kernel for {} {} is not the one to count on:\n  {}",
                self.board,
                self.config,
                unmet.join("\n  ")
            );
        }
        Ok(())
    }
}
