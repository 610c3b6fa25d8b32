//! The rules on images. `capdl/good.json` is an image of `capdl/system.xml` in the tool's own form, but that objects
//! are named where the tool counts them, and rights are letters. Every file in `bad-capdl/` says how a good one is
//! changed and with which messages, all of them, it is then refused.

mod bed;

use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path};

use bed::Bed;
use serde_json::Value;

#[test]
fn the_good_image_is_accepted() {
    assert_eq!(Bed::good().judge(), [""; 0]);
}

#[test]
fn each_bad_image_is_refused_with_the_message_of_its_rule() {
    let (mut rules, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-capdl")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension(), Some(OsStr::new("json")), "{}", path.display());
        let bad: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut bed = Bed::good();
        bad["change"].as_array().unwrap().iter().for_each(|change| bed.change(change));
        let expected: Vec<_> = bad["refused"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let refused = bed.judge();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // A file is named after its rule.
        let own = refused.iter().find_map(|message| message.split(": ").next().filter(|rule| name.starts_with(rule)));
        rules.extend(own.map(str::to_owned));
        if refused != expected || !(name.starts_with("parse-") || own.is_some()) {
            wrong.push(format!("{name}\n  expected {expected:#?}\n  got      {refused:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(rules.len(), 16, "a rule has no bad image; there are some for {rules:?}");
}

/// What the rules do not look at, by the last part of its path, and why it does not matter to them.
const UNJUDGED: [&str; 8] = [
    // Where a thread starts, and whether: its program is the linker's.
    "/extra/resume",
    "/extra/domain",
    "/extra/ip",
    "/extra/sp",
    // The tool sets a core for ARM's interrupts; there is one core.
    "/extra/target",
    // How large a time budget's object is, and what a time-out would be called: there is no handler to tell.
    "/SchedContext/extra/badge",
    "/SchedContext/size_bits",
    "/log_level",
];

/// Not one number or flag of an image can be another without being noticed.
#[test]
fn whatever_is_changed_in_an_image_is_refused() {
    let good = Bed::good().linked();
    let mut leaves = Vec::new();
    collect(&good, String::new(), &mut leaves);
    let (mut changed, mut accepted) = (0, Vec::new());
    for path in leaves {
        if UNJUDGED.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        let old = good.pointer(&path).unwrap();
        let others: Vec<Value> = match old {
            Value::Bool(flag) => vec![(!flag).into()],
            Value::Number(number) => {
                let number = number.as_u64().unwrap();
                let others = [0, 1, 2, number.wrapping_add(1), number.wrapping_sub(1), 1 << 40, u64::MAX];
                others.into_iter().filter(|other| *other != number).map(Value::from).collect()
            }
            _ => vec![],
        };
        for other in others {
            if harmless(&good, &path, &other) {
                continue;
            }
            let mut bad = good.clone();
            *bad.pointer_mut(&path).unwrap() = other.clone();
            if Bed::good().judge_linked(&bad).is_empty() {
                accepted.push(format!("{path} = {other}"));
            }
            changed += 1;
        }
    }
    assert!(accepted.is_empty(), "accepted:\n{}", accepted.join("\n"));
    assert!(changed > 1900, "only {changed} changes tried");
}

fn collect(value: &Value, path: String, leaves: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect(item, format!("{path}/{index}"), leaves));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, item)| collect(item, format!("{path}/{key}"), leaves)),
        _ => leaves.push(path),
    }
}

/// Changes to a domain's own pages that take nothing from another and open nothing, and which of the TCBs the monitor
/// has where.
fn harmless(good: &Value, path: &str, other: &Value) -> bool {
    let part = |end: &str| path.strip_suffix(end).and_then(|slot| good.pointer(slot));
    let own = |slot: &Value| {
        let frame = slot.pointer("/cap/Frame/object").and_then(Value::as_u64);
        frame.is_some_and(|id| !good["objects"][id as usize]["name"].as_str().unwrap().starts_with("frame_mr_"))
    };
    let monitors =
        good.pointer(&path.split('/').take(3).collect::<Vec<_>>().join("/")).unwrap()["name"] == "cnode_monitor";
    if monitors {
        let tcb = |id: &Value| {
            good["objects"].get(id.as_u64().unwrap() as usize).is_some_and(|o| o["object"].get("Tcb").is_some())
        };
        let high = |slot: &Value| (10..=u64::from(u32::MAX)).contains(&slot.as_u64().unwrap());
        return path.ends_with("/Tcb/object") && tcb(other)
            || part("/slot").is_some_and(|slot| slot["cap"].get("Tcb").is_some() && high(other));
    }
    if !path.contains("/PageTable/") {
        return false;
    }
    part("/slot").is_some_and(|slot| own(slot) && (1..512).contains(&other.as_u64().unwrap()))
        || part("/cap/Frame/rights/write").is_some_and(|slot| own(slot) && *other == false)
        || part("/cap/Frame/cached").is_some_and(own)
        || part("/cap/Frame/executable")
            .is_some_and(|slot| own(slot) && (*other == false || slot["cap"]["Frame"]["rights"]["write"] == false))
}

/// Reading stops with an error, wherever a file ends.
#[test]
fn no_piece_of_an_image_is_taken_for_a_whole_one() {
    let text = Bed::good().linked().to_string();
    for end in (0..text.len()).step_by(7) {
        assert!(sysdesc::image::capdl::Spec::parse(&text[..end]).is_err());
    }
}
