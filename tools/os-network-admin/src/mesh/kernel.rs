//! The kernel's WireGuard, set up by `wg` of wireguard-tools, and the policy beside it. What is secret goes to `wg` on standard
//! input.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, SocketAddrV6},
    process::{Command, Stdio},
    time::Duration,
};

use netdev::netlink::Netlink;
use policy::Prefix;
use wire::Key;
use zeroize::Zeroizing;

use super::{
    device,
    engine::{PeerSetup, Seen, Setup},
    firewall::{self, Firewall},
};
use crate::base::{
    host::{Host, System},
    mesh_key as key,
    path::FULL,
    say::say,
};

/// Makes the interface, which is down yet and has no peer, and puts the policy in force. The error says what is missing here.
pub fn make(netlink: &Netlink, interface: &str, setup: &Setup) -> io::Result<(u32, Firewall)> {
    if !has_wg() {
        return Err(io::Error::other("`wg` is needed to set the kernel's WireGuard up: install wireguard-tools"));
    }
    if !firewall::has_nft() {
        return Err(io::Error::other(
            "`nft` is needed for the policy where the kernel's WireGuard moves the packets: install nftables; --engine user \
             needs none",
        ));
    }
    if !netlink.make_wireguard(interface, FULL)? {
        return Err(io::Error::other("this kernel has no WireGuard: --engine user needs none"));
    }
    let made = || {
        let index = netlink.index(interface)?;
        device::mark(netlink, index)?;
        let firewall = Firewall::new(interface, index);
        firewall.apply(setup).map_err(|error| {
            io::Error::other(format!("the policy cannot be put in force: {error}; --engine user needs no nftables"))
        })?;
        Ok((index, firewall))
    };
    let made: io::Result<(u32, Firewall)> = made();
    if made.is_err()
        && let Ok(Some(found)) = netlink.find(interface)
    {
        let _ = netlink.delete(found.index);
    }
    made
}

fn has_wg() -> bool {
    Command::new("wg").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Makes interface and policy what `setup` says; sessions with peers that stay go on. Whoever is gone from it goes from both,
/// whichever fails.
pub fn configure(interface: &str, firewall: &Firewall, setup: &Setup) -> io::Result<()> {
    let filtered = firewall.apply(setup);
    sync(interface, setup).and(filtered)
}

/// Makes the interface's key, port and peers what `setup` says.
pub fn sync(interface: &str, setup: &Setup) -> io::Result<()> {
    let mut command = Command::new("wg");
    command.args(["syncconf", interface, "/dev/stdin"]);
    let mut wg = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(stdin) = &mut wg.stdin {
        stdin.write_all(text(setup).as_bytes())?;
    }
    let ended = wg.wait_with_output()?;
    if ended.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("wg: {}", String::from_utf8_lossy(&ended.stderr).trim())))
}

/// Whether the interface has this key; if not, what is wrong.
pub fn trouble(interface: &str, own: &Key) -> Option<String> {
    match Command::new("wg").args(["show", interface, "public-key"]).output() {
        Ok(said) if said.stdout.trim_ascii() == key::encode(own).as_bytes() => None,
        Ok(said) if said.status.success() => Some(format!("{interface} has another key than this mesh")),
        Ok(said) => Some(format!("`wg` does not show {interface}: {}", String::from_utf8_lossy(&said.stderr).trim())),
        Err(error) => Some(format!("`wg` cannot be run: {error}")),
    }
}

/// What the kernel knows of all peers at a time.
#[derive(Default)]
pub struct Known {
    /// By key.
    peers: HashMap<String, Seen>,
    /// Packets that the policy did not let pass, by the node's address.
    dropped: HashMap<IpAddr, u64>,
}

impl Known {
    /// What cannot be had is not known.
    pub fn ask(interface: &str, firewall: &Firewall) -> Self {
        let output = Command::new("wg").args(["show", interface, "dump"]).stderr(Stdio::null()).output();
        // The first line has the private key.
        let output = Zeroizing::new(output.map(|output| output.stdout).unwrap_or_default());
        let peers = parse_peers(str::from_utf8(&output).unwrap_or_default());
        let dropped = firewall.dropped().unwrap_or_else(|error| {
            say(format_args!("how many packets did not pass cannot be read: {error}"));
            HashMap::new()
        });
        Self { peers, dropped }
    }

