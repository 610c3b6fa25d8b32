//! What needs the signatures of several for a node that is claimed: each signs apart, and the founder delivers.

use super::*;

/// How many nodes leave the fleet: the last two.
pub const GONE: usize = 2;
/// Who owns them then.
const NEXT: &str = "fay";
const ANCHOR_OF_NEXT: &str = "shared/fay.anchor";

/// Has these sign an order.
pub fn sign(stage: &mut Stage, order: &str, who: &[&str]) -> Result<()> {
    for who in who {
        stage.run(Act::tool(who, &["order", "sign", order, "--yes", "--out", &approval(order, who)]))?;
    }
    Ok(())
}

pub fn approval(order: &str, who: &str) -> String {
    format!("{order}-of-{who}")
}

/// Has these sign an order, and the founder deliver it. How many nodes have done it.
fn give(stage: &mut Stage, order: &str, who: &[&str]) -> Result<u64> {
    sign(stage, order, who)?;
    let files = who.iter().map(|who| approval(order, who));
    let told = said(&stage.run(by_founder(&["--json", "order", "deliver", order]).more(files))?)?;
    told["delivered"].as_u64().context("it has not said to how many nodes it was delivered")
}

pub fn activation(stage: &mut Stage) -> Result<Vec<String>> {
    let order = "shared/activation";
    stage.run(by_founder(&["fleet", "activate", GENESIS, "--out", order]))?;
    let (done, of) = (give(stage, order, &SIGNERS)?, u64::from(stage.nodes));
    ensure!(done == of, "{done} of {of} nodes have the policy of the genesis");
    Ok(vec![format!("{done} of {of} nodes have the policy of the genesis, signed by {}", SIGNERS.join(" and "))])
}

pub fn release(stage: &mut Stage) -> Result<Vec<String>> {
    let mut says = vec![key(stage, NEXT)?];
    let (node, order) = (format!("node-{}", stage.nodes), "shared/release");
    let print = format!("{{fingerprint {node}}}");
    stage.run(by_founder(&["release", &print, "--yes", "--fleet", FLEET, "--out", order]))?;
    give(stage, order, &["bob", handover::NEW])?;
    let ticket = format!("{LAB}/{node}/ticket");
    claim(stage, &node, Act::tool(NEXT, &["claim", "--ticket-file", &ticket]))?;
    says.push(format!("{node} has gone, by its receipt; {NEXT} claims it with the ticket that it shows"));
    Ok(says)
}

pub fn transfer(stage: &mut Stage) -> Result<Vec<String>> {
    let (node, order) = (format!("node-{}", stage.nodes - 1), "shared/transfer");
    let print = format!("{{fingerprint {node}}}");
    stage.run(Act::tool(NEXT, &["anchor", "--out", ANCHOR_OF_NEXT]))?;
    let words = ["transfer", &print, "--to", ANCHOR_OF_NEXT, "--yes", "--fleet", FLEET, "--out", order];
    stage.run(by_founder(&words))?;
    give(stage, order, &["bob", handover::NEW])?;
    claim(stage, &node, Act::tool(NEXT, &["claim", "--fingerprint", &print]))?;
    Ok(vec![format!("{node} has gone to {NEXT}, by its receipt, and is claimed as any other node")])
}

/// Somebody claims a node that has gone, as soon as it waits for him.
fn claim(stage: &mut Stage, node: &str, act: Act) -> Result<()> {
    let (act, deadline) = (act.on(NEXT).wants(&[0, UNCONFIRMED]), Instant::now() + PATIENCE);
    // Where the claim has begun before, the node has waited.
    while !stage.has_begun(&act.command) && stage.record(node)?.phase != "hold" {
        ensure!(Instant::now() < deadline, "{node} does not wait for its next owner");
        thread::sleep(LOOK / 10);
    }
    stage.run(act).map(drop)
}
