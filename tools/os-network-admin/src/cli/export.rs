//! `export`.

use wire::Key;

use super::{
    common::{Common, InFleet, Wait, open, view},
    push::{prepare, report, tell},
};
use crate::{
    base::{error::Error, host::System, mesh_key::MeshKey, say::say},
    fleet::{peer, show},
    output::{self, Exported},
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
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let who = Who::Peer(name.into());
    let known = registry.member_named(&view.fleet.id, name)?.filter(|member| member.revoked_ms.is_none());
    let (key, secret) = match (public_key, known) {
        (Some(key), _) => (key, None),
        // It is in the registry; its private key is nowhere but where it was exported to.
        (None, Some(member)) => (member.key, None),
        (None, None) => {
            let made = MeshKey::generate(&System)?;
            (made.public(), Some(made))
        }
    };
    let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
    let teller = prepare(common, &view, |registry| registry.enroll(&view.fleet, &new).map(|_| ())).await?;
    let member = registry.enroll(&view.fleet, &new)?;
    let text = peer::configuration(&view, &member, secret.as_ref(), common.interface.as_deref())?;
    // The key is nowhere else: it is printed before anything can fail.
    if !common.json {
        output::only_copy(text.trim_end())?;
    }
    let account = tell(teller, &view, wait).await?;
    if common.json {
        let (v4, v6) = view.fleet.addresses(member.host);
        let exported = Exported { name: name.into(), v4, v6, configuration: text.as_str().into() };
        return report(common, exported, &account);
    }
    // Standard output is the configuration and nothing else.
    for entry in &account.entries {
        say(show::told(entry).text());
    }
    account.error().map_or(Ok(()), Err)
}
