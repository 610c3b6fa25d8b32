//! `release` and `transfer`.

use std::{collections::BTreeSet, path::Path, time::Duration};

use wire::{Hex, anchor::Anchor, order::Release};

use super::{
    common::{Common, InFleet, Wait, confirm, open, print, registry_path, unlock, view},
    interrupt::{Interrupt, Interruptible},
    order::{self, Proposing},
};
use crate::{
    base::{error::Error, input, paper::Papers},
    fleet::{View, decree::Wish, parting},
    mesh::control::DaemonLane,
    output::{Failure, Left},
    registry::Member,
};

/// Who owns the nodes next.
pub enum To<'a> {
    /// Whoever has the ticket that each makes and shows.
    Ticket,
    /// Those whom the anchor of this file names; they may be those of before if that is said.
    Anchor(&'a Path, bool),
}

pub async fn run(
    common: &Common,
    nodes: &[String],
    to: &To<'_>,
    proposing: &Proposing,
    fleet: &InFleet,
    wait: &Wait,
    yes: bool,
) -> Result<(), Error> {
    let (anchor, same_owner) = match to {
        To::Ticket => (None, false),
        To::Anchor(file, same_owner) => (Some(input::anchor(file)?), *same_owner),
    };
    proposing.check()?;
    let release = parting::release(anchor.as_ref(), same_owner);
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let members = named(&view, nodes)?;
    parting::check(&view, &members, &release)?;
    if let Some(out) = &proposing.out {
        let wish = Wish::Release(Box::new(release));
        let wishes: Vec<_> = members.into_iter().map(|member| (member, wish.clone())).collect();
        let orders = proposing.write(&view, out, &wishes)?;
        return order::show(common, Some(out), &Papers { orders, ..Papers::default() }, Some(&registry));
    }
    parting::alone(&view, &members)?;
    confirm(
        yes,
        &consequences(&view, &members, anchor.as_ref()),
        if anchor.is_some() { "transfer" } else { "release" },
    )?;
    let authority = unlock(common, &registry)?;
    let lane = DaemonLane::connect(&registry_path(common)?).await?;
    let mut mesh = Interruptible { lane, interrupt: Interrupt::watch()? };
    let account = parting::run(&mut mesh, &view, &authority, members, &release, Duration::from_secs(wait.wait)).await;
    // Those who have left are nobody's peers here.
    let _ = mesh.lane.reload().await;
    report(common, &release, &account)
}

/// The members of these names, each once.
pub fn named(view: &View<'_>, nodes: &[String]) -> Result<Vec<Member>, Error> {
    let (mut members, mut seen) = (Vec::new(), BTreeSet::new());
    for text in nodes {
        let member = view.find(text)?;
        if seen.insert(member.id) {
            members.push(member);
        }
    }
    Ok(members)
}

pub fn report(common: &Common, release: &Release, account: &crate::fleet::account::Account) -> Result<(), Error> {
    let error = account.error();
    let left = Left::new(release, account.entries.iter().map(crate::fleet::show::told).collect());
    print(common, &Left { error: error.as_ref().map(Failure::from), ..left })?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}

fn consequences(view: &View<'_>, members: &[Member], anchor: Option<&Anchor>) -> String {
    let many = members.len();
    let mut lines = vec![format!("This lets {many} nodes of the fleet {} go, for good:", view.fleet.name)];
    lines.extend(members.iter().map(|member| format!("  {} at {}", member.who, view.fleet.addresses(member.host).0)));
    lines.push(match anchor {
        Some(anchor) => {
            let signers = anchor.signers.iter().take(anchor.count.into()).map(|key| Hex(key).to_string());
            format!(
                "Who may own them next: {} of {}; found by {}",
                anchor.needed,
                signers.collect::<Vec<_>>().join(", "),
                Hex(&anchor.reception.sign)
            )
        }
        None => "Who may own them next: whoever has the ticket that each makes and shows on its console".into(),
    });
    lines.push("They leave the mesh, forget their configuration, and cannot be taken back from here.".into());
    lines.join("\n")
}
