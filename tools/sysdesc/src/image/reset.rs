//! Programs of children, which their parent may start over again: what `_reset` (pds/platform/src/reset.rs) has to put back
//! is written into each, and `_reset` becomes its entry.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context, Result, ensure};
use object::{
    LittleEndian, Object, ObjectSymbol,
    elf::{FileHeader64, PF_W, PT_LOAD, ProgramHeader64},
    pod,
    read::elf::{ElfFile64, ProgramHeader},
};

use crate::description::{Domain, Perms, System};

type Header = ProgramHeader64<LittleEndian>;

const WORD: u64 = 8;
/// Of a region in the table. So many zeros are no shorter in another region.
const ENTRY: u64 = 4 * WORD;
/// Bytes, where nothing is declared.
const STACK: u64 = 0x2000;
const LE: LittleEndian = LittleEndian;

/// Memory that `_reset` puts back: first the bytes, then zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    at: Range<u64>,
    first: Vec<u8>,
}

/// The system with such programs for all children, made of those in `programs` and put below `to`.
pub(super) fn resettable(system: &System, programs: &Path, to: &Path) -> Result<System> {
    let mut with = system.clone();
    let children = system.all_domains().into_iter().filter(|domain| domain.id.is_some());
    for child in children {
        let path = programs.join(&child.image.path);
        let program = fs::read(&path).with_context(|| path.display().to_string())?;
        let stack = child.stack_size.unwrap_or(STACK);
        let made = add(&program, stack, own_memory(system, child)).with_context(|| path.display().to_string())?;
        let name = format!("{}/{}", child.name, child.image.path);
        let path = to.join(&name);
        let dir = path.parent().context("no directory for a program")?;
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        fs::write(&path, made).with_context(|| path.display().to_string())?;
        with.image_mut(&child.name).context("a child without a program")?.path = name;
    }
    Ok(with)
}

/// The regions that nobody else maps and that are zero at first. What a device writes to is not among them: the driver
/// clears it once it has reset the device.
fn own_memory(system: &System, domain: &Domain) -> Vec<Span> {
    let own = domain.maps.iter().filter_map(|map| {
        let region = system.region(&map.region)?;
        let alone = map.perms == Perms::ReadWrite && system.mappers(&map.region).count() == 1;
        let plain = region.phys_addr.is_none() && region.prefill_path.is_none() && !system.is_dma(&map.region);
        (alone && plain).then(|| Span { at: map.vaddr..map.vaddr + region.size, first: Vec::new() })
    });
    own.collect()
}

/// The program, with the table of its writable segments and of these spans.
fn add(program: &[u8], stack: u64, own: Vec<Span>) -> Result<Vec<u8>> {
    let elf = ElfFile64::<LittleEndian>::parse(program)?;
    let symbol = |name: &str| elf.symbol_by_name(name).with_context(|| format!("it has no symbol {name}"));
    let (entry, place) = (symbol("_reset")?, symbol("reset_table")?);
    let loads = || elf.elf_program_headers().iter().filter(|header| header.p_type(LE) == PT_LOAD);
    let mut spans = own;
    for header in loads().filter(|header| header.p_flags(LE) & PF_W != 0) {
        let bytes = header.data(LE, program).ok().context("a segment is outside the program")?;
        spans.extend(split(header.p_vaddr(LE), bytes, header.p_memsz(LE)));
    }
    let table = table(stack, &spans, place.address());
    let needed = table.len() as u64;
    ensure!(needed <= place.size(), "its reset_table has {} bytes, and {needed} are needed", place.size());
    let holds = |header: &&Header| {
        let from = header.p_vaddr(LE);
        (from..from + header.p_filesz(LE)).contains(&place.address())
    };
    let holder = loads().find(holds).context("reset_table is in no segment")?;
    ensure!(holder.p_flags(LE) & PF_W == 0, "reset_table is in memory that the domain may write");
    let at = usize::try_from(place.address() - holder.p_vaddr(LE) + holder.p_offset(LE))?;

    let mut made = program.to_vec();
    made.get_mut(at..at + table.len()).context("reset_table is outside the program")?.copy_from_slice(&table);
    let (header, _) = pod::from_bytes_mut::<FileHeader64<LittleEndian>>(&mut made).ok().context("it has no header")?;
    header.e_entry.set(LE, entry.address());
    Ok(made)
}

/// What stands at `vaddr` and is followed by zeros up to a size, in words. Long runs of zeros are not kept.
fn split(vaddr: u64, bytes: &[u8], size: u64) -> Vec<Span> {
    let start = vaddr - vaddr % WORD;
    let end = (vaddr + size).next_multiple_of(WORD);
    let mut padded = vec![0; (vaddr - start) as usize];
    padded.extend_from_slice(bytes);
    padded.resize(padded.len().next_multiple_of(WORD as usize), 0);
    let mut spans = vec![Span { at: start..end, first: Vec::new() }];
    for (word, at) in padded.chunks(WORD as usize).zip((start..).step_by(WORD as usize)) {
        let Some(last) = spans.last_mut().filter(|_| word.iter().any(|byte| *byte != 0)) else { continue };
        let zeros = at - last.at.start - last.first.len() as u64;
        if zeros > ENTRY {
            last.at.end = at;
            spans.push(Span { at: at..end, first: word.to_vec() });
        } else {
            last.first.resize(last.first.len() + zeros as usize, 0);
            last.first.extend_from_slice(word);
        }
    }
    spans
}

