//! The command line: one verb and its arguments in one file. Inputs are checked first, the passphrase among them, then the
//! interface, then the registry: a command that is refused has written nothing.

mod approve;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod claim;
pub mod command;
pub mod common;
pub mod export;
pub mod fleet;
mod interrupt;
pub mod keys;
pub mod mesh;
pub mod nodes;
pub mod order;
pub mod policy;
mod push;
mod rehearse;
pub mod release;
pub mod revoke;
mod share;
pub mod telemetry;
pub mod warrant;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use self::{
    audit::AuditVerb,
    authority::AuthorityVerb,
    claim::{ClaimArguments, ExpectedArguments, FindArguments, TermsArguments},
    command::Operation,
    common::{Common, InFleet, Wait},
    export::peer_name,
    fleet::FleetVerb,
    keys::AnchorArguments,
    mesh::MeshVerb,
    nodes::NodesVerb,
    order::{OrderVerb, Proposing},
    policy::PolicyVerb,
    release::To,
    warrant::WarrantVerb,
};
use crate::base::{error::Error, host, input};

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
 12  there is nothing that a node could be told: it can have no configuration, or no command can be made for it
 13  a node may have been rolled back, or be there twice (nodes check), or follows another record of a set than others
     (authority status)
 14  the log of acts and refusals is not as it was written (audit verify)
 15  fewer have approved than must (warrant check, claim --warrant, fleet close, fleet verify, authority push, order
     deliver), or fewer nodes are claimed (fleet activate)
