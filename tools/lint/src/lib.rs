//! The rules that the source tree itself is held to. `make check` runs them; each rule has a module, which says what
//! it counts and what it does not see.
#![forbid(unsafe_code)]

mod circles;
mod docs;
mod drawing;
mod exceptions;
mod manifests;
mod paths;
mod shelves;
mod size;
mod tree;

use std::fmt;

use anyhow::Result;

pub use tree::Tree;

/// A place in the tree that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Path of the file from the root of the tree.
    pub file: String,
    /// Line in that file, from 1.
    pub line: usize,
    /// Name of the rule, as exceptions name it.
    pub rule: &'static str,
    /// What breaks the rule, as exceptions name it. It has no line number, so that it outlasts edits elsewhere.
    pub what: String,
    /// Why that is a breach, and what to do.
    pub advice: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] \"{}\": {}", self.file, self.line, self.rule, self.what, self.advice)
    }
}

/// Every breach in `tree` that no exception excuses, in the order of files and lines.
///
/// # Errors
/// If a manifest, a Rust file or the list of exceptions cannot be read at all.
pub fn check(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    breaches.extend(shelves::check(tree)?);
    breaches.extend(size::check(tree));
    breaches.extend(circles::check(tree)?);
    breaches.extend(docs::check(tree));
    breaches.extend(paths::check(tree));
    breaches.extend(drawing::check(tree)?);
    let mut breaches = exceptions::excuse(tree, breaches)?;
    breaches.sort();
    Ok(breaches)
}
