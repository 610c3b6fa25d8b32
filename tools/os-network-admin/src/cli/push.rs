//! Telling nodes what they should have, and saying how it went with each.

use std::time::Duration;

use super::{
    common::{Common, Wait, print, registry_path, unlock},
    interrupt::{Interrupt, Interruptible},
};
use crate::{
    base::error::{Error, Exit},
    fleet::{
        View,
        account::{Account, settle},
        show,
    },
    mesh::control::DaemonLane,
    output::{Document, Failure, Report},
    registry::{Registry, Signer},
};

/// Who tells nodes: the key, and the way to them.
pub struct Teller {
    authority: Signer,
    mesh: Interruptible<DaemonLane>,
}

impl Teller {
    /// From here on an interruption is told with what is stored.
    async fn new(common: &Common, authority: Signer) -> Result<Self, Error> {
        let lane = DaemonLane::connect(&registry_path(common)?).await?;
        Ok(Self { authority, mesh: Interruptible { lane, interrupt: Interrupt::watch()? } })
    }
}

/// Before a change is stored: refuses one that takes a node's configuration from it, and gets hold of what it takes to tell
/// the nodes that it concerns, if there are any.
pub async fn prepare(
    common: &Common,
    view: &View<'_>,
    change: impl FnOnce(&Registry) -> Result<(), Error>,
) -> Result<Option<Teller>, Error> {
    let before = view.unworkable()?;
    let is_told = view.registry.trial(|registry| {
        change(registry)?;
        let after = view.again()?;
        after.check(&before)?;
        Ok(after.behind()?.iter().any(|behind| behind.owed.is_ok()))
    })?;
    if is_told { Teller::new(common, unlock(common, view.registry)?).await.map(Some) } else { Ok(None) }
}

/// Tells every node that lacks something, by the one that was prepared.
pub async fn tell(teller: Option<Teller>, view: &View<'_>, wait: &Wait) -> Result<Account, Error> {
    let behind = view.behind()?;
    let Some(Teller { authority, mut mesh }) = teller else {
        return Ok(Account::unreached(
            view.registry,
            behind,
            &Error::new(Exit::NotShown, "nobody was to be told when this began"),
        ));
    };
    if let Err(error) = mesh.lane.reload().await {
        return Ok(Account::unreached(view.registry, behind, &error));
    }
    Ok(settle(&mut mesh, view, &authority, behind, Duration::from_secs(wait.wait)).await)
}

/// The same, of what is stored already.
pub async fn push(common: &Common, view: &View<'_>, wait: &Wait) -> Result<Account, Error> {
    let behind = view.behind()?;
    if !behind.iter().any(|behind| behind.owed.is_ok()) {
        return tell(None, view, wait).await;
    }
    match Teller::new(common, unlock(common, view.registry)?).await {
        Ok(teller) => tell(Some(teller), view, wait).await,
        Err(error) => Ok(Account::unreached(view.registry, behind, &error)),
    }
}

/// Prints what was done and how it went with each node; an error that says the worst.
pub fn report<T: Document>(common: &Common, change: T, account: &Account) -> Result<(), Error> {
    let error = account.error();
    let nodes = account.entries.iter().map(show::told).collect();
    print(common, &Report { change, nodes, error: error.as_ref().map(Failure::from) })?;
    error.map_or(Ok(()), |error| Err(Error { told: true, ..error }))
}