130  interrupted; the message says what is stored

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
        #[command(flatten)]
        arguments: AnchorArguments,
    },
    /// List the unclaimed nodes of the segment that are anchored to the key
    Discover {
        #[command(flatten)]
        find: FindArguments,
        /// How long to listen, in seconds
        #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        wait: u64,
    },
    /// Claim a node
    Claim(Box<ClaimArguments>),
    /// Founding a fleet: what its authorities agree on before it has a node
    Fleet {
        #[command(subcommand)]
        command: FleetVerb,
    },
    /// Who owns the fleet: another set, signed by both
    Authority {
        #[command(subcommand)]
        command: AuthorityVerb,
    },
    /// Leave to own a node, given beforehand by those whom its image names
    Warrant {
        #[command(subcommand)]
        command: WarrantVerb,
    },
    /// Answer scans: claim listed nodes as they appear, until interrupted
    Beacon {
        #[command(flatten)]
        find: FindArguments,
        #[command(flatten)]
        terms: TermsArguments,
        #[command(flatten)]
        expected: ExpectedArguments,
        /// Claim only nodes that this genesis of a fleet lists, each once, and for its authorities; all that are left, if none is
        /// named
        #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "authority", "endpoint"])]
        genesis: Option<PathBuf>,
        /// End after the first node that was claimed
        #[arg(long)]
        once: bool,
    },
    /// Show what was claimed
    Nodes {
        #[command(subcommand)]
        command: NodesVerb,
    },
    /// This host's end of the mesh
    Mesh {
        #[command(subcommand)]
        command: MeshVerb,
    },
    /// What nodes let in and out
    Policy {
        #[command(subcommand)]
        command: PolicyVerb,
    },
    /// Orders that several authorities must sign
    Order {
        #[command(subcommand)]
        command: OrderVerb,
    },
    /// Tell a node to do something, and wait until it shows that it has
    Command {
        /// The node: its fingerprint or the beginning of it, or an inner address
        node: String,
        operation: Operation,
        #[command(flatten)]
        proposing: Proposing,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// The log of every act and refusal
    Audit {
        #[command(subcommand)]
        command: AuditVerb,
    },
    /// Write registry, mesh key and key file into one file, which is secret
    Backup {
        /// File to write
        file: PathBuf,
        /// Replace an earlier backup
        #[arg(long)]
        force: bool,
    },
    /// Bring back what a backup has; no counter falls by it
    Restore {
        /// File of `backup`
        file: PathBuf,
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
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let nodes go, each to a ticket that it makes and shows; each signs that it has gone
    Release {
        /// The nodes: fingerprints or beginnings of them, or inner addresses
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        proposing: Proposing,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Hand nodes over to those whom an anchor names; each signs that it has gone
    Transfer {
        /// The nodes: fingerprints or beginnings of them, or inner addresses
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
        /// Anchor of who may own them next
        #[arg(long, value_name = "ANCHOR.bin")]
        to: PathBuf,
        /// The anchor may have keys of those who own them now
        #[arg(long)]
        same_owner: bool,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        proposing: Proposing,
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
        #[arg(long, value_name = "KEY", value_parser = input::public_key)]
        public_key: Option<wire::Key>,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
}

impl Command {
    /// Whether it stores or sends what is made of the time of day.
    fn counts_time(&self) -> bool {
        match self {
            Self::Init { .. } | Self::Anchor { .. } | Self::Nodes { .. } | Self::Backup { .. } => false,
            Self::Warrant { .. } | Self::Fleet { .. } | Self::Authority { .. } => true,
            Self::Audit { command } => matches!(command, AuditVerb::Sign),
            Self::Mesh { command } => matches!(command, MeshVerb::Up { .. }),
            Self::Policy { command } => matches!(command, PolicyVerb::Set { .. } | PolicyVerb::Push { .. }),
            Self::Discover { .. } | Self::Claim(_) | Self::Beacon { .. } | Self::Command { .. } => true,
            Self::Restore { .. } | Self::Telemetry { .. } | Self::Revoke { .. } | Self::Export { .. } => true,
            Self::Release { .. } | Self::Transfer { .. } | Self::Order { .. } => true,
        }
    }
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> Result<(), Error> {
    let common = &cli.common;
    if cli.command.counts_time() {
        host::check_clock()?;
    }
    match cli.command {
        Command::Init { seed_file } => keys::init(common, seed_file.as_deref()),
        Command::Anchor { arguments } => keys::anchor(common, &arguments),
        Command::Discover { find, wait } => claim::discover(common, &find, Duration::from_secs(wait)).await,
        Command::Claim(arguments) => claim::claim(common, *arguments).await,
        Command::Beacon { find, terms, expected, genesis, once } => {
            claim::beacon(common, &find, &terms, &expected, genesis.as_deref(), once).await
        }
        Command::Fleet { command } => fleet::run(common, command).await,
        Command::Authority { command } => authority::run(common, command).await,
        Command::Warrant { command } => warrant::run(common, command),
        Command::Nodes { command } => nodes::run(common, command),
        Command::Mesh { command } => mesh::run(common, command).await,
        Command::Policy { command } => policy::run(common, command).await,
        Command::Command { node, operation, proposing, fleet, wait } => {
            command::run(common, &node, operation, &proposing, &fleet, &wait).await
        }
        Command::Audit { command } => audit::run(common, command),
        Command::Backup { file, force } => backup::backup(common, &file, force),
        Command::Restore { file } => backup::restore(common, &file),
        Command::Telemetry { once, fleet } => telemetry::run(common, once, &fleet).await,
        Command::Revoke { member, yes, fleet, wait } => revoke::run(common, &member, &fleet, &wait, yes).await,
        Command::Release { nodes, yes, proposing, fleet, wait } => {
            release::run(common, &nodes, &To::Ticket, &proposing, &fleet, &wait, yes).await
        }
        Command::Transfer { nodes, to, same_owner, yes, proposing, fleet, wait } => {
            release::run(common, &nodes, &To::Anchor(&to, same_owner), &proposing, &fleet, &wait, yes).await
        }
        Command::Order { command } => order::run(common, command).await,
        Command::Export { name, public_key, fleet, wait } => {
            export::run(common, &name, public_key, &fleet, &wait).await
        }
    }
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
