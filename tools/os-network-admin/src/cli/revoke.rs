//! `revoke`.

use std::path::Path;

use tokio::time::Instant;

use super::{
    common::{Common, InFleet, Wait, open, registry_path, unlock, view},
    push::{push, report},
};
use crate::{
    base::error::Error,
    mesh::control::DaemonLane,
    output::{Outcome, Revoked, Told, millis},
};

pub async fn run(common: &Common, text: &str, fleet: &InFleet, wait: &Wait) -> Result<(), Error> {
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let member = view.find(text)?;
    let who = member.who.to_string();
    let revoke = || registry.revoke(member.id);
    let is_told = registry.trial(|_| {
        revoke()?;
        Ok(!view.behind()?.is_empty())
    })?;
    // Typed before the clock runs; needed only if somebody is to be told.
    let authority = if is_told { Some(unlock(common)?) } else { None };
    let start = Instant::now();
    revoke()?;
    // The registry first: whatever fails now, it is no member any more.
    let path = registry_path(common)?;
    let (own, told) = match (cut(&path).await, &authority) {
        (Ok(mut mesh), Some(authority)) => {
            let own = start.elapsed();
            (Some(own), push(&mut mesh, &view, authority, wait).await?)
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
    let after = |told: &Told| match told.outcome {
        Outcome::Applied { after_ms } => Some(after_ms),
        Outcome::Refused { .. } | Outcome::NotShown => None,
    };
    // Of the nodes' times each is from when they began to be told.
    let slowest = told.iter().map(after).try_fold(0, |most: u64, one| Some(most.max(one?)));
    let own_ms = own.map(millis);
    let last_ms = own_ms.zip(slowest).map(|(own, slowest)| own.saturating_add(slowest));
    let exported = view.exported_to(&member)?.iter().map(|member| member.who.to_string()).collect();
    report(common, Revoked { revoked: who, own_ms, last_ms, exported }, told)
}

/// The own interface refuses from here on.
async fn cut(registry: &Path) -> Result<DaemonLane, Error> {
    let mut mesh = DaemonLane::connect(registry).await?;
    mesh.reload().await?;
    Ok(mesh)
}
