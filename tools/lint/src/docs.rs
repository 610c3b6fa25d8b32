//! The documents: what their links, paths and names name is there, and their prose is wrapped.
//!
//! A *link* is relative to its document, and its `#anchor` is a heading of the document that it leads to, worded as
//! GitHub does. A *path* is inline code as `paths.rs` tells it from other code. A *name*, of a test mostly, is inline code
//! of four words or more that underscores join: some file that is no document has it. Code blocks are not looked into. A
//! *wrapped* line has at most 120 characters, unless it is in a table, a heading or code, or has no space to break it
//! at, as a link alone.

use std::collections::{BTreeMap, BTreeSet};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{
    Breach, Tree, paths,
    tree::{directory, join, line_at},
};

const COLUMNS: usize = 120;

pub(crate) fn check(tree: &Tree) -> Vec<Breach> {
    let names = tree.texts("").filter(|(file, _)| !file.ends_with(".md")).flat_map(|(_, text)| names(text)).collect();
    tree.texts(".md").flat_map(|(file, text)| Document { tree, names: &names, file, text }.check()).collect()
}

/// The names in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| {
        let parts = word.split('_');
        parts.clone().count() >= 4
            && parts.into_iter().all(|part| !part.is_empty() && !part.contains(|c: char| c.is_ascii_uppercase()))
    })
}

struct Document<'a> {
    tree: &'a Tree,
    names: &'a BTreeSet<&'a str>,
    file: &'a str,
    text: &'a str,
}

impl Document<'_> {
    fn check(&self) -> Vec<Breach> {
        let mut breaches = Vec::new();
        // Lines that may be long: tables, headings, code.
        let mut unwrapped = Vec::new();
        for (event, range) in events(self.text).into_offset_iter() {
            let fault = match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => self.link(&dest_url),
                Event::Code(code) => {
                    breaches.extend(paths::judge(self.tree, self.file, line_at(self.text, range.start), &code));
                    self.name(&code)
                }
                Event::Start(Tag::Table(_) | Tag::Heading { .. } | Tag::CodeBlock(_)) => {
                    unwrapped.push(line_at(self.text, range.start)..=line_at(self.text, range.end.saturating_sub(1)));
                    None
                }
                _ => None,
            };
            breaches.extend(fault.map(|(rule, what, advice)| self.breach(range.start, rule, what, advice)));
        }
        let mut offset = 0;
        for (index, line) in self.text.split_inclusive('\n').enumerate() {
            let width = line.trim_end().chars().count();
            let line_number = index + 1;
            if width > COLUMNS && breakable(line) && !unwrapped.iter().any(|lines| lines.contains(&line_number)) {
                let what = line.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
                let advice = format!("has {width} columns: wrap prose at {COLUMNS}");
                breaches.push(self.breach(offset, "wrap", what, advice));
            }
            offset += line.len();
        }
        breaches
    }

    fn breach(&self, offset: usize, rule: &'static str, what: String, advice: String) -> Breach {
        Breach { file: self.file.to_owned(), line: line_at(self.text, offset), rule, what, advice }
    }

    fn name(&self, code: &str) -> Option<(&'static str, String, String)> {
        (names(code).next() == Some(code) && !self.names.contains(code))
            .then(|| ("names", code.to_owned(), "no file of the tree has this name: correct it".to_owned()))
    }

    fn link(&self, link: &str) -> Option<(&'static str, String, String)> {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let fault = |advice: String| Some(("links", link.to_owned(), advice));
        let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
        let target = if path.is_empty() { Some(self.file.to_owned()) } else { join(directory(self.file), path) };
        let Some(target) = target.filter(|target| self.tree.is_file(target) || self.tree.is_directory(target)) else {
            return fault("leads to no file or directory of the tree: correct the link".to_owned());
        };
        let anchor = anchor?;
        let anchors = self.tree.text(&target).filter(|_| target.ends_with(".md")).map(anchors).unwrap_or_default();
        if anchors.iter().any(|known| known == anchor) {
            return None;
        }
        fault(format!("{target} has no heading for this anchor; it has: {}", anchors.join(", ")))
    }
}

fn events(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH)
}

