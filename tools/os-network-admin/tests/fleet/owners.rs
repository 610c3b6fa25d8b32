//! What the owners of nodes decide: letting them go.

use os_network_admin::{
    base::error::Exit,
    fleet::{account::Account, delivery::Outcome, parting},
    output::{Document, Left},
};
use wire::{
    Hash,
    anchor::{Anchor, AnchorFile},
    order::Release,
    receipt::{Kind as Proof, Receipt},
};

use super::{FLEET, Lab, Member, WAIT, admin, logged};

impl Lab {
    async fn release(&mut self, places: &[usize], release: &Release) -> Account {
        let members = places.iter().map(|at| self.member(*at)).collect();
        let view = self.view();
        parting::run(&mut self.nodes, &view, &admin(), members, release, WAIT).await
    }

    /// What `nodes list` says of the node.
    fn word(&self, at: usize) -> Option<&'static str> {
        let member = self.member(at);
        let node = self.registry.node(member.fiduciary().unwrap()).unwrap().unwrap();
        let parting = self.registry.parting(&node).unwrap();
        parting.map(|parting| os_network_admin::output::Parting::new(&parting).word())
    }
}

/// A receipt that the node can sign, whatever it has done.
fn signs(node: &Member, kind: Proof, fleet: &Hash, number: u64) -> Receipt {
    Receipt::sign(&node.seed, &crypto::sign_public(&node.seed), kind, fleet, number, &[1; 32])
}

fn foreign() -> Anchor {
    Anchor::alone(&crypto::AnchorSecret::from_seed(&[77; 32]).public())
}

#[tokio::test(start_paused = true)]
async fn nodes_are_let_go_and_each_signs_that_it_has_gone() {
    let mut lab = Lab::with(&[1, 2, 3]).await;
    let [first, second, _] = [0, 1, 2].map(|at| lab.member(at).id);
    // One loses its receipts on the way, one is not there.
    let release = Release::to_anchor(&foreign(), false);
    lab.nodes.lose_receipts = true;
    let account = lab.release(&[0], &release).await;
    assert_eq!(account.entries[0].outcome, Outcome::NoAnswer);
    assert_eq!(account.error().unwrap().exit, Exit::NotShown);
    assert_eq!(lab.word(0), Some("told to leave, no receipt yet"), "no status from memory");
    assert!(lab.node(0).left && lab.view().live().unwrap().len() == 3);
    lab.nodes.lose_receipts = false;
    let gone = lab.nodes.nodes.remove(&second).unwrap();
    let account = lab.release(&[1, 2], &release).await;
    assert_eq!(account.entries[0].outcome, Outcome::NoAnswer);
    let Outcome::Proved { receipt, .. } = &account.entries[1].outcome else { panic!("{account:?}") };
    assert_eq!((receipt.kind(), receipt.number.get()), (Some(Proof::Release), 1));
    assert_eq!(receipt.hash, AnchorFile::new(&foreign()).hash());
    let document = Left::new(&release, account.entries.iter().map(os_network_admin::fleet::show::told).collect());
    assert!(document.text().contains("told, no receipt yet") && document.text().ends_with("transferred: 1 of 2 nodes"));
    assert_eq!((lab.word(2), lab.view().live().unwrap().len()), (Some("transferred"), 2));
    // The same again: who has left is done, whoever is back is told.
    lab.nodes.nodes.insert(second, gone);
    let account = lab.release(&[1, 2], &release).await;
    assert!(account.error().is_none(), "{account:?}");
    assert_eq!((lab.word(1), lab.view().live().unwrap().len()), (Some("transferred"), 1));
    // A receipt that comes late counts as well.
    let late = lab.node(0).receipt.unwrap();
    assert_eq!(lab.registry.store_receipts([&late]).unwrap(), 0);
    assert_eq!((lab.word(0), lab.view().live().unwrap().len()), (Some("transferred"), 0));
    assert_eq!(lab.registry.member(first).unwrap().map(|member| member.revoked_ms.is_some()), Some(true));
    let log = ["begun", "done", "not_shown"].map(|outcome| logged(lab.registry, "released", outcome));
    assert_eq!(log, [4, 3, 2]);
    assert_eq!(logged(lab.registry, "receipt", "done"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_counts_only_if_it_is_this_nodes_of_this_fleet_and_claim() {
    let mut lab = Lab::with(&[1, 2]).await;
    let account = lab.release(&[0], &Release::to_ticket()).await;
    assert!(account.error().is_none() && lab.word(0) == Some("released"));
    let good = lab.node(0).receipt.unwrap();
    // What the other node signs, or anybody changes, lets it go nowhere.
    let seed = crypto::Secret::new([9; 32]);
    let own = *lab.member(1).fiduciary().unwrap();
    let other = Receipt { fiduciary: own, ..good };
    let forged = Receipt::sign(&seed, &own, Proof::Release, &FLEET, 1, &[1; 32]);
    let stranger = Receipt::sign(&seed, &crypto::sign_public(&seed), Proof::Release, &FLEET, 1, &[1; 32]);
    assert_eq!(lab.registry.store_receipts([&other, &forged, &stranger]).unwrap(), 3);
    assert_eq!((lab.word(1), lab.view().live().unwrap().len()), (None, 1));
    for (fleet, epoch) in [([6; 32], 1), (FLEET, 2), (FLEET, 0)] {
        let own = signs(lab.node(1), Proof::Release, &fleet, epoch);
        assert_eq!(lab.registry.store_receipts([&own]).unwrap(), 1, "{epoch}");
    }
    // Whoever is cut off comes back by no word of his own.
    let id = lab.member(1).id;
    lab.registry.revoke(id).unwrap();
    let own = signs(lab.node(1), Proof::Release, &FLEET, 1);
    assert_eq!(lab.registry.store_receipts([&own]).unwrap(), 1);
    assert_eq!(lab.word(1), None);
}

#[tokio::test(start_paused = true)]
async fn an_anchor_of_those_who_let_a_node_go_is_refused_before_anything_is_signed() {
    let mut lab = Lab::with(&[1]).await;
    let own = Anchor::alone(&admin().public());
    let members = [lab.member(0)];
    let refused = parting::check(&lab.view(), &members, &Release::to_anchor(&own, false)).unwrap_err();
    assert!(refused.exit == Exit::Input && refused.message.contains("--same-owner"), "{refused}");
    let same = Release::to_anchor(&own, true);
    parting::check(&lab.view(), &members, &same).unwrap();
    assert!(lab.release(&[0], &same).await.error().is_none());
    // A node that says no says why, and stays.
    let mut lab = Lab::with(&[2]).await;
    lab.node(0).broken = Some(wire::telemetry::CommandResult::Store);
    let account = lab.release(&[0], &Release::to_ticket()).await;
    assert_eq!(account.error().unwrap().exit, Exit::Refused);
    assert_eq!(lab.view().live().unwrap().len(), 1);
}
