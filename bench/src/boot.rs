//! How many instructions a machine executes from reset until a new node holds, and until a claimed one has begun its first
//! handshake, beside a system that only says hello.

use anyhow::Result;

use crate::{
    Outcome, claimed,
    figures::{Figures, Goal},
    machine::{SECRET, exact, loader, tick},
    systems::{self, Built, Until},
};

pub const GOALS: &[(&str, Goal)] = &[("*/ratio", Goal::AtMost(3.0))];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    let flash = claimed::flash(&SECRET)?;
    for board in &systems::boards()? {
        let ticks = |built: &Built| Ok::<_, anyhow::Error>(exact(board, built)?.one("ticks")? * tick(board)?);
        let (node, yardstick) = (systems::measured_node(board, Until::Hold)?, systems::small("hello", board)?);
        let (hold, hello) = (ticks(&node)?, ticks(&yardstick)?);
        let (hold_loader, hello_loader) = (loader(board, &node)?, loader(board, &yardstick)?);
        let start = ticks(&systems::measured_node(board, Until::Start)?)?;
        let mut member = systems::measured_node(board, Until::Handshake)?;
        member.flash = Some(flash.clone());
        let handshake = ticks(&member)?;
        figures.put(format!("{board}/handshake"), handshake);
        figures.put(format!("{board}/handshake_ratio"), handshake / hello);
        figures.put(format!("{board}/hold"), hold);
        figures.put(format!("{board}/hold_loader"), hold_loader);
        figures.put(format!("{board}/hold_start"), start - hold_loader);
        figures.put(format!("{board}/hold_domains"), hold - start);
        figures.put(format!("{board}/hello"), hello);
        figures.put(format!("{board}/hello_loader"), hello_loader);
        figures.put(format!("{board}/ratio"), hold / hello);
        figures.put(format!("{board}/ratio_without_loader"), (hold - hold_loader) / (hello - hello_loader));
    }
    Ok(Outcome::Done)
}
