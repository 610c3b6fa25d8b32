//! Another set, a founder who leaves, and what is then left to him.

use super::*;

/// Who is new, and has a place in the mesh; and who leaves with the hand-over.
const NEW: &str = "dan";
const LEAVES: &str = "eve";
/// What the founder kept of before he resigned: a backup, in a directory of its own.
pub const FORMER: &str = "former";
const BACKUP: &str = "ada/backup";
const CARD: &str = "shared/dan.card";
/// What the tool exits with if no node has shown that it did what it was told; if a node answered and was not claimed.
const NOT_SHOWN: i32 = 10;
const NOT_CLAIMED: i32 = 6;
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
    says.push(push(stage, 1, &["bob", LEAVES, NEW])?);
    let first = format!("{{fingerprint {}}}", stage.names().next().unwrap_or_default());
    stage.run(by_founder(&["command", &first, "status", "--fleet", FLEET]))?;
    says.push(format!("{LEAVES} has left, and {NEW} is in; {FOUNDER} commands the nodes as before"));
    Ok(says)
}

/// Has these approve a set, and all nodes walk to it.
fn push(stage: &mut Stage, number: u32, who: &[&str]) -> Result<String> {
    let set = format!("shared/set-{number}");
    let mut files = vec![set.clone()];
    for who in who {
        let out = format!("{set}-of-{who}");
        stage.run(Act::tool(who, &["authority", "approve", &set, "--yes", "--out", &out]))?;
        files.push(out);
    }
    stage.run(by_founder(&["authority", "push", "--fleet", FLEET]).more(files))?;
    let status = said(&stage.run(by_founder(&["--json", "authority", "status", "--fleet", FLEET]).again())?)?;
    let (set, has, of) = (&status["set"], &status["has"], usize::from(stage.nodes));
    ensure!(*set == number && *has == of, "set {set}: {has} of {of} nodes");
    Ok(format!("set {set}: {has} of {of} nodes, each by its receipt"))
}

pub fn resignation(stage: &mut Stage) -> Result<Vec<String>> {
    stage.run(by_founder(&["backup", BACKUP]).makes(BACKUP))?;
    let words = ["authority", "resign", "--fleet", FLEET, "--needed", NEEDED, "--out", "shared/set-2"];
    stage.run(by_founder(&words))?;
    let says = push(stage, 2, &["bob", NEW])?;
    mesh_down(stage, by_founder)?;
    Ok(vec![says, format!("{FOUNDER} has resigned; bob and {NEW} own the nodes")])
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
    let (first, last) = (stage.names().next().unwrap_or_default(), stage.names().last().unwrap_or_default());
    for node in [first, last] {
        for what in ["status", "isolate"] {
            let print = format!("{{fingerprint {node}}}");
            let act = by_former(&["command", &print, what, "--fleet", FLEET, "--wait", SILENCE]);
            stage.run(act.wants(&[NOT_SHOWN]))?;
            says.push(format!("{node} does not obey {what}"));
        }
        let console = std::fs::read_to_string(&stage.record(&node)?.console)?;
        ensure!(!console.contains("genesis: isolated"), "{node} has obeyed a former founder");
    }
    // His key still finds the nodes of the image; it does not own them.
    let spare = format!("{{fingerprint {}}}", stage.spare());
    let act = by_former(&["claim", "--fingerprint", &spare, "--wait", "3"]).on("former");
    stage.run(act.wants(&[NOT_CLAIMED]))?;
    says.push(format!("{} was found, and could not be claimed", stage.spare()));
    mesh_down(stage, by_former)?;
    Ok(says)
}
