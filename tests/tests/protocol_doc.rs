//! `docs/protocol.md` says what the code does: sizes, offsets, labels, defaults.

use std::{collections::BTreeSet, fs, mem::offset_of, path::Path};

use calls::params::Params;
use policy::{Configuration, Peer, Prefix, Role};
use wire::{
    COMMAND_PORT, MESH_PORT, Phase, TELEMETRY_PORT,
    anchor::AnchorFile,
    binding::{ForkRecord, Identity, PairingRecord},
    claim::{self, Acknowledgement, GrantHead, IdentityMessage, MAX_CONFIGURATION, PairingMessage},
    command::{Command, Operation},
    link::{Answer, Find, Hello, HelloBody, Open},
    order::{self, Isolation, Kind, Order, Release},
    receipt::{self, Receipt},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    staged::{CHUNK, ChunkHead, MAX_STAGED},
    telemetry::{Cause, CommandResult, Reason, SCHEMA, Telemetry},
    title::{Binding, Title, Warrant},
};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).expect(path)
}

/// The text of one section, from its heading to the next of the same level.
fn section<'a>(doc: &'a str, heading: &str) -> &'a str {
    let start = doc.find(&format!("### {heading}")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &doc[start + 4..];
    &rest[..rest.find("\n##").unwrap_or(rest.len())]
}

/// Offset and length in a section's table rows.
fn rows(section: &str) -> Vec<(usize, usize)> {
    let numbers = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse().ok()?, cells.next()?.parse().ok()?))
    };
    section.lines().filter_map(numbers).collect()
}

fn lengths(offsets: &[usize], size: usize) -> Vec<(usize, usize)> {
    let ends = offsets[1..].iter().copied().chain([size]);
    offsets.iter().zip(ends).map(|(at, end)| (*at, end - at)).collect()
}

#[test]
fn datagrams_are_laid_out_as_documented() {
    let doc = read("docs/protocol.md");
    macro_rules! check {
        ($name:literal, $type:ty, $size:literal, [$($field:ident),*]) => {
            assert_eq!(size_of::<$type>(), $size);
            let section = section(&doc, $name);
            assert!(section.lines().next().unwrap().ends_with(concat!(", ", $size, " bytes")), $name);
            assert_eq!(rows(section), lengths(&[$(offset_of!($type, $field)),*], $size), $name);
        };
    }
    check!("hello", Hello, 160, [header, ephemeral, sealed, tag]);
    check!("find", Find, 104, [header, counter, sender_ip, sender_mac, zero, signature]);
    check!("open", Open, 192, [header, target, nonce, sender_ip, sender_mac, zero, ephemeral, signature, mac]);
    check!("answer", Answer, 72, [header, ephemeral, sealed_token, tag]);
    assert_eq!(size_of::<HelloBody>(), 104);
    check!("command", Command, 16, [operation, target, argument, counter, mac]);
    check!("order", Order, 600, [kind, length, fleet, set, fiduciary, epoch, counter, body, signatures]);
    check!("authority record", AuthorityRecord, 1936, [magic, zero, fleet, sequence, previous, set, old, new]);
    check!("chunk head", ChunkHead, 24, [short, length, number, zero]);
    check!("receipt", Receipt, 176, [kind, zero, fleet, fiduciary, number, hash, signature]);
    check!(
        "telemetry",
        Telemetry,
        432,
        [
            schema,
            phase,
            isolated,
            result,
            operation,
            authority,
            zero,
            counter,
            sequence,
            node,
            configuration,
            epoch,
            uptime_ms,
            received,
            received_bytes,
            sent,
            sent_bytes,
            handshakes,
            heartbeat,
            boots,
            restarts,
            fault_domain,
            fault_cause,
            zero_too,
            fault_count,
            fault_at_ms,
            store_writes,
            store_erases,
            store_errors,
            command_floors,
            keystore,
            dropped,
            isolation,
            set
        ]
    );
}

#[test]
fn numbers_of_the_mesh_are_as_documented() {
    let doc = read("docs/protocol.md");
    for operation in Operation::ALL {
        let (number, name) = (*operation as u8, operation.name());
        assert!(section(&doc, "command").contains(&format!("| {number} | {name}: ")), "{name} is {number}");
    }
    let telemetry = section(&doc, "telemetry").split_whitespace().collect::<Vec<_>>().join(" ");
    for result in CommandResult::ALL {
        let (number, words) = (*result as u8, result.explained());
        assert!(telemetry.contains(&format!("{number} {words}")), "{words} is {number}");
    }
    assert!(telemetry.contains(&format!("schema: {SCHEMA} ")));
    // What stands for a record of schema 2 is on no wire.
    for reason in Reason::ALL.iter().filter(|reason| !matches!(reason, Reason::Malformed | Reason::Refused)) {
        let (number, name) = (*reason as u8, reason.name());
        assert!(telemetry.contains(&format!("| {number} {name} | ")), "{name} is {number}");
    }
    for cause in Cause::ALL {
        let (number, name) = (*cause as u8, cause.name());
        assert!(telemetry.contains(&format!("{number} {name}")), "{name} is {number}");
    }
    for phase in [Phase::Committed, Phase::Claimed] {
        assert!(telemetry.contains(&format!("{} {}", phase as u64, phase.name())));
    }
    let orders = section(&doc, "order");
    assert!(orders.contains(&format!("at most {MAX_STAGED} bytes")));
    for kind in Kind::ALL {
        let body = match kind {
            Kind::Configuration => format!("up to {}", order::MAX_CONFIGURATION),
            Kind::Rejoin => size_of::<Isolation>().to_string(),
            Kind::Release => size_of::<Release>().to_string(),
        };
        let row = format!("| {} {} | {body} | ", *kind as u8, kind.name());
        assert!(orders.contains(&row), "{row}");
    }
    for kind in receipt::Kind::ALL {
        assert!(section(&doc, "receipt").contains(&format!("{} {}", *kind as u8, kind.name())), "{kind:?}");
    }
    assert!(section(&doc, "chunk head").contains(&format!("{CHUNK} bytes of the whole follow")));
    let mesh = &doc[doc.find("## Mesh").expect("a section")..];
    for port in [MESH_PORT, COMMAND_PORT, TELEMETRY_PORT] {
        assert!(mesh.contains(&format!("UDP {port}")), "{port}");
    }
}

