//! `lab rehearse`: the whole life of a fleet's ownership, on a lab, before anyone does it for real. It calls the tool as it is
//! installed, and links nothing of it. docs/rehearsal.md has what it is for.

mod act;
mod replay;
mod stage;
pub mod step;
mod steps;
mod summary;
pub mod transcript;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use native::runner::program_dir;

use self::{
    act::Act,
    stage::{LAB, Stage, TRANSCRIPT, Terms},
    step::Step,
    transcript::{Hash, Story},
};

/// If it is not said how many.
pub const NODES: u16 = 30;
/// As many as the inner network has room for, and each is a dozen processes.
const MOST: i64 = 200;
/// Two leave the fleet, and one stays.
const LEAST: i64 = 3;

#[derive(Args)]
pub struct Rehearse {
    #[command(subcommand)]
    what: Option<What>,
    /// Where all of it is: the founders' directories, the lab, the transcript
    #[arg(long, global = true, default_value = "target/rehearsal")]
    dir: PathBuf,
    /// How many nodes [default: 30]
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(LEAST..=MOST))]
    nodes: Option<u16>,
    /// What the nodes are, one board or several with commas between them, as of `lab up` [default: native]
    #[arg(long, global = true, value_name = "BOARD")]
    board: Option<String>,
    /// The tool [default: os-network-admin beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    tool: Option<PathBuf>,
    /// Leave nodes and mesh running when all is done
    #[arg(long)]
    stay: bool,
}

#[derive(Subcommand)]
enum What {
    #[command(flatten)]
    Step(Step),
    /// What has been done, for a person to read
    Summary,
    /// Switch a node on
    Start(Of),
    /// Switch a node off
    Stop(Of),
    /// Switch a node off and on
    Restart(Of),
    /// Make a new device of a node; its identity is gone for ever
    Wipe(Of),
    /// End mesh and nodes; the next step starts them again
    End,
    /// Whether a transcript is as it was written, and the outputs beside it
    Verify {
        /// The transcript
        file: PathBuf,
        /// It must have had this head, and have gone on from it
        #[arg(long, value_name = "HASH")]
        head: Option<Hash>,
    },
    /// Run the command lines of a transcript again, with other keys and other nodes, in an empty --dir
    Replay {
        /// The transcript
        file: PathBuf,
    },
}

#[derive(Args)]
struct Of {
    /// The node: node-1, node-2, ...
    node: String,
}

/// Does what is asked.
pub fn rehearse(arguments: Rehearse) -> Result<()> {
    let open = |replays: Option<&Story>| {
        let began = replays.and_then(Story::began);
        let tool = arguments.tool.clone().unwrap_or_else(|| program_dir().join("os-network-admin"));
        Stage::open(Terms {
            dir: arguments.dir.clone(),
            nodes: began.map(|began| began.nodes).or(arguments.nodes),
            board: began.map(|began| began.board.clone()).or_else(|| arguments.board.clone()),
            tool,
            replays: replays.map(Story::head),
        })
    };
    match &arguments.what {
        None => {
            let mut stage = open(None)?;
            let is_over = Step::ALL.iter().all(|step| stage.story().is_done(*step));
            Step::ALL.into_iter().try_for_each(|step| take(&mut stage, step))?;
            if !arguments.stay && !is_over {
                say::show!("== All is done: mesh and nodes end.");
                steps::end(&mut stage)?;
            }
            summary::show(stage.story())
        }
        Some(What::Step(step)) => {
            let mut stage = open(None)?;
            if let Some(before) = Step::ALL.iter().find(|before| **before < *step && !stage.story().is_done(**before)) {
                let (step, before) = (step.name(), before.name());
                bail!("{step} comes after {before}, which is not done: `lab rehearse {before}`");
            }
            take(&mut stage, *step)
        }
        Some(What::Summary) => summary::show(&read(&arguments.dir.join(TRANSCRIPT))?),
        Some(What::Start(of)) => power(&mut open(None)?, &of.node, &["on"]),
        Some(What::Stop(of)) => power(&mut open(None)?, &of.node, &["off"]),
        Some(What::Restart(of)) => power(&mut open(None)?, &of.node, &["off", "on"]),
        Some(What::Wipe(of)) => open(None)?.run(Act::lab(&["wipe", &of.node, "--dir", LAB]).again()).map(drop),
        Some(What::End) => steps::end(&mut open(None)?),
        Some(What::Verify { file, head }) => verify(file, *head),
        Some(What::Replay { file }) => {
            let story = read(file)?;
            ensure!(story.torn == 0, "{} ends within a line: go on with that rehearsal first", file.display());
            let mut stage = open(Some(&story))?;
            let replayed = replay::replay(&mut stage, &story);
            // Whatever has come of it.
            let ended = steps::end(&mut stage);
            replayed.and(ended)
        }
    }
}

/// Does a step, unless it is done.
fn take(stage: &mut Stage, step: Step) -> Result<()> {
    if stage.story().is_done(step) {
        say::show!("== {}: done already", step.name());
        return Ok(());
    }
    say::show!("== {}", step.name());
    stage.begin(step)?;
    let outcome = steps::restore(stage, step).and_then(|()| steps::take(step, stage));
    stage.end(&outcome)?;
    for line in outcome.with_context(|| {
        format!("{} is not done; what is wrong may be looked at, and the same command goes on", step.name())
    })? {
        say::show!("   {line}");
    }
    Ok(())
}

fn power(stage: &mut Stage, node: &str, how: &[&str]) -> Result<()> {
    how.iter().try_for_each(|how| stage.run(Act::lab(&["power", node, how, "--dir", LAB]).again()).map(drop))
}

fn read(file: &Path) -> Result<Story> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    Story::read(&bytes).with_context(|| file.display().to_string())
}

fn verify(file: &Path, head: Option<Hash>) -> Result<()> {
    let story = read(file)?;
    let began = story.began().context("the transcript is empty")?;
    if let Some(head) = head {
        ensure!(story.hashes.contains(&head), "the transcript has never had the head {head}");
    }
    let folder = file.parent().context("a file without a folder")?;
    let outputs = summary::outputs(&story, folder)?;
    ensure!(
        story.torn == 0,
        "its last line is not whole: the rehearsal was cut there, and goes on with `lab rehearse`"
    );
    say::result(format_args!(
        "{} entries, each after the one that it names; head {}",
        story.entries.len(),
        story.head()
    ))?;
    say::result(format_args!("tool {} ({})", began.tool_hash, began.tool))?;
    say::result(format_args!("{outputs} outputs beside it are those that it names"))?;
    Ok(())
}
