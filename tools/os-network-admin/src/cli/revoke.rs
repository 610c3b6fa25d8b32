//! `revoke`.

use std::{path::Path, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::{
    common::{Common, InFleet, Wait, millis, open, registry_path, unlock},
    push::{push, report},
};
use crate::{
    base::error::Error,
    fleet::{View, delivery::Outcome, show},
    mesh::control::Mesh,
};

pub async fn run(common: &Common, text: &str, fleet: &InFleet, wait: &Wait) -> Result<(), Error> {
    let (registry, view) = open(common, &fleet.fleet)?;
    let (id, who) = view.find(text).map(|member| (member.id, member.who.to_string()))?;
    // Typed before the clock runs; needed only if somebody is to be told.
    let authority = if view.without(id).behind().next().is_some() { Some(unlock(common)?) } else { None };
    let start = Instant::now();
    registry.revoke(id)?;
    let view = View::load(&registry, &view.fleet, view.authority)?;
    // The registry first: whatever fails now, it is no member any more.
    let path = registry_path(common)?;
    let (own, told) = match (cut(&path).await, &authority) {
        (Ok(mut mesh), Some(authority)) => {
            let own = start.elapsed();
            (Some(own), push(&mut mesh, &registry, &view, authority, wait).await?)
        }
        (Ok(_), None) => (Some(start.elapsed()), Vec::new()),
        (Err(_), None) => (None, Vec::new()),
        (Err(error), Some(_)) => {
            let message = format!(
                "{who} is revoked in the registry, but no node has been told: {error}; then run: os-network-admin policy push"
            );
            return Err(Error::new(error.exit, message));
        }
    };
    let after = |outcome: &Outcome| match outcome {
        Outcome::Done { after, .. } => Some(*after),
        Outcome::Refused(_) | Outcome::NoAnswer => None,
    };
    // Of the nodes' times each is from when they began to be told.
    let slowest =
        told.iter().map(|(_, outcome)| after(outcome)).try_fold(Duration::ZERO, |most, one| Some(most.max(one?)));
    let last = own.zip(slowest).map(|(own, slowest)| own + slowest);
    let mut lines = vec![format!("revoked      {who}")];
    lines.push(match own {
        Some(own) => format!("this host    refuses it after {}", show::seconds(own)),
        None => "this host    the mesh is not up, there is no interface to refuse it".into(),
    });
    if let Some(last) = last {
        lines.push(format!("last peer    refuses it after {}", show::seconds(last)));
    }
    let exported: Vec<String> = view.exported_to(id).map(|member| member.who.to_string()).collect();
    if !exported.is_empty() {
        lines
            .push(format!("remove it by hand from the configurations of {}, or export them anew", exported.join(", ")));
    }
    let document = json!({
        "revoked": who,
        "own_ms": own.map(millis),
        "last_ms": last.map(millis),
        "exported": exported,
    });
    report(common, document, lines, told)
}

/// The own interface refuses from here on.
async fn cut(registry: &Path) -> Result<Mesh, Error> {
    let mut mesh = Mesh::connect(registry).await?;
    mesh.reload().await?;
    Ok(mesh)
}
