//! The configuration of a member that is no node, for `wg-quick`.

use std::{
    fmt::{self, Write as _},
    net::Ipv6Addr,
};

use zeroize::Zeroizing;

use super::view::{View, endpoint, socket};
use crate::{
    base::{
        error::Error,
        mesh_key::{MeshKey, encode},
        path,
    },
    registry::{Member, NodeMember, between},
};

/// `secret` is its private key if it was made here; `interface` is that of the peer's host on the nodes' link.
pub fn configuration(
    view: &View<'_>,
    member: &Member,
    secret: Option<&MeshKey>,
    interface: Option<&str>,
) -> Result<Zeroizing<String>, Error> {
    let mut nodes = view.live()?;
    nodes.retain(|node| view.lets_peers(&node.member) && !node.is_double);
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
    // A way on which nothing fits is told of by the mesh.
    let mtu = path::inner_mtu_to(nodes.iter().filter_map(socket)).unwrap_or_else(|least| least);
    let _ = writeln!(text, "MTU = {mtu}");
    let there = |node: &&NodeMember| endpoint(node).is_some_and(|(_, link)| link.is_some());
    let on_link: Vec<&NodeMember> = nodes.iter().filter(there).collect();
    if !on_link.is_empty() {
        let _ = write_neighbours(&mut text, &on_link, interface);
    }
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

/// A node answers no solicitation of a host that it does not know, and of a peer it learns by the handshake only where it is. So
/// the peer's host is told where the node is.
fn write_neighbours(text: &mut String, nodes: &[&NodeMember], interface: Option<&str>) -> fmt::Result {
    let (comment, interface) = match interface {
        Some(interface) => ("", interface),
        None => ("# ", "IF"),
    };
    writeln!(
        text,
        "# Nodes on the link of {interface}: they answer no neighbour solicitation of a host that they do not know."
    )?;
    for node in nodes {
        let (Some(mac), Some((endpoint, _))) = (node.member.mac, endpoint(node)) else {
            writeln!(text, "# The MAC of {} is not known: claim it anew, or name it here.", node.member.who)?;
            continue;
        };
        let (ip, [a, b, c, d, e, f]) = (Ipv6Addr::from(endpoint.ip), mac);
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        writeln!(
            text,
            "{comment}PostUp = ip -6 neighbour replace {ip} lladdr {mac} dev {interface} nud permanent\n\
             {comment}PostDown = ip -6 neighbour delete {ip} dev {interface} || true"
        )?;
    }
    Ok(())
}
