//! Another set takes over a fleet: who proposes, who approves, and what each of them sees.

use wire::receipt::{Kind as Proof, Receipt};

use super::*;

impl Ceremony {
    fn name(&self, at: usize) -> String {
        os_network_admin::base::key::fingerprint(&self.signers[at].key.public()).to_string()
    }

    fn approve(&self, at: usize, files: &[&str], name: &str) -> String {
        let out = self.file(name);
        self.signers[at].does(&[&["authority", "approve"], files, &["--out", &out, "--yes"]].concat());
        out
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_is_proposed_read_and_approved_apart_and_is_in_force_when_nodes_say_so() {
    let mut ceremony = Ceremony::new();
    let _segment = ceremony.claimed().await;
    let founder = &ceremony.founder;
    let before = founder.does(&["authority", "status"]);
    assert_eq!((&before["set"], &before["needed"], &before["of"]), (&0.into(), &2.into(), &1.into()));
    let (file, leaves) = (ceremony.file("set-1"), ceremony.name(1));
    // One who comes has a place in the mesh.
    let card = ceremony.file("card");
    ceremony.signers[2].does(&["authority", "key", "--endpoint", "[2001:db8::9]:51820", "--out", &card]);
    let proposed = founder.does(&["authority", "propose", "--add", &card, "--remove", &leaves[..9], "--out", &file]);
    let record = &proposed["records"][0];
    assert_eq!(
        (&record["state"], &record["set"], &record["needed"]),
        (&"proposed".into(), &1.into(), &serde_json::json!([2, 2]))
    );
    assert!(record["warning"].is_null(), "one of three can be done without");
    let text = fs::read_to_string(&file).unwrap();
    for line in
        ["set          number 1", &format!("change       leaves: {leaves}"), "in the mesh", "[2001:db8::9]:51820"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    // It stays a proposal until all have signed who must.
    let first = ceremony.approve(0, &[&file], "by-0");
    founder.fails(&["authority", "push", &file, &first], 15, "approved by 1 of the 2");
    let own = ceremony.file("by-founder");
    founder.does(&["authority", "approve", &file, "--out", &own, "--yes"]);
    founder.fails(&["authority", "push", &file, &first, &own], 15, "1 of those whose keys are new");
    let last = ceremony.approve(2, &[&file], "by-2");
    let shown = founder.does(&["authority", "show", &file, &first, &own, &last]);
    assert_eq!((&shown["records"][0]["state"], &shown["records"][0]["has"]), (&"approved".into(), &0.into()));
    // Nobody is there to be told, but it is kept: it is pushed again without files.
    founder.fails(&["authority", "push", &file, &first, &own, &last], 4, "the mesh is not up");
    founder.fails(&["authority", "push"], 4, "the mesh is not up");
    let status = founder.does(&["authority", "status"]);
    assert_eq!((&status["set"], &status["has"], &status["of"]), (&1.into(), &0.into(), &1.into()));
    // Of the image's five signers one was an authority and has left; of an anchor of two, one is too many.
    let (left, stays) = (ceremony.signers[1].public(), ceremony.signers[0].public());
    founder.does(&["anchor", "--out", "two.bin", "--needed", "2", "--authority", &left, "--authority", &stays]);
    let status = founder.does(&["authority", "status", "--image", "anchor.bin", "--image", "two.bin"]);
    let images: Vec<_> =
        status["images"].as_array().unwrap().iter().map(|one| (&one["left"][0], &one["enough"])).collect();
    let key = Json::from(&left[..64]);
    assert_eq!(images, [(&key, &true.into()), (&key, &false.into())]);
    founder.fails(&["authority", "status", "--image", "pass"], 3, "is no anchor");
    assert_eq!((&status["behind"][0]["state"], &status["behind"][0]["set"]), (&"behind".into(), &0.into()));
    // A node that comes later joins the set that is in force.
    let (later, newcomer) = (ceremony.file("later"), Hex(&Node::new(7, admin().public()).fiduciary()).to_string());
    founder.does(&["warrant", "propose", "--node", &newcomer, "--anchor", "anchor.bin", "--out", &later]);
    // Who that is, is not said once more.
    let (again, key) = (ceremony.file("again"), ceremony.signers[3].public());
    let named = ["warrant", "propose", "--node", &newcomer, "--authority", &key, "--needed", "2", "--out", &again];
    founder.fails(&named, 3, "leave --authority and --needed away");
    let named = ["claim", "--interface", "lo", "--accept-any", "--authority", &key, "--needed", "2"];
    founder.fails(&named, 3, "leave --authority and --needed away");
    let text = fs::read_to_string(&later).unwrap();
    let by = format!("by record    {}", record["hash"].as_str().unwrap());
    assert!(text.contains("set          number 1, 2 of 3 must sign") && text.contains(&by), "{text}");
    let log = founder.log();
    for (kind, outcome) in
        [("proposed", "done"), ("approved", "done"), ("approved", "refused"), ("record_adopted", "done")]
    {
        assert!(log.contains(&(kind.into(), outcome.into())), "{kind}, {outcome}: {log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_one_number_a_key_approves_one_record_whatever_it_is_asked() {
    let mut ceremony = Ceremony::new();
    let _segment = ceremony.claimed().await;
    let (one, other) = (ceremony.file("one"), ceremony.file("other"));
    let added = [2, 3].map(|at| ceremony.signers[at].public());
    ceremony.founder.does(&["authority", "propose", "--add", &added[0], "--out", &one]);
    ceremony.founder.does(&["authority", "propose", "--add", &added[1], "--out", &other]);
    let fresh = ceremony.signers[0].path("backup");
    drop(ceremony.signers[0].registry());
    ceremony.signers[0].does(&["backup", fresh.to_str().unwrap()]);
    ceremony.approve(0, &[&one], "by-0");
    // The same again is the same.
    ceremony.approve(0, &[&one], "by-0-again");
    let [hash, second] = [&one, &other].map(|file| {
        let shown = ceremony.founder.does(&["authority", "show", file]);
        shown["records"][0]["hash"].as_str().unwrap().to_owned()
    });
    let signer = &ceremony.signers[0];
    for _ in 0..2 {
        let refused = ["authority", "approve", &other, "--out", "approval", "--yes"];
        signer.fails(&refused, 3, &format!("{hash}, and this is {second}"));
    }
    assert!(!signer.path("approval").exists());
    assert_eq!(signer.log().iter().filter(|entry| entry.1 == "refused").count(), 2);
    // Nor if the registry comes from a backup of before.
    signer.does(&["restore", fresh.to_str().unwrap()]);
    signer.fails(&["authority", "approve", &other, "--out", "approval", "--yes"], 3, "approved another record");
    // Whoever is in neither set approves nothing.
    ceremony.signers[4].fails(
        &["authority", "approve", &one, "--out", "approval", "--yes"],
        3,
        "none of those who must",
    );
}

/// The node has followed the first record of its fleet, and it was heard.
fn receipt(of: &Person, record: &str) {
    let mut hash = [0; 32];
    base16ct::mixed::decode(record, &mut hash).unwrap();
    let (node, registry) = (Node::new(1, admin().public()), of.registry());
    let fleet = registry.fleets_named("default").unwrap().remove(0).id;
    let receipt = Receipt::sign(&node.seed, &node.fiduciary(), Proof::Record, &fleet, 1, &hash);
    assert_eq!(registry.store_receipts([&receipt]).unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_resigns_proposes_it_and_approves_it_himself() {
    let mut ceremony = Ceremony::new();
    let _segment = ceremony.claimed().await;
    let (file, first, card) = (ceremony.file("resigned"), ceremony.file("set-1"), ceremony.file("card"));
    // He is the only one whom the node can reach.
    let founder = &ceremony.founder;
    founder.fails(&["authority", "resign", "--out", &file], 3, "could be reached by nobody any more");
    ceremony.signers[2].does(&["authority", "key", "--out", &card]);
    let added = founder.does(&["authority", "propose", "--add", &card, "--out", &first]);
    let own = ceremony.file("by-founder");
    founder.does(&["authority", "approve", &first, "--out", &own, "--yes"]);
    let by = [0, 2].map(|at| ceremony.approve(at, &[&first], &format!("first-by-{at}")));
    founder.fails(&["authority", "push", &first, &own, &by[0], &by[1]], 4, "the mesh is not up");
    founder.fails(&["authority", "resign", "--out", &file], 3, "the last authority that nodes which were not told yet");
    receipt(founder, added["records"][0]["hash"].as_str().unwrap());
    let resigned = founder.does(&["authority", "resign", "--out", &file]);
    let record = &resigned["records"][0];
    assert_eq!((&record["needed"], record["then"].as_array().unwrap().len()), (&serde_json::json!([3, 2]), 3));
    assert_eq!(record["before"][0]["approved"], true);
    assert!(record["warning"].is_null(), "{record}");
    // The others need not even want it, if three of four are enough with him; two of those who stay must sign.
    let others = [0, 1].map(|at| ceremony.approve(at, &[&file], &format!("by-{at}")));
    let shown = ceremony.founder.does(&["authority", "show", &file, &others[0], &others[1]]);
    assert_eq!(shown["records"][0]["state"], "approved");
    ceremony.signers[4].fails(&["authority", "resign", "--out", "x"], 1, "there is no registry");
}

#[tokio::test(start_paused = true)]
async fn an_order_is_written_for_all_who_must_sign_and_is_delivered_when_enough_have() {
    let mut ceremony = Ceremony::new();
    let _segment = ceremony.claimed().await;
    let (order, founder) = (ceremony.file("order"), &ceremony.founder);
    let node = founder.does(&["nodes", "list"])["nodes"][0]["fingerprint"].as_str().unwrap().to_owned();
    founder.fails(&["release", &node, "--yes"], 3, "needs the signatures of 2 authorities");
    let proposed = founder.does(&["release", &node, "--out", &order]);
    assert_eq!((&proposed["orders"][0]["state"], &proposed["orders"][0]["needed"]), (&"proposed".into(), &2.into()));
    founder.fails(&["release", &node, "--out", &order], 3, "is not overwritten");
    founder.fails(&["command", &node, "status", "--out", "x"], 2, "one authority is enough");
    founder.fails(&["command", &node, "rejoin", "--out", "x"], 3, "has not said that it is isolated");
    let text = fs::read_to_string(&order).unwrap();
    assert!(
        text.contains("order        to be released to a ticket") && text.contains("whoever has the ticket"),
        "{text}"
    );
    // What a signer reads is what he signs.
    let edited = ceremony.file("edited");
    fs::write(&edited, text.replace("whoever has the ticket", "nobody but us with a ticket")).unwrap();
    ceremony.signers[0].fails(&["order", "sign", &edited, "--out", "approval", "--yes"], 3, "was edited");
    ceremony.signers[4].fails(
        &["order", "sign", &order, "--out", "approval", "--yes"],
        3,
        "none of those who must sign",
    );
    let approvals = [0, 1].map(|at| {
        let out = ceremony.file(&format!("order-by-{at}"));
        ceremony.signers[at].does(&["order", "sign", &order, "--out", &out, "--yes"]);
        out
    });
    founder.fails(&["order", "deliver", &order, &approvals[0]], 15, "1 of the 2 who must sign");
    let shown = founder.does(&["order", "show", &order, &approvals[0], &approvals[1]]);
    assert_eq!((&shown["orders"][0]["state"], &shown["delivered"]), (&"approved".into(), &0.into()));
    founder.fails(&["order", "deliver", &order, &approvals[0], &approvals[1]], 4, "the mesh is not up");
    // Rules that nobody has signed yet are written too, and the registry has them.
    let rules = ceremony.file("rules");
    let written = founder.does(&["policy", "set", "in authority tcp 80", "--out", &rules]);
    assert_eq!(written["orders"][0]["differences"], serde_json::json!(["rule comes: in authority tcp 80"]));
    founder.fails(&["policy", "set", "in authority tcp 80", "--out", &rules], 3, "is not overwritten");
    let kinds = founder.log();
    assert!(
        kinds.contains(&("approved".into(), "refused".into())) && kinds.contains(&("proposed".into(), "done".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn another_authority_takes_the_fleet_over_by_a_file_and_signs_and_proposes_from_her_own_registry() {
    let mut ceremony = Ceremony::new();
    let _segment = ceremony.claimed().await;
    let (founder, ada, stranger) = (&ceremony.founder, &ceremony.signers[0], &ceremony.signers[4]);
    let file = ceremony.file("fleet");
    let exported = founder.does(&["fleet", "export", &file]);
    assert_eq!(exported["nodes"], 1);
    founder.fails(&["fleet", "export", &file], 3, "is not overwritten");
    let text = fs::read_to_string(&file).unwrap();
    let node = founder.does(&["nodes", "list"])["nodes"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(text.contains(&node) && text.contains("pairing record, fork record"), "{text}");
    assert!(!founder.path("x").exists());
    // Only what is said there is taken over, by whom it is for, and if he says so.
    ada.fails(&["fleet", "import", &file], 2, "there is no terminal to ask on");
    stranger.fails(&["fleet", "import", &file, "--yes"], 3, "no authority of set 0");
    let edited = ceremony.file("edited");
    fs::write(&edited, text.replacen(&node[..4], "0000", 1)).unwrap();
    ada.fails(&["fleet", "import", &edited, "--yes"], 3, "was edited");
    let alone = ceremony.file("unsigned");
    fs::write(&alone, &text[..text.find("Approval of").unwrap()]).unwrap();
    ada.fails(&["fleet", "import", &alone, "--yes"], 15, "none of its authorities has signed");
    let taken = ada.does(&["fleet", "import", &file, "--yes"]);
    assert_eq!((&taken["nodes"][0]["outcome"], &taken["set"]), (&"new".into(), &0.into()));
    assert_eq!(ada.does(&["fleet", "import", &file, "--yes"])["nodes"][0]["outcome"], "same");
    let [here, there] = [founder, ada].map(|one| one.does(&["nodes", "show", &node])["node"].clone());
    for what in ["fiduciary", "mesh_key", "binding", "fork", "epoch", "authorities"] {
        assert_eq!(here[what], there[what], "{what}");
    }
    assert_eq!((&here["mesh"]["v4"], &there["accepted"]), (&there["mesh"]["v4"], &"imported".into()));
    // She sees and proposes what the founder can.
    assert_eq!(ada.does(&["authority", "status"])["of"], 1);
    let rules = ceremony.file("rules");
    let written = ada.does(&["policy", "set", "in authority tcp 80", "--out", &rules]);
    assert_eq!(written["orders"][0]["differences"], serde_json::json!(["rule comes: in authority tcp 80"]));
    let own = founder.does(&["policy", "set", "in authority tcp 80", "--out", &ceremony.file("own-rules")]);
    assert_eq!(own["orders"][0]["node"], written["orders"][0]["node"]);
    founder.does(&["order", "sign", &rules, "--out", &ceremony.file("rules-by-founder"), "--yes"]);
    ada.does(&["authority", "propose", "--remove", &ceremony.name(1), "--out", &ceremony.file("set-1")]);
    ada.fails(&["mesh", "up"], 3, "you have no place in the mesh");
    let log = ada.log();
    assert!(log.contains(&("imported".into(), "done".into())) && log.contains(&("approved".into(), "refused".into())));
    assert!(founder.log().contains(&("handed_on".into(), "done".into())));
}