/// The table, and behind it what the spans begin with, for this address.
fn table(stack: u64, spans: &[Span], vaddr: u64) -> Vec<u8> {
    let mut words = vec![stack];
    let mut values = Vec::new();
    let behind = vaddr + WORD + ENTRY * (spans.len() as u64 + 1);
    for span in spans {
        let from = behind + values.len() as u64;
        words.extend([span.at.start, span.at.end, from, from + span.first.len() as u64]);
        values.extend_from_slice(&span.first);
    }
    words.extend([0; 4]);
    [words.iter().flat_map(|word| word.to_le_bytes()).collect(), values].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const AT: u64 = 0x20_0000;

    /// What `_reset` makes of memory in which everything else was written over.
    fn put_back(spans: &[Span]) -> BTreeMap<u64, [u8; 8]> {
        let table = table(0x4000, spans, AT);
        let word = |at: u64| -> [u8; 8] { table[at as usize..][..8].try_into().unwrap() };
        let number = |at: u64| u64::from_le_bytes(word(at));
        assert_eq!(number(0), 0x4000);
        let mut memory = BTreeMap::new();
        let mut entry = WORD;
        while number(entry) != 0 {
            let [mut to, end, mut from, until] = [0, 8, 16, 24].map(|field| number(entry + field));
            while to < end {
                let value = if from < until { word(from - AT) } else { [0; 8] };
                assert!(memory.insert(to, value).is_none(), "{to:#x} is put back twice");
                (to, from) = (to + WORD, from + WORD);
            }
            assert!(from >= until, "more than a region holds");
            entry += ENTRY;
        }
        memory
    }

    #[test]
    fn a_segment_is_put_back_whole_wherever_it_begins_and_ends() {
        let mut bytes = vec![0; 1_000];
        for at in [0, 1, 7, 40, 41, 72, 113, 500, 999] {
            bytes[at] = at as u8 + 1;
        }
        for (vaddr, size) in [(0x1000, 1_000), (0x1004, 1_000), (0x1007, 1_001), (0x1000, 5_000), (0x1001, 1_000)] {
            let memory = put_back(&split(vaddr, &bytes, size));
            let all: Vec<u8> = memory.values().flatten().copied().collect();
            let before = (vaddr % WORD) as usize;
            assert_eq!(memory.keys().next(), Some(&(vaddr - vaddr % WORD)));
            assert!(all.len() as u64 >= before as u64 + size && all.len() as u64 - size < 2 * WORD);
            assert_eq!(all[..before], [0; 8][..before]);
            assert_eq!(all[before..before + 1_000], bytes);
            assert!(all[before + 1_000..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn zeros_are_not_kept() {
        let mut bytes = vec![0; 0x8000];
        [bytes[0], bytes[0x4000]] = [1, 2];
        let spans = split(0x1000, &bytes, 0x9000);
        assert_eq!(
            spans,
            [
                Span { at: 0x1000..0x5000, first: vec![1, 0, 0, 0, 0, 0, 0, 0] },
                Span { at: 0x5000..0xa000, first: vec![2, 0, 0, 0, 0, 0, 0, 0] },
            ]
        );
        assert_eq!(split(0x1000, &[], 0x2000), [Span { at: 0x1000..0x3000, first: vec![] }]);
    }

    /// Its work memory, and no more: what others read must not change under them, and a device writes to its
    /// own.
    #[test]
    fn a_domain_is_given_back_the_memory_that_nobody_else_maps() {
        let board = crate::image::assemble::board("qemu_virt_aarch64").unwrap();
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../system.xml")).unwrap();
        let system = crate::description::elaborate(&text, &board).unwrap();
        let own = |name: &str| -> Vec<Range<u64>> {
            own_memory(&system, system.domain(name).unwrap()).into_iter().map(|span| span.at).collect()
        };
        let mesh = system.domain("mesh").unwrap().map_of("mesh_memory").unwrap().vaddr;
        let size = system.region("mesh_memory").unwrap().size;
        let whole = mesh..mesh + size;
        assert_eq!(own("mesh"), [whole]);
        for domain in ["net", "entropy", "console", "claim", "perimeter"] {
            assert_eq!(own(domain), [], "{domain}");
        }
    }

    #[test]
    fn a_program_without_a_place_for_the_table_is_refused() {
        assert!(add(b"\x7fELF", 0x1000, Vec::new()).is_err());
    }
}
