//! Another set, a founder who leaves, and what is then left to him.

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
    let (first, _) = ends(stage);
    let rules = ["policy", "set", "in authority tcp 80", "--fleet", FLEET, "--out", LATE[0]];
    stage.run(by_founder(&rules))?;
    let release = ["release", &first, "--yes", "--fleet", FLEET, "--out", LATE[1]];
    stage.run(by_founder(&release))?;
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

/// The first and the last node that stay, by their fingerprints.
fn ends(stage: &Stage) -> (String, String) {
    let last = usize::from(stage.nodes) - orders::GONE;
    let print = |number: usize| format!("{{fingerprint node-{number}}}");
    (print(1), print(last))
}

pub fn by_former(words: &[&str]) -> Act {
    Act::kept(FORMER, FOUNDER, words)
}

/// With the registry and the keys of before the resignation, as somebody has them who kept a backup.
pub fn refusals(stage: &mut Stage) -> Result<Vec<String>> {
    stage.file(&format!("{FORMER}/note"), Some("What the founder kept from before the resignation.\n"))?;
    stage.run(by_former(&["restore", BACKUP]))?;
    if status(stage, by_former)?["up"] != true {
        mesh_up(stage, by_former)?;
    }
    let mut says = Vec::new();
    let (first, last) = ends(stage);
    for node in [first, last] {
        for what in ["status", "isolate"] {
            let act = by_former(&["command", &node, what, "--fleet", FLEET, "--wait", SILENCE]);
            stage.run(act.wants(&[NOT_SHOWN]))?;
        }
    }
    says.push("the first node and the last obey neither status nor isolate".to_owned());
    for (order, what) in LATE.into_iter().zip(["update", "release"]) {
        let files = [FOUNDER, "bob"].map(|who| orders::approval(order, who));
        let act = by_former(&["order", "deliver", order, "--wait", SILENCE]).more(files);
        stage.run(act.wants(&[NOT_SHOWN, REFUSED, NOT_TOLD]))?;
        says.push(format!("an order of {what} that two had signed before does nothing any more"));
    }
    for node in stage.names().take(usize::from(stage.nodes) - orders::GONE) {
        let record = stage.record(&node)?;
        let console = std::fs::read_to_string(&record.console)?;
        let obeyed = ["genesis: isolated", "genesis: released"].into_iter().find(|line| console.contains(line));
        ensure!(obeyed.is_none() && record.phase == "claimed", "{node} has obeyed a former founder: {obeyed:?}");
    }
    // His key still finds the nodes of the image; it does not own them.
    let spare = format!("{{fingerprint {}}}", stage.spare());
    let act = by_former(&["claim", "--fingerprint", &spare, "--wait", "3"]).on("former");
    stage.run(act.wants(&[NOT_CLAIMED]))?;
    says.push(format!("{} was found, and could not be claimed", stage.spare()));
    mesh_down(stage, by_former)?;
    Ok(says)
}
