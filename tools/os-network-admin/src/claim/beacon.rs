//! The daemon that answers scans: it listens for the hellos of nodes at their first boot and claims those that the operator has listed.
//! It claims nothing unlisted, and says what it saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    choose::{Chooser, Found, Unlisted},
    claimer::{Claimer, Context, is_refusal, read_hello},
    exchange::Claimed,
    pairing::{Pairing, Strangers, Terms},
};
use crate::base::{
    error::{Error, Exit},
    input::Print,
    link::{BUFFER, Net},
    progress::Progress,
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

/// Tells once, when the run ends in whatever way, what others did in it.
struct Run<'a, P: Pairing> {
    registry: &'a P,
    progress: &'a Progress,
    strangers: Strangers,
}

impl<P: Pairing> Drop for Run<'_, P> {
    fn drop(&mut self) {
        if self.strangers != Strangers::default()
            && let Err(error) = self.registry.strangers(&self.strangers)
        {
            self.progress.warn(&error.message);
        }
    }
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
    // Bounded by the list too: what goes wrong with a node in the same way again is only counted.
    let mut failed: BTreeSet<(Print, u8)> = BTreeSet::new();
    let mut run = Run { registry: context.registry, progress: context.progress, strangers: Strangers::default() };
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
                run.strangers.unlisted += u64::from(!is_listed);
                run.strangers.turned_away += u64::from(is_listed);
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
        let (claimed, strangers) = claimer.claim_of_many(TRY).await;
        run.strangers.add(&strangers);
        match claimed {
            Ok(claimed) => {
                not_before.insert(print, Instant::now() + LATE);
                tell(Event::Claimed(&claimed))?;
                if once {
                    return Ok(());
                }
            }
            Err(error) => {
                not_before.insert(print, Instant::now() + PAUSE);
                if is_refusal(&error) && failed.insert((print, error.exit as u8)) {
                    context.registry.refused(Some(&found.fiduciary), &error, &Strangers::default())?;
                } else {
                    run.strangers.failed += 1;
                }
                tell(Event::Failed(&found, &error))?;
                let fatal = matches!(error.exit, Exit::Registry | Exit::Network | Exit::Other | Exit::Input);
                if fatal || once && error.exit == Exit::Unconfirmed {
                    return Err(error);
                }
            }
        }
    }
}
