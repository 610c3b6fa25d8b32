//! `sysdesc elaborate BOARD`: the system description, completed for a board, as plain SDF.
//! `sysdesc check BOARD`: whether the image that was built keeps the rules of docs/system-check.md.
//! `sysdesc kernel BOARD CONFIG`: whether the SDK's kernel is the one that the design counts on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use sysdesc::{
    Board, System,
    image::{
        capdl::Spec,
        kernel::{self, Properties},
        policy, rules,
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
        Command::Check(check) => check.run(),
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

impl Description {
    fn read(&self) -> Result<(System, Board)> {
        let file = self.board_dir.join(format!("{}.toml", self.board));
        let mut board = Board::parse(&read(&file)?).with_context(|| file.display().to_string())?;
        for (name, value) in &self.set {
            ensure!(board.set(name, value), "{} has no variable {name}", file.display());
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

impl Check {
    fn run(self) -> Result<()> {
        let Self { description, capdl } = self;
        let (system, board) = description.read()?;
        let capdl = capdl.unwrap_or_else(|| PathBuf::from(format!("target/{}-release/capdl.json", description.board)));
        let spec = Spec::parse(&read(&capdl)?).with_context(|| capdl.display().to_string())?;
        let broken = rules::check(&system, &board, &policy::KEYSTORE, &spec);
        if !broken.is_empty() {
            let lines: Vec<_> = broken.iter().map(ToString::to_string).collect();
            bail!("{} breaks rules:\n  {}", capdl.display(), lines.join("\n  "));
        }
        Ok(())
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
