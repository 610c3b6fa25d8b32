//! The command line.

use std::{net::Ipv6Addr, path::PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand};
use policy::{Endpoint, Prefix};
use zeroize::Zeroizing;

use crate::{
    fleet::view,
    input::{self, Print},
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
        ] {
            let line = ["os-network-admin"].iter().chain(wrong);
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
        let right = ["os-network-admin", "claim", "--any-listed", "--expect", print, "--expect", print, "--json"];
        assert!(Cli::try_parse_from(right).is_ok());
    }
}
