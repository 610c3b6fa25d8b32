//! The steps of the ceremony, in their order. Each is written as if it had all the time in the world: what it has done before
//! it was cut is not done again.

mod handover;
mod orders;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    act::Act,
    stage::{FOUNDER, LAB, Said, Stage},
    step::Step,
};

/// Each with a directory of his own: his key, his registry, his seed. The first proposes, and his is the mesh.
pub const FOUNDERS: [&str; 3] = [FOUNDER, "bob", "eve"];
/// How many of them must sign.
const NEEDED: &str = "2";
/// Those who sign; the founder is not among them.
const SIGNERS: [&str; 2] = ["bob", "eve"];
const FLEET: &str = "rehearsal";
const RULE: &str = "in authority icmp";
const ANCHOR: &str = "shared/anchor.bin";
const GENESIS: &str = "shared/genesis";
const WARRANTS: &str = "shared/warrants";
/// A hang detector.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what happens in its own time.
const LOOK: Duration = Duration::from_millis(500);
/// What the tool exits with if a node is claimed and has not confirmed it: the mesh does.
const UNCONFIRMED: i32 = 9;

/// Does it, and says what has come of it: a line each.
pub fn take(step: Step, stage: &mut Stage) -> Result<Vec<String>> {
    match step {
        Step::Keys => keys(stage),
        Step::Anchor => anchor(stage),
        Step::Nodes => nodes(stage),
        Step::Founding => founding(stage),
        Step::Warrants => warrants(stage),
        Step::Claims => claims(stage),
        Step::Mesh => mesh(stage),
        Step::Activation => orders::activation(stage),
        Step::Release => orders::release(stage),
        Step::Transfer => orders::transfer(stage),
        Step::Handover => handover::handover(stage),
        Step::Resignation => handover::resignation(stage),
        Step::Refusals => handover::refusals(stage),
    }
}

/// What steps before this one have left running, and somebody has ended since.
pub fn restore(stage: &mut Stage, step: Step) -> Result<()> {
    let is_down = step > Step::Nodes && crate::switch_of(&stage.dir.join(LAB)).is_err();
    if is_down {
        switch_on(stage)?;
    }
    if step > Step::Mesh && step <= Step::Resignation {
        let is_up = !is_down && status(stage, by_founder)?["up"] == true;
        if !is_up {
            mesh_up(stage, by_founder)?;
        }
    }
    Ok(())
}

/// Ends what runs.
pub fn end(stage: &mut Stage) -> Result<()> {
    if stage.story().is_done(Step::Keys) {
        mesh_down(stage, by_founder)?;
    }
    if stage.dir.join(handover::FORMER).join("registry.sqlite").exists() {
        mesh_down(stage, handover::by_former)?;
    }
    settle(stage)?;
    stage.run(Act::lab(&["down", "--dir", LAB]).again()).map(drop)
}

fn keys(stage: &mut Stage) -> Result<Vec<String>> {
    let mut says = Vec::new();
    for who in FOUNDERS {
        says.push(key(stage, who)?);
        stage.run(Act::tool(who, &["anchor", "--out", &public(who)]))?;
    }
    Ok(says)
}

/// Makes somebody's key, and says whose it is.
fn key(stage: &mut Stage, who: &str) -> Result<String> {
    for secret in ["seed", "passphrase"] {
        stage.file(&format!("{who}/{secret}"), None)?;
    }
    let init = Act::tool(who, &["--json", "init", "--seed-file", &format!("{who}/seed")]);
    let made = said(&stage.run(init.makes(&format!("{who}/key")))?)?;
    Ok(format!("{who:<5} {}", text(&made["fingerprint"])))
}

/// What he hands out.
fn public(who: &str) -> String {
    format!("shared/{who}.anchor")
}

/// The authorities of the image and of the fleet, beside the founder.
fn authorities(who: &[&str]) -> Vec<String> {
    who.iter().flat_map(|who| ["--authority".to_owned(), public(who)]).collect()
}

