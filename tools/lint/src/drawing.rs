//! The drawings of the architecture show the system that `system.xml` describes.
//!
//! A line between two domains is a `<g class="edge">` with `data-from`, `data-to` and `data-regions`: one region, or two,
//! one each way. It starts at the first region's writer; a pair `_req` and `_rep` is a mailbox and says so in its class.
//! A box is a `<g data-domain="…">`, and a line's ends are boxes of its drawing. In all drawings together each region that
//! one domain writes and another reads stands exactly once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use crate::{Breach, Tree, tree::line_at};

const SYSTEM: &str = "system.xml";
const DRAWINGS: &str = "docs/";

/// Who writes and who reads a region.
#[derive(Default)]
struct Ends<'a> {
    writer: Option<&'a str>,
    readers: Vec<&'a str>,
}

pub(crate) fn check(tree: &Tree) -> Result<Vec<Breach>> {
    let drawings: Vec<_> = tree.texts(".svg").filter(|(file, _)| file.starts_with(DRAWINGS)).collect();
    let Some(text) = tree.text(SYSTEM).filter(|_| !drawings.is_empty()) else { return Ok(Vec::new()) };
    let system = Document::parse(text).context(SYSTEM)?;
    let shared = shared(&system);
    let mut breaches = Vec::new();
    let mut drawn: BTreeMap<&str, usize> = BTreeMap::new();
    let documents = drawings.iter().map(|(file, text)| Document::parse(text).with_context(|| (*file).to_owned()));
    let documents = documents.collect::<Result<Vec<_>>>()?;
    for ((file, text), document) in drawings.iter().zip(&documents) {
        let boxes: Vec<&str> = document.descendants().filter_map(|node| node.attribute("data-domain")).collect();
        for edge in document.descendants().filter(|node| node.has_attribute("data-regions")) {
            let regions: Vec<&str> = edge.attribute("data-regions").unwrap_or_default().split(' ').collect();
            for region in &regions {
                *drawn.entry(region).or_default() += 1;
            }
            if let Some(advice) = fault(edge, &regions, &boxes, &shared) {
                let line = line_at(text, edge.range().start);
                let what = regions.join(" ");
                breaches.push(Breach { file: (*file).to_owned(), line, rule: "drawing", what, advice });
            }
        }
    }
    for (region, node) in &shared_nodes(&system) {
        let times = drawn.get(region).copied().unwrap_or_default();
        if shared.contains_key(region) && times != 1 {
            breaches.push(Breach {
                file: SYSTEM.to_owned(),
                line: line_at(text, node.range().start),
                rule: "drawing",
                what: (*region).to_owned(),
                advice: format!("is drawn {times} times in {DRAWINGS}*.svg: draw it once"),
            });
        }
    }
    Ok(breaches)
}

/// What is wrong with a line.
fn fault(edge: Node<'_, '_>, regions: &[&str], boxes: &[&str], shared: &BTreeMap<&str, Ends<'_>>) -> Option<String> {
    let (from, to) = (edge.attribute("data-from").unwrap_or_default(), edge.attribute("data-to").unwrap_or_default());
    for end in [from, to] {
        if !boxes.contains(&end) {
            return Some(format!("ends at \"{end}\", which has no box in this drawing"));
        }
    }
    if regions.len() > 2 {
        return Some("has more than two regions: draw a line for each pair".to_owned());
    }
    for (region, (writer, reader)) in regions.iter().zip([(from, to), (to, from)]) {
        match shared.get(region) {
            Some(ends) if ends.writer == Some(writer) && ends.readers == [reader] => {}
            Some(ends) => {
                let writer = ends.writer.unwrap_or_default();
                return Some(format!("{region} leads from {writer} to {}: turn the line", ends.readers.join(", ")));
            }
            None => return Some(format!("no two domains share a region {region}")),
        }
    }
    let is_mailbox = regions.len() == 2 && regions[0].ends_with("_req") && regions[1].ends_with("_rep");
    let says_mailbox = edge.attribute("class").unwrap_or_default().split(' ').any(|class| class == "mailbox");
    (is_mailbox != says_mailbox).then(|| "a mailbox is a _req and a _rep: correct the line's class".to_owned())
}

