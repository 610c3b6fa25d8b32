//! How many instructions a call between two domains takes, there and back, beside a bare notification each way.

use anyhow::Result;

use crate::{
    Outcome,
    figures::{Figures, Goal},
    machine::{exact, tick},
    systems,
};

pub const GOALS: &[(&str, Goal)] = &[];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    for board in &systems::boards()? {
        let said = exact(board, &systems::small("mailbox", board)?)?;
        let each = tick(board)? / said.one("count")?;
        let (call, ping) = (said.one("call_ticks")? * each, said.one("ping_ticks")? * each);
        figures.put(format!("{board}/call"), call);
        figures.put(format!("{board}/notifications"), ping);
        figures.put(format!("{board}/ratio"), call / ping);
    }
    Ok(Outcome::Done)
}