fn anchor(stage: &mut Stage) -> Result<Vec<String>> {
    let act = Act::tool(FOUNDER, &["anchor", "--out", ANCHOR, "--needed", NEEDED]);
    stage.run(act.more(authorities(&FOUNDERS)))?;
    Ok(vec![format!("{FOUNDER}'s key finds the nodes; {NEEDED} of {} must sign for whoever owns one", FOUNDERS.len())])
}

fn nodes(stage: &mut Stage) -> Result<Vec<String>> {
    if !stage.has_done(&up(stage).command) || crate::switch_of(&stage.dir.join(LAB)).is_err() {
        switch_on(stage)?;
    }
    let records = stage.records()?;
    let ready = records.iter().filter(|record| record.fiduciary.is_some() && record.anchor.as_deref() == Some("image"));
    let (ready, of, spares) = (ready.count(), usize::from(stage.nodes) + stage.spares().len(), stage.spares());
    ensure!(ready == of, "{ready} of {of} nodes have shown who they are, and have the image's anchor");
    Ok(vec![format!("{ready} nodes hold, each with an identity of its own; for nobody: {}", spares.join(", "))])
}

fn up(stage: &Stage) -> Act {
    let count = (usize::from(stage.nodes) + stage.spares().len()).to_string();
    let act = Act::lab(&["up", "--dir", LAB, "--keep", "--nodes", &count, "--board", &stage.board]);
    act.more(["--anchor", ANCHOR, "--scan-ms", "0"].map(str::to_owned)).again()
}

/// Each node is the one that it was.
fn switch_on(stage: &mut Stage) -> Result<()> {
    settle(stage)?;
    stage.run(Act::lab(&["down", "--dir", LAB]).again())?;
    stage.run(up(stage)).map(drop)
}