    pub fn of(&self, peer: &PeerSetup) -> Seen {
        let seen = self.peers.get(key::encode(&peer.key).as_str()).cloned().unwrap_or_default();
        let dropped = peer.allowed.iter().filter_map(|prefix| self.dropped.get(&firewall::address(prefix)));
        Seen { dropped: dropped.sum(), ..seen }
    }
}

fn parse_peers(text: &str) -> HashMap<String, Seen> {
    let peer = |line: &str| Some((line.split('\t').next()?.to_owned(), parse_peer(line)));
    text.lines().skip(1).filter_map(peer).collect()
}

fn parse_peer(line: &str) -> Seen {
    let mut fields = line.split('\t').skip(2);
    let endpoint: Option<SocketAddrV6> = fields.next().and_then(|field| without_zone(field).parse().ok());
    let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let at = {
        number();
        number()
    };
    let now = System.since_1970().as_secs();
    let handshake = (at > 0).then(|| Duration::from_secs(now.saturating_sub(at)));
    Seen { endpoint, handshake, received: number(), sent: number(), dropped: 0 }
}

/// `[fe80::1%eth0]:1` without the interface, which the standard library reads as a number only.
fn without_zone(endpoint: &str) -> String {
    match (endpoint.find('%'), endpoint.find(']')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &endpoint[..from], &endpoint[to..]),
        _ => endpoint.into(),
    }
}

fn text(setup: &Setup) -> Zeroizing<String> {
    // So long that it never grows, which would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(256 + 512 * setup.peers.len()));
    let own = key::encode(&setup.secret);
    let _ = write!(text, "[Interface]\nPrivateKey = {}\nListenPort = {}\n", own.as_str(), setup.port);
    for peer in &setup.peers {
        let _ = write!(text, "[Peer]\nPublicKey = {}\n", key::encode(&peer.key).as_str());
        if let Some(preshared) = &peer.preshared {
            let _ = writeln!(text, "PresharedKey = {}", key::encode(&preshared.0).as_str());
        }
        for prefix in &peer.allowed {
            let _ = writeln!(text, "AllowedIPs = {}", show(prefix));
        }
        if let Some(endpoint) = peer.endpoint {
            let _ = writeln!(text, "Endpoint = {endpoint}");
        }
        let _ = writeln!(text, "PersistentKeepalive = {}", peer.keepalive_s);
    }
    text
}

/// As everybody writes it.
pub fn show(prefix: &Prefix) -> String {
    let [.., a, b, c, d] = prefix.ip;
    if prefix.is_v4() {
        format!("{a}.{b}.{c}.{d}/{}", prefix.length - 96)
    } else {
        format!("{}/{}", std::net::Ipv6Addr::from(prefix.ip), prefix.length)
    }
}

#[cfg(test)]
mod tests {
    use policy::Preshared;

    use super::*;

    #[test]
    fn what_wg_is_told_has_every_peer_and_what_it_says_is_read() {
        let peer = PeerSetup {
            key: [7; 32],
            preshared: Some(Preshared([8; 32])),
            allowed: vec![Prefix::v4([10, 8, 0, 2], 32), Prefix { ip: [0xfd; 16], length: 128 }],
            endpoint: Some("[fe80::1%4]:51820".parse().unwrap()),
            keepalive_s: 0,
            rules: None,
        };
        let setup = Setup { secret: Zeroizing::new([9; 32]), port: 51820, addresses: Vec::new(), peers: vec![peer] };
        let text = text(&setup);
        for line in ["ListenPort = 51820", "AllowedIPs = 10.8.0.2/32", "Endpoint = [fe80::1%4]:51820"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        let line = "key\tpsk\t[fe80::1%eth0]:51820\t10.8.0.2/32\t1\t300\t400\toff";
        let seen = parse_peer(line);
        assert_eq!((seen.received, seen.sent, seen.endpoint.map(|at| at.port())), (300, 400, Some(51820)));
        assert!(seen.handshake.is_some());
        assert_eq!(parse_peer("key\t(none)\t(none)\t\t0\t0\t0\toff"), Seen::default());
        assert_eq!(parse_peer(""), Seen::default());
        // The first line is of the interface.
        let peers = parse_peers(&format!("secret\tpublic\t51820\toff\n{line}\n"));
        assert_eq!((peers.len(), peers["key"].sent), (1, 400));
    }
}
