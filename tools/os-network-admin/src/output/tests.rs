use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;
use crate::registry::State;

/// The document has these fields, and is read as it was written.
fn same<T: Serialize + DeserializeOwned>(document: &T, expected: Value) {
    let written = serde_json::to_value(document).unwrap();
    assert_eq!(written, expected);
    let read: T = serde_json::from_value(written).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), expected);
}

fn up() -> Up {
    let peer = Peer {
        fingerprint: Some("0123".into()),
        public_key: "k=".into(),
        v4: [10, 8, 0, 2].into(),
        v6: "fd05::2".parse().unwrap(),
        endpoint: Some("[fe80::1%2]:51820".parse().unwrap()),
        handshake_s: None,
        received: 1,
        sent: 2,
        dropped: 3,
    };
    Up {
        pid: 7,
        fleet: "lab".into(),
        interface: "genesis0".into(),
        engine: "user (tun)".into(),
        since_ms: 5,
        v4: [10, 8, 0, 1].into(),
        v6: "fd05::1".parse().unwrap(),
        port: 51820,
        mtu: 1420,
        works: true,
        trouble: Vec::new(),
        public_key: "k=".into(),
        peers: vec![peer],
    }
}

#[test]
fn a_mesh_is_up_or_down_or_has_died() {
    same(
        &Status::from(up()),
        json!({
            "up": true, "pid": 7, "fleet": "lab", "interface": "genesis0", "engine": "user (tun)", "since_ms": 5,
            "v4": "10.8.0.1", "v6": "fd05::1", "port": 51820, "mtu": 1420, "works": true, "trouble": [], "public_key": "k=",
            "peers": [{
                "fingerprint": "0123", "public_key": "k=", "v4": "10.8.0.2", "v6": "fd05::2",
                "endpoint": "[fe80::1%2]:51820", "handshake_s": null, "received": 1, "sent": 2, "dropped": 3,
            }],
        }),
    );
    let text = Status::from(up()).text();
    assert!(
        text.contains("0123  10.8.0.2  at [fe80::1%2]:51820  no handshake  received 1, sent 2, dropped 3"),
        "{text}"
    );
    let useless = Up { works: false, trouble: vec!["genesis0 is down".into()], ..up() };
    let text = Status::from(useless.clone()).text();
    assert!(text.starts_with("the mesh does not work\ntrouble      genesis0 is down\n"), "{text}");
    assert_eq!(serde_json::to_value(Status::from(useless)).unwrap()["up"], false);
    same(&Status::default(), json!({"up": false}));
    assert_eq!(Status::default().text(), "the mesh is down");
    let died =
        Died { pid: 7, engine: "user (tun)".into(), interface: "g0".into(), since_ms: 5, log: "l".into(), last: None };
    let died = Status::from(died);
    let expected =
        json!({"pid": 7, "engine": "user (tun)", "interface": "g0", "since_ms": 5, "log": "l", "last": null});
    same(&died, json!({"up": false, "died": expected}));
    assert!(died.text().contains("its daemon (process 7, user (tun) on g0) has died"));
}

#[test]
fn a_report_has_the_change_and_how_each_node_took_it() {
    let told = |outcome| Told { node: "n".into(), outcome };
    let nodes = vec![
        told(Outcome::Applied { after_ms: 21 }),
        told(Outcome::Refused { reason: "store".into(), why: "no room" }),
        told(Outcome::NotShown),
    ];
    let expected = json!([
        {"node": "n", "outcome": "applied", "after_ms": 21},
        {"node": "n", "outcome": "refused", "reason": "store"},
        {"node": "n", "outcome": "not_shown"},
    ]);
    let report = Report { change: Pushed {}, nodes, error: None };
    same(&report, json!({"nodes": expected}));
    assert_eq!(report.text().lines().next(), Some("n  applied after 0.021 s"));
    let members = vec![MemberRules { node: "n".into(), own: true, rules: vec!["in authority icmp".into()] }];
    let policy = Policy { fleet: "lab".into(), rules: Vec::new(), members, one: false };
    let error = Some(Failure { code: 10, message: "late".into() });
    same(
        &Report { change: policy, nodes: Vec::new(), error },
        json!({
            "fleet": "lab", "rules": [], "members": [{"node": "n", "own": true, "rules": ["in authority icmp"]}],
            "nodes": [], "error": {"code": 10, "message": "late"},
        }),
    );
    let empty = Report { change: Pushed {}, nodes: Vec::new(), error: None };
    assert_eq!(empty.text(), "every node has what it should have");
}

#[test]
fn an_event_of_beacon_names_itself() {
    let found = Found {
        fingerprint: "0123".into(),
        fiduciary: "00".into(),
        address: "fe80::1".into(),
        committed: false,
        registry: Some(State::Pending),
    };
    let json = json!({
        "fingerprint": "0123", "fiduciary": "00", "address": "fe80::1", "committed": false, "registry": "pending",
    });
    same(&Event::Unlisted { found: found.clone() }, json!({"event": "unlisted", "found": json}));
    let error = Failure { code: 6, message: "cut".into() };
    let failed = Event::Failed { found, error };
    same(&failed, json!({"event": "failed", "found": json, "error": {"code": 6, "message": "cut"}}));
    assert_eq!(failed.text(), "0123: cut");
}

#[test]
fn a_table_is_no_higher_than_its_terminal() {
    let row = |number: u8| TableRow {
        node: format!("{number:02}"),
        v4: [10, 8, 0, number].into(),
        doubt: (number == 2).then_some("there twice?"),
        revoked: false,
        record: None,
    };
    let table = Table { rows: (2..52).map(row).collect(), now_ms: 0 };
    assert_eq!(table.text().lines().count(), 51);
    assert_eq!(table.text_within(52, 200), table.text());
    for (rows, columns) in [(24, 200), (24, 80), (24, 10), (2, 200), (1, 1), (0, 0)] {
        let text = table.text_within(rows, columns);
        let drawn: usize = text.lines().map(|line| line.len().div_ceil(columns.max(1))).sum();
        // The last line always says what is left out.
        assert!(drawn < rows.max(2) || text.lines().count() == 1, "{rows} {columns}:\n{text}");
        let left = 50 - text.lines().count().saturating_sub(2);
        assert!(text.ends_with(&format!("and {left} more: telemetry --once")), "{rows} {columns}:\n{text}");
    }
}

#[test]
fn times_are_told_in_words() {
    assert_eq!((seconds(21), seconds(61_005)), ("0.021 s".into(), "61.005 s".into()));
    assert_eq!(time(0), "1970-01-01T00:00:00Z");
    assert_eq!(time(i64::MAX), format!("{} ms after 1970", i64::MAX));
}
