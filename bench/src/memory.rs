//! How much memory a booted system occupies, from what the tool says it has made: the kernel's image, and every object
//! of the capDL at the size that the SDK gives for this kernel.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    Outcome, elf,
    figures::{Figures, Goal},
    systems::{self, Built},
};

const MIB: f64 = 1024.0 * 1024.0;

pub const GOALS: &[(&str, Goal)] = &[("*/bytes", Goal::AtMost(8.0 * MIB))];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    if let Some(missing) = systems::missing() {
        return Ok(Outcome::Skipped(missing));
    }
    for board in &systems::boards()? {
        let sdk = systems::sdk_of(board)?;
        let kernel = kernel(&sdk.join("elf/sel4.elf"))?;
        let sizes = sizes(&sdk.join("object_sizes.json"))?;
        let node = count(&systems::node(board)?, &sizes)?;
        let hello = count(&systems::small("hello", board)?, &sizes)?;
        figures.put(format!("{board}/bytes"), (kernel + node.frames + node.objects) as f64);
        figures.put(format!("{board}/kernel"), kernel as f64);
        figures.put(format!("{board}/frames"), node.frames as f64);
        figures.put(format!("{board}/objects"), node.objects as f64);
        figures.put(format!("{board}/hello_bytes"), (kernel + hello.frames + hello.objects) as f64);
    }
    Ok(Outcome::Done)
}

/// Bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    /// That a domain can use.
    frames: u64,
    /// The kernel's own: page tables, threads and the like.
    objects: u64,
}

fn count(built: &Built, sizes: &BTreeMap<String, u32>) -> Result<Count> {
    let registers =
        built.system.regions.iter().filter(|region| region.device_of.is_some() && region.phys_addr.is_some());
    tally(&built.capdl()?, sizes, &registers.map(|region| region.name.clone()).collect::<Vec<_>>())
}

fn tally(capdl: &str, sizes: &BTreeMap<String, u32>, registers: &[String]) -> Result<Count> {
    let capdl: Value = serde_json::from_str(capdl).context("capdl.json")?;
    let mut count = Count::default();
    for entry in capdl["objects"].as_array().context("capDL without objects")? {
        let name = entry["name"].as_str().context("an object without a name")?;
        let object = &entry["object"];
        let (kind, value) = match object {
            Value::String(kind) => (kind.as_str(), &Value::Null),
            Value::Object(map) => map.iter().next().map(|(kind, value)| (kind.as_str(), value)).context("no object")?,
            _ => bail!("{name} is not an object"),
        };
        let size = |of: &str| sizes.get(of).copied().with_context(|| format!("the SDK gives no size for {of}"));
        let own = || {
            let bits = value["size_bits"].as_u64().and_then(|bits| u32::try_from(bits).ok());
            bits.with_context(|| format!("{name} has no size"))
        };
        let bits = match kind {
            "Frame" => own()?,
            "CNode" => own()? + size("slot")?,
            "SchedContext" => own()?,
            "Tcb" => size("tcb")?,
            "Endpoint" => size("endpoint")?,
            "Notification" => size("notification")?,
            "Reply" => size("reply")?,
            "PageTable" if value["is_root"] == true => size("vspace")?,
            "PageTable" => size("page_table")?,
            // Lines of a table that the kernel has anyhow.
            "ArmIrq" | "RiscvIrq" => continue,
            _ => bail!("how large is a {kind}, {name}?"),
        };
        let bytes = 1_u64.checked_shl(bits).with_context(|| format!("{name} is of no size"))?;
        match kind {
            "Frame" if is_of(name, registers) => {}
            "Frame" => count.frames += bytes,
            _ => count.objects += bytes,
        }
    }
    Ok(count)
}

/// Whether a frame is one of these regions': `frame_mr_REGION_NUMBER`.
fn is_of(frame: &str, regions: &[String]) -> bool {
    let region = frame.strip_prefix("frame_mr_").and_then(|rest| rest.rsplit_once('_')).map(|(region, _)| region);
    region.is_some_and(|region| regions.iter().any(|of| of == region))
}

fn sizes(file: &Path) -> Result<BTreeMap<String, u32>> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| file.display().to_string())
}

/// Bytes of memory that the kernel's ELF asks for: code, data, and what starts as zero.
fn kernel(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    elf::loaded(&bytes).with_context(|| format!("{} is no ELF of a kernel", file.display()))
}
#[cfg(test)]
mod tests {
    use super::*;

    const CAPDL: &str = r#"{"objects": [
        {"name": "frame_mr_uart_log_0", "object": {"Frame": {"size_bits": 12, "paddr": null, "init": []}}},
        {"name": "frame_mr_uart_0", "object": {"Frame": {"size_bits": 12, "paddr": 2, "init": []}}},
        {"name": "frame_elf_a_0", "object": {"Frame": {"size_bits": 12, "paddr": null, "init": []}}},
        {"name": "pgd_a", "object": {"PageTable": {"is_root": true}}},
        {"name": "pt_a", "object": {"PageTable": {"is_root": false}}},
        {"name": "cnode_a", "object": {"CNode": {"size_bits": 4}}},
        {"name": "sc_a", "object": {"SchedContext": {"size_bits": 7}}},
        {"name": "tcb_a", "object": {"Tcb": {}}},
        {"name": "irq_a", "object": {"ArmIrq": {}}},
        {"name": "ntfn_a", "object": "Notification"}
    ]}"#;

    fn sizes() -> BTreeMap<String, u32> {
        let sizes = [("vspace", 13), ("page_table", 12), ("slot", 5), ("tcb", 11), ("notification", 6)];
        sizes.map(|(name, bits)| (name.to_owned(), bits)).into()
    }

    #[test]
    fn every_object_is_counted_once_and_registers_are_no_memory() {
        let count = tally(CAPDL, &sizes(), &["uart".into()]).unwrap();
        let objects = (1 << 13) + (1 << 12) + (1 << 9) + (1 << 7) + (1 << 11) + (1 << 6);
        assert_eq!(count, Count { frames: 2 << 12, objects });
    }

    #[test]
    fn what_is_not_known_is_not_counted_as_nothing() {
        let tally = |capdl: &str, sizes| tally(capdl, &sizes, &[]);
        assert!(tally(&CAPDL.replace("Tcb", "Vcpu"), sizes()).is_err());
        assert!(tally(&CAPDL.replace("\"size_bits\": 4", "\"bits\": 4"), sizes()).is_err());
        assert!(tally(CAPDL, BTreeMap::new()).is_err());
    }
}
