//! How large the release image is, and what each domain's program adds to it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    Outcome,
    figures::{Figures, Goal},
    systems::{self, Built},
};

const MIB: f64 = 1024.0 * 1024.0;

/// A board's own; another board has none until somebody sets it one.
pub const GOALS: &[(&str, Goal)] =
    &[("qemu_virt_aarch64/bytes", Goal::AtMost(4.0 * MIB)), ("qemu_virt_riscv64/bytes", Goal::AtMost(1.75 * MIB))];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    for board in &systems::boards()? {
        let node = systems::node(board)?;
        figures.put(format!("{board}/bytes"), bytes(&node)?);
        figures.put(format!("{board}/hello_bytes"), bytes(&systems::small("hello", board)?)?);
        for (domain, bytes) in programs(&node.capdl()?)? {
            figures.put(format!("{board}/program_{domain}"), bytes as f64);
        }
    }
    Ok(Outcome::Done)
}

fn bytes(built: &Built) -> Result<f64> {
    Ok(built.image.metadata().with_context(|| built.image.display().to_string())?.len() as f64)
}

/// Bytes that the image has to hold for each domain's program: what its frames `frame_elf_DOMAIN_NUMBER` are filled
/// with.
fn programs(capdl: &str) -> Result<BTreeMap<String, u64>> {
    let capdl: Value = serde_json::from_str(capdl).context("capdl.json")?;
    let mut programs = BTreeMap::new();
    for entry in capdl["objects"].as_array().context("capDL without objects")? {
        let name = entry["name"].as_str().context("an object without a name")?;
        let Some((domain, _)) = name.strip_prefix("frame_elf_").and_then(|rest| rest.rsplit_once('_')) else {
            continue;
        };
        let fills = entry["object"]["Frame"]["init"]["entries"].as_array();
        for fill in fills.with_context(|| format!("{name} is filled with nothing"))? {
            let (start, end) = (fill["range"]["start"].as_u64(), fill["range"]["end"].as_u64());
            let bytes = start.zip(end).and_then(|(start, end)| end.checked_sub(start));
            *programs.entry(domain.to_owned()).or_default() += bytes.with_context(|| format!("{name} has no range"))?;
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_frames_are_added_up() {
        let frame = |name: &str, fills: &str| {
            format!(
                r#"{{"name": "{name}", "object": {{"Frame": {{"size_bits": 12, "init": {{"entries": [{fills}]}}}}}}}}"#
            )
        };
        let capdl = |frames: &[String]| {
            format!(r#"{{"objects": [{}, {{"name": "pgd_a", "object": {{}}}}]}}"#, frames.join(","))
        };
        let frames = [
            frame("frame_elf_a_b_000", r#"{"range": {"start": 0, "end": 4096}}"#),
            frame("frame_elf_a_b_001", r#"{"range": {"start": 0, "end": 7}}, {"range": {"start": 8, "end": 9}}"#),
            frame("frame_elf_c_000", ""),
            frame("frame_mr_a_b_000", r#"{"range": {"start": 0, "end": 100}}"#),
        ];
        assert_eq!(programs(&capdl(&frames)).unwrap(), [("a_b".to_owned(), 4104)].into());
        for wrong in [r#"{"range": {"start": 7, "end": 6}}"#, r#"{"span": 6}"#] {
            assert!(programs(&capdl(&[frame("frame_elf_a_0", wrong)])).is_err());
        }
    }
}
