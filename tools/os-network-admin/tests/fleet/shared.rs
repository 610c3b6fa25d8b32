//! One fleet in the registries of two of its authorities: one has claimed the nodes, the other takes them over from it.

use crypto::{AnchorPublic, AnchorSecret};
use os_network_admin::{
    base::{
        error::{Error, Exit},
        paper::{Change, Export, Paper, Papers, parse},
    },
    fleet::{
        authority::{self, Wish},
        decree, share,
        share::Own,
    },
    output::Taken,
    registry::Accepted,
};
use wire::{U16, command::Operation, record::AuthorityRecord, set::Authority, title::Title};

use super::*;

type Edit = fn(&mut Export);

fn person(n: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&[n; 32])
}

/// The other authority, with a registry in a directory of her own.
struct Other {
    _folder: tempfile::TempDir,
    registry: &'static Registry,
    key: AnchorSecret,
}

impl Other {
    fn new(key: AnchorSecret) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Box::leak(Box::new(Registry::open(&folder.path().join("registry")).unwrap()));
        Self { _folder: folder, registry, key }
    }

    /// As `authority key` writes it, at this place.
    fn placed(&self, host: u32) -> Authority {
        let mesh = self.registry.make_mesh_key().unwrap().public();
        let inner = registry::Fleet::new(FLEET, "default").addresses(host).1.octets();
        let (endpoint, port) = ([0x20; 16], U16::new(51999));
        Authority { mesh, inner, endpoint, port, ..Authority::signer(&self.key.public()) }
    }

    fn import(&self, papers: &Papers) -> Result<Taken, Error> {
        let mesh = self.registry.mesh_key().unwrap().map(|key| key.public());
        let public: AnchorPublic = self.key.public();
        share::import(self.registry, papers, &Own { key: &public, mesh, interface: None })
    }

    fn view(&self) -> View<'static> {
        let fleet = self.registry.fleet(&FLEET).unwrap().unwrap();
        View { registry: self.registry, fleet }
    }
}

/// What the claimer's registry hands on, through the text that stands in a file.
fn handed(lab: &Lab, by: &AnchorSecret) -> Papers {
    signed(share::export(&lab.view(), lab.registry.now_ms()).unwrap(), by)
}

fn signed(export: Export, by: &AnchorSecret) -> Papers {
    let approval = export.approve(by).unwrap();
    let mut papers = Papers::default();
    for paper in [Paper::Export(Box::new(export)), Paper::Approval(approval)] {
        match parse(&paper.to_string()).unwrap().remove(0) {
            Paper::Export(export) => papers.exports.push(*export),
            Paper::Approval(approval) => papers.approvals.push(approval),
            other => panic!("{other}"),
        }
    }
    papers
}

fn outcomes(taken: &Taken) -> Vec<&str> {
    taken.nodes.iter().map(|node| node.outcome.as_str()).collect()
}

/// Two of three own nodes 1 and 2, the second of them with a place in the mesh and a registry of her own.
async fn two() -> (Lab, Other, [AnchorSecret; 2]) {
    let (ada, bob) = (Other::new(person(61)), person(62));
    let places = [Authority::signer(&admin().public()), ada.placed(2), Authority::signer(&bob.public())];
    let lab = Lab::of(&[1, 2], AuthoritySet::new(2, &places).unwrap()).await;
    (lab, ada, [admin(), bob])
}

/// The nodes are heard by whoever else has the registry; they obey this authority of theirs.
fn moved(lab: Lab, to: &Other) -> Lab {
    let Lab { folder, registry, nodes } = lab;
    let mut nodes_there = std::collections::HashMap::new();
    for (id, mut node) in nodes.nodes {
        let fiduciary = node.title.warrant.fiduciary;
        let number = if registry.members(&FLEET).unwrap()[0].id == id { 1 } else { 2 };
        super::owners::obey(&mut node, number, &to.key);
        nodes_there.insert(to.registry.member_of(&fiduciary).unwrap().unwrap().id, node);
    }
    Lab { folder, registry: to.registry, nodes: Nodes { nodes: nodes_there, ..nodes } }
}

