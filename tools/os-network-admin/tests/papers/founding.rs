//! A fleet that three people found, each with the program in a directory of his own.

use os_network_admin::{
    claim::MeshTerms,
    fleet::genesis,
    registry::{AnchorKind, Kind},
};
use wire::Fingerprint;

use super::*;

struct Founders {
    people: Vec<Person>,
    shared: tempfile::TempDir,
}

impl Founders {
    fn new() -> Self {
        let people = [SEED, [60; 32], [61; 32]].map(Person::new).into();
        Self { people, shared: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> String {
        self.shared.path().join(name).to_str().unwrap().into()
    }

    /// Two of the three must sign; of these nodes.
    fn propose(&self, nodes: &[String]) -> Output {
        self.propose_with("2", nodes)
    }

    fn propose_with(&self, needed: &str, nodes: &[String]) -> Output {
        let keys: Vec<String> = self.people[1..].iter().map(Person::public).collect();
        let out = self.file("proposal");
        let mut words = vec!["fleet", "propose", "north", "--needed", needed, "--endpoint", "[2001:db8::1]:51820"];
        words.extend(["--rule", "in authority icmp", "--activate", "1", "--out", &out]);
        keys.iter().for_each(|key| words.extend(["--authority", key]));
        nodes.iter().for_each(|node| words.extend(["--member", node]));
        self.people[0].run(&words)
    }

    fn accept(&self, at: usize) -> String {
        let out = self.file(&format!("acceptance-{at}"));
        self.people[at].does(&["fleet", "accept", &self.file("proposal"), "--out", &out, "--yes"]);
        out
    }

    /// Founded, with node 1 by F and node 2 by its fingerprint.
    fn found(&self) -> String {
        let nodes = [Hex(&fiduciary(1)).to_string() + "=rack 4", Fingerprint::of(&fiduciary(2)).to_string()];
        assert!(self.propose(&nodes).status.success());
        let mut files = vec![self.file("proposal")];
        files.extend([0, 1, 2].map(|at| self.accept(at)));
        let out = self.file("genesis");
        let words = ["fleet", "close", "--out", &out].into_iter().chain(files.iter().map(String::as_str));
        self.people[0].does(&words.collect::<Vec<_>>());
        out
    }
}

fn fiduciary(node: u8) -> [u8; 32] {
    Node::new(node, admin().public()).fiduciary()
}

#[test]
fn three_found_a_fleet_and_anybody_can_verify_it_with_public_keys_alone() {
    let founders = Founders::new();
    let file = founders.found();
    // In an empty directory: no key, no registry.
    let stranger = tempfile::tempdir().unwrap();
    let mut verify = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
    let output =
        verify.current_dir(stranger.path()).env_clear().args(["fleet", "verify", &file, "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["name"], &said["needed"], &said["activate"]), (&"north".into(), &2.into(), &1.into()));
    let accepted: Vec<bool> =
        said["authorities"].as_array().unwrap().iter().map(|one| one["approved"] == true).collect();
    assert_eq!(accepted, [true; 3]);
    assert_eq!(fs::read_dir(stranger.path()).unwrap().count(), 0);
    // The founder has the fleet, by the document's hash.
    let fleet = founders.people[0].registry().fleets_named("north").unwrap().remove(0);
    assert_eq!(Hex(&fleet.id).to_string(), said["id"].as_str().unwrap());
    let founded = ("founded".to_owned(), "done".to_owned());
    assert!(founders.people[0].log().contains(&founded), "{:?}", Kind::Founded);
    let text = fs::read_to_string(&file).unwrap();
    for line in
        ["set          number 0, 2 of 3 must sign", "rack 4", "rule         in authority icmp", "with 1 of 2 nodes"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_document_that_was_changed_or_not_accepted_by_all_founds_nothing() {
    let founders = Founders::new();
    let (founder, node) = (&founders.people[0], Hex(&fiduciary(1)).to_string());
    assert!(founders.propose(std::slice::from_ref(&node)).status.success());
    let (proposal, one, two) = (founders.file("proposal"), founders.accept(0), founders.accept(1));
    let close = |files: &[&str], code, message: &str| {
        let out = founders.file("genesis");
        founder.fails(&[&["fleet", "close", "--out", &out], files].concat(), code, message);
        assert!(!Path::new(&out).exists());
    };
    close(&[&proposal, &one, &two], 15, "1 of the 3 authorities have not accepted");
    let (said, code) = founder.says(&["fleet", "verify", &proposal, &one]);
    assert_eq!((code, said["authorities"][1]["approved"].as_bool()), (15, Some(false)));
    let text = fs::read_to_string(&proposal).unwrap();
    let changed = founders.file("changed");
    for (from, to) in
        [("number 0, 2 of 3", "number 0, 1 of 3"), ("north", "south"), ("in authority icmp", "in node icmp")]
    {
        fs::write(&changed, text.replacen(from, to, 1)).unwrap();
        close(&[&changed, &one, &two], 3, "was edited");
        founders.people[2].fails(&["fleet", "accept", &changed, "--out", "a", "--yes"], 3, "was edited");
    }
    // A changed byte of the block; an acceptance of another founding; and by somebody who is none of them.
    let block = text.find("-----BEGIN").unwrap() + 60;
    let other = if &text[block..=block] == "A" { "B" } else { "A" };
    fs::write(&changed, format!("{}{other}{}", &text[..block], &text[block + 1..])).unwrap();
    let (said, code) = founder.says(&["fleet", "close", "--out", &founders.file("genesis"), &changed, &one, &two]);
    assert_eq!(code, 3, "{said}");
    let others = Founders::new();
    assert!(others.propose(std::slice::from_ref(&node)).status.success());
    close(&[&proposal, &one, &others.accept(1)], 3, "of nothing that was named here");
    let stranger = Person::new([70; 32]);
    stranger.fails(&["fleet", "accept", &proposal, "--out", "a", "--yes"], 3, "none of those who must sign");
    assert!(founder.registry().fleets_named("north").unwrap().is_empty());
    let refused = founder.log().into_iter().filter(|(_, outcome)| outcome == "refused").count();
    assert_eq!(refused, 6);
}

#[test]
fn where_all_must_sign_each_is_told_that_one_can_block_everything() {
    let founders = Founders::new();
    let node = [Hex(&fiduciary(1)).to_string()];
    let warning = "all 3 must sign: any one of them can block every order and its own removal";
    let output = founders.propose_with("3", &node);
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said["warning"].as_str().unwrap().starts_with(warning), "{said}");
    let proposal = founders.file("proposal");
    let accepted = [0, 1, 2].map(|at| founders.accept(at));
    let genesis = founders.file("genesis");
    let files = accepted.iter().map(String::as_str);
    let close: Vec<&str> = ["fleet", "close", "--out", &genesis, &proposal].into_iter().chain(files).collect();
    assert!(founders.people[0].does(&close)["warning"].as_str().unwrap().starts_with(warning));
    // As text too, and before one accepts.
    let mut show = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
    let shown = show.env_clear().args(["fleet", "show", &genesis]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&format!("warning      {warning}")), "{shown:?}");
    let folder = founders.people[1].folder.path();
    let mut accept = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
    accept.current_dir(folder).args(["fleet", "accept", &proposal, "--out", "again", "--key", "key"]);
    let asked = accept.args(["--passphrase-file", "pass", "--registry", "registry"]).output().unwrap();
    assert!(String::from_utf8_lossy(&asked.stderr).contains(&format!("warning      {warning}")), "{asked:?}");
    let said: Json = serde_json::from_slice(&Founders::new().propose(&node).stdout).unwrap();
    assert!(said["warning"].is_null() && said["needed"] == 2, "{said}");
}

#[test]
fn no_node_is_in_a_document_twice() {
    let founders = Founders::new();
    let (node, print) = (Hex(&fiduciary(1)).to_string(), Fingerprint::of(&fiduciary(1)).to_string());
    for nodes in [[node.clone(), node.clone()], [node.clone(), print.clone()], [print.clone(), print]] {
        let output = founders.propose(&nodes);
        let said: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert!(said["error"]["message"].as_str().unwrap().contains("is in it twice"), "{said}");
        assert_eq!(output.status.code(), Some(3));
        assert!(!Path::new(&founders.file("proposal")).exists());
    }
    let output = founders.propose(&["not-a-node".into()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("not-a-no… is no node"), "{output:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_under_a_document_takes_only_its_nodes_and_each_once() {
    let founders = Founders::new();
    let file = founders.found();
    let founder = &founders.people[0];
    let print = |node: u8| Fingerprint::of(&fiduciary(node)).to_string();
    let claim = |node: u8, more: &[&str], message: &str| {
        let print = print(node);
        let words = ["claim", "--interface", "lo", "--genesis", &file, "--fingerprint", &print];
        founder.fails(&[&words[..], more].concat(), 8, message);
    };
    claim(3, &[], "is not listed in the genesis of the fleet");
    let unlisted = print(3);
    let beacon = ["beacon", "--interface", "lo", "--once", "--genesis", &file, "--expect", &unlisted];
    founder.fails(&beacon, 8, "is not listed in the genesis of the fleet");
    let out = founders.file("warrant");
    let unlisted = Hex(&fiduciary(3)).to_string();
    let propose = ["warrant", "propose", "--genesis", &file, "--node", &unlisted, "--out", &out];
    founder.fails(&propose, 8, "is not listed in the genesis of the fleet");
    founder.fails(&["fleet", "activate", &file], 15, "0 of 2 nodes are claimed");
    // A warrant for one that is listed is for the document's set and fleet.
    let listed = Hex(&fiduciary(1)).to_string();
    founder.does(&["warrant", "propose", "--genesis", &file, "--node", &listed, "--out", &out]);
    let warrant = Papers::read(&[PathBuf::from(&out)]).unwrap().warrants.remove(0);

    let papers = Papers::read(&[PathBuf::from(&file)]).unwrap();
    let document = genesis::founded(&papers).unwrap();
    assert_eq!((warrant.set, warrant.warrant.fleet), (document.set().unwrap(), document.id()));
    let mut terms = genesis::terms(document, AnchorKind::Image).unwrap();
    let registry = founder.registry();
    let own = registry.mesh_key().unwrap().unwrap().public();
    if let Configure::Mesh(mesh) = &mut terms.configuration {
        *mesh = MeshTerms { authority: own, ..mesh.clone() };
    }
    let segment = Segment::with([Node::new(1, admin().public())]);
    let (progress, host) = (Progress::silent(), system());
    let context = Context {
        net: &segment,
        registry: &registry,
        anchor: &founder.key,
        ahead: 0,
        past_stored: false,
        host: &host,
        progress: &progress,
    };
    let mut chooser = Chooser::listed([Fingerprint::of(&fiduciary(1)).0].into(), Unlisted::Ignore);
    let claimed = Claimer::new(&context, &terms, &mut chooser).claim(Duration::from_secs(60)).await.unwrap();
    // It is owned by the document's set, in the fleet of the document's hash, and has no rules before the activation.
    let title = claimed.node.title;
    assert_eq!((title.set, title.warrant.fleet), (document.set().unwrap(), document.id()));
    let granted = policy::Configuration::parse(claimed.node.configuration()).unwrap();
    assert!(granted.rules.is_empty() && !granted.peers.is_empty());
    let said = founder.does(&["fleet", "show", &file]);
    let states: Vec<bool> = said["nodes"].as_array().unwrap().iter().map(|one| one["claimed"] == true).collect();
    assert_eq!(states, [true, false]);

    claim(1, &["--again"], "a document takes each node once");
    let refused: Vec<_> =
        founder.log().into_iter().filter(|(kind, outcome)| kind == "claim" && outcome == "refused").collect();
    assert_eq!(refused.len(), 3, "{:?}", founder.log());
    // What the registry has of it is said at once.
    let print = print(1);
    let again = founder.does(&["claim", "--interface", "lo", "--genesis", &file, "--fingerprint", &print]);
    assert_eq!(again["already"], true);
}

#[test]
fn whoever_founds_with_a_place_in_the_mesh_has_it_and_no_node_is_given_it() {
    let founders = Founders::new();
    let (card, proposal, genesis) = (founders.file("card"), founders.file("proposal"), founders.file("genesis"));
    founders.people[1].does(&["authority", "key", "--endpoint", "[2001:db8::2]:51820", "--out", &card]);
    let (key, node) = (founders.people[2].public(), Hex(&fiduciary(1)).to_string());
    let words = ["fleet", "propose", "north", "--needed", "2", "--endpoint", "[2001:db8::1]:51820", "--member", &node];
    founders.people[0].does(&[&words[..], &["--authority", &card, "--authority", &key, "--out", &proposal]].concat());
    let text = fs::read_to_string(&proposal).unwrap();
    assert!(text.contains("[2001:db8::2]:51820") && text.contains("signs, and has no place in the mesh"), "{text}");
    let accepted = [0, 1, 2].map(|at| founders.accept(at));
    let files = [&proposal, &accepted[0], &accepted[1], &accepted[2]].map(String::as_str);
    founders.people[0].does(&[&["fleet", "close", "--out", &genesis][..], &files].concat());
    let warrant = founders.file("warrant");
    founders.people[0].does(&["warrant", "propose", "--genesis", &genesis, "--node", &node, "--out", &warrant]);
    let proposed = Papers::read(&[PathBuf::from(&warrant)]).unwrap().warrants.remove(0);
    assert_eq!((proposed.warrant.addresses[1].ip[15], proposed.set.authorities[1].inner[15]), (3, 2));
}
