//! `revoke`.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{
    common::{Common, InFleet, Wait, confirm, open, registry_path, unlock, view},
    interrupt::{Interrupt, Interruptible},
    push::report,
};
use crate::{
    base::error::{Error, Exit},
    fleet::{
        Behind, View,
        account::{Account, settle},
        delivery::Outcome,
    },
    mesh::{
        control::DaemonLane,
        run_files::{Condition, Paths},
    },
    output::{Revoked, millis, time},
    registry::Member,
};

pub async fn run(common: &Common, text: &str, fleet: &InFleet, wait: &Wait, yes: bool) -> Result<(), Error> {
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let member = view.find(text)?;
    let revoke = || registry.revoke(member.id);
    let lacking = registry.trial(|_| {
        revoke()?;
        view.behind()
    })?;
    if member.revoked_ms.is_none() {
        confirm(yes, &consequences(&view, &member, &lacking)?, "revoke it")?;
    }
    // Typed before the clock runs; needed only if somebody is to be told.
    let is_told = lacking.iter().any(|behind| behind.owed.is_ok());
    let authority = if is_told { Some(unlock(common, &registry)?) } else { None };
    let interrupt = Interrupt::watch()?;
    let start = Instant::now();
    revoke()?;
    // The registry first: whatever fails now, it is no member any more.
    let path = registry_path(common)?;
    let mesh = cut(&path).await;
    let own = mesh.as_ref().map(|_| start.elapsed()).ok();
    let behind = view.behind()?;
    let account = match (mesh, authority) {
        (Ok(lane), Some(authority)) => {
            let mut mesh = Interruptible { lane, interrupt };
            settle(&mut mesh, &view, &authority, behind, Duration::from_secs(wait.wait)).await
        }
        (Ok(_), None) => Account::unreached(
            view.registry,
            behind,
            &Error::new(Exit::NotShown, "nobody was to be told when this began"),
        ),
        (Err(error), _) => {
            let mut account = Account::unreached(view.registry, behind, &error);
            // Without an interface there is nothing here that could take anything from it.
            if !matches!(Paths::beside(&path).condition(), Ok(Condition::Down)) {
                account.own =
                    Some(Error::new(error.exit, format!("this host may still take it for a member: {error}")));
            }
            account
        }
    };
    // Of the nodes' times each is from when they began to be told.
    let slowest = account.entries.iter().try_fold(Duration::ZERO, |most, entry| match &entry.outcome {
        Outcome::Done { after, .. } => Some(most.max(*after)),
        _ => None,
    });
    let revoked = Revoked {
        revoked: member.who.to_string(),
        own_ms: own.map(millis),
        last_ms: own.zip(slowest).map(|(own, slowest)| millis(own + slowest)),
        own_error: account.own.as_ref().map(|error| error.message.clone()),
        exported: names(&view.exported_to(&member)?),
    };
    report(common, revoked, &account)
}

/// What will follow, for the one who is asked.
fn consequences(view: &View<'_>, member: &Member, lacking: &[Behind]) -> Result<String, Error> {
    let (v4, v6) = view.fleet.addresses(member.host);
    let kind = if member.fiduciary().is_some() { "the node" } else { "the peer" };
    let mut lines =
        vec![format!("This revokes {kind} {} at {v4}, {v6}, of the fleet {}:", member.who, view.fleet.name)];
    if member.fiduciary().is_some() {
        let heard = member.telemetry.as_ref().map_or("never".into(), |(_, ms)| time(*ms));
        lines
            .push(format!("  it was last heard: {heard}; it is not told, its workload goes on, and nobody governs it"));
    }
    let told: Vec<&str> = lacking.iter().map(|behind| behind.who.as_str()).collect();
    lines.push(match told.as_slice() {
        [] => "  this host takes nothing from it any more; no other node knows it".into(),
        _ => format!("  this host takes nothing from it any more; told to do the same: {}", told.join(", ")),
    });
    let exported = names(&view.exported_to(member)?);
    if !exported.is_empty() {
        lines.push(format!("  to be changed by hand: the configurations of {}", exported.join(", ")));
    }
    lines.push(match member.fiduciary() {
        Some(_) => "It stays revoked until it is claimed anew with --readmit.".into(),
        None => "This cannot be undone: exported anew it has another key and another address.".into(),
    });
    Ok(lines.join("\n"))
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.who.to_string()).collect()
}

/// The own interface refuses from here on.
async fn cut(registry: &Path) -> Result<DaemonLane, Error> {
    let mut mesh = DaemonLane::connect(registry).await?;
    mesh.reload().await?;
    Ok(mesh)
}
