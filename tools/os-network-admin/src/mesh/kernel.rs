//! The kernel's WireGuard, set up by `wg` of wireguard-tools. What is secret goes to it on standard input.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddrV6,
    process::{Command, Stdio},
    time::Duration,
};

use policy::Prefix;
use wire::Key;
use zeroize::Zeroizing;

use super::engine::{PeerSetup, Seen, Setup};
use crate::base::{
    host::{Host, System},
    mesh_key as key,
};

/// Whether there is a `wg` to run.
pub fn has_wg() -> bool {
    Command::new("wg").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Makes the interface what `setup` says; sessions with peers that stay go on.
pub fn configure(interface: &str, setup: &Setup) -> io::Result<()> {
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

/// What the kernel says of a peer.
pub fn seen(interface: &str, peer: &PeerSetup) -> io::Result<Seen> {
    let output = Command::new("wg").args(["show", interface, "dump"]).stderr(Stdio::null()).output()?;
    // The first line has the private key.
    let output = Zeroizing::new(output.stdout);
    let text = str::from_utf8(&output).unwrap_or_default();
    let key = key::encode(&peer.key);
    let line = text.lines().skip(1).find(|line| line.split('\t').next() == Some(&key));
    Ok(line.map(parse_peer).unwrap_or_default())
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
    }
}
