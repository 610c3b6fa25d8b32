//! What several people sign, each with the program in a directory of his own: warrants, and the claim of a node in memory by
//! them; a fleet that they found.

#[path = "papers/authority.rs"]
mod authority;
mod fake;
#[path = "papers/founding.rs"]
mod founding;
#[path = "fake/segment.rs"]
mod segment;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crypto::{AnchorSecret, Secret};
use fake::{Fault, Node, admin, step};
use os_network_admin::{
    base::{
        error::{Error, Exit},
        host::{Host, System, system},
        key::{Cost, KeyFile},
        paper::Papers,
        progress::Progress,
    },
    claim::{Chooser, Claimed, Claimer, Configure, Context, Terms, Unlisted},
    fleet::warrant::terms,
    registry::{Entry, Registry, State, Tag, Value},
};
use segment::Segment;
use serde_json::Value as Json;
use wire::{
    Hex,
    anchor::{Anchor, AnchorFile, AnchorIn},
};

const SEED: [u8; 32] = [42; 32];

/// A person with a key, in a directory of his own.
struct Person {
    folder: tempfile::TempDir,
    key: AnchorSecret,
}

impl Person {
    fn new(seed: [u8; 32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let file = KeyFile::seal(&Secret::new(seed), b"open sesame", cost).unwrap();
        file.store(&folder.path().join("key")).unwrap();
        let pass = folder.path().join("pass");
        fs::write(&pass, "open sesame\n").unwrap();
        fs::set_permissions(&pass, Permissions::from_mode(0o600)).unwrap();
        Self { folder, key: AnchorSecret::from_seed(&seed) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn public(&self) -> String {
        os_network_admin::base::key::public_text(&self.key.public())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
        let files = ["--key", "key", "--passphrase-file", "pass", "--registry", "registry", "--json"];
        command.current_dir(self.folder.path()).args(arguments).args(files).output().unwrap()
    }

    /// What it printed, and its exit code.
    fn says(&self, arguments: &[&str]) -> (Json, i32) {
        let output = self.run(arguments);
        let document = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (document.unwrap_or_else(|_| panic!("{arguments:?}: {said}")), output.status.code().unwrap())
    }

    fn does(&self, arguments: &[&str]) -> Json {
        let (document, code) = self.says(arguments);
        assert_eq!(code, 0, "{arguments:?}: {document}");
        document
    }

    fn fails(&self, arguments: &[&str], code: i32, message: &str) {
        let (document, its) = self.says(arguments);
        let said = document["error"]["message"].as_str().unwrap_or_default();
        assert!(its == code && said.contains(message), "{arguments:?}: {its}, {document}");
    }

    fn registry(&self) -> Registry {
        Registry::open(&self.path("registry")).unwrap()
    }

    /// Kinds and outcomes in the log.
    fn log(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        self.registry()
            .audit(|_, signed| {
                let entry = Entry::parse(&signed.entry).unwrap();
                entries.push((entry.kind(), entry.outcome()));
            })
            .unwrap();
        entries
    }
}

/// One who receives nodes, five of whom three must sign, and a node of their image.
struct Ceremony {
    founder: Person,
    signers: Vec<Person>,
    node: Node,
    shared: tempfile::TempDir,
}

impl Ceremony {
    fn new() -> Self {
        let founder = Person::new(SEED);
        assert_eq!(founder.key.public(), admin().public());
        let signers: Vec<Person> = (50..55).map(|byte| Person::new([byte; 32])).collect();
        let named: Vec<String> = signers.iter().map(Person::public).collect();
        let mut arguments = vec!["anchor", "--out", "anchor.bin", "--needed", "3"];
        named.iter().for_each(|key| arguments.extend(["--authority", key]));
        founder.does(&arguments);
        let mut node = Node::new(1, admin().public());
        node.signers = Some(anchor(&founder.path("anchor.bin")));
        Self { founder, signers, node, shared: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> String {
        self.shared.path().join(name).to_str().unwrap().into()
    }

    /// Two of three are to own the node; the founder's key is one of them.
    fn propose(&self, name: &str, more: &[&str]) -> Json {
        let (node, out) = (Hex(&self.node.fiduciary()).to_string(), self.file(name));
        let (one, other) = (self.signers[0].public(), self.signers[1].public());
        let fixed = ["warrant", "propose", "--node", &node, "--anchor", "anchor.bin", "--out", &out];
        let set = ["--authority", &one, "--authority", &other, "--needed", "2"];
        self.founder.does(&[&fixed[..], &set, more].concat())
    }

    /// This signer approves.
    fn sign(&self, at: usize, proposal: &str, name: &str) -> String {
        let out = self.file(name);
        self.signers[at].does(&["warrant", "sign", &self.file(proposal), "--out", &out, "--yes"]);
        out
    }

    fn terms(&self, files: &[&str]) -> Result<Terms, Error> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let mut terms = terms(&Papers::read(&files)?, None, &self.founder.key.public(), System.now_ms())?;
        if let Configure::Warranted { own, .. } = &mut terms.configuration {
            *own = self.founder.registry().mesh_key().unwrap().map(|key| key.public());
        }
        Ok(terms)
    }

    /// The node is claimed, and owned by two of the founder and the first two signers.
    async fn claimed(&mut self) -> Segment {
        self.propose("proposal", &[]);
        let mut files = vec![self.file("proposal")];
        files.extend([0, 2, 4].map(|at| self.sign(at, "proposal", &format!("warrant-{at}"))));
        let terms = self.terms(&files.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let segment = Segment::with([std::mem::replace(&mut self.node, Node::new(1, admin().public()))]);
        self.claim(&segment, &terms).await.unwrap();
        segment
    }

    async fn claim(&self, segment: &Segment, terms: &Terms) -> Result<Claimed, Error> {
        let (registry, progress, host) = (self.founder.registry(), Progress::silent(), system());
        let anchor = &self.founder.key;
        let context = Context {
            net: segment,
            registry: &registry,
            anchor,
            ahead: 0,
            past_stored: false,
            host: &host,
            progress: &progress,
        };
        let print = self.node.print();
        let mut chooser = Chooser::listed([print].into(), Unlisted::Ignore);
        Claimer::new(&context, terms, &mut chooser).claim(Duration::from_secs(60)).await
    }
}

fn anchor(path: &Path) -> Anchor {
    match AnchorFile::read_file(&fs::read(path).unwrap()) {
        AnchorIn::Some(anchor) => anchor,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn three_of_five_sign_apart_and_the_node_is_claimed_with_them_away() {
    let mut ceremony = Ceremony::new();
    let proposed = ceremony.propose("proposal", &["--endpoint", "[2001:db8::1]:51820"]);
    assert_eq!(proposed["warrants"][0]["state"], "proposed");
    let proposal = ceremony.file("proposal");
    let approvals: Vec<String> =
        [0, 2, 4].into_iter().map(|at| ceremony.sign(at, "proposal", &format!("approval-{at}"))).collect();

    // Two are not enough, and it is seen who is missing.
    let two = ["warrant", "check", &proposal, &approvals[0], &approvals[1]];
    let (checked, code) = ceremony.signers[3].says(&two);
    assert_eq!((code, &checked["warrants"][0]["state"]), (15, &Json::from("proposed")));
    let approved: Vec<bool> =
        checked["warrants"][0]["signers"].as_array().unwrap().iter().map(|one| one["approved"] == true).collect();
    assert_eq!(approved, [true, false, true, false, false]);
    let two = ceremony.terms(&[&proposal, &approvals[0], &approvals[1]]).err().unwrap();
    assert_eq!(two.exit, Exit::Unapproved);
    assert!(two.message.contains("2 of the 3 who must sign"), "{two}");
    let files = [&*proposal, &approvals[2], &approvals[0], &approvals[1]];
    let all = [&["warrant", "check"][..], &files].concat();
    assert_eq!(ceremony.founder.does(&all)["warrants"][0]["state"], "approved");
    // The people and their keys are gone; what is left is files.
    ceremony.signers.clear();
    let terms = ceremony.terms(&files).unwrap();

    for fault in [Fault::Cut(step::IDENTIFIED), Fault::Cut(step::GRANTED), Fault::Cut(step::COMMITTED)] {
        ceremony.node.faults.push_back(fault);
    }
    let (fiduciary, image) = (ceremony.node.fiduciary(), ceremony.node.signers.unwrap());
    let segment = Segment::with([std::mem::replace(&mut ceremony.node, Node::new(1, admin().public()))]);
    let claimed = ceremony.claim(&segment, &terms).await.unwrap();
    assert!(claimed.node.title.verify(&image).is_some() && claimed.node.state == State::Paired);
    assert_eq!(Some(claimed.node.title.warrant), terms.warrant);
    assert!(segment.node(0).lock().unwrap().acknowledged);
    // It has the place that it was promised, and what it should have is what it has.
    let registry = ceremony.founder.registry();
    let fleet = registry.fleets_named("default").unwrap().remove(0);
    let member = registry.member_at(&fleet.id, 2).unwrap().unwrap();
    assert_eq!((member.fiduciary(), member.wanted), (Some(&fiduciary), member.shown));
    assert_eq!(ceremony.founder.does(&all)["warrants"][0]["state"], "claimed");
    let kinds: Vec<String> = ceremony.founder.log().into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"proposed".into()) && kinds.contains(&"paired".into()), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_warrant_for_another_epoch_or_node_claims_nothing() {
    for (more, other_node, expected) in
        [(&["--epoch", "2"][..], false, "is for epoch 2, and the node's next is 1"), (&[], true, "another node")]
    {
        let mut ceremony = Ceremony::new();
        ceremony.propose("proposal", more);
        let mut files = vec![ceremony.file("proposal")];
        files.extend([0, 1, 2].map(|at| ceremony.sign(at, "proposal", &format!("approval-{at}"))));
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let terms = ceremony.terms(&files).unwrap();
        if other_node {
            let image = ceremony.node.signers;
            ceremony.node = Node::new(2, admin().public());
            ceremony.node.signers = image;
        }
        let node = std::mem::replace(&mut ceremony.node, Node::new(if other_node { 2 } else { 1 }, admin().public()));
        let segment = Segment::with([node]);
        let error = ceremony.claim(&segment, &terms).await.unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        let registry = ceremony.founder.registry();
        assert_eq!(registry.nodes().unwrap(), []);
        let refused = ("claim".to_owned(), "refused".to_owned());
        assert!(ceremony.founder.log().contains(&refused));
        assert!(segment.node(0).lock().unwrap().grants.is_empty());
    }
}

#[test]
fn whatever_is_wrong_with_a_file_is_said_and_nothing_is_written() {
    let ceremony = Ceremony::new();
    ceremony.propose("proposal", &[]);
    let proposal = ceremony.file("proposal");
    let approval = ceremony.sign(0, "proposal", "approval-0");
    let text = fs::read_to_string(&proposal).unwrap();
    let write = |name: &str, text: &str| {
        fs::write(ceremony.file(name), text).unwrap();
        ceremony.file(name)
    };
    let edited = write("edited", &text.replace("2 of 3 must sign", "3 of 3 must sign"));
    let secret = write("secret", &(text.clone() + "\n-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"));
    let damaged = write("damaged", &text.replacen("\n\n", "\n\n ", 1));
    // A second one for the same node, and approvals that belong to it.
    ceremony.propose("other", &["--epoch", "3"]);
    let foreign = ceremony.sign(1, "other", "approval-of-other");
    let signer = &ceremony.signers[2];
    signer.does(&["warrant", "sign", &ceremony.file("other"), "--out", "other", "--yes"]);
    fs::remove_file(signer.path("other")).unwrap();
    let cases = [
        (&edited, 3, "was edited"),
        (&secret, 3, "has a private key in it"),
        (&damaged, 3, "was edited"),
        (&approval, 3, "of nothing that was named here"),
    ];
    for (file, code, message) in cases {
        signer.fails(&["warrant", "sign", file, "--out", "approval", "--yes"], code, message);
        signer.fails(&["warrant", "check", file], code, message);
        ceremony.founder.fails(&["claim", "--warrant", file, "--interface", "lo"], code, message);
    }
    signer.fails(&["warrant", "check", &proposal, &foreign], 3, "of nothing that was named here");
    signer.fails(&["warrant", "check", &proposal, &ceremony.file("other")], 3, "there are two warrants for");
    assert!(!signer.path("approval").exists());
    // Whoever is not named signs nothing, and nothing is overwritten.
    ceremony.founder.fails(&["warrant", "sign", &proposal, "--out", "a", "--yes"], 3, "none of those who must sign");
    ceremony.signers[0].fails(&["warrant", "sign", &proposal, "--out", &approval, "--yes"], 3, "is not overwritten");
    // Nobody is there to be asked.
    signer.fails(&["warrant", "sign", &proposal, "--out", "approval"], 2, "to approve it, add --yes");
    ceremony.founder.fails(&["claim", "--warrant", &proposal, "--interface", "lo"], 15, "0 of the 3 who must sign");
    // Another anchor's key, and another fleet.
    let files = [
        &proposal,
        &approval,
        &ceremony.sign(2, "proposal", "approval-2"),
        &ceremony.sign(4, "proposal", "approval-4"),
    ];
    let claim: Vec<&str> = ["claim", "--interface", "lo"]
        .into_iter()
        .chain(files.iter().flat_map(|file| ["--warrant", file.as_str()]))
        .collect();
    signer.fails(&claim, 3, "nodes of another anchor");
    ceremony.founder.fails(&[&claim[..], &["--fleet", "home"]].concat(), 3, "for the fleet default, and not for home");
    // Each refusal of whom a registry has is in it.
    let refused = ceremony.founder.log().into_iter().filter(|(_, outcome)| outcome == "refused").count();
    assert_eq!(refused, cases.len() + 3);
}

#[test]
fn one_who_signs_sees_what_it_changes_and_what_he_has_signed_before() {
    let ceremony = Ceremony::new();
    ceremony.propose("proposal", &[]);
    ceremony.propose("other", &["--endpoint", "[2001:db8::1]:51820"]);
    let signer = &ceremony.signers[0];
    // With a registry of his own, in which what he does is noted.
    drop(signer.registry());
    ceremony.sign(0, "proposal", "approval");
    let (document, code) = signer.says(&["warrant", "check", &ceremony.file("other")]);
    assert_eq!(code, 15);
    let said = document["warrants"][0]["differences"].to_string();
    assert!(
        said.contains("YOU HAVE APPROVED ANOTHER WARRANT") && said.contains("nothing of the node in force"),
        "{said}"
    );
    let mut noted = Vec::new();
    signer.registry().audit(|_, signed| noted.push(Entry::parse(&signed.entry).unwrap())).unwrap();
    let approved = noted.iter().find(|entry| entry.kind() == "approved").unwrap();
    assert_eq!(approved.bytes(Tag::Node), Some(&ceremony.node.fiduciary()[..]));
    assert_eq!(approved.field(Tag::Epoch), Some(&Value::Number(1)));
    assert_eq!(approved.signer, Some(signer.key.public().sign));
    // The same one again is no other.
    let (document, _) = signer.says(&["warrant", "check", &ceremony.file("proposal")]);
    assert!(!document["warrants"][0]["differences"].to_string().contains("ANOTHER WARRANT"));
}

#[test]
fn an_expired_proposal_is_signed_and_used_by_nobody() {
    let ceremony = Ceremony::new();
    ceremony.propose("proposal", &[]);
    let mut papers = Papers::read(&[PathBuf::from(ceremony.file("proposal"))]).unwrap();
    papers.warrants[0].expires_s = 1_700_000_000;
    let expired = os_network_admin::base::paper::Paper::Warrant(Box::new(papers.warrants.remove(0))).to_string();
    let file = ceremony.file("expired");
    fs::write(&file, expired).unwrap();
    let signer = &ceremony.signers[0];
    signer.fails(&["warrant", "sign", &file, "--out", "approval", "--yes"], 3, "has expired");
    signer.fails(&["warrant", "check", &file], 3, "has expired");
    ceremony.founder.fails(&["claim", "--warrant", &file, "--interface", "lo"], 3, "has expired");
    assert!(!signer.path("approval").exists());
}
