//! Another set, a founder who leaves, and what is then left to him.

use std::collections::BTreeMap;

use super::*;

/// Who is new, and has a place in the mesh; and who leaves with the hand-over.
pub const NEW: &str = "dan";
const LEAVES: &str = "eve";
/// What the founder kept of before he resigned: a backup, in a directory of its own.
pub const FORMER: &str = "former";
const BACKUP: &str = "ada/backup";
const CARD: &str = "shared/dan.card";
/// What the tool exits with if no node has shown that it did what it was told; if a node answered and was not claimed.
const NOT_SHOWN: i32 = 10;
const NOT_CLAIMED: i32 = 6;
/// If it was refused by the node; if the tool has heard from it that it has another set, and did not tell it at all.
const REFUSED: i32 = 11;
const NOT_TOLD: i32 = 12;
/// Orders that were not delivered in time: of an update, of a release.
const LATE: [&str; 2] = ["shared/late-update", "shared/late-release"];
/// How long a node is given to do what it must not do.
const SILENCE: &str = "2";

pub fn handover(stage: &mut Stage) -> Result<Vec<String>> {
    let mut says = vec![key(stage, NEW)?];
    let endpoint = format!("[{{address {NEW}}}]:51820");
    stage.run(Act::tool(NEW, &["authority", "key", "--endpoint", &endpoint, "--out", CARD]))?;
    let leaves = format!("{{authority {LEAVES}}}");
    let words = ["authority", "propose", "--fleet", FLEET, "--add", CARD, "--remove", &leaves, "--needed", NEEDED];
    let propose = by_founder(&words).more(["--out", "shared/set-1"].map(str::to_owned));
    stage.run(propose)?;
    // The founder's own signature is not needed.
    says.push(push(stage, 1, &["bob", LEAVES, NEW], usize::from(stage.nodes))?);
    let first = format!("{{fingerprint {}}}", stage.names().next().unwrap_or_default());
    stage.run(by_founder(&["command", &first, "status", "--fleet", FLEET]))?;
    says.push(format!("{LEAVES} has left, and {NEW} is in; {FOUNDER} commands the nodes as before"));
    Ok(says)
}

/// Has these approve a set, and all nodes walk to it.
fn push(stage: &mut Stage, number: u32, who: &[&str], of: usize) -> Result<String> {
    let set = format!("shared/set-{number}");
    let mut files = vec![set.clone()];
    for who in who {
        let out = format!("{set}-of-{who}");
        stage.run(Act::tool(who, &["authority", "approve", &set, "--yes", "--out", &out]))?;
        files.push(out);
    }
    stage.run(by_founder(&["authority", "push", "--fleet", FLEET]).more(files))?;
    let status = said(&stage.run(by_founder(&["--json", "authority", "status", "--fleet", FLEET]).again())?)?;
    let (set, has) = (&status["set"], &status["has"]);
    ensure!(*set == number && *has == of, "set {set}: {has} of {of} nodes");
    Ok(format!("set {set}: {has} of {of} nodes, each by its receipt"))
}

pub fn resignation(stage: &mut Stage) -> Result<Vec<String>> {
    // Signed by enough of the set before, and kept back.
    let rules = ["policy", "set", "in authority tcp 80", "--fleet", FLEET, "--out", LATE[0]];
    stage.run(by_founder(&rules))?;
    let nodes: Vec<String> = staying(stage).map(|node| print(&node)).collect();
    let release = by_founder(&["release", "--yes", "--fleet", FLEET, "--out", LATE[1]]).more(nodes);
    stage.run(release)?;
    for order in LATE {
        orders::sign(stage, order, &[FOUNDER, "bob"])?;
    }
    stage.run(by_founder(&["backup", BACKUP]).makes(BACKUP))?;
    let words = ["authority", "resign", "--fleet", FLEET, "--needed", NEEDED, "--out", "shared/set-2"];
    stage.run(by_founder(&words))?;
    let says = push(stage, 2, &["bob", NEW], usize::from(stage.nodes) - orders::GONE)?;
    mesh_down(stage, by_founder)?;
    Ok(vec![says, format!("{FOUNDER} has resigned; bob and {NEW} own the nodes")])
}

/// The nodes that bob and the new one own in the end.
fn staying(stage: &Stage) -> impl Iterator<Item = String> + use<> {
    stage.names().take(usize::from(stage.nodes) - orders::GONE)
}

fn print(node: &str) -> String {
    format!("{{fingerprint {node}}}")
}

pub fn by_former(words: &[&str]) -> Act {
    Act::kept(FORMER, FOUNDER, words)
}

