//! What may import what. `crates/` has three shelves: `protocol` (both ends of the wire speak it) imports itself only;
//! `base` (what domains share) imports `protocol` and `base`; a crate of `domains` imports both and no other domain. The
//! same holds for tests: what needs two domains belongs to a test outside of both. The administrator's tool has nothing
//! of the node but `protocol`: no domain and no shared memory, not even by way of another crate.
//!
//! The rule reads manifests, so it counts what a crate may name, used or not.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;

use crate::{
    Breach, Tree,
    manifests::{self, Dependency, Package},
};

const SHARED_MEMORY: &str = "crates/base/shm";
const TOOL: &str = "os-network-admin";

/// A shelf's name, and the shelves that its crates import.
const SHELVES: [(&str, &[&str]); 3] =
    [("protocol", &["protocol"]), ("base", &["protocol", "base"]), ("domains", &["protocol", "base"])];

pub(crate) fn check(tree: &Tree) -> Result<Vec<Breach>> {
    let packages = manifests::packages(tree)?;
    let mut breaches = Vec::new();
    for package in packages.values() {
        let Some((shelf, allowed)) = SHELVES.into_iter().find(|(shelf, _)| on(&package.directory, shelf)) else {
            continue;
        };
        for dependency in &package.dependencies {
            if !allowed.iter().any(|shelf| on(&dependency.directory, shelf)) {
                let advice = format!(
                    "crates/{shelf} imports {} only{}",
                    allowed.join(" and "),
                    if dependency.dev {
                        ", in tests too: move the test to where both may be named, or what it needs to a lower shelf"
                    } else {
                        ": move what is needed to a lower shelf"
                    }
                );
                breaches.push(breach(&packages, package, dependency, advice));
            }
        }
    }
    if let Some(tool) = packages.values().find(|package| package.name == TOOL) {
        breaches.extend(reach(&packages, tool));
    }
    Ok(breaches)
}

fn on(directory: &str, shelf: &str) -> bool {
    directory
        .strip_prefix("crates/")
        .and_then(|rest| rest.strip_prefix(shelf))
        .is_some_and(|rest| rest.starts_with('/'))
}

fn name<'a>(packages: &'a BTreeMap<String, Package>, directory: &'a str) -> &'a str {
    packages.get(directory).map_or(directory, |package| package.name.as_str())
}

fn breach(packages: &BTreeMap<String, Package>, package: &Package, dependency: &Dependency, advice: String) -> Breach {
    Breach {
        file: package.manifest(),
        line: dependency.line,
        rule: "shelves",
        what: format!("{} -> {}", package.name, name(packages, &dependency.directory)),
        advice,
    }
}

