//! The sources ask for time and randomness in one place only, so that what a simulator runs is the same for the same seed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The seam itself.
const SEAM: &str = "base/host.rs";
/// What asks the system, wherever it stands.
const ANYWHERE: [&str; 6] = ["SystemTime", "getrandom", "OsRng", "thread_rng", "rand::", "UNIX_EPOCH.elapsed"];
/// What has no fixed order, where a simulator runs: iteration over a map with a random state, the branch that `select!` looks at first.
const WITHOUT_ORDER: [&str; 4] = ["HashMap", "HashSet", "RandomState", "select!"];
const SIMULATED: [&str; 3] = ["claim/", "fleet/", "registry/"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|ends| ends == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Code without comments and tests, which stand at the end of a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// What a file says that it should not.
fn wrong<'a>(file: &str, code: &str) -> Vec<&'a str> {
    let mut words: Vec<&str> = ANYWHERE.iter().copied().filter(|word| code.contains(word)).collect();
    // tokio's may be virtual, std's is not.
    let imports = code.split(';').filter_map(|part| part.trim_start().strip_prefix("use std::"));
    if code.contains("std::time::Instant") || imports.into_iter().any(|names| names.contains("Instant")) {
        words.push("std's Instant");
    }
    if SIMULATED.iter().any(|folder| file.starts_with(folder)) {
        words.extend(WITHOUT_ORDER.iter().filter(|word| code.contains(*word)));
    }
    words
}

#[test]
fn time_and_randomness_have_one_source_and_no_order_depends_on_chance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 40, "the sources are elsewhere");
    for path in found {
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap();
        if file != SEAM {
            assert_eq!(wrong(file, &code(&fs::read_to_string(&path).unwrap())), [""; 0], "{file}");
        }
    }
}

#[test]
fn what_goes_past_the_seam_is_found() {
    for (text, found) in [
        ("use std::{io, time::{Duration, Instant}};", &["std's Instant"][..]),
        ("let now = std::time::Instant::now();", &["std's Instant"]),
        ("use tokio::time::Instant;\nuse std::time::Duration;", &[]),
        ("// SystemTime\n", &[]),
        ("SystemTime::now() #[cfg(test)] getrandom::fill", &["SystemTime"]),
        ("getrandom::fill(&mut bytes)", &["getrandom"]),
        ("use std::collections::{BTreeMap, HashMap};", &["HashMap"]),
        ("tokio::select! {}", &["select!"]),
    ] {
        assert_eq!(wrong("claim/x.rs", &code(text)), found, "{text}");
    }
    assert_eq!(wrong("mesh/x.rs", "HashMap"), [""; 0]);
}