#[test]
fn a_configuration_is_encoded_as_documented() {
    let doc = read("docs/protocol.md");
    let section = section(&doc, "Configuration");
    let limits = format!("up to {MAX_CONFIGURATION} bytes there and {} here", order::MAX_CONFIGURATION);
    assert!(section.contains(&limits), "{limits}");
    for (most, of) in [
        (policy::MAX_ADDRESSES, "prefixes: the node's own"),
        (policy::MAX_PEERS, ""),
        (policy::MAX_RULES, ""),
        (policy::MAX_ALLOWED, ""),
    ] {
        assert!(section.contains(format!("list of at most {most} {of}").trim_end()), "{most}");
    }
    let mut configuration = Configuration::default();
    configuration.addresses.push(Prefix::v4([10, 8, 0, 2], 24)).expect("room");
    let authority = Peer {
        key: [7; 32],
        role: Role::Authority,
        preshared: None,
        endpoint: None,
        allowed: [Prefix::v4([10, 8, 0, 1], 32)].into_iter().collect(),
        keepalive_s: 0,
    };
    assert!(configuration.peers.push(authority).is_ok());
    configuration.rules.push("in authority tcp 80".parse().expect("a rule")).expect("room");
    let mut room = [0; MAX_CONFIGURATION];
    let bytes = configuration.write(&mut room).expect("it fits");
    let example = section.split("```").nth(1).expect("an example").replace('\n', "");
    assert_eq!(example, wire::Hex(bytes).to_string());
}

#[test]
fn claim_messages_have_the_documented_sizes() {
    let doc = read("docs/protocol.md");
    for (name, size) in [
        ("Identity message", size_of::<IdentityMessage>()),
        ("Fork record", size_of::<ForkRecord>()),
        ("Grant head", size_of::<GrantHead>()),
        ("Title", size_of::<Title>()),
        ("Warrant", size_of::<Warrant>()),
        ("Binding", size_of::<Binding>()),
        ("Authority set", size_of::<AuthoritySet>()),
        ("Authority", size_of::<Authority>()),
        ("Pairing message", size_of::<PairingMessage>()),
        ("Pairing record", size_of::<PairingRecord>()),
        ("Acknowledgement", size_of::<Acknowledgement>()),
    ] {
        assert!(doc.contains(&format!("**{name}** ({size})")), "{name} has {size} bytes");
    }
    assert!(doc.contains(&format!("identity ({})", size_of::<Identity>())));
    assert!(doc.contains(&format!("**anchor.bin**, {} bytes", size_of::<AnchorFile>())));
    let wire = |size: usize| size + claim::TAG;
    for row in [
        format!("| 1 | administrator | Noise message 1 | – | {} |", claim::INITIATION),
        format!("| 2 | node | Noise message 2 | – | {} |", claim::RESPONSE),
        format!("| {} | {} |", size_of::<IdentityMessage>(), wire(size_of::<IdentityMessage>())),
        format!("| {} | {} |", size_of::<PairingMessage>(), wire(size_of::<PairingMessage>())),
        format!("| {} | {} |", size_of::<Acknowledgement>(), wire(size_of::<Acknowledgement>())),
        format!("up to {MAX_CONFIGURATION} | {} to {} |", size_of::<GrantHead>(), claim::MAX_GRANT),
    ] {
        assert!(doc.contains(&row), "{row}");
    }
}

#[test]
fn every_label_is_documented_and_no_other() {
    let doc = read("docs/protocol.md") + &read("docs/entropy.md");
    let labels = |text: &str, quote: char| -> BTreeSet<String> {
        // A line of the document may end in the middle of a label.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let start = format!("{quote}genesis/1 ");
        let ends = text.split(start.as_str()).skip(1).filter_map(|rest| rest.split(quote).next());
        ends.map(str::to_owned).collect()
    };
    assert_eq!(labels(&doc, '`'), labels(&read("crates/protocol/crypto/src/label.rs"), '"'));
}

#[test]
fn defaults_are_as_documented() {
    let doc = read("docs/protocol.md");
    let d = Params::DEFAULT;
    for (name, value) in [
        ("scan_ms", d.scan_ms),
        ("scan_hellos", d.scan_hellos),
        ("hello_delay_ms", d.hello_delay_ms),
        ("nonce_ms", d.nonce_ms),
        ("token_ms", d.token_ms),
        ("pending_ms", d.pending_ms),
        ("claim_ms", d.claim_ms),
        ("find_budget", d.find_budget),
        ("open_budget", d.open_budget),
        ("telemetry_ms", d.telemetry_ms),
        ("heartbeat_ms", d.heartbeat_ms),
    ] {
        assert!(doc.contains(&format!("| `{name}` | {value} |")), "{name} is {value}");
    }
}
