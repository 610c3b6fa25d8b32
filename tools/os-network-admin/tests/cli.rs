//! The program from outside: exit codes, messages, and that nothing half-written remains. What needs a link is in `namespace.rs`.

#[path = "cli/anchor.rs"]
mod anchor;
mod listing;
#[path = "cli/rehearse.rs"]
mod rehearse;

use std::{
    fs::{self, Permissions},
    io::{Read, Write, pipe},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crypto::{AnchorSecret, Secret};
use os_network_admin::{
    base::{
        key::{Cost, KeyFile},
        mesh_key::MeshKey,
    },
    registry::{Accepted, AnchorKind, Fleet, NewMember, NewNode, Registry, Said, Who},
};
use rusqlite::Connection;
use serde_json::Value;
use wire::{
    Fingerprint,
    anchor::AnchorFile,
    claim::{GrantHead, kind},
    telemetry::Telemetry,
    ticket::Ticket,
};
use zerocopy::{FromZeros, IntoBytes};

use listing::listing;

const SEED: [u8; 32] = *b"an administrator's own 32 bytes!";

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.private("pass", b"open sesame\nnot this\n");
        home
    }

    /// With a key whose passphrase costs nothing to try.
    fn with_key() -> Self {
        let home = Self::new();
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        KeyFile::seal(&Secret::new(SEED), b"open sesame", cost).unwrap().store(&home.path("key")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("XDG_CONFIG_HOME", self.path("config")).env("XDG_DATA_HOME", self.path("data"));
        command.args(["--key", "key", "--passphrase-file", "pass", "--registry", "registry"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// It fails with this code and message, in words and as JSON, and leaves no file that was not there.
    fn fails(&self, arguments: &[&str], code: i32, message: &str) {
        let before = listing(self.folder.path());
        let output = self.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
        let output = self.run(&[arguments, &["--json"]].concat());
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert!(error["error"]["message"].as_str().unwrap().contains(message));
        assert_eq!(listing(self.folder.path()), before, "{arguments:?} left something behind");
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn init_makes_a_private_key_and_anchor_writes_its_public_half_without_the_passphrase() {
    let home = Home::new();
    let made = json(&home.run(&["init", "--json"]));
    assert_eq!(fs::metadata(home.path("key")).unwrap().permissions().mode() & 0o7777, 0o600);
    fs::remove_file(home.path("pass")).unwrap();
    let wrote = json(&home.run(&["anchor", "--out", "anchor.bin", "--json"]));
    assert_eq!(made["public_key"], wrote["public_key"]);
    assert_eq!(made["fingerprint"], wrote["fingerprint"]);
    let anchor = KeyFile::load(&home.path("key")).unwrap().unlock(b"open sesame").unwrap().public();
    assert_eq!(fs::read(home.path("anchor.bin")).unwrap(), AnchorFile::first(&anchor));
    assert_eq!(listing(home.folder.path()).len(), 2, "a temporary file was left");
    fs::remove_file(home.path("key")).unwrap();
    home.private("pass", b"open sesame\n");
    let words = String::from_utf8(home.run(&["init"]).stdout).unwrap();
    assert!(words.contains("backup       copy this file"), "{words}");
}

#[test]
fn init_takes_ones_own_seed_as_bytes_or_digits() {
    let expected = os_network_admin::base::key::public_text(&AnchorSecret::from_seed(&SEED).public());
    let digits: String = SEED.iter().map(|byte| format!("{byte:02X}")).collect();
    for seed in [&SEED[..], digits.as_bytes(), (digits.clone() + "\n").as_bytes()] {
        let home = Home::new();
        home.private("seed", seed);
        assert_eq!(json(&home.run(&["init", "--seed-file", "seed", "--json"]))["public_key"], expected.as_str());
    }
}

#[test]
fn init_refuses_bad_seeds_and_passphrases_and_makes_nothing() {
    let home = Home::new();
    for (content, message) in [
        (&[1u8; 31][..], "exactly 32 bytes or 64 hex digits"),
        (&[1; 33], "exactly 32 bytes or 64 hex digits"),
        (&[], "exactly 32 bytes or 64 hex digits"),
        (&[b'x'; 64], "not all hex digits"),
        (&[1; 129], "longer than"),
        (&[0; 32], "no seed"),
    ] {
        home.private("seed", content);
        home.fails(&["init", "--seed-file", "seed"], 3, message);
    }
    home.private("seed", &SEED);
    fs::set_permissions(home.path("seed"), Permissions::from_mode(0o640)).unwrap();
    home.fails(&["init", "--seed-file", "seed"], 3, "can be read by others");
    home.fails(&["init", "--seed-file", "nowhere"], 3, "cannot read the seed file nowhere");
    home.private("pass", "séśämé!\n".as_bytes());
    home.fails(&["init"], 3, "fewer than 8 characters");
    home.private("pass", b"\nsecond line\n");
    home.fails(&["init"], 3, "empty first line");
    home.private("pass", b"open sesame");
    fs::set_permissions(home.path("pass"), Permissions::from_mode(0o604)).unwrap();
    home.fails(&["init"], 3, "chmod 600 pass");
}

#[test]
fn init_never_overwrites() {
    let home = Home::with_key();
    home.fails(&["init"], 3, "is not overwritten");
    fs::remove_file(home.path("key")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.path("key")).unwrap();
    let output = home.run(&["init"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(!home.path("elsewhere").exists());
}

#[test]
fn init_uses_the_default_folder_and_makes_it_private() {
    let home = Home::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
    command.env_clear().env("XDG_CONFIG_HOME", home.path("config")).arg("--passphrase-file").arg(home.path("pass"));
    assert!(command.arg("init").output().unwrap().status.success());
    let folder = home.path("config/os-network-admin");
    assert!(folder.join("key").exists());
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let homeless = Command::new(env!("CARGO_BIN_EXE_os-network-admin")).env_clear().arg("init").output().unwrap();
    assert_eq!(homeless.status.code(), Some(2));
}

#[test]
fn a_key_file_that_is_missing_open_to_others_or_damaged_is_refused() {
    let home = Home::with_key();
    let discover = ["discover", "--interface", "lo"];
    let whole = fs::read_to_string(home.path("key")).unwrap();
    fs::set_permissions(home.path("key"), Permissions::from_mode(0o644)).unwrap();
    home.fails(&discover, 3, "can be read by others (mode 644); if they cannot have read it, run: chmod 600 key");
    for damaged in [whole.replace("\"version\": 1", "\"version\": 2"), whole[..100].into(), String::new()] {
        home.private("key", damaged.as_bytes());
        home.fails(&discover, 3, "no usable key file");
        home.fails(&["anchor", "--out", "anchor.bin"], 3, "no usable key file");
    }
    fs::remove_file(home.path("key")).unwrap();
    home.fails(&discover, 3, "os-network-admin init");
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let home = Home::with_key();
    home.private("pass", b"open sesamE\n");
    let print = "0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567";
    let commands: [&[&str]; 3] = [&["discover"], &["claim", "--fingerprint", print], &["beacon", "--expect", print]];
    for command in commands {
        home.fails(&[command, &["--interface", "lo"]].concat(), 3, "wrong passphrase");
    }
    home.private("pass", b"");
    home.fails(&["discover", "--interface", "lo"], 3, "empty");
}

#[test]
fn without_a_passphrase_file_or_terminal_it_says_what_is_missing() {
    let home = Home::with_key();
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_os-network-admin")).args(["--key", "key", "discover", "--interface", "lo"]);
    let output = command.current_dir(home.folder.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --passphrase-file"));
}

#[test]
fn a_bad_ticket_is_refused_with_the_reason() {
    let home = Home::with_key();
    let good = Ticket { secret: [7; 32], fiduciary: [8; 32] }.to_text();
    let good = std::str::from_utf8(&*good).unwrap();
    let mistyped = good.replacen('A', "B", 1);
    let cases: [(&str, &str); 4] = [
        (&mistyped, "check characters do not match"),
        (&good[..80], "109 characters"),
        (&good.replace('-', "1"), "only the letters A to Z and the digits 2 to 7"),
        ("hello", "starts with GENESIS1"),
    ];
    for (text, message) in cases {
        home.fails(&["claim", "--interface", "lo", "--ticket", text], 3, message);
        home.private("ticket", text.as_bytes());
        home.fails(&["claim", "--interface", "lo", "--ticket-file", "ticket"], 3, message);
    }
    home.private("ticket", &[0xff; 50]);
    home.fails(&["claim", "--interface", "lo", "--ticket-file", "ticket"], 3, "is no text");
    home.private("ticket", &[b'A'; 5000]);
    home.fails(&["claim", "--interface", "lo", "--ticket-file", "ticket"], 3, "longer than");
    home.private("ticket", b"\xff\xfeG\0");
    home.fails(&["claim", "--interface", "lo", "--ticket-file", "ticket"], 3, "UTF-16");
    home.private("ticket", good.as_bytes());
    fs::set_permissions(home.path("ticket"), Permissions::from_mode(0o644)).unwrap();
    home.fails(&["claim", "--interface", "lo", "--ticket-file", "ticket"], 3, "chmod 600 ticket");
    // A good one gets as far as the interface.
    home.private("ticket", format!("\n  {}\n", good.to_lowercase()).as_bytes());
    home.fails(&["claim", "--interface", "no-such-if", "--ticket-file", "ticket"], 4, "no interface no-such-if");
}

#[test]
fn other_bad_inputs_are_refused() {
    let home = Home::with_key();
    let print = "0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567";
    let claim = ["claim", "--interface", "lo", "--fingerprint", print];
    let with = |more: &[&'static str]| [&claim[..], more].concat();
    home.private("list", format!("{print}\nnonsense\n").as_bytes());
    home.fails(&["beacon", "--interface", "lo", "--expect-file", "list"], 3, "list, line 2");
    home.fails(&with(&["--expect-file", "nowhere"]), 3, "cannot read the list of fingerprints");
    home.private("config", &[0; 3497]);
    home.fails(&with(&["--config", "config"]), 3, "longer than 3496 bytes");
    home.private("config", b"no configuration");
    home.fails(&with(&["--config", "config"]), 3, "no node could use the configuration config");
    home.fails(&with(&["--underlay", "10.0.0.5/8"]), 2, "2001:db8::5/64");
    home.fails(&with(&["--endpoint", "here"]), 2, "[2001:db8::1]:51820");
    home.fails(&with(&["--endpoint", "[::ffff:192.0.2.1]:51820"]), 2, "IPv6 address of a host");
    home.fails(&with(&["--underlay", "2001:db8::5/64", "--gateway", "ff02::2"]), 2, "--gateway is not");
    home.fails(&["export", "laptop", "--public-key", &("A".repeat(43) + "=")], 2, "no public key");
    home.private("authority", &[0; 76]);
    home.fails(&with(&["--authority", "authority"]), 3, "nor an anchor.bin");
    home.fails(&with(&["--needed", "2"]), 3, "is no majority of 1 keys");
    home.fails(&["claim", "--interface", "lo", "--any-listed"], 2, "needs a list");
    home.fails(&["claim", "--fingerprint", print], 2, "--interface IF");
    home.fails(&["claim", "--fingerprint", "0123"], 2, "40 hex digits");
    home.fails(&["conquer"], 2, "unrecognized subcommand");
}

#[test]
fn a_missing_or_unusable_interface_is_an_error_and_makes_no_registry() {
    let home = Home::with_key();
    let commands: [&[&str]; 3] = [&["discover"], &["claim", "--accept-any"], &["beacon"]];
    for command in commands {
        let with = |interface| [command, &["--interface", interface]].concat();
        home.fails(&with("no-such-if"), 4, "there is no interface no-such-if: there are");
        home.fails(&with("lo"), 4, "lo");
    }
    assert!(!home.path("registry").exists());
}

#[test]
fn whoever_reads_is_told_that_there_is_no_registry_and_makes_nothing() {
    let home = Home::with_key();
    let print = "0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567";
    let reads: [&[&str]; 8] = [
        &["nodes", "list"],
        &["nodes", "show", print],
        &["policy", "show"],
        &["policy", "explain", print, "in authority icmp"],
        &["policy", "push"],
        &["telemetry", "--once"],
        &["mesh", "status"],
        &["mesh", "down"],
    ];
    for read in reads {
        home.fails(read, 1, "there is no registry registry: claim a node, or name yours with --registry");
    }
    drop(Registry::open(&home.path("registry")).unwrap());
    assert_eq!(json(&home.run(&["nodes", "list", "--json"]))["nodes"], Value::Array(Vec::new()));
    assert_eq!(String::from_utf8(home.run(&["nodes", "list"]).stdout).unwrap(), "no nodes\n");
    assert_eq!(json(&home.run(&["mesh", "status", "--json"]))["up"], false);
    home.fails(&["nodes", "show", print], 1, "nodes list");
}

#[test]
fn names_out_of_somebodys_registry_reach_no_terminal_as_they_are() {
    let home = Home::with_key();
    let name = "lab\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\nnode  10.8.0.9";
    let registry = Registry::open(&home.path("registry")).unwrap();
    let mut head = GrantHead::new_zeroed();
    head.kind = kind::GRANT;
    let grant = NewNode {
        grant: head.as_bytes(),
        fleet: name,
        anchor: AnchorKind::Image,
        accepted: Accepted::Asked,
        address: [3; 16],
        interface: name,
        fork: None,
    };
    registry.store_pending(&grant).unwrap();
    fleet(&home, &["in peer tcp 22"], &["laptop".into(), name.into()]);
    drop(registry);
    let print = Fingerprint::of(&[0; 32]).to_string();
    Connection::open(home.path("registry")).unwrap().execute("UPDATE fleet SET name = ?1", [name]).unwrap();
    let shows: [&[&str]; 3] = [&["nodes", "list"], &["nodes", "show", &print], &["mesh", "status"]];
    for show in shows {
        for arguments in [show.to_vec(), [show, &["--json"]].concat()] {
            let output = home.run(&arguments);
            for said in [output.stdout, output.stderr] {
                let said = String::from_utf8(said).unwrap();
                let tricks: Vec<char> =
                    said.chars().filter(|c| c.is_control() && *c != '\n' || *c == '\u{202e}').collect();
                assert!(tricks.is_empty(), "{arguments:?}: {said:?}");
                assert!(!said.lines().any(|line| line.starts_with("node  10.8")), "{arguments:?}: {said}");
            }
        }
    }
    let listed = home.run(&["nodes", "list"]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("lab\\u{1b}]0;owned"));
    // The comment of a peer's configuration is one line too.
    let fleets = Registry::open(&home.path("registry")).unwrap().fleet(&[5; 32]).unwrap().unwrap();
    assert_eq!(fleets.name.lines().count(), 1);
}

#[test]
fn a_node_whose_boots_fall_is_named_until_the_operator_clears_it() {
    let home = Home::with_key();
    let registry = Registry::open(&home.path("registry")).unwrap();
    let fleet = Fleet::new([5; 32], "default");
    let mut head = GrantHead::new_zeroed();
    (head.kind, head.title.warrant.fiduciary) = (kind::GRANT, [7; 32]);
    let grant = NewNode {
        grant: head.as_bytes(),
        fleet: "default",
        anchor: AnchorKind::Image,
        accepted: Accepted::Asked,
        address: [3; 16],
        interface: "eth0",
        fork: None,
    };
    let who = Who::Node([7; 32]);
    let new = NewMember { who: &who, key: [9; 32], claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&fleet, &new).unwrap().id;
    registry.store_pending(&grant).unwrap();
    let say = |boots: u64, ms| {
        let mut record = Telemetry::new_zeroed();
        (record.boots, record.restarts[7], record.store_writes) = (boots.into(), 2.into(), 41.into());
        (record.fault_domain, record.fault_cause, record.fault_at_ms) = (7, 2, 99_000.into());
        registry.store_telemetry(&[Said { member, record, ms }]).unwrap();
    };
    say(9, 1000);
    assert_eq!(json(&home.run(&["nodes", "check", "--json"]))["nodes"], Value::Array(Vec::new()));
    let shown = String::from_utf8(home.run(&["nodes", "show", "10.8.0.2"]).stdout).unwrap();
    for line in [
        "boots          9",
        "restarts       claim 2 (the last: claim hung, 99 s after power-up)",
        "store          41 writes",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    say(5, 2000);
    let listed = String::from_utf8(home.run(&["nodes", "list"]).stdout).unwrap();
    assert!(listed.contains("rolled back or cloned?") && listed.contains("boots 5, restarts 2"), "{listed}");
    let shown = String::from_utf8(home.run(&["nodes", "show", "10.8.0.2"]).stdout).unwrap();
    assert!(shown.contains("Its boots fell from 9 to 5 at 1970-01-01T00:00:02Z"), "{shown}");
    let checked = home.run(&["nodes", "check", "--json"]);
    assert_eq!(checked.status.code(), Some(13));
    let doubt = serde_json::from_slice::<Value>(&checked.stdout).unwrap()["nodes"][0]["doubt"].clone();
    assert_eq!((&doubt["fallen"]["was"], &doubt["twice"]), (&9.into(), &Value::Null));
    let cleared = json(&home.run(&["nodes", "clear", "10.8.0.2", "--json"]));
    assert_eq!((&cleared["node"]["doubt"], &cleared["node"]["said"]["boots"]), (&Value::Null, &5.into()));
    assert!(home.run(&["nodes", "check"]).status.success());
}

#[test]
fn a_registry_without_its_mesh_key_or_with_another_is_refused_and_no_key_is_made() {
    let home = Home::with_key();
    fleet(&home, &["in peer tcp 22"], &["laptop".into()]);
    json(&home.run(&["policy", "show", "--json"]));
    let own = fs::read(home.path("mesh.key")).unwrap();
    let verbs: [&[&str]; 5] = [
        &["policy", "show"],
        &["policy", "set", "in peer tcp 23"],
        &["export", "phone"],
        &["telemetry", "--once"],
        &["revoke", "laptop", "--yes"],
    ];
    fs::remove_file(home.path("mesh.key")).unwrap();
    for verb in verbs {
        home.fails(verb, 7, "restore it from the backup that the registry is from");
    }
    drop(MeshKey::make(&home.path("registry")).unwrap());
    for verb in verbs {
        home.fails(verb, 7, "not of one backup");
    }
    home.private("mesh.key", &own);
    json(&home.run(&["policy", "show", "--json"]));
}

/// A registry with a fleet of these rules and peers of these names, and no node.
fn fleet(home: &Home, rules: &[&str], peers: &[String]) {
    let registry = Registry::open(&home.path("registry")).unwrap();
    let fleet = registry.make_fleet(&[5; 32], "default").unwrap();
    registry.set_authority(&fleet.id, &registry.make_mesh_key().unwrap().public()).unwrap();
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    registry.set_fleet_rules(&fleet.id, &rules).unwrap();
    for (number, name) in (1..).zip(peers) {
        let who = Who::Peer(name.clone());
        let new = NewMember { who: &who, key: [number; 32], claim_key: None, underlay: None, authority: None };
        registry.enroll(&fleet, &new).unwrap();
    }
}

#[test]
fn an_export_that_no_node_would_have_room_for_is_refused_and_makes_nothing() {
    let home = Home::with_key();
    let peers: Vec<String> = (1..15).map(|number| format!("laptop-{number}")).collect();
    fleet(&home, &["in peer tcp 22"], &peers);
    let last = json(&home.run(&["export", "last", "--json"]));
    assert_eq!((&last["v4"], last["nodes"].as_array().unwrap().len()), (&"10.8.0.16".into(), 0));
    home.fails(&["export", "one-more"], 3, "more peers than the 16 that a node has");
    home.fails(&["policy", "explain", "nobody", "in", "peer", "tcp", "22"], 1, "no member nobody");
}

#[test]
fn a_revocation_is_asked_for_and_a_program_says_yes_beforehand() {
    let home = Home::with_key();
    fleet(&home, &[], &["laptop".into()]);
    home.fails(&["revoke", "laptop"], 2, "add --yes");
    home.fails(&["revoke", "laptop"], 2, "This revokes the peer laptop at 10.8.0.2");
    let revoked = json(&home.run(&["revoke", "laptop", "--yes", "--json"]));
    assert_eq!((&revoked["revoked"], &revoked["own_ms"]), (&"laptop".into(), &Value::Null));
    // Once it is done there is nothing to ask.
    json(&home.run(&["revoke", "laptop", "--json"]));
}

#[test]
fn a_locked_registry_is_an_error() {
    let home = Home::with_key();
    drop(Registry::open(&home.path("registry")).unwrap());
    let other = Connection::open(home.path("registry")).unwrap();
    let before = listing(home.folder.path());
    // Not to be read by this process while it is locked: that would end the lock.
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let output = home.run(&["nodes", "list", "--json"]);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(output.status.code(), Some(7));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("locked by another process"));
    assert_eq!(listing(home.folder.path()), before);
    assert!(home.run(&["nodes", "list"]).status.success());
}

#[test]
fn a_registry_that_is_none_is_refused_and_left_as_it_is() {
    let home = Home::with_key();
    home.private("registry", &[b'x'; 5000]);
    home.fails(&["nodes", "list"], 7, "is no registry, or is damaged");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let home = Home::with_key();
    drop(Registry::open(&home.path("registry")).unwrap());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.command(&["nodes", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_reader_who_has_gone_and_a_message_that_cannot_be_written_change_no_exit_code() {
    let home = Home::with_key();
    drop(Registry::open(&home.path("registry")).unwrap());
    let gone = || Stdio::from(pipe().unwrap().1);
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for (arguments, code) in
        [(&["nodes", "list"][..], 0), (&["--help"], 0), (&["conquer"], 2), (&["init"], 3), (&["nodes", "show", "x"], 1)]
    {
        for stderr in [gone(), full()] {
            let mut command = home.command(arguments);
            assert_eq!(command.stdout(gone()).stderr(stderr).status().unwrap().code(), Some(code), "{arguments:?}");
        }
    }
    let lost = home.command(&["discover", "--interface", "no-such-if"]).stderr(full()).status().unwrap();
    assert_eq!(lost.code(), Some(4));
}

#[test]
fn help_lists_the_exit_codes() {
    let help = Home::new().run(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("9  claimed, but the acknowledgement is not confirmed"));
}

#[test]
fn a_typed_passphrase_is_asked_for_twice() {
    for (typed, code, message) in [
        ("open sesame\nopen sesame\n", 0, "fingerprint"),
        ("open sesame\nopen sesamE\n", 3, "the two passphrases differ"),
        ("\n", 3, "the passphrase is empty"),
        ("sesame\n", 3, "fewer than 8 characters"),
    ] {
        let home = Home::new();
        let line = format!("{} --key key init", env!("CARGO_BIN_EXE_os-network-admin"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(home.folder.path());
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Each is typed when it is asked for.
        let (mut stdin, mut stdout) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut shown = Vec::new();
        for line in typed.split_inclusive('\n') {
            let asked = shown.len();
            let mut byte = [0];
            while !shown[asked..].ends_with(b": ") {
                stdout.read_exact(&mut byte).unwrap();
                shown.extend(byte);
            }
            stdin.write_all(line.as_bytes()).unwrap();
        }
        stdout.read_to_end(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(script.wait().unwrap().code(), Some(code), "{shown}");
        assert!(shown.contains(message), "{shown}");
        assert_eq!(home.path("key").exists(), code == 0);
    }
}