fn shared_nodes<'a>(system: &'a Document<'_>) -> Vec<(&'a str, Node<'a, 'a>)> {
    let regions = system.descendants().filter(|node| node.has_tag_name("memory_region"));
    regions.filter_map(|node| Some((node.attribute("name")?, node))).collect()
}

/// The regions that one domain writes and another reads.
fn shared<'a>(system: &'a Document<'_>) -> BTreeMap<&'a str, Ends<'a>> {
    let mut regions: BTreeMap<&str, Ends<'_>> = BTreeMap::new();
    for map in system.descendants().filter(|node| node.has_tag_name("map")) {
        let domain = map.parent().and_then(|domain| domain.attribute("name")).unwrap_or_default();
        let Some(region) = map.attribute("mr") else { continue };
        let ends = regions.entry(region).or_default();
        if map.attribute("perms").is_some_and(|perms| perms.contains('w')) {
            ends.writer = Some(domain);
        } else {
            ends.readers.push(domain);
        }
    }
    regions.retain(|_, ends| ends.writer.is_some() && !ends.readers.is_empty());
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM_TEXT: &str = r#"<system>
        <memory_region name="params"/>
        <memory_region name="own"/>
        <memory_region name="a_b"/>
        <memory_region name="b_a_req"/>
        <memory_region name="a_b_rep"/>
        <protection_domain name="a">
            <map mr="params" perms="r"/><map mr="own" perms="rw"/>
            <map mr="a_b" perms="rw"/><map mr="b_a_req" perms="r"/><map mr="a_b_rep" perms="rw"/>
            <protection_domain name="b">
                <map mr="params" perms="r"/>
                <map mr="a_b" perms="r"/><map mr="b_a_req" perms="rw"/><map mr="a_b_rep" perms="r"/>
            </protection_domain>
        </protection_domain>
    </system>"#;

    const CELL: &str = r#"<g class="edge cell" data-from="a" data-to="b" data-regions="a_b"/>"#;
    const MAILBOX: &str = r#"<g class="edge mailbox" data-from="b" data-to="a" data-regions="b_a_req a_b_rep"/>"#;

    fn breaches(edges: &[&str]) -> Vec<String> {
        let svg = format!(r#"<svg><g data-domain="a"/><g data-domain="b"/>{}</svg>"#, edges.concat());
        let tree = Tree::from([(SYSTEM, SYSTEM_TEXT), ("docs/a.svg", svg.as_str())]);
        check(&tree).unwrap().into_iter().map(|breach| format!("{} {}", breach.what, breach.advice)).collect()
    }

    #[test]
    fn a_drawing_of_everything_is_good() {
        assert_eq!(breaches(&[CELL, MAILBOX]), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_drawn_twice_is_told() {
        assert_eq!(breaches(&[MAILBOX]), ["a_b is drawn 0 times in docs/*.svg: draw it once"]);
        assert_eq!(breaches(&[CELL, CELL, MAILBOX]), ["a_b is drawn 2 times in docs/*.svg: draw it once"]);
    }

    #[test]
    fn a_line_is_what_the_system_says() {
        for (good, bad, advice) in [
            (r#"from="a" data-to="b""#, r#"from="b" data-to="a""#, "a_b leads from a to b: turn the line"),
            (r#"data-to="b""#, r#"data-to="c""#, r#"ends at "c", which has no box in this drawing"#),
            ("edge cell", "edge mailbox", "a mailbox is a _req and a _rep: correct the line's class"),
        ] {
            let found = breaches(&[&CELL.replace(good, bad), MAILBOX]);
            assert_eq!(found, [format!("a_b {advice}")], "{bad}");
        }
        let unknown = CELL.replace("a_b", "a_c");
        assert_eq!(breaches(&[CELL, MAILBOX, &unknown]), ["a_c no two domains share a region a_c"]);
        let private = CELL.replace("a_b", "own");
        assert_eq!(breaches(&[CELL, MAILBOX, &private]), ["own no two domains share a region own"]);
        let unsaid = MAILBOX.replace("edge mailbox", "edge ring");
        assert_eq!(
            breaches(&[CELL, &unsaid]),
            ["b_a_req a_b_rep a mailbox is a _req and a _rep: correct the line's class"]
        );
    }
}