/// A `lab up` that was cut ends by itself, or can be ended.
fn settle(stage: &Stage) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = crate::down(&stage.dir.join(LAB)) {
        if Instant::now() > deadline {
            return Err(error);
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn founding(stage: &mut Stage) -> Result<Vec<String>> {
    let list: String = stage.names().map(|node| format!("{{fiduciary {node}}} {node}\n")).collect();
    stage.file("shared/members", Some(&list))?;
    let (count, endpoint) = (stage.nodes.to_string(), format!("[{{address {FOUNDER}}}]:51820"));
    let words = ["--json", "fleet", "propose", FLEET, "--needed", NEEDED, "--endpoint", &endpoint, "--rule", RULE];
    let more = ["--members", "shared/members", "--activate", &count, "--out", "shared/proposal"].map(str::to_owned);
    stage.run(Act::tool(FOUNDER, &words).more(authorities(&FOUNDERS[1..])).more(more))?;
    let mut files = vec!["shared/proposal".to_owned()];
    for who in FOUNDERS {
        let out = format!("shared/acceptance-of-{who}");
        stage.run(Act::tool(who, &["fleet", "accept", "shared/proposal", "--yes", "--out", &out]))?;
        files.push(out);
    }
    stage.run(Act::tool(FOUNDER, &["fleet", "close", "--out", GENESIS]).more(files))?;
    let verified = said(&stage.run(Act::anybody(&["--json", "fleet", "verify", GENESIS]))?)?;
    let accepted = verified["authorities"].as_array().map_or(0, Vec::len);
    Ok(vec![
        format!("fleet {FLEET}, id {}", text(&verified["id"])),
        format!("accepted by {accepted} authorities, {NEEDED} of whom must sign; verified without a key or a registry"),
    ])
}

fn warrants(stage: &mut Stage) -> Result<Vec<String>> {
    let words = ["warrant", "propose", "--genesis", GENESIS, "--anchor", ANCHOR, "--out", WARRANTS];
    let each: Vec<String> =
        stage.names().flat_map(|node| ["--node".to_owned(), format!("{{fiduciary {node}}}")]).collect();
    stage.run(Act::tool(FOUNDER, &words).more(each))?;
    for who in SIGNERS {
        stage.run(Act::tool(who, &["warrant", "sign", WARRANTS, "--yes", "--out", &approval(who)]))?;
    }
    let check = Act::tool(FOUNDER, &["--json", "warrant", "check", WARRANTS]).more(SIGNERS.map(approval));
    let checked = said(&stage.run(check)?)?;
    let count = checked["warrants"].as_array().map_or(0, Vec::len);
    Ok(vec![format!("{count} warrants, each signed by {}", SIGNERS.join(" and "))])
}

fn approval(who: &str) -> String {
    format!("shared/warrants-of-{who}")
}

fn claims(stage: &mut Stage) -> Result<Vec<String>> {
    let files: Vec<String> = [WARRANTS.to_owned()].into_iter().chain(SIGNERS.map(approval)).collect();
    let files: Vec<String> = files.into_iter().flat_map(|file| ["--warrant".to_owned(), file]).collect();
    let started = Instant::now();
    for node in stage.names() {
        let print = format!("{{fingerprint {node}}}");
        let act = Act::tool(FOUNDER, &["claim", "--fingerprint", &print]).more(files.iter().cloned()).on(FOUNDER);
        stage.run(act.wants(&[0, UNCONFIRMED]))?;
    }
    let (paired, of) = (paired(stage, |node| node["state"] == "paired")?, usize::from(stage.nodes));
    ensure!(paired == of, "{paired} of {of} nodes are claimed");
    let each = started.elapsed().as_secs_f32() / f32::from(stage.nodes.max(1));
    Ok(vec![format!("{paired} of {of} nodes claimed, {each:.1} s each, with the signers away")])
}

/// How many nodes of the founder's registry are like that.
fn paired(stage: &mut Stage, is_like: impl Fn(&Value) -> bool) -> Result<usize> {
    let listed = said(&stage.run(Act::tool(FOUNDER, &["--json", "nodes", "list"]).again())?)?;
    Ok(listed["nodes"].as_array().map_or(0, |nodes| nodes.iter().filter(|node| is_like(node)).count()))
}

fn mesh(stage: &mut Stage) -> Result<Vec<String>> {
    if status(stage, by_founder)?["up"] != true {
        mesh_up(stage, by_founder)?;
    }
    let (of, deadline) = (usize::from(stage.nodes), Instant::now() + PATIENCE);
    loop {
        let status = status(stage, by_founder)?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let joined = peers.iter().filter(|peer| !peer["handshake_s"].is_null()).count();
        // What a node says there confirms a claim that was cut at its last word.
        if joined == of && paired(stage, |node| node["acknowledged"] == true)? == of {
            return Ok(vec![format!("{joined} of {of} nodes have a session with {FOUNDER}'s host")]);
        }
        if Instant::now() > deadline {
            bail!("{joined} of {of} nodes have joined the mesh");
        }
        thread::sleep(LOOK);
    }
}

/// Whose files a command uses.
type By = fn(&[&str]) -> Act;

fn by_founder(words: &[&str]) -> Act {
    Act::tool(FOUNDER, words)
}

fn status(stage: &mut Stage, by: By) -> Result<Value> {
    said(&stage.run(by(&["--json", "mesh", "status"]).again())?)
}

/// Brings up this end of the mesh, on the founder's host.
fn mesh_up(stage: &mut Stage, by: By) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    mesh_down(stage, by)?;
    // One that was coming up when the rehearsal was killed is up only now.
    while stage.mesh_place()?.is_none() {
        ensure!(Instant::now() < deadline, "the mesh of before does not end");
        thread::sleep(LOOK);
        mesh_down(stage, by)?;
    }
    stage.run(by(&["--json", "mesh", "up", "--fleet", FLEET, "--foreground"]).on(FOUNDER).again().stays()).map(drop)
}

fn mesh_down(stage: &mut Stage, by: By) -> Result<()> {
    stage.run(by(&["--json", "mesh", "down"]).again()).map(drop)
}

/// What a program said in JSON.
fn said(said: &Said) -> Result<Value> {
    serde_json::from_slice(&said.stdout).context("it has not said JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
