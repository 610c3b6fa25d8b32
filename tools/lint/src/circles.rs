//! Modules that import each other in a circle: neither can be read, tested or moved without the other.
//!
//! For each crate of the tree (`src/lib.rs` and `src/main.rs` are a crate each), and for each module in it that has
//! modules of its own, the graph has these siblings as its nodes. There is an edge from one to another where the first,
//! or a module within it, has a path that begins with `crate`, `self` or `super` and leads into the second. What counts
//! is where the path leads by its words and where the item that it names is defined: a name that a module in between
//! imports is followed to its origin. A circle of these edges is a breach.
//!
//! A parent is not a sibling: that a module uses its parent's items, and the parent its own, is no circle here. Code
//! under `#[cfg(test)]` does not count, nor do method calls, which name no module, nor names that a glob import brings.

mod graph;
mod module;

use anyhow::Result;

use crate::{
    Breach, Tree,
    manifests::{self},
    tree::join,
};
use graph::Edge;

pub(crate) fn check(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for directory in manifests::packages(tree)?.into_keys() {
        for root in ["src/lib.rs", "src/main.rs"] {
            let Some(root) = join(&directory, root).filter(|file| tree.text(file).is_some()) else { continue };
            let root = module::read(tree, &root)?;
            for (parent, circle) in graph::circles(&root) {
                breaches.push(breach(&directory, &parent, &circle));
            }
        }
    }
    Ok(breaches)
}

fn breach(directory: &str, parent: &[String], circle: &[Edge]) -> Breach {
    let mut siblings: Vec<&str> = circle.iter().map(|edge| edge.from.as_str()).collect();
    siblings.sort_unstable();
    siblings.dedup();
    let edges: Vec<String> = circle
        .iter()
        .map(|edge| format!("{} -> {} ({}:{} {})", edge.from, edge.to, edge.file, edge.line, edge.path))
        .collect();
    Breach {
        file: circle[0].file.clone(),
        line: circle[0].line,
        rule: "circles",
        what: format!("{directory}: {}", [parent.join("::"), siblings.join(" <-> ")].join(" ").trim_start()),
        advice: format!(
            "these modules import each other in a circle; move what both need to a third, or turn one import: {}",
            edges.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let mut all = vec![("a/Cargo.toml", "[package]\nname = 'a'")];
        all.extend(files);
        let tree = Tree::from_iter(all);
        check(&tree).unwrap().into_iter().map(|breach| breach.what).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn imports_in_one_direction_are_no_circle() {
        let lib = "mod x; mod y; pub use x::X; use y::Y;";
        assert_eq!(
            circles([("a/src/lib.rs", lib), ("a/src/x.rs", "use crate::y::Y;"), ("a/src/y.rs", "struct Y;")]),
            NONE
        );
    }

    #[test]
    fn two_that_import_each_other_are_a_circle() {
        for [x, y] in [
            ["use crate::y::Y;", "use crate::x::X;"],
            ["use super::{y::{self, Y}, z};", "fn f() { super::x::g() }"],
            ["fn f() -> crate::y::Y {}", "fn f() { matches!(1, crate::x::X) }"],
            ["mod inner { use super::super::y; }", "pub(in crate) use self::super::x::X as Z;"],
            ["fn f() { use crate::y::*; }", "impl crate::x::Trait for Y {}"],
            ["macro_rules! m { () => { $crate::y::f() } }", "const C: u8 = crate::x::C;"],
        ] {
            let found = circles([
                ("a/src/lib.rs", "mod x; mod y; mod z;"),
                ("a/src/x.rs", x),
                ("a/src/y.rs", y),
                ("a/src/z.rs", ""),
            ]);
            assert_eq!(found, ["a: x <-> y"], "{x} {y}");
        }
    }

    #[test]
    fn a_circle_may_be_long_and_is_told_once() {
        let found = circles([
            ("a/src/main.rs", "mod x; mod y; mod z; mod w;"),
            ("a/src/x.rs", "use crate::y;"),
            ("a/src/y.rs", "use crate::{z, w};"),
            ("a/src/z/mod.rs", "use crate::x;"),
            ("a/src/w.rs", ""),
        ]);
        assert_eq!(found, ["a: x <-> y <-> z"]);
    }

    #[test]
    fn a_name_that_the_parent_passes_on_is_followed() {
        let files = |lib| {
            circles([
                ("a/src/lib.rs", lib),
                ("a/src/x.rs", "use crate::Y; pub struct X;"),
                ("a/src/y.rs", "use super::x::X; pub struct Y;"),
            ])
        };
        for lib in ["mod x; mod y; pub use y::Y;", "mod x; mod y; use crate::y::Y;", "mod x; mod y; pub use y::*;"] {
            assert_eq!(files(lib), ["a: x <-> y"], "{lib}");
        }
        assert_eq!(files("mod x; mod y; pub struct Y;"), NONE);
    }

    #[test]
    fn siblings_deeper_down_are_judged_too() {
        let found = circles([
            ("a/src/lib.rs", "mod link;"),
            ("a/src/link.rs", "mod frames; mod neighbours;"),
            ("a/src/link/frames.rs", "use super::neighbours::Asked;"),
            ("a/src/link/neighbours.rs", "use super::frames::Frame;"),
        ]);
        assert_eq!(found, ["a: link frames <-> neighbours"]);
    }

    #[test]
    fn parents_and_tests_do_not_count() {
        let found = circles([
            ("a/src/lib.rs", "mod x; mod y; #[cfg(test)] mod tests; pub struct Root(x::X);"),
            (
                "a/src/x.rs",
                "use crate::Root; #[cfg(test)] mod tests { use crate::y::Y; } #[cfg(test)] use crate::y::Z;",
            ),
            ("a/src/y.rs", "use crate::x::X; use super::Root;"),
            ("a/src/tests.rs", "use crate::x;"),
        ]);
        assert_eq!(found, NONE);
    }

    #[test]
    fn a_breach_says_where_each_import_stands() {
        let tree = Tree::from([
            ("a/Cargo.toml", "[package]\nname = 'a'"),
            ("a/src/lib.rs", "mod x;\nmod y;"),
            ("a/src/x.rs", "//!\nuse crate::y::Y;"),
            ("a/src/y.rs", "struct Y;\n\nuse crate::x::X;"),
        ]);
        let breach = check(&tree).unwrap().remove(0);
        assert_eq!((breach.file.as_str(), breach.line), ("a/src/x.rs", 2));
        assert!(
            breach.advice.ends_with("x -> y (a/src/x.rs:2 crate::y::Y), y -> x (a/src/y.rs:3 crate::x::X)"),
            "{}",
            breach.advice
        );
    }
}
