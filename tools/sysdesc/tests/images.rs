//! The rules on the release images: `make test-sel4` builds them and runs this; nothing here does.

use std::{collections::BTreeMap, fs, path::Path};

use object::{LittleEndian, Object, ObjectSegment, ObjectSymbol, read::elf::ElfFile64};
use serde_json::{Value, json};
use sysdesc::{
    Board, System, elaborate,
    image::{assemble::sel4_boards, capdl::Spec, policy::KEYSTORE, rules},
};

/// The image for a board.
fn image(board: &str) -> (Board, System, Value) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: String| fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let parsed = Board::parse(&read(format!("boards/{board}.toml"))).unwrap();
    let system = elaborate(&read("system.xml".to_owned()), &parsed).unwrap();
    let capdl = read(format!("target/{board}-release/capdl.json"));
    (parsed, system, serde_json::from_str(&capdl).unwrap())
}

fn judge(board: &Board, system: &System, image: &Value) -> Vec<String> {
    let spec = Spec::parse(&image.to_string()).unwrap();
    rules::check(system, board, &KEYSTORE, &spec).iter().map(ToString::to_string).collect()
}

fn release_image_keeps_the_rules(board: &str) {
    let (board, system, image) = image(board);
    assert_eq!(judge(&board, &system, &image), [""; 0]);
}

/// Every page that the keystore has alone, mapped into every other domain, one at a time.
fn no_page_of_the_keystore_can_be_anothers(board: &str) {
    let (board, system, image) = image(board);
    let objects = image["objects"].as_array().unwrap();
    let mut tried = 0;
    for (id, object) in objects.iter().enumerate() {
        let name = object["name"].as_str().unwrap();
        let own = ["frame_elf_keystore_", "frame_keystore_stack_", "frame_ipcbuf_keystore", "frame_mr_device_secret_"];
        if !own.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        for domain in system.all_domains().into_iter().filter(|domain| domain.name != KEYSTORE.guarded) {
            let mut bad = image.clone();
            // One of the last level, with room: those above hold large pages.
            let tables = ["pt", "pte"].map(|kind| format!("{kind}_{}_vaddr_", domain.name));
            let slots = bad["objects"].as_array_mut().unwrap().iter_mut().find_map(|object| {
                let named = object["name"].as_str()?;
                let named = tables.iter().any(|table| named.starts_with(table));
                let slots = object.pointer_mut("/object/PageTable/slots")?.as_array_mut()?;
                (named && slots.iter().any(|slot| slot["cap"].get("Frame").is_some())).then_some(slots)
            });
            let slots = slots.unwrap();
            let free = (1..512).find(|free| slots.iter().all(|slot| slot["slot"] != *free)).unwrap();
            let rights = json!({"read": true, "write": false, "grant": false, "grant_reply": false});
            let cap = json!({"object": id, "rights": rights, "cached": true, "executable": false});
            slots.push(json!({"slot": free, "cap": {"Frame": cap}}));
            let refused = judge(&board, &system, &bad);
            let expected = format!("foreign-frame: {} maps {name}", domain.name);
            assert!(refused.iter().any(|message| message.starts_with(&expected)), "{name}: {refused:?}");
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} pages tried");
}

/// What the table of each child's program puts back is what the program has in its writable segments, and all of it; it
/// begins with that.
fn children_begin_with_their_own_memory(board: &str) {
    let (_, system, _) = image(board);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join("target").join(format!("{board}-release"));
    let children = system.all_domains().into_iter().filter(|domain| domain.id.is_some());
    for child in children {
        let program = fs::read(root.join("programs").join(&child.name).join(&child.image.path)).unwrap();
        let elf = ElfFile64::<LittleEndian>::parse(program.as_slice()).unwrap();
        let loads = || elf.segments().map(|segment| (segment.address(), segment.size(), segment.data().unwrap()));
        let word = |at: u64| {
            let (from, _, bytes) = loads().find(|(from, size, _)| (*from..from + size).contains(&at)).unwrap();
            u64::from_le_bytes(bytes[(at - from) as usize..][..8].try_into().unwrap())
        };
        let symbol = |name: &str| elf.symbol_by_name(name).unwrap().address();
        assert_eq!(elf.entry(), symbol("_reset"), "{}", child.name);
        let mut entry = symbol("reset_table");
        assert_eq!(Some(word(entry)), child.stack_size, "{}", child.name);
        let mut memory = BTreeMap::new();
        entry += 8;
        while word(entry) != 0 {
            let [to, end, from, until] = [0, 8, 16, 24].map(|field| word(entry + field));
            let words = (to..end).step_by(8).zip((from..).step_by(8));
            memory.extend(words.map(|(to, from)| (to, if from < until { word(from) } else { 0 })));
            entry += 32;
        }
        for segment in elf.segments().filter(|segment| segment.permissions().writable()) {
            let bytes = segment.data().unwrap();
            for at in 0..segment.size() {
                let address = segment.address() + at;
                let value = memory[&(address - address % 8)].to_le_bytes()[(address % 8) as usize];
                assert_eq!(value, bytes.get(at as usize).copied().unwrap_or(0), "{} at {address:#x}", child.name);
            }
        }
    }
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn every_child_of_every_image_begins_with_its_own_memory() {
    sel4_boards().unwrap().iter().for_each(|board| children_begin_with_their_own_memory(board));
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn every_release_image_keeps_the_rules() {
    sel4_boards().unwrap().iter().for_each(|board| release_image_keeps_the_rules(board));
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn no_page_of_the_keystore_can_be_anothers_in_any_image() {
    sel4_boards().unwrap().iter().for_each(|board| no_page_of_the_keystore_can_be_anothers(board));
}
