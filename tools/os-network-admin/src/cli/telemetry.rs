//! `telemetry`.

use std::{io, time::Duration};

use tokio::time::{Instant, timeout};

use super::common::{Common, InFleet, open, print, registry_path, view};
use crate::{
    base::{
        error::Error,
        host::{Host, System},
        terminal,
    },
    fleet::{View, delivery::News, show},
    mesh::control::DaemonLane,
    output,
};

/// How often the table is drawn at most.
const DRAWN: Duration = Duration::from_secs(1);

pub async fn run(common: &Common, once: bool, fleet: &InFleet) -> Result<(), Error> {
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    if once && !common.json {
        return output::line(table(&view)?.text());
    }
    if once {
        let nodes = view.nodes()?;
        return nodes
            .iter()
            .filter_map(|node| show::last(&view, &node.member))
            .try_for_each(|last| print(common, &last));
    }
    let mut mesh = DaemonLane::connect(&registry_path(common)?).await?;
    let is_table = !common.json && terminal::can_redraw(&io::stdout());
    let mut drawn: Option<Instant> = None;
    while say::is_read() {
        if is_table && drawn.is_none_or(|drawn| drawn.elapsed() >= DRAWN) {
            let (rows, columns) = terminal::size(&io::stdout());
            output::screen(table(&view)?.text_within(rows, columns))?;
            drawn = Some(Instant::now());
        }
        let heard = tokio::select! {
            heard = timeout(DRAWN, mesh.heard()) => heard,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let heard = heard.ok().transpose()?;
        if let (false, Some((id, News::Record(record), ms))) = (is_table, heard)
            && let Some(member) = registry.member(id)?
        {
            print(common, &show::record(&view, &member, &record, Some(ms)))?;
        }
    }
    // Whoever read has seen enough.
    Ok(())
}

fn table(view: &View<'_>) -> Result<output::Table, Error> {
    show::table(view, System.now_ms())
}
