//! How large the release image is, for each board.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{
    Outcome,
    figures::{Figures, Goal},
};

const MIB: f64 = 1024.0 * 1024.0;

pub const GOALS: &[(&str, Goal)] =
    &[("qemu_virt_aarch64/bytes", Goal::AtMost(4.0 * MIB)), ("qemu_virt_riscv64/bytes", Goal::AtMost(1.5 * MIB))];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    for board in ["qemu_virt_aarch64", "qemu_virt_riscv64"] {
        let image = Path::new("target").join(format!("{board}-release/loader.img"));
        if !image.is_file() {
            return Ok(Outcome::Skipped(format!("no image: make image BOARD={board} CONFIG=release")));
        }
        let bytes = image.metadata().with_context(|| image.display().to_string())?.len();
        figures.put(format!("{board}/bytes"), bytes as f64);
    }
    Ok(Outcome::Done)
}
