//! What docs/recovery.md tells people to do, with the tool and several keys on a native segment.

use genesis_tests::{bed::Bed, fleet::Fleet};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Makes somebody's key, and his public half. Returns whose it is.
fn key(fleet: &mut Fleet, name: &str) -> String {
    let made = json(&fleet.person(name, "--json init"));
    fleet.person(name, &format!("anchor --out /run/admin/{name}.bin"));
    made["fingerprint"].as_str().expect("a fingerprint").to_owned()
}

/// Proposes a set, which these approve, and pushes it.
fn push(fleet: &mut Fleet, number: u32, wish: &str, who: &[&str]) -> (i32, String) {
    let set = format!("/run/admin/set-{number}");
    fleet.admin(&format!("authority propose {wish} --out {set}"));
    fleet.admin(&format!("authority approve {set} --out {set}-of-admin --yes"));
    let mut files = format!("{set} {set}-of-admin");
    for who in who {
        fleet.person(who, &format!("authority approve {set} --out {set}-of-{who} --yes"));
        files += &format!(" {set}-of-{who}");
    }
    let said = fleet.try_admin(&format!("authority push {files} --wait 3"));
    (said.code, said.text)
}

/// "A node was away".
#[test]
fn a_node_that_was_off_during_three_records_catches_up_in_one_push() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (there, _) = fleet.node(&bed);
    let (mut away, _) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy push");
    let (other, third) = (key(&mut fleet, "other"), key(&mut fleet, "third"));
    away.cut();
    // One comes, another takes his place, and both have gone in the end.
    let steps = [
        ("--add /run/admin/other.bin".to_owned(), vec!["other"]),
        (format!("--add /run/admin/third.bin --remove {other}"), vec!["other", "third"]),
        (format!("--remove {third}"), vec!["third"]),
    ];
    for (number, (wish, who)) in (1..).zip(steps) {
        let (code, said) = push(&mut fleet, number, &wish, &who);
        assert!(code == 10 && said.contains(&format!("set {number}: 1 of 2 nodes")), "{code}: {said}");
        let status = json(&fleet.admin("--json authority status"));
        let behind = &status["behind"][0];
        assert_eq!((&behind["state"], &behind["set"]), (&"behind".into(), &0.into()), "{status}");
    }
    away.on();
    away.wait_phase("claimed");
    let pushed = fleet.admin("authority push");
    assert!(pushed.ends_with("set 3: 2 of 2 nodes"), "{pushed}");
    assert_eq!(json(&fleet.admin("--json authority status"))["behind"], Value::Array(Vec::new()));
    // It obeys as the other does.
    for fingerprint in [away.fingerprint(), there.fingerprint()] {
        fleet.admin(&format!("command {fingerprint} status"));
    }
}

/// "Too few are left".
#[test]
fn where_too_few_keys_are_left_nothing_is_changed_and_a_wiped_device_is_claimed_as_a_new_node() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (mut node, at) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy push");
    let other = key(&mut fleet, "other");
    let (code, said) = push(&mut fleet, 1, "--add /run/admin/other.bin", &["other"]);
    assert!(code == 0 && said.ends_with("set 1: 1 of 1 nodes"), "{code}: {said}");
    // His key is lost, and two must sign.
    fleet.host.ok("rm /run/admin/key-other");
    let lost = format!("authority propose --lost {other} --remove {other} --out /run/admin/set-2");
    for (words, code) in [(lost, 3), (format!("release --yes {at}"), 3), ("policy set 'in authority icmp'".into(), 12)]
    {
        let said = fleet.try_admin(&words);
        assert_eq!(said.code, code, "{words}: {said:?}");
    }
    fleet.admin(&format!("release {at} --out /run/admin/release"));
    fleet.admin("order sign /run/admin/release --out /run/admin/release-one --yes");
    let alone = fleet.try_admin("order deliver /run/admin/release /run/admin/release-one");
    assert_eq!(alone.code, 15, "{alone:?}");
    // One authority may still look and have keys made anew; the node goes on by its last policy.
    for what in ["status", "rotate"] {
        fleet.admin(&format!("command {at} {what}"));
    }
    assert!(!node.console().contains("genesis: released"));

    let before = node.fingerprint();
    node.cut();
    node.wipe();
    node.on();
    node.wait_phase("hold");
    assert_ne!(node.fingerprint(), before);
    let text = node.ticket();
    fleet.host.ok(&format!("umask 077; echo '{text}' >/run/admin/ticket"));
    fleet.admin("claim --fleet anew --ticket-file /run/admin/ticket");
    node.wait_phase("claimed");
    let revoked = fleet.try_admin(&format!("revoke --yes {before}"));
    assert_eq!(revoked.code, 0, "{revoked:?}");
    fleet.admin("mesh down");
    fleet.admin("mesh up --fleet anew");
    fleet.admin(&format!("command {} status --fleet anew", node.fingerprint()));
    let nodes = json(&fleet.admin("--json nodes list"));
    let state = |print: &str| {
        let of = |node: &&Value| node["fingerprint"] == print;
        let node = nodes["nodes"].as_array().into_iter().flatten().find(of).expect("it is listed");
        !node["mesh"]["revoked_ms"].is_null()
    };
    assert_eq!((state(&before), state(&node.fingerprint())), (true, false), "{nodes}");
}