/// Whether there is a space after the line's first word and before its 120th column's word.
fn breakable(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    // A list's or a quotation's mark is no word to break after.
    let marks = words.iter().take_while(|word| ["-", "*", ">"].contains(word)).count();
    words.len() > marks + 1
}

/// The anchors of a document's headings, as GitHub words them.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut heading: Option<String> = None;
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = slug(&heading.take().unwrap_or_default());
                let again = seen.entry(anchor.clone()).or_default();
                anchors.push(if *again == 0 { anchor } else { format!("{anchor}-{again}") });
                *again += 1;
            }
            _ => {}
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ if character.is_alphanumeric() => Some(character),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The breaches of a document in `docs/`, as `line rule what`.
    fn breaches(text: &str) -> Vec<String> {
        let tree = Tree::from([
            ("docs/here.md", text),
            ("docs/mesh.md", "# The mesh\n\n## Who may, and `why`?\n\n## Again\n\n## Again\n"),
            ("README.md", "# Genesis\n"),
            ("crates/domains/mesh/src/lib.rs", "fn a_test_of_the_mesh() {}"),
            ("pds/mesh/src/main.rs", ""),
        ]);
        let breaches = check(&tree);
        assert!(breaches.iter().all(|breach| breach.file == "docs/here.md"));
        breaches.iter().map(|breach| format!("{} {} {}", breach.line, breach.rule, breach.what)).collect()
    }

    fn good(text: &str) {
        assert_eq!(breaches(text), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn links_lead_to_files_directories_and_headings() {
        good("[a](mesh.md) [b](../README.md) [c](../crates/domains) [d](../pds/) ![e](mesh.md)");
        good("[a](mesh.md#the-mesh) [b](mesh.md#who-may-and-why) [c](mesh.md#again-1) [d](#here)\n\n# Here\n");
        good("[a](https://example.org/none) <https://example.org> [b](mailto:nobody@example.org)");
        good("```\n[a](none.md)\n```\n");
        assert_eq!(breaches("a\n[a](none.md)"), ["2 links none.md"]);
        assert_eq!(breaches("[a](../../outside.md)"), ["1 links ../../outside.md"]);
        assert_eq!(breaches("[a](mesh.md#nowhere)"), ["1 links mesh.md#nowhere"]);
        assert_eq!(breaches("[a](mesh.md#again-2)"), ["1 links mesh.md#again-2"]);
        assert_eq!(breaches("[a](../pds/mesh/src/main.rs#L1)"), ["1 links ../pds/mesh/src/main.rs#L1"]);
        assert_eq!(breaches("[a][x]\n\n[x]: none.md\n"), ["1 links none.md"]);
        assert_eq!(breaches("\n| a |\n|---|\n| [a](none.md) |\n"), ["4 links none.md"]);
    }

    #[test]
    fn inline_code_that_is_a_path_leads_somewhere() {
        good("`crates/domains/mesh` `README.md` `a/b`\n\n    pds/none.rs\n");
        assert_eq!(breaches("a\n`crates/none` b"), ["2 paths crates/none"]);
    }

    #[test]
    fn a_name_of_a_test_is_one() {
        good("`a_test_of_the_mesh` `of_three_words` `--a_b_c_d` `Not_of_this_kind`");
        assert_eq!(breaches("a\n`a_test_of_the_claim`"), ["2 names a_test_of_the_claim"]);
        assert_eq!(breaches("`a_test_of_the`"), ["1 names a_test_of_the"]);
    }

    #[test]
    fn prose_is_wrapped() {
        let long = "word ".repeat(25);
        good(&"word ".repeat(24));
        good(&format!("ä{}", "word ".repeat(24)));
        good(&format!("# {long}\n\n```\n{long}\n```\n\n| a |\n|---|\n| {long} |\n"));
        good(&format!("<https://example.org/{}>\n- [a](https://example.org/{0})\n", "x".repeat(120)));
        assert_eq!(breaches(&format!("a\n{long}")), ["2 wrap word word word word word word"]);
        assert_eq!(breaches(&format!("- a\n  {long}")), ["2 wrap word word word word word word"]);
    }
}
