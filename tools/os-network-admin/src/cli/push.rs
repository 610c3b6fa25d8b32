//! Telling nodes what they should have, and saying how each took it.

use std::time::Duration;

use crypto::AnchorSecret;
use serde_json::{Value, json};
use wire::update;

use super::common::{Common, Wait, print, registry_path, unlock};
use crate::{
    base::error::{Error, Exit},
    fleet::{
        View,
        delivery::{self, Lane, Outcome},
        show,
    },
    mesh::control::Mesh,
    registry::{Member, Registry},
};

/// How it went with each node, by its fingerprint.
pub type Told = Vec<(String, Outcome)>;

/// Tells every node that lacks its configuration what it should have, if there is one.
pub async fn bring_up_to_date(common: &Common, registry: &Registry, view: &View, wait: &Wait) -> Result<Told, Error> {
    if view.behind().next().is_none() {
        return Ok(Vec::new());
    }
    let authority = unlock(common)?;
    let mut mesh = Mesh::connect(&registry_path(common)?).await?;
    mesh.reload().await?;
    push(&mut mesh, registry, view, &authority, wait).await
}

pub async fn push(
    lane: &mut impl Lane,
    registry: &Registry,
    view: &View,
    authority: &AnchorSecret,
    wait: &Wait,
) -> Result<Told, Error> {
    let mut tasks = Vec::new();
    for member in view.behind() {
        let configuration = view.configuration(member)?;
        tasks.push((member, delivery::update(registry, view, authority, member, &configuration)?));
    }
    let members: Vec<&Member> = tasks.iter().map(|(member, _)| *member).collect();
    let updates: Vec<Vec<u8>> = tasks.iter().map(|(_, task)| task.bytes().to_vec()).collect();
    let outcomes = delivery::run(lane, registry, view, authority, tasks, Duration::from_secs(wait.wait)).await?;
    for ((member, bytes), outcome) in members.iter().zip(&updates).zip(&outcomes) {
        if let (Outcome::Done { .. }, Some((head, configuration))) = (outcome, update::parse(bytes)) {
            registry.store_configuration(member.id, configuration, head.counter.get())?;
        }
    }
    Ok(members.iter().map(|member| member.who.to_string()).zip(outcomes).collect())
}

/// Prints what was done and how each node took it; an error if one did not.
pub fn report(common: &Common, mut document: Value, mut lines: Vec<String>, told: Told) -> Result<(), Error> {
    let refused = told.iter().any(|(_, outcome)| matches!(outcome, Outcome::Refused(_)));
    let silent = told.iter().filter(|(_, outcome)| *outcome == Outcome::NoAnswer).count();
    let error = match (refused, silent) {
        (true, _) => Some(Error::new(Exit::Refused, "a node refused its update: see above")),
        (false, 0) => None,
        (false, silent) => Some(Error::new(
            Exit::NotShown,
            format!(
                "{silent} of {} nodes did not show in time that they have it: when they are there, run: os-network-admin \
                 policy push",
                told.len()
            ),
        )),
    };
    document["nodes"] = told.iter().map(|(who, outcome)| show::outcome_json(who, outcome)).collect();
    lines.extend(told.iter().map(|(who, outcome)| show::outcome_text(who, outcome)));
    if lines.is_empty() {
        lines.push("every node has what it should have".into());
    }
    if let Some(error) = &error {
        document["error"] = json!({"code": error.exit as u8, "message": error.message});
    }
    print(common, || document, || lines.join("\n"))?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}
