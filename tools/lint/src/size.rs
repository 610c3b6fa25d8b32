//! How long a file may be. A shell binds a core to a platform and decides nothing, so it has a limit of its own.

use crate::{Breach, Tree};

/// Lines of any Rust file.
const FILE: usize = 600;
/// Lines of a domain's shell.
const SHELL: usize = 120;
/// Where the shells are. On native one program is all of them, and a file like any other.
const SHELLS: &str = "pds/shells/src/bin/";

pub(crate) fn check(tree: &Tree) -> Vec<Breach> {
    tree.texts(".rs")
        .filter_map(|(file, text)| {
            let lines = text.lines().count();
            let (limit, advice) = if file.starts_with(SHELLS) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(file: &str, lines: usize) -> bool {
        let text = "//\n".repeat(lines);
        !check(&Tree::from([(file, text.as_str())])).is_empty()
    }

    #[test]
    fn a_rust_file_has_at_most_600_lines() {
        for file in
            ["crates/domains/mesh/src/tunnel.rs", "pds/bench-mesh/src/main.rs", "tools/native/src/bin/domain.rs"]
        {
            assert!(!refused(file, 600), "{file}");
            assert!(refused(file, 601), "{file}");
        }
        assert!(!refused("docs/long.md", 5000));
    }

    #[test]
    fn a_shell_of_a_domain_has_at_most_120_lines() {
        assert!(!refused("pds/shells/src/bin/mesh.rs", 120));
        assert!(refused("pds/shells/src/bin/mesh.rs", 121));
    }
}
