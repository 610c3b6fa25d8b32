//! `os-network-admin`, with kernel sockets, against the node: what an operator does.

use std::time::{Duration, Instant};

use genesis_tests::{
    bed::{Bed, image, ticket},
    fleet::Fleet,
    tool::{Tool, json, said},
};
use lab::NodeOptions;

#[test]
fn a_node_is_claimed_by_the_ticket_on_its_console() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let node = bed.node(ticket());
    node.wait_phase("hold");
    let output = tool.on_segment(&["claim", "--ticket", &node.ticket()]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), node.console());
    node.wait_phase("claimed");
    let nodes = tool.nodes();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0]["fingerprint"], node.fingerprint());
    assert_eq!(nodes[0]["fiduciary"], wire::Hex(&node.fiduciary()).to_string());
    assert_eq!((&nodes[0]["state"], &nodes[0]["accepted"]), (&"paired".into(), &"ticket".into()));
    assert_eq!(nodes[0]["acknowledged"], true);
    // Both sides name the same fleet.
    let fleet = nodes[0]["fleet"]["id"].as_str().expect("a fleet").to_owned();
    node.wait_line(|line| line.starts_with("genesis: committed") && line.contains(&fleet));
    // Its owner's registry knows it; on the segment there is nothing left to claim, for the owner neither.
    let again = tool.on_segment(&["claim", "--ticket", &node.ticket()]);
    assert_eq!((again.status.code(), &json(&again)["already"]), (Some(0), &true.into()), "{}", said(&again));
    let again = tool.on_segment(&["claim", "--again", "--ticket", &node.ticket(), "--wait", "2"]);
    assert_eq!(again.status.code(), Some(5), "{}", said(&again));
}