/// With the registry and the keys of before the resignation, as somebody has them who kept a backup. Each thing that he tries
/// is tried on each node, and after it each node is looked at.
pub fn refusals(stage: &mut Stage) -> Result<Vec<String>> {
    stage.file(&format!("{FORMER}/note"), Some("What the founder kept from before the resignation.\n"))?;
    stage.run(by_former(&["restore", BACKUP]))?;
    let had = said_last(&stage.run(by_former(&["--json", "telemetry", "--once", "--fleet", FLEET]))?)?;
    let nodes: Vec<String> = staying(stage).collect();
    if status(stage, by_former)?["up"] != true {
        mesh_up(stage, by_former)?;
    }
    // His key still finds the nodes of the image; it does not own them, and they do not say so: that takes its time.
    let (of, spares) = (nodes.len(), stage.spares());
    let claim = |node: &String| {
        let act = by_former(&["claim", "--fingerprint", &print(node), "--wait", "3"]).on(&format!("former-{node}"));
        act.wants(&[NOT_CLAIMED])
    };
    let commands = ["status", "isolate"].iter().flat_map(|what| nodes.iter().map(move |node| (node, what)));
    let commands = commands.map(|(node, what)| {
        by_former(&["command", &print(node), what, "--fleet", FLEET, "--wait", SILENCE]).wants(&[NOT_SHOWN])
    });
    stage.run_all(spares.iter().map(claim).chain(commands).collect())?;
    for node in &spares {
        let record = stage.record(node)?;
        let console = std::fs::read_to_string(&record.console)?;
        let is_free = record.phase == "hold" && !console.contains("genesis: committed");
        ensure!(is_free, "{node} is {}:\n{console}", record.phase);
    }
    unmoved(stage, &nodes, &had)?;
    let mut says = vec![
        format!("{of} of {of} nodes obey neither status nor isolate"),
        format!("{} answered, and could not be claimed", spares.join(", ")),
    ];
    for (order, what) in LATE.into_iter().zip(["update", "release"]) {
        let files = [FOUNDER, "bob"].map(|who| orders::approval(order, who));
        let act = by_former(&["--json", "order", "deliver", order, "--wait", SILENCE]).more(files);
        let told = said(&stage.run(act.wants(&[NOT_SHOWN, REFUSED, NOT_TOLD]))?)?;
        let outcomes: Vec<&str> =
            told["nodes"].as_array().into_iter().flatten().map(|node| text(&node["outcome"])).collect();
        let is_none = |outcome: &&str| ["not_shown", "refused", "not_computable"].contains(outcome);
        ensure!(
            outcomes.len() == of && outcomes.iter().all(is_none),
            "the order of {what} did something: {outcomes:?}"
        );
        unmoved(stage, &nodes, &had)?;
        says.push(format!("{of} of {of} nodes do not do an order of {what} that two had signed before"));
    }
    // He was told of the record for four seconds, and may have had a session for that; another he does not get.
    mesh_up(stage, by_former)?;
    let calls = nodes.iter().map(|node| {
        let words = ["command", &print(node), "status", "--fleet", FLEET, "--wait", SILENCE];
        by_former(&words).wants(&[NOT_SHOWN]).again()
    });
    stage.run_all(calls.collect())?;
    let peers = status(stage, by_former)?["peers"].as_array().cloned().unwrap_or_default();
    let answered = peers.iter().filter(|peer| !peer["handshake_s"].is_null()).count();
    ensure!(peers.len() == of && answered == 0, "{answered} of {} nodes have a session with him", peers.len());
    says.push(format!("{of} of {of} nodes answer no handshake of his"));
    mesh_down(stage, by_former)?;
    Ok(says)
}

/// The last record of telemetry of each node, by its fingerprint.
fn said_last(said: &Said) -> Result<BTreeMap<String, Value>> {
    let records = serde_json::Deserializer::from_slice(&said.stdout).into_iter::<Value>();
    let records = records.map(|record| record.map(|record| (text(&record["node"]).to_owned(), record)));
    records.collect::<Result<_, _>>().context("it has not said JSON")
}

/// That each node is claimed and has the configuration that it had, and was neither isolated nor let go.
fn unmoved(stage: &Stage, nodes: &[String], had: &BTreeMap<String, Value>) -> Result<()> {
    for node in nodes {
        let record = stage.record(node)?;
        let console = std::fs::read_to_string(&record.console)?;
        let before =
            record.fingerprint.as_ref().and_then(|print| had.get(print)).map(|had| text(&had["configuration"]));
        let before = before.with_context(|| format!("{node} has told nobody which configuration it has"))?;
        ensure!(record.phase == "claimed", "{node} is {}", record.phase);
        if let Some(line) = obeyed(&console, before) {
            bail!("{node} has obeyed a former founder: it says {line}");
        }
    }
    Ok(())
}

/// What a console says that it would not if the node had obeyed nobody. Telemetry has the beginning of a configuration's hash.
fn obeyed<'c>(console: &'c str, before: &str) -> Option<&'c str> {
    const CONFIGURATION: &str = "configuration ";
    let said = || console.lines().filter_map(|line| line.trim_end().strip_prefix("genesis: "));
    let last = said().rfind(|line| line.starts_with(CONFIGURATION));
    let Some(last) = last else { return Some("no configuration") };
    let is_other = !last[CONFIGURATION.len()..].starts_with(before);
    is_other.then_some(last).or_else(|| said().find(|line| ["isolated", "released"].contains(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_of_a_node_that_has_obeyed() {
        let with = |more: &str| format!("genesis: configuration aa00 epoch 1 peers 2\r\ngenesis: joined\r\n{more}\r\n");
        assert_eq!(obeyed(&with("genesis: update refused: a signature"), "aa"), None);
        assert_eq!(obeyed(&with("isolated"), "aa"), None);
        let other = "configuration bb00 epoch 1 peers 2";
        for line in [other, "isolated", "released"] {
            assert_eq!(obeyed(&with(&format!("genesis: {line}")), "aa"), Some(line));
        }
        assert_eq!(obeyed(&with(""), "bb"), Some("configuration aa00 epoch 1 peers 2"));
        assert_eq!(obeyed("genesis: phase claimed\r\n", "aa"), Some("no configuration"));
    }
}