#[tokio::test(start_paused = true)]
async fn an_authority_who_claimed_nothing_commands_updates_and_hands_over_what_another_has_claimed() {
    let (lab, ada, [founder, bob]) = two().await;
    // The second place is hers: no node was given it.
    assert_eq!([0, 1].map(|at| lab.member(at).host), [3, 4]);
    lab.rules(&["in authority icmp"]);
    let papers = handed(&lab, &founder);
    let taken = ada.import(&papers).unwrap();
    assert_eq!((outcomes(&taken), taken.set, taken.kept()), (vec!["new", "new"], 0, 0));
    // She is where the set says, and her nodes are who they were.
    let fleet = ada.view().fleet;
    assert_eq!((fleet.host, fleet.port, fleet.rules.len()), (2, 51999, 1));
    assert_eq!(fleet.authority, Some(ada.registry.mesh_key().unwrap().unwrap().public()));
    for at in [0, 1] {
        let (here, there) = (lab.member(at), ada.registry.members(&FLEET).unwrap().remove(at));
        assert_eq!(
            (here.host, here.key, here.claim_key, &here.who),
            (there.host, there.key, there.claim_key, &there.who)
        );
        let [own, hers] = [lab.registry, ada.registry].map(|one| one.node(here.fiduciary().unwrap()).unwrap().unwrap());
        assert_eq!((own.title, own.record), (hers.title, hers.record));
        assert_eq!(hers.accepted, Accepted::Imported);
        // What should be there is the same: she changes nothing of it by having it.
        assert_eq!(lab.view().configuration(&here).unwrap(), ada.view().configuration(&there).unwrap());
    }
    assert!(ada.registry.fork(lab.member(0).fiduciary().unwrap()).unwrap().is_some(), "it was not stored");
    let mut lab = moved(lab, &ada);
    let view = ada.view();
    let members: Vec<_> = ada.registry.members(&FLEET).unwrap();
    for operation in [Operation::Status, Operation::Rotate] {
        let tasks = members.iter().map(|member| (member, Task::Command(operation))).collect();
        let done = delivery::run(&mut lab.nodes, ada.registry, &view, &ada.key, tasks, WAIT).await;
        assert!(done.iter().all(is_done), "{done:?}");
    }
    // An update that she proposes is signed by her and another.
    let wish = decree::Wish::Configuration(view.configuration(&members[0]).unwrap());
    let order = decree::propose(&view, &members[0], &wish, 9_000_000_000).unwrap();
    let approvals = [&ada.key, &bob].map(|key| order.approve(key).unwrap()).into();
    let orders = Papers { orders: vec![order], approvals, ..Papers::default() };
    let account = decree::deliver(&mut lab.nodes, &view, &ada.key, &orders, WAIT).await.unwrap();
    assert!(account.error().is_none(), "{account:?}");
    assert_eq!(lab.nodes.nodes[&members[0].id].parsed().rules.len(), 1);
    // She and the other take the founder's vote.
    let wish = Wish { remove: vec![0], needed: Some(2), ..Wish::default() };
    let change: Change = authority::propose(&view, &wish).unwrap();
    let approvals = [&ada.key, &bob].map(|key| change.approve(key).unwrap()).into();
    authority::adopt(&view, &Papers { records: vec![change], approvals, ..Papers::default() }).unwrap();
    let account = authority::push(&mut lab.nodes, &view, &ada.key, members, WAIT).await.unwrap();
    assert!(account.error().is_none(), "{account:?}");
    let status = authority::status(&view).unwrap();
    assert_eq!((status.set, status.has, status.of), (1, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_over_again_lowers_nothing_and_revokes_nobody_less() {
    let (lab, ada, [founder, _]) = two().await;
    let first = handed(&lab, &founder);
    ada.import(&first).unwrap();
    assert_eq!(outcomes(&ada.import(&first).unwrap()), ["same", "same"]);
    // One is cut off there, the other here.
    lab.registry.revoke(lab.member(0).id).unwrap();
    let second = ada.registry.members(&FLEET).unwrap().remove(1);
    ada.registry.revoke(second.id).unwrap();
    ada.registry.raise_counter(u64::from(u32::MAX) << 20).unwrap();
    let (counter, command) =
        (ada.registry.last_counter().unwrap(), ada.registry.next_command_counter(second.id, 0).unwrap());
    assert_eq!(outcomes(&ada.import(&handed(&lab, &founder)).unwrap()), ["updated", "same"]);
    assert_eq!(outcomes(&ada.import(&first).unwrap()), ["same", "same"]);
    let revoked: Vec<bool> =
        ada.registry.members(&FLEET).unwrap().iter().map(|member| member.revoked_ms.is_some()).collect();
    assert_eq!(revoked, [true, true]);
    assert_eq!(ada.registry.last_counter().unwrap(), counter);
    assert!(ada.registry.next_command_counter(second.id, 0).unwrap() > command);
    // Nobody uses her counter up.
    let mut far = handed(&lab, &founder).exports.remove(0);
    far.counter = u64::MAX >> 2;
    let taken = ada.import(&signed(far, &founder)).unwrap();
    assert!(taken.notes.iter().any(|note| note.contains("30 days ahead")), "{taken:?}");
    assert_eq!(ada.registry.last_counter().unwrap(), counter);
    assert_eq!(logged(ada.registry, "imported", "done"), 2 + 5);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_otherwise_here_stays_so_and_is_told() {
    let (lab, ada, [founder, _]) = two().await;
    ada.import(&handed(&lab, &founder)).unwrap();
    let mut other = handed(&lab, &founder).exports.remove(0);
    // Both have signed another binding: the first with another W, the second of a later epoch.
    for (at, node) in other.nodes.iter_mut().enumerate() {
        let Title { binding, warrant, .. } = &mut node.title;
        if at == 0 {
            binding.mesh_key = crypto::dh_public(&crypto::Secret::new([99; 32]));
        } else {
            warrant.epoch = wire::U64::new(7);
            binding.warrant = warrant.hash();
        }
        (node.fork, node.pairing) =
            (None, wire::binding::PairingRecord::sign(&crypto::Secret::new([at as u8 + 1; 32]), &node.title));
    }
    let before = ada.registry.nodes().unwrap();
    let taken = ada.import(&signed(other, &founder)).unwrap();
    assert_eq!((outcomes(&taken), taken.kept()), (vec!["kept", "claimed anew"], 1));
    assert!(taken.nodes[0].why.as_ref().unwrap().contains("another WireGuard key"), "{taken:?}");
    let after = ada.registry.nodes().unwrap();
    assert_eq!((before[0].clone(), after[1].title.warrant.epoch.get()), (after[0].clone(), 7));
}

#[tokio::test(start_paused = true)]
async fn what_nodes_have_not_signed_is_taken_over_from_nobody() {
    let (lab, ada, [founder, bob]) = two().await;
    let papers = handed(&lab, &founder);
    let good = papers.exports[0].clone();
    assert_eq!(good.sound(), Ok(()));
    let changes: [(&str, Edit); 8] = [
        ("what is said of it", |export| export.nodes[0].title.warrant.fork[0] ^= 1),
        ("what is said of it", |export| export.nodes[0].pairing.signature[0] ^= 1),
        ("what is said of it", |export| export.nodes[0].title = export.nodes[1].title),
        ("its fork record", |export| export.nodes[0].claim_key = export.nodes[1].claim_key),
        ("another fleet's", |export| export.id[0] ^= 1),
        ("is in it twice", |export| export.nodes[1] = export.nodes[0].clone()),
        ("was granted another", |export| export.nodes[0].granted.push(0)),
        ("two", |export| export.taken.push(([1; 32], 3))),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let why = bad.sound().unwrap_err();
        assert!(why.contains(what), "{what}: {why}");
        // Nor is its file one, whoever signs it.
        assert!(parse(&Paper::Export(Box::new(bad)).to_string()).is_err());
    }
    // Nobody's word, or a stranger's, is none.
    let unsigned = Papers { exports: vec![good.clone()], ..Papers::default() };
    assert_eq!(ada.import(&unsigned).unwrap_err().exit, Exit::Unapproved);
    assert!(good.approve(&person(70)).is_none());
    // It is for its authorities, in the registry by which the fleet knows them.
    let stranger = Other::new(person(70));
    assert!(stranger.import(&papers).unwrap_err().message.contains("no authority of set 0"));
    let elsewhere = Other::new(person(61));
    let why = elsewhere.import(&papers).unwrap_err();
    assert!(why.message.contains("by the key of another registry"), "{why}");
    assert!(elsewhere.registry.fleets_named("default").unwrap().is_empty());
    // One who only signs has it too, and no place in the mesh.
    let signer = Other::new(bob);
    let taken = signer.import(&papers).unwrap();
    assert!(taken.notes.iter().any(|note| note.contains("no place in this fleet's mesh")), "{taken:?}");
    assert_eq!(authority::status(&signer.view()).unwrap().of, 2);
    assert_eq!(signer.view().behind().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_preshared_key_stays_where_it_was_made() {
    let lab = Lab::with(&[1]).await;
    let ada = Other::new(person(61));
    let wish = Wish { add: vec![ada.placed(9)], needed: Some(2), ..Wish::default() };
    let change = authority::propose(&lab.view(), &wish).unwrap();
    let approvals = [&admin(), &ada.key].map(|key| change.approve(key).unwrap()).into();
    authority::adopt(&lab.view(), &Papers { records: vec![change], approvals, ..Papers::default() }).unwrap();
    let member = lab.member(0);
    assert_ne!(member.preshared.0, [0; 32]);
    let papers = handed(&lab, &admin());
    let node = &papers.exports[0].nodes[0];
    assert!(node.granted.is_empty() && node.shown.is_empty());
    let taken = ada.import(&papers).unwrap();
    assert_eq!((outcomes(&taken), taken.set), (vec!["new"], 1));
    // It is told what it is told without it: commands and records, no configuration.
    let behind = ada.view().behind().unwrap().remove(0);
    assert!(behind.owed.err().unwrap().message.contains("proposed from that registry"));
    assert_eq!((ada.view().fleet.host, ada.view().live().unwrap().len()), (9, 1));
    let mut lab = moved(lab, &ada);
    let members = ada.registry.members(&FLEET).unwrap();
    lab.nodes.nodes.values_mut().for_each(|node| node.commands_any = true);
    let account = authority::push(&mut lab.nodes, &ada.view(), &admin(), members, WAIT).await.unwrap();
    assert!(account.error().is_none(), "{account:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_claimed_after_a_hand_over_is_the_new_sets() {
    let mut lab = Lab::with(&[1]).await;
    let ada = Other::new(person(61));
    let wish = Wish { add: vec![ada.placed(9)], needed: Some(2), ..Wish::default() };
    let change = authority::propose(&lab.view(), &wish).unwrap();
    let approvals = [&admin(), &ada.key].map(|key| change.approve(key).unwrap()).into();
    let (hash, set) = (change.record.hash(), change.record.set);
    authority::adopt(&lab.view(), &Papers { records: vec![change], approvals, ..Papers::default() }).unwrap();
    let path = lab.folder.path().join("registry");
    // Whoever claims still says what he said before there were records.
    let first = AuthoritySet::alone(Authority::signer(&admin().public()));
    let grant = member::claim(&path, &[2], first).await.remove(0);
    let title = wire::claim::parse_grant(&grant).unwrap().0.title;
    assert_eq!((title.warrant.sequence.get(), title.warrant.record, title.set), (1, hash, set));
    assert_eq!(authority::status(&lab.view()).unwrap().has, 1);
    // Two sign, and so nothing that they read is secret.
    let member = lab.member(1);
    lab.nodes.nodes.insert(member.id, Member::new(2, &grant));
    assert_eq!(member.preshared.0, [0; 32]);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_the_set_in_force_no_more_claims_no_node_for_it() {
    let lab = Lab::with(&[1]).await;
    let ada = Other::new(person(61));
    let places = [ada.placed(9)];
    let record = AuthorityRecord::new(&FLEET, 1, &[0; 32], &AuthoritySet::new(1, &places).unwrap());
    let before = authority::status(&lab.view()).unwrap();
    assert_eq!(before.set, 0);
    let set = lab.registry.node(lab.member(0).fiduciary().unwrap()).unwrap().unwrap().title.set;
    let change = Change { fleet: "default".into(), before: set, record };
    let approvals = [&admin(), &ada.key].map(|key| change.approve(key).unwrap()).into();
    authority::adopt(&lab.view(), &Papers { records: vec![change], approvals, ..Papers::default() }).unwrap();
    let first = AuthoritySet::alone(Authority::signer(&admin().public()));
    let why = member::try_claim(&lab.folder.path().join("registry"), 2, first).await.unwrap_err();
    assert!(why.message.contains("has no authority with this registry's mesh key"), "{why}");
    assert_eq!(lab.registry.members(&FLEET).unwrap().len(), 1);
}
