//! The configuration of a member that is no node, for `wg-quick`.

use std::{fmt::Write as _, net::Ipv6Addr};

use zeroize::Zeroizing;

use super::view::{View, endpoint};
use crate::{
    base::{
        error::Error,
        mesh_key::{MeshKey, encode},
    },
    registry::{Member, between},
};

/// `secret` is its private key if it was made here; `interface` is that of the peer's host on the nodes' link.
pub fn configuration(
    view: &View<'_>,
    member: &Member,
    secret: Option<&MeshKey>,
    interface: Option<&str>,
) -> Result<Zeroizing<String>, Error> {
    let mut nodes = view.live()?;
    nodes.retain(|node| view.lets_peers(&node.member));
    // So long that it never grows, which would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(1024 + 1024 * nodes.len()));
    let (v4, v6) = view.fleet.addresses(member.host);
    let _ = writeln!(text, "# {}, a peer of the fleet {}", member.who, view.fleet.name);
    let _ = writeln!(text, "[Interface]");
    let _ = match secret {
        Some(secret) => writeln!(text, "PrivateKey = {}", secret.text().as_str()),
        None => writeln!(text, "# PrivateKey = that of the public key {}", encode(&member.key).as_str()),
    };
    let _ = writeln!(text, "Address = {v4}/32, {v6}/128");
    if nodes.is_empty() {
        let _ = writeln!(text, "# No node's rules let role peer in or out: see `os-network-admin policy`");
    }
    for placed in &nodes {
        let node = &placed.member;
        let (v4, v6) = view.fleet.addresses(node.host);
        let preshared = between((member.id, &member.preshared), (node.id, &node.preshared));
        let _ = writeln!(text, "\n# {}", node.who);
        let _ = writeln!(text, "[Peer]\nPublicKey = {}", encode(&node.key).as_str());
        let _ = writeln!(text, "PresharedKey = {}", encode(&preshared.0).as_str());
        let _ = writeln!(text, "AllowedIPs = {v4}/32, {v6}/128");
        if let Some((endpoint, link)) = endpoint(placed) {
            let ip = Ipv6Addr::from(endpoint.ip);
            let _ = match (link, interface) {
                (None, _) => writeln!(text, "Endpoint = [{ip}]:{}", endpoint.port),
                (Some(_), Some(interface)) => writeln!(text, "Endpoint = [{ip}%{interface}]:{}", endpoint.port),
                (Some(_), None) => writeln!(text, "# On the nodes' link, with the name of the interface there:")
                    .and_then(|()| writeln!(text, "# Endpoint = [{ip}%IF]:{}", endpoint.port)),
            };
        }
        let _ = writeln!(text, "PersistentKeepalive = 25");
    }
    Ok(text)
}
