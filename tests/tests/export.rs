//! What is on the nodes' link besides them: the administrator's host, with `mesh up`, and a peer that was exported, which
//! `wg-quick` makes what its configuration says, with a WireGuard of somebody else.

use genesis_tests::{bed::Bed, fleet::Fleet, host::Host};

/// Its host is on the nodes' link, and no node knows of it until it has made a handshake.
#[test]
fn an_exported_peer_on_the_nodes_link_reaches_them_as_it_was_exported() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (_node, address) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in peer icmp'");
    // Standard output is the configuration and nothing else.
    let configuration = fleet.admin("export laptop 2>/dev/null");
    let mut laptop = Host::new(&bed, "laptop");
    laptop.ok("test -w /dev/net/tun || { echo no access to /dev/net/tun; false; }");
    laptop.ok(&format!("umask 077; cat >/run/laptop.conf <<'end'\n{configuration}\nend"));
    laptop.ok("WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go wg-quick up /run/laptop.conf");
    laptop.ok("ip link show laptop | grep -q 'mtu 1420 '");
    laptop.until(&format!("ping -n -c 1 -W 2 {address}"));
    laptop.ok(&format!("ping -n -c 1 -W 5 -s 1392 -M do {address}"));
    // Nothing is left of it.
    laptop.ok("wg-quick down /run/laptop.conf && ! ip -6 neighbour show nud permanent | grep fe80");
}

/// A node answers no solicitation of an address that it does not know, and the kernel forgets where nodes are with the link.
#[test]
fn a_host_that_is_plugged_in_again_with_another_address_is_found_at_once() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (_node, address) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&address);
    fleet.host.ok("ip link set lab0 down && ip address flush dev lab0 && ip link set lab0 up");
    fleet.host.ok("ip address add fe80::7:7/64 dev lab0 nodad");
    // The session of before would be given up after 90 s, later than a test waits.
    fleet.ping(&address);
}
