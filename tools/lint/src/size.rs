//! How long a file may be. A shell binds a core to a platform and decides nothing, so it has a limit of its own.

use crate::{Breach, Tree, shelves::DOMAINS};

/// Lines of any Rust file.
const FILE: usize = 600;
/// Lines of a domain's shell, on either platform.
const SHELL: usize = 120;

pub(crate) fn check(tree: &Tree) -> Vec<Breach> {
    tree.texts(".rs")
        .filter_map(|(file, text)| {
            let lines = text.lines().count();
            let (limit, advice) = if is_shell(tree, file) {
                (SHELL, "a domain's shell only binds; move what it decides into the core")
            } else {
                (FILE, "split it by what its parts do")
            };
            (lines > limit).then(|| Breach {
                file: file.to_owned(),
                line: limit + 1,
                rule: "size",
                what: file.to_owned(),
                advice: format!("has {lines} lines, and may have {limit}: {advice}"),
            })
        })
        .collect()
}

fn is_shell(tree: &Tree, file: &str) -> bool {
    let on_sel4 = || file.strip_prefix("pds/")?.strip_suffix("/src/main.rs");
    let native = || file.strip_prefix("tools/native/src/bin/")?.strip_suffix(".rs");
    on_sel4().or_else(native).is_some_and(|name| tree.is_directory(&format!("{DOMAINS}/{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(file: &str, lines: usize) -> bool {
        let text = "//\n".repeat(lines);
        !check(&Tree::from([(file, text.as_str()), ("crates/domains/mesh/src/lib.rs", "")])).is_empty()
    }

    #[test]
    fn a_rust_file_has_at_most_600_lines() {
        for file in ["crates/domains/mesh/src/tunnel.rs", "pds/bench-mesh/src/main.rs", "tools/native/src/bin/rogue.rs"]
        {
            assert!(!refused(file, 600), "{file}");
            assert!(refused(file, 601), "{file}");
        }
        assert!(!refused("docs/long.md", 5000));
    }

    #[test]
    fn a_shell_of_a_domain_has_at_most_120_lines() {
        for file in ["pds/mesh/src/main.rs", "tools/native/src/bin/mesh.rs"] {
            assert!(!refused(file, 120), "{file}");
            assert!(refused(file, 121), "{file}");
        }
    }
}
