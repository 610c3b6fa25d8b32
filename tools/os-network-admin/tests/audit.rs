//! The log of acts and refusals from outside: what the program shows of it, and what somebody else's program makes of it.

mod listing;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::Arc,
};

use crypto::Secret;
use os_network_admin::{
    base::key::{Cost, KeyFile},
    registry::{Event, Kind, NewMember, Outcome, Registry, Tag, Who},
};
use rusqlite::Connection;
use serde_json::Value;

use listing::listing;

const FLEET: [u8; 32] = [5; 32];

struct Home(tempfile::TempDir);

impl Home {
    /// A key, and a registry in which something was done without it and with it.
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        KeyFile::seal(&Secret::new([7; 32]), b"open sesame", cost).unwrap().store(&home.path("key")).unwrap();
        fs::write(home.path("pass"), "open sesame\n").unwrap();
        fs::set_permissions(home.path("pass"), Permissions::from_mode(0o600)).unwrap();
        let registry = home.registry();
        let fleet = registry.make_fleet(&FLEET, "default").unwrap();
        registry.set_fleet_rules(&FLEET, &["in authority tcp 80".parse().unwrap()].into_iter().collect()).unwrap();
        registry.sign_with(&Arc::new(home.key().unlock(b"open sesame").unwrap()));
        let who = Who::Peer("lap\u{1b}[31mtop".into());
        let new = NewMember { who: &who, key: [9; 32], claim_key: None, underlay: None, authority: None };
        let id = registry.enroll(&fleet, &new).unwrap().id;
        registry.revoke(id).unwrap();
        // Without the key again.
        let event = Event::new(Kind::Cleared).node(&[3; 32]).text(Tag::Why, "a\u{9b}b");
        home.registry().log(event).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn key(&self) -> KeyFile {
        KeyFile::load(&self.path("key")).unwrap()
    }

