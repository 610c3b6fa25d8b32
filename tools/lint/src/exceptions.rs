//! `exceptions.toml`: breaches that are allowed for a time, each with a reason.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{Breach, Tree, tree::line_at};

const FILE: &str = "tools/lint/exceptions.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<toml::Spanned<Exception>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    rule: String,
    what: String,
    reason: String,
}

/// `breaches` less those that an exception names, and a breach for each exception without a reason or a breach.
pub(crate) fn excuse(tree: &Tree, mut breaches: Vec<Breach>) -> Result<Vec<Breach>> {
    let Some(text) = tree.text(FILE) else { return Ok(breaches) };
    let exceptions: Exceptions = toml::from_str(text).context(FILE)?;
    for spanned in exceptions.exception {
        let line = line_at(text, spanned.span().start);
        let Exception { rule, what, reason } = spanned.into_inner();
        let before = breaches.len();
        breaches.retain(|breach| breach.rule != rule || breach.what != what);
        let idle = breaches.len() == before;
        if idle || reason.trim().is_empty() {
            let advice = if idle { "excuses nothing any more: remove it" } else { "has no reason: give one" };
            breaches.push(Breach { file: FILE.into(), line, rule: "exceptions", what, advice: advice.into() });
        }
    }
    Ok(breaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(exceptions: &str) -> Vec<(&'static str, String, usize)> {
        let tree = Tree::from([(FILE, exceptions)]);
        let breach = Breach { file: "a.rs".into(), line: 7, rule: "size", what: "a.rs".into(), advice: String::new() };
        excuse(&tree, vec![breach]).unwrap().into_iter().map(|breach| (breach.rule, breach.what, breach.line)).collect()
    }

    #[test]
    fn an_exception_excuses_what_it_names() {
        assert_eq!(left(""), [("size", "a.rs".into(), 7)]);
        assert_eq!(left("[[exception]]\nrule = 'size'\nwhat = 'a.rs'\nreason = 'soon'"), []);
    }

    #[test]
    fn an_exception_that_excuses_nothing_is_a_breach() {
        let idle = "\n[[exception]]\nrule = 'size'\nwhat = 'b.rs'\nreason = 'soon'";
        assert_eq!(left(idle), [("size", "a.rs".into(), 7), ("exceptions", "b.rs".into(), 2)]);
    }

    #[test]
    fn an_exception_needs_a_reason() {
        let mute = "[[exception]]\nrule = 'size'\nwhat = 'a.rs'\nreason = ' '";
        assert_eq!(left(mute), [("exceptions", "a.rs".into(), 1)]);
    }
}
