//! `lint`: whether the tree keeps the rules of its own structure. Exits 1 if it does not, with a line for each breach.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use lint::Tree;

#[derive(Parser)]
#[command(about = "Checks the structure of the source tree: shelves, sizes, import circles, documents")]
struct Arguments {
    /// The root of the tree.
    #[arg(default_value = ".")]
    root: PathBuf,
}

fn main() -> Result<ExitCode> {
    let tree = Tree::of_repository(&Arguments::parse().root)?;
    let breaches = lint::check(&tree)?;
    for breach in &breaches {
        say::tell!("{breach}");
    }
    Ok(if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
