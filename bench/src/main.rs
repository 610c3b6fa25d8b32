//! `make bench`: measures, writes target/bench.json and the tables of docs/bench.md.
//!
//! Each section measures one thing and can run alone. Figures are counts and ratios, never times: they are to mean the
//! same on the next machine. A section that cannot run here says so, and what it found last time is left as it was.

mod boot;
mod claimed;
mod document;
mod drop;
mod elf;
mod figures;
mod image;
mod machine;
mod mailbox;
mod memory;
mod packet;
mod registry;
mod systems;
mod wireguard;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::figures::{Figures, Goal, Store};

/// One thing that is measured. `name` is the first part of its figures' keys.
struct Section {
    name: &'static str,
    /// What a figure is to be, by the rest of its key.
    goals: &'static [(&'static str, Goal)],
    run: fn(&mut Figures) -> Result<Outcome>,
}

enum Outcome {
    Done,
    /// What is missing here.
    Skipped(String),
}

/// In the order in which they run and stand in the document.
const SECTIONS: &[Section] = &[
    Section { name: "image", goals: image::GOALS, run: image::run },
    Section { name: "memory", goals: memory::GOALS, run: memory::run },
    Section { name: "boot", goals: boot::GOALS, run: boot::run },
    Section { name: "mailbox", goals: mailbox::GOALS, run: mailbox::run },
    Section { name: "drop", goals: drop::GOALS, run: drop::run },
    Section { name: "packet", goals: packet::GOALS, run: packet::run },
    Section { name: "wireguard", goals: wireguard::GOALS, run: wireguard::run },
    Section { name: "registry", goals: registry::GOALS, run: registry::run },
];

#[derive(Parser)]
#[command(about = "Measures; writes a JSON object of figures and the tables of the document")]
struct Arguments {
    /// Which sections; all if none is named
    sections: Vec<String>,
    /// Where the figures are kept; what other sections have put there stays
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
    /// The document whose tables are brought up to date
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::tell!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    for name in &arguments.sections {
        let known = SECTIONS.iter().any(|section| section.name == name);
        ensure!(known, "no section {name}; there are: {}", names().join(" "));
    }
    let chosen =
        |section: &&Section| arguments.sections.is_empty() || arguments.sections.iter().any(|n| n == section.name);
    for section in SECTIONS.iter().filter(chosen) {
        say::show!("== {}", section.name);
        let mut figures = Figures::default();
        match (section.run)(&mut figures).with_context(|| format!("section {}", section.name))? {
            Outcome::Skipped(why) => say::show!("=== SKIPPED: {}: {why} ===", section.name),
            Outcome::Done => {
                for row in figures.rows(section.goals) {
                    say::show!("{}/{row}", section.name);
                }
                // Read anew: another bench may have run its sections meanwhile.
                let mut store = Store::read(&arguments.json)?;
                store.replace(section.name, &figures);
                store.write(&arguments.json)?;
                if let Some(document) = &arguments.document {
                    document::update(document, section.name, &figures.table(section.goals))?;
                }
            }
        }
    }
    Ok(())
}

fn names() -> Vec<&'static str> {
    SECTIONS.iter().map(|section| section.name).collect()
}
