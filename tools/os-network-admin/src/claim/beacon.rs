//! The daemon that answers scans: it listens for the hellos of nodes at their first boot and claims those that the operator has listed.
//! It claims nothing unlisted, and says what it saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    choose::{Chooser, Found, Unlisted},
    claimer::{Claimer, Context, read_hello},
    exchange::Claimed,
    pairing::{Pairing, Terms},
};
use crate::base::{
    error::{Error, Exit},
    input::Print,
    link::{BUFFER, Net},
};

/// How long one node is tried.
const TRY: Duration = Duration::from_secs(15);
/// How long a node that could not be claimed is left alone: its hello may have been another's.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a claimed node's earlier hellos may still come in.
const LATE: Duration = Duration::from_secs(30);
/// Unlisted nodes that are reported once each; then all over again.
const REPORTED: usize = 4096;

/// The nodes that may be claimed.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    pub nodes: BTreeSet<Print>,
    /// Those among them that may be although they were revoked.
    pub readmitted: BTreeSet<Print>,
}

/// What the beacon has to tell.
pub enum Event<'a> {
    /// A node that is not on the list; reported once.
    Unlisted(&'a Found),
    /// One that is on the list and was revoked; reported once.
    Revoked(&'a Found),
    Claimed(&'a Claimed),
    Failed(&'a Found, &'a Error),
}

/// Runs until an error of the network or the registry; with `once` until a node is claimed.
pub async fn watch<N: Net, P: Pairing>(
    context: &Context<'_, N, P>,
    terms: &Terms,
    listed: &Listed,
    once: bool,
    mut tell: impl FnMut(Event<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    // Bounded by the list.
    let mut not_before: BTreeMap<Print, Instant> = BTreeMap::new();
    let mut reported: BTreeSet<Print> = BTreeSet::new();
    let mut buffer = [0; BUFFER];
    loop {
        context.progress.say("listening for nodes");
        let (length, _) = context.net.receive(&mut buffer).await?;
        let Some(hello) = read_hello(context.anchor, &buffer[..length]) else { continue };
        let found = Found::new(&hello);
        let print = found.print();
        let is_listed = listed.nodes.contains(&print);
        if !is_listed || !listed.readmitted.contains(&print) && context.registry.is_revoked(&found.fiduciary)? {
            if reported.len() >= REPORTED {
                reported.clear();
            }
            if reported.insert(print) {
                tell(if is_listed { Event::Revoked(&found) } else { Event::Unlisted(&found) })?;
            }
            continue;
        }
        if not_before.get(&print).is_some_and(|time| Instant::now() < *time) {
            continue;
        }
        let chooser = Chooser::listed(BTreeSet::from([print]), Unlisted::Ignore);
        let mut chooser = chooser.readmitting(listed.readmitted.clone());
        let mut claimer = Claimer::new(context, terms, &mut chooser);
        claimer.heard(hello)?;
        match claimer.claim(TRY).await {
            Ok(claimed) => {
                not_before.insert(print, Instant::now() + LATE);
                tell(Event::Claimed(&claimed))?;
                if once {
                    return Ok(());
                }
            }
            Err(error) => {
                not_before.insert(print, Instant::now() + PAUSE);
                tell(Event::Failed(&found, &error))?;
                let fatal = matches!(error.exit, Exit::Registry | Exit::Network | Exit::Other | Exit::Input);
                if fatal || once && error.exit == Exit::Unconfirmed {
                    return Err(error);
                }
            }
        }
    }
}