/// What of the node the tool links although it must not, by the shortest way to each.
fn reach(packages: &BTreeMap<String, Package>, tool: &Package) -> Vec<Breach> {
    let mut breaches = Vec::new();
    // For each package that was found, who needs it, and the tool's own line that leads there.
    let mut found = BTreeMap::from([(tool.directory.as_str(), (None, 0))]);
    let mut queue = VecDeque::from([tool]);
    while let Some(package) = queue.pop_front() {
        let (_, way) = found[package.directory.as_str()];
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            let directory = dependency.directory.as_str();
            if found.contains_key(directory) {
                continue;
            }
            let line = if package.directory == tool.directory { dependency.line } else { way };
            found.insert(directory, (Some(package.directory.as_str()), line));
            if on(directory, "domains") || directory == SHARED_MEMORY {
                let mut chain = vec![name(packages, directory)];
                let mut at = directory;
                while let (Some(by), _) = found[at] {
                    chain.push(name(packages, by));
                    at = by;
                }
                chain.reverse();
                breaches.push(Breach {
                    file: tool.manifest(),
                    line,
                    rule: "tool",
                    what: format!("{TOOL} -> {}", name(packages, directory)),
                    advice: format!(
                        "the tool links no domain and no shared memory, and does by {}: cut that, or move what is \
                         needed to crates/protocol",
                        chain.join(" -> ")
                    ),
                });
            }
            queue.extend(packages.get(directory));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\n\
        wire = { path = 'crates/protocol/wire', package = 'genesis-wire' }\n\
        shm = { path = 'crates/base/shm', package = 'genesis-shm' }\n\
        calls = { path = 'crates/base/calls' }\n\
        mesh = { path = 'crates/domains/mesh' }\n\
        net = { path = 'crates/domains/net' }\n\
        sha2 = '1'\n";

    /// The breaches of a tree of five crates with these dependencies, as `file:line what`.
    fn breaches(dependencies: &[(&str, &str)]) -> Vec<String> {
        let manifests = [
            ("crates/protocol/wire", "genesis-wire"),
            ("crates/base/shm", "genesis-shm"),
            ("crates/base/calls", "calls"),
            ("crates/domains/mesh", "mesh"),
            ("crates/domains/net", "net"),
            ("tools/os-network-admin", "os-network-admin"),
        ]
        .map(|(directory, name)| {
            let of = dependencies.iter().filter(|(of, _)| *of == name).map(|(_, text)| *text).collect::<String>();
            (format!("{directory}/Cargo.toml"), format!("[package]\nname = '{name}'\n{of}"))
        });
        let [a, b, c, d, e, f] = manifests.each_ref().map(|(file, text)| (file.as_str(), text.as_str()));
        let tree = Tree::from([("Cargo.toml", ROOT), a, b, c, d, e, f]);
        check(&tree).unwrap().iter().map(|breach| format!("{}:{} {}", breach.file, breach.line, breach.what)).collect()
    }

    #[test]
    fn each_shelf_imports_what_is_below_it() {
        let good = [
            ("genesis-shm", "[dependencies]\nwire.workspace = true\nsha2.workspace = true\n"),
            ("calls", "[dependencies]\nshm = { path = '../shm' }\nwire.workspace = true\n"),
            (
                "mesh",
                "[dependencies]\ncalls.workspace = true\nwire.workspace = true\n[dev-dependencies]\nproptest = '1'\n",
            ),
            ("os-network-admin", "[dependencies]\nwire.workspace = true\n"),
        ];
        assert_eq!(breaches(&good), Vec::<String>::new());
    }

    #[test]
    fn no_shelf_imports_what_is_above_it() {
        let upward = [("genesis-wire", "[dependencies]\nshm = { workspace = true, features = ['x'] }\n")];
        assert_eq!(breaches(&upward), ["crates/protocol/wire/Cargo.toml:4 genesis-wire -> genesis-shm"]);
        let upward = [("calls", "[build-dependencies]\nmesh.workspace = true\n")];
        assert_eq!(breaches(&upward), ["crates/base/calls/Cargo.toml:4 calls -> mesh"]);
        let upward = [("calls", "[target.'cfg(unix)'.dependencies]\nmesh = { path = '../../domains/mesh' }\n")];
        assert_eq!(breaches(&upward), ["crates/base/calls/Cargo.toml:4 calls -> mesh"]);
        let aside = [("calls", "[dependencies]\ntool = { path = '../../../tools/os-network-admin' }\n")];
        assert_eq!(breaches(&aside), ["crates/base/calls/Cargo.toml:4 calls -> os-network-admin"]);
    }

    #[test]
    fn a_domain_imports_no_other_even_in_tests() {
        for section in ["dependencies", "dev-dependencies"] {
            let found = breaches(&[("mesh", &format!("[{section}]\nnet.workspace = true\n"))]);
            assert_eq!(found, ["crates/domains/mesh/Cargo.toml:4 mesh -> net"], "{section}");
        }
    }

    #[test]
    fn the_tool_reaches_no_shared_memory_and_no_domain() {
        let by_another = [
            ("os-network-admin", "[dependencies]\nsha2.workspace = true\ncalls.workspace = true\n"),
            ("calls", "[dependencies]\nshm.workspace = true\n"),
        ];
        assert_eq!(breaches(&by_another), ["tools/os-network-admin/Cargo.toml:5 os-network-admin -> genesis-shm"]);
        let in_tests = [("os-network-admin", "[dev-dependencies]\nmesh.workspace = true\n")];
        assert_eq!(breaches(&in_tests), Vec::<String>::new());
    }
}
