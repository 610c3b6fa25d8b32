//! Telling nodes what they should have, and saying how each took it.

use std::time::Duration;

use crypto::AnchorSecret;
use wire::update;

use super::common::{Common, Wait, print, registry_path, unlock};
use crate::{
    base::error::{Error, Exit},
    fleet::{
        View,
        delivery::{self, Lane, Outcome},
        show,
    },
    mesh::control::DaemonLane,
    output::{self, Document, Failure, Report, Told},
};

/// Tells every node that lacks its configuration what it should have, if there is one.
pub async fn bring_up_to_date(common: &Common, view: &View<'_>, wait: &Wait) -> Result<Vec<Told>, Error> {
    if view.behind()?.is_empty() {
        return Ok(Vec::new());
    }
    let authority = unlock(common)?;
    let mut mesh = DaemonLane::connect(&registry_path(common)?).await?;
    mesh.reload().await?;
    push(&mut mesh, view, &authority, wait).await
}

pub async fn push(
    lane: &mut impl Lane,
    view: &View<'_>,
    authority: &AnchorSecret,
    wait: &Wait,
) -> Result<Vec<Told>, Error> {
    let registry = view.registry;
    let behind = view.behind()?;
    let mut tasks = Vec::new();
    for member in &behind {
        let configuration = view.configuration(member)?;
        tasks.push((member, delivery::update(registry, view, authority, member, &configuration)?));
    }
    let updates: Vec<Vec<u8>> = tasks.iter().map(|(_, task)| task.bytes().to_vec()).collect();
    let outcomes = delivery::run(lane, registry, view, authority, tasks, Duration::from_secs(wait.wait)).await?;
    for ((member, bytes), outcome) in behind.iter().zip(&updates).zip(&outcomes) {
        if let (Outcome::Done { record, .. }, Some((head, configuration))) = (outcome, update::parse(bytes)) {
            registry.store_configuration(member.id, configuration, head.counter.get())?;
            // The mesh's daemon writes it too, but not at once.
            registry.store_shown(member.id, record)?;
        }
    }
    Ok(behind.iter().zip(&outcomes).map(|(member, outcome)| show::told(member, outcome)).collect())
}

/// Prints what was done and how each node took it; an error if one did not.
pub fn report<T: Document>(common: &Common, change: T, nodes: Vec<Told>) -> Result<(), Error> {
    let refused = nodes.iter().any(|told| matches!(told.outcome, output::Outcome::Refused { .. }));
    let silent = nodes.iter().filter(|told| told.outcome == output::Outcome::NotShown).count();
    let error = match (refused, silent) {
        (true, _) => Some(Error::new(Exit::Refused, "a node refused its update: see above")),
        (false, 0) => None,
        (false, silent) => Some(Error::new(
            Exit::NotShown,
            format!(
                "{silent} of {} nodes did not show in time that they have it: when they are there, run: os-network-admin \
                 policy push",
                nodes.len()
            ),
        )),
    };
    print(common, &Report { change, nodes, error: error.as_ref().map(Failure::from) })?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}