    fn registry(&self) -> Registry {
        Registry::open(&self.path("registry")).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
        command.current_dir(self.0.path()).stdin(Stdio::null()).env_clear();
        command.args(["--key", "key", "--passphrase-file", "pass", "--registry", "registry"]).args(arguments);
        command.output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Changes the file as somebody would who can write to it.
    fn tamper(&self, change: &str) {
        let connection = Connection::open(self.path("registry")).unwrap();
        let triggers = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<Vec<String>, _>>()
            .unwrap();
        for trigger in triggers {
            connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        connection.execute_batch(change).unwrap();
    }
}

fn kinds(log: &Value) -> Vec<&str> {
    log["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect()
}

#[test]
fn what_was_done_is_shown_and_chosen_from_and_nothing_in_it_is_obeyed() {
    let home = Home::new();
    let log = home.json(&["audit", "show"]);
    assert_eq!(kinds(&log), ["log_began", "fleet_made", "policy_set", "exported", "revoked", "cleared"]);
    assert_eq!(log["entries"][2]["fields"]["what"], "+ in authority tcp 80");
    assert_eq!((&log["entries"][2]["signer"], &log["unreadable"]), (&Value::Null, &Value::Array(Vec::new())));
    assert_eq!(log["entries"][4]["signer"], home.json(&["audit", "verify"])["signers"][0]["key"]);
    assert_eq!(log["entries"][4]["fields"]["peer"], "lap\\u{1b}[31mtop");
    let text = home.text(&["audit", "show"]);
    assert!(text.contains("revoked  fleet 0505050505050505…  peer lap\\u{1b}[31mtop  signed"), "{text}");
    assert!(text.contains("why a\\u{9b}b") && !text.contains(['\u{1b}', '\u{9b}']), "{text}");
    assert_eq!(kinds(&home.json(&["audit", "show", "--node", "lap\\u{1b}[31mtop"])), ["exported", "revoked"]);
    let print = log["entries"][5]["node"].as_str().unwrap();
    assert_eq!(kinds(&home.json(&["audit", "show", "--node", &print[..9]])), ["cleared"]);
    assert_eq!(kinds(&home.json(&["audit", "show", "--node", "ffff-ffff"])), [""; 0]);
    assert_eq!(kinds(&home.json(&["audit", "show", "--since", "1h"])).len(), 6);
    assert_eq!(kinds(&home.json(&["audit", "show", "--since", "2100-01-01T00:00:00Z"])), [""; 0]);
    assert_eq!(home.run(&["audit", "show", "--since", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_log_is_verified_signed_and_held_against_a_head_of_before() {
    let home = Home::new();
    let before = home.json(&["audit", "verify"]);
    assert_eq!(
        (&before["head"]["sequence"], &before["signed"], &before["unsigned"]),
        (&6.into(), &5.into(), &1.into())
    );
    assert_eq!((&before["signers"][0]["entries"], &before["signers"][0]["own"]), (&2.into(), &true.into()));
    let head = before["head"]["hash"].as_str().unwrap();
    // A backup has it, and says so.
    let backup = home.json(&["backup", "b"]);
    assert_eq!(backup["log"]["hash"], head);
    let after = home.json(&["audit", "sign"]);
    assert_eq!((&after["head"]["sequence"], &after["signed"], &after["unsigned"]), (&7.into(), &7.into(), &0.into()));
    home.json(&["audit", "verify", "--head", head]);
    home.text(&["anchor", "--out", "anchor.bin"]);
    home.json(&["audit", "verify", "--authority", "anchor.bin"]);
    let other = "e4".repeat(31) + "12";
    let refused = home.run(&["audit", "verify", "--head", &other]);
    assert_eq!(refused.status.code(), Some(14), "{refused:?}");
    home.text(&["init", "--key", "other"]);
    home.text(&["anchor", "--key", "other", "--out", "other.bin"]);
    let refused = home.run(&["audit", "verify", "--authority", "other.bin"]);
    assert_eq!(refused.status.code(), Some(14), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr)
            .contains("entry 4 of the log: it is signed by a key that was not named")
    );
    // What makes keys and anchors is told too, by the key that is at hand.
    let log = home.json(&["audit", "show"]);
    assert_eq!(kinds(&log)[7..], ["anchor_written", "key_made", "anchor_written"]);
    assert_eq!(log["entries"][8]["signer"], log["entries"][8]["fields"]["key"]);
    // The backup's log is a part of this one: nothing is lost by a restore.
    let restored = home.json(&["restore", "b"]);
    assert_eq!(restored["check"].as_array().unwrap().len(), 2);
    home.json(&["audit", "verify", "--head", head]);
    assert_eq!(*kinds(&home.json(&["audit", "show"])).last().unwrap(), "restored");
}

#[test]
fn whatever_is_changed_in_the_file_is_found_and_the_first_bad_entry_named() {
    for (change, sequence) in [
        ("UPDATE audit SET entry = zeroblob(90) WHERE sequence = 3", 3),
        ("UPDATE audit SET entry = (SELECT entry FROM audit WHERE sequence = 2) WHERE sequence = 3", 3),
        ("UPDATE audit SET signature = zeroblob(64) WHERE sequence = 4", 4),
        ("UPDATE audit SET signature = NULL WHERE sequence = 5", 5),
        ("UPDATE audit SET signature = zeroblob(64) WHERE sequence = 2", 2),
        ("DELETE FROM audit WHERE sequence = 2", 2),
        ("DELETE FROM audit WHERE sequence = 6", 6),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET sequence = 99 WHERE sequence = 6", 6),
        ("UPDATE audit_head SET sequence = 5", 6),
        ("UPDATE audit_head SET hash = zeroblob(32)", 6),
    ] {
        let home = Home::new();
        home.tamper(change);
        let before = listing(home.0.path());
        let output = home.run(&["audit", "verify", "--json"]);
        assert_eq!(output.status.code(), Some(14), "{change}: {output:?}");
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["bad"]["sequence"], sequence, "{change}: {verdict}");
        assert_eq!(verdict["head"]["sequence"], sequence - 1 + i32::from(change.contains("audit_head")), "{change}");
        let output = home.run(&["audit", "verify"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("entry {sequence} of the log")), "{change}: {said}");
        assert_eq!(listing(home.0.path()), before);
        // What cannot be read hides no other.
        home.json(&["audit", "show"]);
    }
}

#[test]
fn the_document_has_every_number_and_its_name() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/os-network-admin.md");
    let text = fs::read_to_string(document).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kinds = Kind::ALL.iter().map(|kind| format!("{} `{}`", u8::from(*kind), kind.name()));
    let outcomes = Outcome::ALL.iter().map(|outcome| format!("{} `{}`", u8::from(*outcome), outcome.name()));
    let tags = Tag::ALL.iter().map(|tag| format!("0x{:02x} `{}`", u8::from(*tag), tag.name()));
    for said in kinds.chain(outcomes).chain(tags) {
        assert!(text.contains(&said), "{said}");
    }
}

/// Somebody else's program: it knows the document only, and nothing of this project is in it.
fn somebody_elses(log: &str) -> Result<(u64, usize), String> {
    use ed25519_dalek::{Signature, VerifyingKey};
    use sha2::{Digest, Sha256};
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let (mut sequence, mut before, mut signed) = (0, vec![0; 32], 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let entry = hex(line["entry"].as_str().unwrap());
        let signature = line["signature"].as_str().map(hex).unwrap_or_default();
        sequence += 1;
        if entry[0] != 1 || entry[4..12] != u64::to_be_bytes(sequence) || entry[20..52] != before {
            return Err(format!("entry {sequence} does not follow"));
        }
        if entry[52..84] != [0; 32] {
            let key = VerifyingKey::from_bytes(entry[52..84].try_into().unwrap()).unwrap();
            let digest = Sha256::new().chain_update(b"genesis/1 audit\0").chain_update(&entry).finalize();
            let signature = Signature::from_slice(&signature).map_err(|_| "no signature")?;
            key.verify_strict(&digest, &signature).map_err(|_| format!("entry {sequence} is not signed"))?;
            signed += 1;
        }
        let hash = Sha256::new().chain_update(b"genesis/1 audit hash\0").chain_update(&entry).chain_update(&signature);
        before = hash.finalize().to_vec();
    }
    Ok((sequence, signed))
}

#[test]
fn an_exported_log_is_verified_by_a_program_that_has_nothing_of_this_one() {
    let home = Home::new();
    home.json(&["audit", "sign"]);
    assert_eq!(home.json(&["audit", "export", "log"])["entries"], 7);
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert_eq!(somebody_elses(&log), Ok((7, 3)));
    let second = log.lines().nth(1).unwrap();
    let changed = second.replacen("64656661756c74", "64656661756c75", 1);
    assert_ne!(changed, second);
    assert_eq!(somebody_elses(&log.replace(second, &changed)), Err("entry 3 does not follow".into()));
    let refused = home.run(&["audit", "export", "log"]);
    assert!(!refused.status.success(), "nothing is overwritten");
}
