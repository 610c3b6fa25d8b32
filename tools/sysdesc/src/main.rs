//! `sysdesc elaborate BOARD`: the system description, completed for a board, as plain SDF.
//! `sysdesc image BOARD CONFIG`: the image, of domains that are built, and whether it is as it should be.
//! `sysdesc check BOARD`: whether the image that was built keeps the rules of docs/system-check.md.
//! `sysdesc kernel BOARD CONFIG`: whether the SDK's kernel is the one that the design counts on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use sysdesc::{
    Board, System,
    description::boards,
    image::{
        assemble::{self, Recipe},
        policy,
    },
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
    /// Puts an image together of domains that `make image` has built. Exits 1 if kernel or image break a rule.
    Image(Image),
    /// Judges an image by its capDL. Exits 1 if a rule is broken, naming each.
    Check(Check),
    /// Compares kernel-config/ with the SDK's kernel. Exits 1 if a demand is not met, naming each.
    Kernel(Kernel),
}

/// A system description and its board.
#[derive(Args)]
struct Description {
    /// The board: boards/BOARD.toml.
    board: String,
    #[arg(long, default_value = "system.xml")]
    system: PathBuf,
    #[arg(long, default_value = "boards")]
    board_dir: PathBuf,
    /// Gives a variable another value than the board's file does.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

#[derive(Args)]
struct Elaborate {
    #[command(flatten)]
    description: Description,
    /// Where to write [default: target/BOARD/system.xml].
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct Image {
    /// The board: boards/BOARD.toml.
    board: String,
    /// The SDK's configuration: release or debug.
    config: String,
    /// Fills the region that has this variable in `system.xml` as its file; may be repeated.
    #[arg(long, value_name = "NAME=FILE", value_parser = assignment)]
    prefill: Vec<(String, String)>,
    /// The program in the workload's place.
    #[arg(long, value_name = "PROGRAM")]
    tenant: Option<String>,
    /// A directory for `loader.img` and what it was made of.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    description: Description,
    /// What the Microkit tool wrote with --capdl-json [default: target/BOARD-release/capdl.json].
    #[arg(long)]
    capdl: Option<PathBuf>,
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
        Command::Image(image) => image.run(),
        Command::Check(check) => check.run(),
        Command::Kernel(kernel) => kernel.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::tell!("sysdesc: {error:#}");
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

impl Description {
    fn read(&self) -> Result<(System, Board)> {
        let mut board = boards::read(&self.board_dir, &self.board)?;
        for (name, value) in &self.set {
            ensure!(board.set(name, value), "board {} has no variable {name}", self.board);
        }
        let system =
            sysdesc::elaborate(&read(&self.system)?, &board).with_context(|| self.system.display().to_string())?;
        Ok((system, board))
    }
}

impl Elaborate {
    fn run(self) -> Result<()> {
        let Self { description, output } = self;
        let (elaborated, _) = description.read()?;
        let Description { board, system, .. } = description;
        let output = output.unwrap_or_else(|| PathBuf::from(format!("target/{board}/system.xml")));
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        let origin = format!("{} for {board}", system.display());
        fs::write(&output, elaborated.to_xml(&origin)).with_context(|| output.display().to_string())
    }
}

impl Image {
    fn run(self) -> Result<()> {
        let Self { board, config, prefill, tenant, output } = self;
        let read = |(name, file): (String, String)| {
            let bytes = fs::read(&file).with_context(|| file.clone())?;
            Ok((name, bytes))
        };
        let prefill = prefill.into_iter().map(read).collect::<Result<_>>()?;
        let image = Recipe { prefill, tenant, ..Recipe::new(&board, &config) }.build(&output)?;
        say::show!("{}: {} bytes", image.display(), image.metadata()?.len());
        Ok(())
    }
}

impl Check {
    fn run(self) -> Result<()> {
        let Self { description, capdl } = self;
        let (system, board) = description.read()?;
        let capdl = capdl.unwrap_or_else(|| PathBuf::from(format!("target/{}-release/capdl.json", description.board)));
        assemble::check(&system, &board, &policy::KEYSTORE, &capdl)
    }
}

impl Kernel {
    fn run(self) -> Result<()> {
        assemble::check_kernel(&self.sdk, &self.dir, &self.board, &self.config)
    }
}
