//! What a program's ELF asks to be loaded.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

/// Bytes of memory in all, with what starts as zero.
pub fn loaded(elf: &[u8]) -> Result<u64> {
    Ok(segments(elf)?.iter().map(|segment| segment.end - segment.start).sum())
}

/// The addresses from the first to the last.
pub fn place(elf: &[u8]) -> Result<Range<u64>> {
    let segments = segments(elf)?;
    let (start, end) = (segments.iter().map(|segment| segment.start).min(), segments.iter().map(|s| s.end).max());
    Ok(start.unwrap_or_default()..end.unwrap_or_default())
}

/// Where each segment of a 64-bit little-endian ELF that is loaded goes. There is one at least.
fn segments(elf: &[u8]) -> Result<Vec<Range<u64>>> {
    const LOAD: u64 = 1;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "not 64-bit little-endian");
    let field = |at, len| number(at, len).context("it is cut short");
    let (table, size, entries) = (field(0x20, 8)? as usize, field(0x36, 2)? as usize, field(0x38, 2)? as usize);
    let mut segments = Vec::new();
    for index in 0..entries {
        let at = table.saturating_add(index * size);
        if field(at, 4)? == LOAD {
            let (start, bytes) = (field(at + 0x10, 8)?, field(at + 0x28, 8)?);
            segments.push(start..start.checked_add(bytes).context("it is too large")?);
        }
    }
    ensure!(!segments.is_empty(), "nothing of it is loaded");
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_elf_is_as_large_as_what_is_loaded_and_lies_where_it_does() {
        let mut elf = vec![0; 0x40 + 3 * 0x38];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x20], elf[0x36], elf[0x38]) = (0x40, 0x38, 3);
        for (index, (kind, start, size)) in [(1, 0x70, 7), (6, 0x10, 100), (1, 0x20, 3)].into_iter().enumerate() {
            let at = 0x40 + index * 0x38;
            (elf[at], elf[at + 0x10 + 1], elf[at + 0x28 + 1]) = (kind, start, size);
        }
        assert_eq!(loaded(&elf).unwrap(), 10 << 8);
        assert_eq!(place(&elf).unwrap(), 0x2000..0x7700);
        assert!(loaded(&elf[..0x90]).is_err());
        assert!(loaded(b"\x7fELF\x01\x01").is_err());
    }
}
