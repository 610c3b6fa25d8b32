//! How large the release image is.

use anyhow::{Context, Result};

use crate::{
    Outcome,
    figures::{Figures, Goal},
    systems::{self, BOARDS, Built},
};

const MIB: f64 = 1024.0 * 1024.0;

pub const GOALS: &[(&str, Goal)] =
    &[("qemu_virt_aarch64/bytes", Goal::AtMost(4.0 * MIB)), ("qemu_virt_riscv64/bytes", Goal::AtMost(1.5 * MIB))];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    for board in BOARDS {
        figures.put(format!("{board}/bytes"), bytes(&systems::node(board)?)?);
        figures.put(format!("{board}/hello_bytes"), bytes(&systems::small("hello", board)?)?);
    }
    Ok(Outcome::Done)
}

fn bytes(built: &Built) -> Result<f64> {
    Ok(built.image.metadata().with_context(|| built.image.display().to_string())?.len() as f64)
}