#[test]
fn a_ticket_of_another_node_claims_nothing() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let (node, other) = (bed.node(ticket()), bed.node(ticket()));
    node.wait_phase("hold");
    other.wait_phase("hold");
    let wanted = node.ticket();
    let output = tool.on_segment(&["claim", "--ticket", &wanted]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    node.wait_phase("claimed");
    assert_eq!(other.phases().last().map(String::as_str), Some("hold"));
    // A mistyped one is refused before anything is sent.
    bed.mark();
    let mut typed = other.ticket();
    let last = typed.pop().expect("a character");
    typed.push(if last == 'A' { 'B' } else { 'A' });
    let output = tool.on_segment(&["claim", "--ticket", &typed]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(bed.frames_from(&other), [] as [Vec<u8>; 0]);
}

#[test]
fn nodes_of_one_image_are_found_and_the_listed_one_is_claimed() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let anchor = tool.anchor();
    let nodes = [(); 3].map(|()| bed.node(image(&anchor)));
    nodes.iter().for_each(|node| node.wait_phase("hold"));
    let output = tool.on_segment(&["discover", "--wait", "4"]);
    let found = json(&output)["nodes"].as_array().expect("nodes").len();
    assert_eq!((output.status.code(), found), (Some(0), 3), "{}", said(&output));
    let output = tool.on_segment(&["claim", "--any-listed", "--expect", &nodes[1].fingerprint()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    nodes[1].wait_phase("claimed");
    for other in [&nodes[0], &nodes[2]] {
        assert_eq!(other.phases().last().map(String::as_str), Some("hold"));
    }
    assert_eq!(tool.nodes()[0]["accepted"], "expected");
    // Unlisted and with nobody to ask: refused, and not enrolled.
    let output = tool.on_segment(&["claim", "--wait", "3"]);
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    assert_eq!(tool.nodes().len(), 1);
}

/// The daemon answers a scan and claims what is listed, and nothing else.
#[test]
fn a_beacon_claims_listed_nodes_as_they_scan() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let anchor = tool.anchor();
    let scanning = || bed.node(image(&anchor).with(|params| params.scan_ms = 60_000.into()));
    let (listed, unlisted) = (scanning(), scanning());
    let output = tool.on_segment(&["beacon", "--once", "--expect", &listed.fingerprint()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    listed.wait_phase("claimed");
    assert_eq!(listed.phases(), ["blind", "scan", "committed", "claimed"]);
    assert!(!unlisted.console().contains("gate open"));
}

/// An administrator with another key finds nothing, and the node says nothing.
#[test]
fn a_stranger_with_the_same_tool_gets_nothing() {
    let bed = Bed::new();
    let (owner, stranger) = (Tool::new(&bed, "owner"), Tool::new(&bed, "stranger"));
    let node = bed.node(image(&owner.anchor()));
    node.wait_phase("hold");
    bed.mark();
    let output = stranger.on_segment(&["claim", "--accept-any", "--wait", "3"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0]);
    assert_eq!(stranger.nodes().len(), 0);
    let output = owner.on_segment(&["claim", "--fingerprint", &node.fingerprint()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    node.wait_phase("claimed");
}

/// Two of three sign, each with the tool and a key of his own, and are away when the node is claimed.
#[test]
fn a_node_is_claimed_by_a_warrant_that_several_have_signed() {
    let bed = Bed::new();
    let receiver = Tool::new(&bed, "receiver");
    let signers = ["ada", "bob", "eve"].map(|name| Tool::new(&bed, name));
    let text = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
    let done = |tool: &Tool, words: &[&str]| {
        let output = tool.here(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", said(&output));
    };
    let keys = signers.each_ref().map(|signer| {
        signer.anchor();
        text(signer.file("anchor.bin"))
    });
    let anchor = text(receiver.file("image.bin"));
    let authorities = ["--authority", &keys[0], "--authority", &keys[1], "--authority", &keys[2]];
    done(&receiver, &[&["anchor", "--out", &anchor, "--needed", "2"], &authorities[..]].concat());
    let options = NodeOptions { anchor: Some(std::fs::read(&anchor).expect("the anchor")), ..ticket() };
    let node = bed.node(options);
    node.wait_phase("hold");
    let (fiduciary, proposal) = (wire::Hex(&node.fiduciary()).to_string(), text(receiver.file("proposal")));
    done(&receiver, &["warrant", "propose", "--node", &fiduciary, "--anchor", &anchor, "--out", &proposal]);
    let approvals = [0, 2].map(|at: usize| {
        let out = text(signers[at].file("approval"));
        done(&signers[at], &["warrant", "sign", &proposal, "--out", &out, "--yes"]);
        out
    });
    // Without a warrant the key that finds the node does not own it.
    let alone = receiver.on_segment(&["claim", "--fingerprint", &node.fingerprint(), "--wait", "3"]);
    assert_eq!(alone.status.code(), Some(6), "{}", said(&alone));
    let one = receiver.on_segment(&["claim", "--warrant", &proposal, "--warrant", &approvals[0]]);
    assert_eq!(one.status.code(), Some(15), "{}", said(&one));
    let files = ["--warrant", &proposal, "--warrant", &approvals[0], "--warrant", &approvals[1]];
    let claimed = receiver.on_segment(&[&["claim"], &files[..]].concat());
    assert_eq!(claimed.status.code(), Some(0), "{}\n{}", said(&claimed), node.console());
    node.wait_phase("claimed");
    assert_eq!(json(&claimed)["node"]["mesh"]["v4"], "10.8.0.2");
}

/// A founder shares his power with another; then both let one node go, and hand one over. Each node's own word says so.
#[test]
fn a_set_is_handed_over_and_two_let_nodes_go() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (first, at) = fleet.node(&bed);
    let (second, to) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy push");
    // The other has a key of his own; the third is another owner.
    fleet.person("other", "init");
    fleet.person("other", "anchor --out /run/admin/other.bin");
    fleet.person("third", "init");
    fleet.person("third", "anchor --out /run/admin/third.bin");
    fleet.admin("authority propose --add /run/admin/other.bin --out /run/admin/set");
    let approved = fleet.both("authority approve", "/run/admin/set");
    let pushed = fleet.admin(&format!("authority push {approved}"));
    assert!(pushed.ends_with("set 1: 2 of 2 nodes"), "{pushed}");
    let status = fleet.admin("authority status");
    assert!(status.contains("2 of 2 must sign") && status.ends_with("set 1: 2 of 2 nodes"), "{status}");
    // The other commands as well from now on, and alone neither lets a node go.
    fleet.person("other", &format!("command {at} status"));
    let alone = fleet.try_admin(&format!("release --yes {at}"));
    assert_eq!(alone.code, 3, "{alone:?}");
    first.forget_lines();
    second.forget_lines();
    fleet.admin(&format!("release {at} --out /run/admin/release"));
    fleet.admin(&format!("transfer {to} --to /run/admin/third.bin --out /run/admin/transfer"));
    for order in ["/run/admin/release", "/run/admin/transfer"] {
        let signed = fleet.both("order sign", order);
        let delivered = fleet.admin(&format!("order deliver {signed}"));
        assert!(delivered.starts_with("delivered to 1 of 1 nodes"), "{delivered}");
    }
    let nodes = fleet.admin("nodes list");
    assert!(nodes.contains(", released") && nodes.contains(", transferred"), "{nodes}");
    for node in [&first, &second] {
        node.wait_line(|line| line == "genesis: phase hold");
    }
    // The one shows another ticket; the other is the third's, and nobody else's.
    first.wait_line(|line| line.starts_with("genesis: ticket "));
    let claim = format!("claim --fingerprint {}", second.fingerprint());
    assert_eq!(fleet.try_admin(&format!("{claim} --wait 2")).code, 5, "who let it go finds it");
    fleet.person("third", &claim);
    second.wait_line(|line| line == "genesis: phase claimed");
}

/// He tells his nodes himself, has their receipts, and then is a stranger to them.
#[test]
fn a_founder_who_resigns_has_the_receipts_and_then_no_node_answers_his_handshake() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (node, at) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&at);
    fleet.person("third", "init");
    fleet.person("third", "authority key --endpoint [fd99::9]:51820 --out /run/admin/card");
    let approve = |fleet: &mut Fleet, set: &str| {
        fleet.person("third", &format!("authority approve {set} --out {set}-of-third --yes"));
        format!("{set} {set}-of-third")
    };
    fleet.admin("authority propose --add /run/admin/card --out /run/admin/set-1");
    fleet.admin("authority approve /run/admin/set-1 --out /run/admin/set-1-own --yes");
    let approved = approve(&mut fleet, "/run/admin/set-1");
    fleet.admin(&format!("authority push {approved} /run/admin/set-1-own"));
    fleet.ping(&at);
    fleet.admin("authority resign --out /run/admin/set-2");
    let approved = approve(&mut fleet, "/run/admin/set-2");
    let pushed = fleet.admin(&format!("authority push {approved}"));
    assert!(pushed.ends_with("set 2: 1 of 1 nodes"), "{pushed}");
    // Nothing of his comes through any more, and when his four seconds are over no new session comes about.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        fleet.host.until(&format!("! ping -n -c 1 -W 1 {at}"));
        fleet.admin("mesh down");
        fleet.admin("mesh up");
        fleet.host.until(&format!("! ping -n -c 1 -W 1 {at}"));
        let status = fleet.admin("--json mesh status");
        if status.replace(' ', "").contains("\"handshake_s\":null") {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
    // His own tool knows that he has nothing to say.
    assert_eq!(fleet.try_admin(&format!("command {at} isolate --wait 3")).code, 12);
    assert!(!node.console().contains("genesis: isolated"));
}
