//! How many instructions the mesh's WireGuard spends on a packet, sealed at one end and opened at the other, beside the
//! bare AEAD over as many bytes, which is the limit; and on a handshake.

use anyhow::{Result, ensure};

use crate::{
    Outcome,
    figures::{Figures, Goal},
    machine::{exact, tick},
    systems,
};

pub const GOALS: &[(&str, Goal)] = &[];

/// As `bench-mesh` has them.
const LENGTHS: [f64; 3] = [64.0, 512.0, 1420.0];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    for board in &systems::boards()? {
        let said = exact(board, &systems::small("packet", board)?)?;
        ensure!(said.one("failed")? == 0.0, "{board}: a packet or a handshake failed");
        let tick = tick(board)?;
        ensure!(said.all("length").eq(LENGTHS), "{board} has measured other lengths");
        let costs = said.all("total_ticks").zip(said.all("aead_ticks")).zip(said.all("packets"));
        for (length, ((total, aead), packets)) in LENGTHS.iter().zip(costs) {
            figures.put(format!("{board}/seal_open_{length}"), total * tick / packets);
            figures.put(format!("{board}/aead_{length}"), aead * tick / packets);
            figures.put(format!("{board}/ratio_{length}"), total / aead);
        }
        figures.put(format!("{board}/handshake"), said.one("handshake_ticks")? * tick / said.one("handshakes")?);
    }
    Ok(Outcome::Done)
}
