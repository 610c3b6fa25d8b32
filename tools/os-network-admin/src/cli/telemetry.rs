//! `telemetry`.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use tokio::time::timeout;

use super::common::{Common, InFleet, open, print, registry_path};
use crate::{
    base::{error::Error, output},
    fleet::{View, delivery::Lane, show},
    mesh::control::Mesh,
};

pub async fn run(common: &Common, once: bool, fleet: &InFleet) -> Result<(), Error> {
    let (registry, mut view) = open(common, &fleet.fleet)?;
    let lines = |view: &View| -> Result<(), Error> {
        for member in &view.members {
            if let Some((record, ms)) = &member.telemetry {
                print(
                    common,
                    || show::record_json(view, member, record, Some(*ms)),
                    || show::record_text(view, member, record),
                )?;
            }
        }
        Ok(())
    };
    if once {
        return if common.json { lines(&view) } else { output::line(show::table(&view)) };
    }
    let mut mesh = Mesh::connect(&registry_path(common)?).await?;
    let table = !common.json && io::stdout().is_terminal();
    loop {
        if table {
            // Home, and clear to the end.
            output::line(format!("\x1b[H\x1b[J{}", show::table(&view)))?;
        }
        let heard = tokio::select! {
            heard = timeout(Duration::from_secs(1), mesh.next()) => heard,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let heard = heard.ok().transpose()?;
        view = View::load(&registry, &view.fleet, view.authority)?;
        if let (false, Some((id, record))) = (table, heard)
            && let Some(member) = view.members.iter().find(|member| member.id == id)
        {
            let ms = member.telemetry.as_ref().map(|(_, ms)| *ms);
            print(
                common,
                || show::record_json(&view, member, &record, ms),
                || show::record_text(&view, member, &record),
            )?;
        }
    }
}
