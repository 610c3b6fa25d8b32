//! What the log has of claims that were refused, and of what strangers did meanwhile.

use os_network_admin::registry::{Entry, Tag, Value};

use super::*;

fn log(lab: &Lab) -> Vec<Entry> {
    let mut entries = Vec::new();
    lab.registry().audit(|_, signed| entries.push(Entry::parse(&signed.entry).unwrap())).unwrap();
    entries
}

fn number(entry: &Entry, tag: Tag) -> u64 {
    match entry.field(tag) {
        Some(Value::Number(number)) => *number,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_told_step_by_step_and_a_refused_one_with_its_reason() {
    let lab = Lab::with([impostor()]);
    lab.claim_with(Chooser::listed(BTreeSet::new(), Unlisted::Refuse), Duration::from_secs(5)).await.unwrap_err();
    let entries = log(&lab);
    let [_, refused] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((refused.kind().as_str(), refused.outcome().as_str()), ("claim", "refused"));
    assert_eq!(number(refused, Tag::Unlisted), 1);
    lab.claim(WAIT).await.unwrap();
    let kinds: Vec<String> = log(&lab).iter().map(Entry::kind).collect();
    assert_eq!(kinds, ["log_began", "claim", "granted", "paired", "acknowledged"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_poses_as_the_node_is_told_and_one_whose_record_is_wrong_by_name() {
    let real = Node::new(1, admin().public());
    let mut liar = impostor();
    liar.poses_as = Some(real.fiduciary());
    let lab = Lab::with([liar]);
    let expected = BTreeSet::from([real.print()]);
    lab.claim_with(Chooser::listed(expected, Unlisted::Refuse), Duration::from_secs(5)).await.unwrap_err();
    let refused = log(&lab).remove(1);
    assert_eq!((number(&refused, Tag::Impostors), refused.print().is_none()), (1, true));
    let lab = Lab::one([Fault::WrongPairing]);
    lab.claim(WAIT).await.unwrap_err();
    let refused = log(&lab).pop().unwrap();
    assert_eq!((refused.kind().as_str(), refused.outcome().as_str()), ("claim", "refused"));
    let fiduciary = lab.segment.node(0).lock().unwrap().fiduciary();
    assert_eq!(refused.bytes(Tag::Node), Some(&fiduciary[..]), "it has proved itself");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_answers_is_no_refusal() {
    let lab = Lab::with([]);
    let nobody = Chooser::listed(BTreeSet::from([[1; 20]]), Unlisted::Ignore);
    assert_eq!(lab.claim_with(nobody, Duration::from_secs(5)).await.unwrap_err().exit, Exit::NoAnswer);
    assert_eq!(log(&lab), []);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strangers_is_one_entry_for_a_run_however_the_run_ends() {
    for once in [false, true] {
        let lab = Lab::one([]);
        let (node, print) = {
            let node = lab.segment.node(0);
            let node = node.lock().unwrap();
            ((node.fiduciary(), node.address), node.print())
        };
        let (registry, progress) = (lab.registry(), Progress::silent());
        let context = lab.context(&registry, &progress);
        // Nodes that nobody has listed, and some in the name of one that somebody has.
        for number in 0..50 {
            let address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, number];
            lab.segment.deliver(forged_hello([number; 32], address, 1), address);
        }
        (1..=20).for_each(|number| lab.segment.deliver(forged_hello(node.0, node.1, number), node.1));
        let listed = Listed { nodes: BTreeSet::from([print]), ..Listed::default() };
        let watching = beacon::watch(&context, &lab.terms, &listed, once, |_| Ok(()));
        // It is ended from outside, in the middle of whatever it does.
        assert!(tokio::time::timeout(Duration::from_secs(200), watching).await.is_err() || once);
        let entries = log(&lab);
        let strangers: Vec<&Entry> = entries.iter().filter(|entry| entry.kind() == "strangers").collect();
        let refused = entries.iter().filter(|entry| entry.kind() == "claim").count();
        assert!(strangers.len() == 1 && refused <= 1, "{entries:?}");
        assert_eq!(number(strangers[0], Tag::Unlisted), 50);
    }
}
