//! Rules as the operator writes them, and what they mean for one flow.

use std::{path::Path, str};

use policy::{Because, Configuration, Flow, MAX_RULES, Protocol, RESERVED, Role, Rule, decide};

use wire::binding::configuration_hash;

use super::view::View;
use crate::{
    base::{error::Error, files},
    output::Explained,
    registry::{Member, Other, Rules},
};

/// The longest file of rules.
const LIMIT: usize = 64 << 10;

/// Rules of the command line, or those of the one file that it names. A rule has several words and a file's name, as far as
/// this goes, one.
pub fn read(arguments: &[String]) -> Result<Rules, Error> {
    match arguments {
        [file] if !file.contains(char::is_whitespace) => {
            let bytes = files::read(Path::new(file), "file of rules", LIMIT)?;
            let text = files::text(&bytes).map_err(|why| Error::input(format!("{file} {why}")))?;
            let text = str::from_utf8(text).map_err(|_| Error::input(format!("{file} is no text")))?;
            parse(text.lines()).map_err(|(line, why)| Error::input(format!("{file}, line {line}: {why}")))
        }
        rules => parse(rules.iter().map(String::as_str))
            .map_err(|(number, why)| Error::input(format!("rule {number} is none: {why}"))),
    }
}

/// What follows a `#` is ignored.
fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Rules, (usize, String)> {
    let mut rules = Rules::new();
    for (number, line) in lines.enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let rule: Rule = line.parse().map_err(|why: policy::RuleError| (number + 1, why.to_string()))?;
        // Twice the same says nothing more.
        if !rules.contains(&rule) {
            rules.push(rule).map_err(|_| (number + 1, format!("a node has at most {MAX_RULES} rules")))?;
        }
    }
    Ok(rules)
}

/// Whether a node has a flow, and why.
pub fn explain(view: &View<'_>, member: &Member, flow: &Flow) -> Result<Explained, Error> {
    view.paired(member)?;
    let rules = view.rules(member);
    let isolated = member.telemetry.as_ref().is_some_and(|(record, _)| record.isolated != 0);
    let whose = if member.rules.is_some() { "its own rules" } else { "the fleet's rules" };
    let decided = decide(rules, isolated, flow);
    let reason = match decided {
        Some(Because::Rule(at)) => {
            let is_other_end = |other: &Other| other.is_node() == (flow.role == Role::Node);
            let alone = !view.others(member)?.iter().any(is_other_end);
            let nobody = match flow.role {
                Role::Authority => "",
                _ if !alone => "",
                Role::Node => "; but there is no other node whose rules name the other end of it",
                Role::Peer => "; but there is no such peer yet: see `os-network-admin export`",
            };
            format!("rule {} of {whose} names it: {flow}{nobody}", at + 1)
        }
        Some(because) => format!("{because}: always there, no rule needed"),
        None if flow.protocol == Protocol::Udp && RESERVED.contains(&flow.port) => {
            "this port is the node's own: commands come in from the authority, telemetry goes out to it, nothing else"
                .into()
        }
        None if decide(rules, false, flow).is_some() => {
            "the node is isolated: it has flows with the authority only; `command NODE rejoin` ends that".into()
        }
        None => format!("none of {whose} ({} in all) names it, and what is not named is denied", rules.len()),
    };
    let rule = match decided {
        Some(Because::Rule(at)) => Some(at + 1),
        _ => None,
    };
    let applied = member.wanted.is_some_and(|wanted| member.has_shown(&wanted));
    let in_force = if applied { Some(decided.is_some()) } else { in_force(member, isolated, flow) };
    let because = match (applied, decided.is_some(), in_force) {
        (true, ..) => reason,
        (false, by_policy, in_force) => {
            let by_policy = if by_policy { "yes" } else { "no" };
            let now = match in_force {
                Some(true) => "which lets this pass",
                Some(false) => "which does not let this pass",
                None => "which is not known here",
            };
            let how = match view.configuration(member) {
                Ok(_) => "run `os-network-admin policy push`".into(),
                Err(why) => format!("it can be told nothing: {why}"),
            };
            format!(
                "the node has not shown that it has the policy, by which it is {by_policy} ({reason}); it has another, {now}; {how}"
            )
        }
    };
    Ok(Explained { allowed: applied && decided.is_some(), applied, in_force, because, rule, isolated })
}

/// What the configuration says that the node has, if it is known here.
fn in_force(member: &Member, isolated: bool, flow: &Flow) -> Option<bool> {
    let shown = member.shown.filter(|shown| member.has_shown(shown))?;
    let bytes = member.configuration.as_deref().filter(|bytes| configuration_hash(bytes) == shown)?;
    let has = Configuration::parse(bytes).ok()?;
    Some(decide(&has.rules, isolated, flow).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_from_words_or_from_a_file_and_a_bad_one_is_named() {
        let two = ["in authority icmp".to_owned(), "IN authority  tcp 80".to_owned()];
        let rules = read(&two).unwrap();
        assert_eq!(rules.iter().map(Rule::to_string).collect::<Vec<_>>(), ["in authority icmp", "in authority tcp 80"]);
        assert_eq!(read(&[]).unwrap().len(), 0);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules");
        let name = file.to_str().unwrap().to_owned();
        std::fs::write(&file, "# web\nin authority tcp 80 # page\n\nin authority icmp\nin authority icmp\n").unwrap();
        assert_eq!(read(std::slice::from_ref(&name)).unwrap().len(), 2);
        std::fs::write(&file, "\u{feff}in authority tcp 80\r\n").unwrap();
        assert_eq!(read(std::slice::from_ref(&name)).unwrap().len(), 1);
        std::fs::write(&file, b"\xff\xfei\0n\0").unwrap();
        assert!(read(std::slice::from_ref(&name)).unwrap_err().message.contains("UTF-16"));
        std::fs::write(&file, "in authority icmp\nin everybody icmp\n").unwrap();
        assert!(read(&[name]).unwrap_err().message.contains("line 2: the second word"));
        assert!(read(&["in authority udp 8090".into()]).unwrap_err().message.contains("rule 1 is none: udp 8090"));
        assert!(read(&["nowhere".into()]).unwrap_err().message.contains("cannot read the file of rules"));
        let many: Vec<String> = (1..=65).map(|port| format!("in peer tcp {port}")).collect();
        assert!(read(&many).unwrap_err().message.contains("at most 64 rules"));
    }
}
