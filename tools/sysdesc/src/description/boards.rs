//! The boards that there are: the files of `boards/`, which are listed nowhere else.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use super::board::{Board, Platform};

/// `DIR/NAME.toml`. The error for another name lists those that there are.
pub fn read(dir: &Path, name: &str) -> Result<Board> {
    let file = dir.join(format!("{name}.toml"));
    if !file.is_file() {
        let there: Vec<_> = all(dir)?.into_iter().map(|(name, _)| name).collect();
        bail!("there is no board {name} in {}; there are: {}", dir.display(), there.join(" "));
    }
    parse(&file)
}

/// The names of those that run seL4, in their order.
pub fn sel4(dir: &Path) -> Result<Vec<String>> {
    let microkit = |(name, board): (String, Board)| (board.platform == Platform::Microkit).then_some(name);
    Ok(all(dir)?.into_iter().filter_map(microkit).collect())
}

fn all(dir: &Path) -> Result<Vec<(String, Board)>> {
    let mut boards = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let file = entry?.path();
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        if let Some(stem) = stem.filter(|_| file.extension().is_some_and(|extension| extension == "toml")) {
            boards.push((stem.to_owned(), parse(&file)?));
        }
    }
    boards.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(boards)
}

fn parse(file: &Path) -> Result<Board> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Board::parse(&text).with_context(|| file.display().to_string())
}
