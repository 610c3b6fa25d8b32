//! Paths of the tree that documents and comments name.
//!
//! A word is such a path if it has a `/`, nothing but letters, digits and `._-/*`, and its first part is in the root of
//! the tree. It must be a file or a directory there; `*`, and a word in capitals (`boards/BOARD.toml`), stand for any
//! part of a name. In documents the words are those in inline code, in Rust files, manifests and makefiles those of the
//! lines that are comments.

use crate::{Breach, Tree};

/// Which files have comments, and how a line of comment begins there.
const COMMENTS: [(&str, &str); 4] = [(".rs", "//"), (".toml", "#"), (".mk", "#"), ("Makefile", "#")];

pub(crate) fn check(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (suffix, mark) in COMMENTS {
        for (file, text) in tree.texts(suffix) {
            for (index, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(mark)) {
                let words =
                    line.split_whitespace().map(|word| word.trim_matches(|mark| "()[]`,;:.!?\"'".contains(mark)));
                breaches.extend(words.filter_map(|word| judge(tree, file, index + 1, word)));
            }
        }
    }
    breaches
}

/// The breach, if `word` is a path and leads nowhere.
pub(crate) fn judge(tree: &Tree, file: &str, line: usize, word: &str) -> Option<Breach> {
    let path = word.strip_suffix('/').unwrap_or(word);
    let (first, _) = word.split_once('/')?;
    let plain = word.chars().all(|character| character.is_ascii_alphanumeric() || "._-/*".contains(character));
    if !plain || first.is_empty() || !tree.is_directory(first) {
        return None;
    }
    let pattern = pattern(path);
    let is_there = tree.is_file(path) || tree.is_directory(path) || tree.paths().any(|known| matches(&pattern, known));
    (!is_there).then(|| Breach {
        file: file.to_owned(),
        line,
        rule: "paths",
        what: word.to_owned(),
        advice: "is no file or directory of the tree: correct the path".to_owned(),
    })
}

/// `path` with `*` for each word in capitals.
fn pattern(path: &str) -> String {
    let mut pattern = String::new();
    let mut rest = path;
    while let Some(character) = rest.chars().next() {
        let capitals = rest.chars().take_while(char::is_ascii_uppercase).count();
        if capitals > 1 {
            pattern.push('*');
        } else {
            pattern.push(character);
        }
        rest = &rest[capitals.max(character.len_utf8())..];
    }
    pattern
}

/// Whether `path` fits `pattern`, in which `*` stands for anything but a `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(pattern, name)| name_matches(pattern, name))
}

fn name_matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| name_matches(tail, rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(file: &str, text: &str) -> Tree {
        Tree::from([
            (file, text),
            ("boards/native.toml", ""),
            ("README.md", ""),
            ("crates/domains/mesh/src/lib.rs", ""),
            ("pds/mesh/src/main.rs", ""),
        ])
    }

    fn leads_nowhere(word: &str) -> bool {
        judge(&tree("a.md", ""), "a.md", 1, word).is_some()
    }

    #[test]
    fn paths_of_the_tree_exist() {
        for there in
            ["crates/domains/mesh", "crates/domains/", "pds/*/src/main.rs", "boards/BOARD.toml", "boards/*.toml"]
        {
            assert!(!leads_nowhere(there), "{there}");
        }
        for nowhere in ["crates/none", "pds/*/src/lib.rs", "pds/mesh", "boards/BOARD.xml", "pds/mesh/src/main.rs/x"] {
            assert_eq!(leads_nowhere(nowhere), nowhere != "pds/mesh", "{nowhere}");
        }
    }

    #[test]
    fn other_words_are_no_paths() {
        for word in ["target/debug", "a/b", "fe80::1/64", "crates/<name>", "pds/$x", "/dev/null", "none.md", "and/or"] {
            assert!(!leads_nowhere(word), "{word}");
        }
    }

    #[test]
    fn comments_are_looked_into() {
        let found = |file: &str, text: &str| {
            let breaches = check(&tree(file, text));
            breaches.into_iter().map(|breach| (breach.line, breach.what)).collect::<Vec<_>>()
        };
        let text = "//! See `crates/none`.\nlet x = \"crates/none\";\n    // (boards/none.toml), boards/native.toml.\n";
        assert_eq!(found("a.rs", text), [(1, "crates/none".into()), (3, "boards/none.toml".into())]);
        for file in ["Cargo.toml", "Makefile", "pds/sel4.mk"] {
            assert_eq!(found(file, "a = 1\n# boards/none.toml says\n"), [(2, "boards/none.toml".into())], "{file}");
        }
    }
}
