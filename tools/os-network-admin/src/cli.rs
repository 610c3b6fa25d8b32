//! The command line.

use std::{net::Ipv6Addr, path::PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use policy::{Endpoint, Prefix};
use zeroize::Zeroizing;

use crate::{
    fleet::view,
    input::{self, Print},
    mesh::daemon::Choice,
    registry::fleet::Network,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something else failed
  2  the command line is wrong
  3  bad ticket, key file, passphrase, list or other input
  4  the interface or its sockets cannot be used
  5  no node answered
  6  a node answered and was not claimed
  7  the registry cannot be used (locked, full disk, damaged)
  8  a node answered that the operator did not accept
  9  claimed, but the acknowledgement is not confirmed: claim again
 10  a node did not show in time that it did what it was told
 11  a node says that it did not do what it was told

With --json the result, or {\"error\":{\"code\":N,\"message\":TEXT}}, is on standard output.";

/// Claims Genesis nodes and keeps the registry of what was claimed.
#[derive(Parser)]
#[command(name = "os-network-admin", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args)]
pub struct Common {
    /// Key file of the administrative fiduciary key [default: $XDG_CONFIG_HOME/os-network-admin/key]
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Read the passphrase from the first line of this file, which only you may be able to read
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Pairing registry [default: $XDG_DATA_HOME/os-network-admin/registry.sqlite]
    #[arg(long, global = true, value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// Network interface on the nodes' segment
    #[arg(long, global = true, value_name = "IF")]
    pub interface: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a new administrative fiduciary key
    Init {
        /// Take the key from these 32 bytes, or 64 hex digits, of your own
        #[arg(long, value_name = "FILE")]
        seed_file: Option<PathBuf>,
    },
    /// Write the public anchor for an image
    Anchor {
        /// File to write, usually anchor.bin
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List the unclaimed nodes of the segment that are anchored to the key
    Discover {
        #[command(flatten)]
        find: Find,
        /// How long to listen, in seconds
        #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        wait: u64,
    },
    /// Claim a node
    Claim(Box<Claim>),
    /// Answer scans: claim listed nodes as they appear, until interrupted
    Beacon {
        #[command(flatten)]
        find: Find,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        expected: Expected,
        /// End after the first node that was claimed
        #[arg(long)]
        once: bool,
    },
    /// Show what was claimed
    Nodes {
        #[command(subcommand)]
        command: Nodes,
    },
    /// This host's end of the mesh
    Mesh {
        #[command(subcommand)]
        command: Mesh,
    },
    /// What nodes let in and out
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Tell a node to do something, and wait until it shows that it has
    Command {
        /// The node: its fingerprint or the beginning of it, or an inner address
        node: String,
        operation: Operation,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// What nodes say of themselves, as it comes in
    Telemetry {
        /// Print what is known, and end
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Cut a node or another peer off: here, and at every other node that knows it
    Revoke {
        /// The node's fingerprint or the beginning of it, an inner address, or the peer's name
        member: String,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Make a peer (a laptop, a server), and print its WireGuard configuration for wg-quick
    Export {
        /// What the peer is to be called
        #[arg(value_parser = peer_name)]
        name: String,
        /// The peer's own public key; without it a key pair is made, and the private key only printed
        #[arg(long, value_name = "KEY", value_parser = view::public_key)]
        public_key: Option<wire::Key>,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Args)]
pub struct InFleet {
    /// The fleet
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = fleet_name)]
    pub fleet: String,
}

#[derive(Args)]
pub struct Wait {
    /// How long nodes have to show that they did it, in seconds
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// Send a record of telemetry now
    Status,
    /// No flow but those with the authority, until a rejoin
    Isolate,
    Rejoin,
    /// New session keys with every peer
    Rotate,
}

#[derive(Subcommand)]
pub enum Mesh {
    /// Make the interface, and keep it as the registry says
    Up {
        /// Name of the interface
        #[arg(long, value_name = "IF", default_value = "genesis0", value_parser = interface_name)]
        name: String,
        /// Which WireGuard
        #[arg(long, value_enum, default_value_t = Choice::Auto)]
        engine: Choice,
        /// Inner network of the fleet; only while it has no members [default: 10.8.0.0/24]
        #[arg(long, value_name = "NET")]
        network: Option<Network>,
        /// This host's WireGuard port; only while the fleet has no members [default: 51820]
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Stay in the foreground until interrupted; prints one line when the mesh is up
        #[arg(long)]
        foreground: bool,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Remove the interface
    Down,
    /// The interface and its peers
    Status,
}

#[derive(Subcommand)]
pub enum Policy {
    /// Set the rules of the fleet, or of one node, and tell the nodes
    Set {
        /// Rules, each in quotes, such as 'in authority tcp 80'; or one file with a rule a line
        #[arg(value_name = "RULE|FILE", required_unless_present_any = ["none", "inherit"])]
        rules: Vec<String>,
        /// No rules
        #[arg(long, conflicts_with = "rules")]
        none: bool,
        /// The rules of this node only
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// The node has the fleet's rules again
        #[arg(long, requires = "node", conflicts_with_all = ["rules", "none"])]
        inherit: bool,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Tell every node that lacks its configuration what it should have
    Push {
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// The rules of the fleet, and of one node or of all that have their own
    Show {
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Whether a node has such a flow, and why
    Explain {
        node: String,
        /// As a rule is written, such as: in authority tcp 80
        #[arg(required = true, num_args = 1..)]
        flow: Vec<String>,
        #[command(flatten)]
        fleet: InFleet,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").multiple(false))]
#[command(group = ArgGroup::new("by_ticket").args(["ticket", "ticket_file"]))]
pub struct Claim {
    /// Claim the node that showed this ticket; others on this host can see it, --ticket-file is better
    #[arg(long, value_name = "TEXT", group = "which", value_parser = secret_text, conflicts_with_all = ["expect", "expect_file"])]
    pub ticket: Option<Zeroizing<String>>,
    /// Claim the node whose ticket is in this file; - is standard input
    #[arg(long, value_name = "FILE", group = "which", conflicts_with_all = ["expect", "expect_file"])]
    pub ticket_file: Option<PathBuf>,
    /// Claim the node with this fingerprint
    #[arg(long, value_name = "FP", group = "which", value_parser = input::fingerprint)]
    pub fingerprint: Option<Print>,
    /// Claim any one that --expect or --expect-file names, and never ask about another
    #[arg(long, group = "which")]
    pub any_listed: bool,
    #[command(flatten)]
    pub expected: Expected,
    /// Claim any node that answers, without looking at its fingerprint; the pairing records this
    #[arg(long, conflicts_with_all = ["by_ticket", "fingerprint", "any_listed"])]
    pub accept_any: bool,
    #[command(flatten)]
    pub terms: Terms,
    /// Static IPv6 address that the node takes on its link
    #[arg(long, value_name = "IP/LENGTH", value_parser = view::underlay, conflicts_with = "config")]
    pub underlay: Option<Prefix>,
    /// Its gateway there
    #[arg(long, value_name = "IP", requires = "underlay")]
    pub gateway: Option<Ipv6Addr>,
    #[command(flatten)]
    pub find: Find,
    /// How long to try, in seconds; the time you take to answer a question is not counted
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
}

#[derive(Args)]
pub struct Expected {
    /// Fingerprint of a node that may be claimed, as its console shows it
    #[arg(long, value_name = "FP", value_parser = input::fingerprint)]
    pub expect: Vec<Print>,
    /// List of such fingerprints, one a line; # begins a comment
    #[arg(long, value_name = "LIST")]
    pub expect_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Find {
    /// Skip the counter so many milliseconds ahead, if another holder of the key has used higher ones
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1 << 62))]
    pub counter_ahead: u64,
}

#[derive(Args)]
pub struct Terms {
    /// Configuration to grant in place of one with a place in the mesh: bytes as docs/protocol.md has them; empty: no mesh
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where nodes reach this administrator, if not at the address of --interface
    #[arg(long, value_name = "[IP]:PORT", value_parser = view::endpoint, conflicts_with = "config")]
    pub endpoint: Option<Endpoint>,
    /// Fleet that the node joins
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = fleet_name)]
    pub fleet: String,
    /// A further authority of the fleet: a public key as `init` prints it, or its anchor.bin
    #[arg(long, value_name = "PUBKEY")]
    pub authority: Vec<String>,
    /// How many of the authorities must sign
    #[arg(long, value_name = "M", default_value_t = 1)]
    pub needed: u8,
}

#[derive(Subcommand)]
pub enum Nodes {
    /// One line a node
    List,
    /// All that is known of a node
    Show {
        /// The node's fingerprint
        #[arg(value_name = "FP", value_parser = input::fingerprint)]
        fingerprint: Print,
    },
}

fn secret_text(text: &str) -> Result<Zeroizing<String>, String> {
    Ok(Zeroizing::new(text.into()))
}

fn fleet_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err("a fleet's name has 1 to 64 bytes and no control characters".into());
    }
    Ok(text.into())
}

fn peer_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("a peer's name has 1 to 64 letters, digits, dashes, dots and underscores".into());
    }
    Ok(text.into())
}

fn interface_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 15 || !text.chars().all(plain) {
        return Err("an interface's name has 1 to 15 letters, digits, dashes and underscores".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn contradictions_are_refused() {
        let print = "0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567";
        for wrong in [
            &["claim", "--ticket", "x", "--ticket-file", "y"][..],
            &["claim", "--ticket", "x", "--expect", print],
            &["claim", "--ticket", "x", "--accept-any"],
            &["claim", "--ticket-file", "x", "--expect-file", "y"],
            &["claim", "--fingerprint", print, "--any-listed"],
            &["claim", "--fingerprint", print, "--accept-any"],
            &["claim", "--fingerprint", "0123"],
            &["claim", "--fleet", ""],
            &["claim", "--wait", "0"],
            &["discover", "--counter-ahead", "9223372036854775807"],
            &["anchor"],
            &["policy", "set"],
            &["policy", "set", "--none", "in authority icmp"],
            &["policy", "set", "--inherit"],
            &["command", "0123", "apply"],
            &["export", "a b"],
            &["mesh", "up", "--name", "../x"],
            &["mesh", "up", "--network", "10.8.0.1/24"],
            &["mesh", "up", "--port", "0"],
        ] {
            let line = ["os-network-admin"].iter().chain(wrong);
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
        let right = ["os-network-admin", "claim", "--any-listed", "--expect", print, "--expect", print, "--json"];
        assert!(Cli::try_parse_from(right).is_ok());
    }
}
