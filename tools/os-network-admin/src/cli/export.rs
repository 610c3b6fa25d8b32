//! `export`.

use serde_json::json;
use wire::Key;

use super::{
    common::{Common, InFleet, Wait, open},
    push::{bring_up_to_date, report},
};
use crate::{
    base::{
        error::{Error, Exit},
        host::System,
        mesh_key::MeshKey,
        output,
    },
    fleet::{View, delivery::Outcome, peer, show},
    registry::{NewMember, Who},
};

pub fn peer_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("a peer's name has 1 to 64 letters, digits, dashes, dots and underscores".into());
    }
    Ok(text.into())
}

pub async fn run(
    common: &Common,
    name: &str,
    public_key: Option<Key>,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    let (registry, view) = open(common, &fleet.fleet)?;
    let who = Who::Peer(name.into());
    let known = view.members.iter().find(|member| member.who == who && member.revoked_ms.is_none());
    let (key, secret) = match (public_key, known) {
        (Some(key), _) => (key, None),
        // It is in the registry; its private key is nowhere but where it was exported to.
        (None, Some(member)) => (member.key, None),
        (None, None) => {
            let made = MeshKey::generate(&System)?;
            (made.public(), Some(made))
        }
    };
    if view.members.iter().any(|member| member.key == key && member.who != who) || key == view.authority {
        return Err(Error::input("another member has this public key"));
    }
    let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&view.fleet, &new)?;
    let view = View::load(&registry, &view.fleet, view.authority)?;
    let text = peer::configuration(&view, &member, secret.as_ref(), common.interface.as_deref());
    // The key is nowhere else: it is printed before anything can fail.
    if !common.json {
        output::line(text.trim_end())?;
    }
    let told = bring_up_to_date(common, &registry, &view, wait).await;
    let (v4, v6) = view.fleet.addresses(member.host);
    let (told, error) = match told {
        Ok(told) => (told, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut document = json!({"name": name, "v4": v4.to_string(), "v6": v6.to_string(), "configuration": *text});
    if let Some(error) = error {
        if common.json {
            document["nodes"] = json!([]);
            document["error"] = json!({"code": error.exit as u8, "message": error.message});
            output::line(document)?;
        }
        return Err(Error { told: common.json, ..error });
    }
    if common.json {
        return report(common, document, Vec::new(), told);
    }
    // Standard output is the configuration and nothing else.
    for (who, outcome) in &told {
        eprintln!("{}", show::outcome_text(who, outcome));
    }
    match told.iter().find(|(_, outcome)| !matches!(outcome, Outcome::Done { .. })) {
        None => Ok(()),
        Some((who, _)) => Err(Error::new(
            Exit::NotShown,
            format!("{who} has not shown that it knows {name}: when it is there, run: os-network-admin policy push"),
        )),
    }
}
