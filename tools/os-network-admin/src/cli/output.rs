//! Keys, nodes and claims as they are printed.

use std::net::Ipv6Addr;

use crypto::AnchorPublic;
use serde_json::{Value, json};
use wire::{Fingerprint, Hex};

use crate::{
    base::{key, output::time},
    claim::{Claimed, Found},
    registry::{Inner, Node, State},
};

pub fn key_json(path: &std::path::Path, anchor: &AnchorPublic) -> Value {
    json!({
        "path": path.display().to_string(),
        "fingerprint": key::fingerprint(anchor).to_string(),
        "public_key": key::public_text(anchor),
    })
}

pub fn key_text(what: &str, path: &std::path::Path, anchor: &AnchorPublic) -> String {
    format!(
        "{what:<12} {}\nfingerprint  {}\npublic key   {}",
        path.display(),
        key::fingerprint(anchor),
        key::public_text(anchor)
    )
}

/// A node that answered; `known` is its state in the registry.
pub fn found_json(found: &Found, known: Option<State>) -> Value {
    json!({
        "fingerprint": Fingerprint(found.print()).to_string(),
        "fiduciary": Hex(&found.fiduciary).to_string(),
        "address": found.address.to_string(),
        "committed": found.committed,
        "registry": known.map(State::word),
    })
}

pub fn found_text(found: &Found, known: Option<State>) -> String {
    let state = match (found.committed, known) {
        (true, Some(_)) => "committed, waits for our acknowledgement: claim it again",
        (true, None) => "committed to a binding that this registry does not know",
        (false, Some(State::Pending)) => "unclaimed; a claim was begun",
        (false, Some(State::Paired)) => "says it is unclaimed, but is paired in this registry",
        (false, None) => "unclaimed",
    };
    format!("{}  {}  {state}", Fingerprint(found.print()), found.address)
}

pub fn node_json(node: &Node, inner: Option<&Inner>) -> Value {
    let binding = &node.binding;
    let keys = binding.authorities.iter().take(binding.count.into());
    let authorities: Vec<Value> =
        keys.map(|key| json!({"sign": Hex(&key.sign).to_string(), "dh": Hex(&key.dh).to_string()})).collect();
    json!({
        "fingerprint": Fingerprint::of(&binding.fiduciary).to_string(),
        "state": node.state.word(),
        "role": (node.state == State::Paired).then_some("ADMIN"),
        "acknowledged": node.acknowledged,
        "fiduciary": Hex(&binding.fiduciary).to_string(),
        "mesh_key": Hex(&binding.mesh_key).to_string(),
        "fleet": {"name": node.fleet, "id": Hex(&binding.fleet).to_string()},
        "epoch": binding.epoch.get(),
        "counter": binding.counter.get(),
        "needed": binding.needed,
        "authorities": authorities,
        "configuration": {
            "length": node.configuration().len(),
            "hash": Hex(&binding.configuration).to_string(),
        },
        "binding": Hex(&binding.hash()).to_string(),
        "fork": (binding.fork != [0; 32]).then(|| Hex(&binding.fork).to_string()),
        "anchor": node.anchor.word(),
        "accepted": node.accepted.word(),
        "address": Ipv6Addr::from(node.address).to_string(),
        "interface": node.interface,
        "mesh": inner.map(|inner| json!({
            "v4": inner.v4.to_string(),
            "v6": inner.v6.to_string(),
            "revoked_ms": inner.revoked_ms,
        })),
        "rivals": node.rivals,
        "pending_ms": node.pending_ms,
        "paired_ms": node.paired_ms,
        "acknowledged_ms": node.acknowledged_ms,
    })
}

/// One line of `nodes list`.
pub fn node_line(node: &Node, inner: Option<&Inner>) -> String {
    let print = Fingerprint::of(&node.binding.fiduciary);
    let waits = if node.state == State::Paired && !node.acknowledged { ", unconfirmed" } else { "" };
    let revoked = if inner.is_some_and(|inner| inner.revoked_ms.is_some()) { ", revoked" } else { "" };
    let at = inner.map_or("no mesh".into(), |inner| inner.v4.to_string());
    let since = time(node.paired_ms.unwrap_or(node.pending_ms));
    let (state, fleet, epoch) = (node.state.word(), &node.fleet, node.binding.epoch.get());
    format!("{print}  {state}{waits}{revoked}  {at}  fleet {fleet}, epoch {epoch}  {since}")
}

/// All of a node, a line each.
pub fn node_text(node: &Node, inner: Option<&Inner>) -> String {
    let binding = &node.binding;
    let mut lines = vec![
        ("fingerprint", Fingerprint::of(&binding.fiduciary).to_string()),
        ("state", if node.state == State::Paired { "paired, ADMIN".into() } else { node.state.word().into() }),
        ("accepted", node.accepted.word().into()),
        ("anchor", node.anchor.word().into()),
        ("identity F", Hex(&binding.fiduciary).to_string()),
        ("mesh key W", Hex(&binding.mesh_key).to_string()),
        ("fleet", format!("{} ({})", node.fleet, Hex(&binding.fleet))),
        ("epoch", binding.epoch.get().to_string()),
        ("authorities", format!("{} of {} must sign", binding.needed, binding.count)),
        ("configuration", format!("{} bytes", node.configuration().len())),
        ("inner v4", inner.map_or("none: not in the mesh".into(), |inner| inner.v4.to_string())),
        ("inner v6", inner.map_or("none: not in the mesh".into(), |inner| inner.v6.to_string())),
        ("address", format!("{}%{}", Ipv6Addr::from(node.address), node.interface)),
        ("pending", time(node.pending_ms)),
    ];
    lines.extend(inner.and_then(|inner| inner.revoked_ms).map(|ms| ("revoked", time(ms))));
    lines.extend(node.paired_ms.map(|ms| ("paired", time(ms))));
    lines.extend(node.acknowledged_ms.map(|ms| ("acknowledged", time(ms))));
    if node.state == State::Paired && !node.acknowledged {
        lines.push(("acknowledged", "not confirmed: claim it again".into()));
    }
    lines.extend(node.rivals.map(|rivals| ("rivals", rivals_text(rivals))));
    let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<14} {value}")).collect();
    lines.join("\n")
}

pub fn claimed_json(claimed: &Claimed, inner: Option<&Inner>) -> Value {
    json!({"resumed": claimed.resumed, "node": node_json(&claimed.node, inner)})
}

pub fn claimed_text(claimed: &Claimed, inner: Option<&Inner>) -> String {
    let how = if claimed.resumed { "claimed (an earlier claim, resumed)" } else { "claimed" };
    format!("{how}\n{}", node_text(&claimed.node, inner))
}

fn rivals_text(rivals: u32) -> String {
    match rivals {
        0 => "none".into(),
        1 => "1 valid open of another was turned away: who else holds this key?".into(),
        _ => format!("{rivals} valid opens of others were turned away: who else holds this key?"),
    }
}
