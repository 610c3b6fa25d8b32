//! What the administrator's registry does for one node when there are 10, 100, 1,000 and 10,000 of them: statements of SQLite,
//! the instructions that its machine runs for them, and rows that it goes through without an index.

use anyhow::{Context, Result, ensure};
use crypto::AnchorSecret;
use os_network_admin::{
    base::{error::Error, host},
    claim::{Configure, Grant, MeshTerms, Pairing, Terms},
    registry::{Accepted, AnchorKind, Cost, Counter, Node, Registry, Rules, Said},
};
use wire::{
    Key, U16, U64,
    binding::PairingRecord,
    claim::{GrantHead, kind},
    set::{Authority, AuthoritySet},
    telemetry::Telemetry,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    Outcome,
    figures::{Figures, Goal},
};

/// With ten thousand nodes no more is done for one than with ten.
pub const GOALS: &[(&str, Goal)] = &[
    ("growth_claim", Goal::AtMost(1.1)),
    ("growth_claim_anew", Goal::AtMost(1.1)),
    ("growth_record", Goal::AtMost(1.1)),
    ("growth_row_nodes", Goal::AtMost(1.1)),
    ("growth_row_telemetry", Goal::AtMost(1.1)),
];

const SIZES: [u32; 4] = [10, 100, 1000, 10_000];
const FLEET: [u8; 32] = [5; 32];

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    let mut first: Option<Vec<(&str, Cost)>> = None;
    for size in SIZES {
        let costs = costs(size).with_context(|| format!("{size} members"))?;
        for (what, cost) in &costs {
            figures.put(format!("{size}/{what}_statements"), cost.statements as f64);
            figures.put(format!("{size}/{what}_steps"), cost.steps as f64);
            figures.put(format!("{size}/{what}_scanned"), cost.scanned as f64);
        }
        if let Some(first) = &first {
            for ((what, few), (_, many)) in first.iter().zip(&costs) {
                figures.put(format!("growth_{what}"), many.steps as f64 / few.steps as f64);
            }
        }
        first.get_or_insert(costs);
    }
    Ok(Outcome::Done)
}

/// By what is done for one node.
fn costs(members: u32) -> Result<Vec<(&'static str, Cost)>> {
    let mut registry = registry(members)?;
    let counter = registry.count()?;
    // Each once before it is counted, so that it is prepared, as in a process that goes on.
    claim(&registry, members)?;
    let new = counted(&counter, || claim(&registry, members + 1))?;
    claim(&registry, 4)?;
    let anew = counted(&counter, || claim(&registry, 0))?;
    let member = registry.member_at(&FLEET, 2)?.context("a member")?.id;
    let say = |ms| registry.store_telemetry(&[Said { member, record: Telemetry::new_zeroed(), ms }]);
    say(1)?;
    let record = counted(&counter, || say(2))?;
    let nodes = counted(&counter, || registry.nodes_and_addresses())?;
    let telemetry = counted(&counter, || registry.node_members(&FLEET))?;
    let rows = u64::from(members) + 2;
    ensure!(nodes.0.len() as u64 == rows && telemetry.0.len() as u64 == rows, "rows are missing");
    let row = |cost: Cost| Cost { steps: cost.steps.div_ceil(rows), scanned: cost.scanned / rows, ..cost };
    Ok(vec![
        ("claim", new.1),
        ("claim_anew", anew.1),
        ("record", record.1),
        ("row_nodes", row(nodes.1)),
        ("row_telemetry", row(telemetry.1)),
    ])
}

fn counted<T>(counter: &Counter, work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Cost)> {
    counter.take();
    let value = work()?;
    Ok((value, counter.take()))
}

/// So many members in a fleet with one rule. Of four, two have rules of their own that make them know each other.
fn registry(members: u32) -> Result<Registry> {
    let registry = Registry::in_memory(host::system())?;
    registry.make_fleet(&FLEET, "lab")?;
    let network = "10.0.0.0/16".parse().map_err(|why: String| Error::input(why))?;
    registry.set_network(&FLEET, network, 51820)?;
    registry.set_fleet_rules(&FLEET, &rules("in authority tcp 80")?)?;
    registry.whole(|registry| {
        for number in 0..members {
            claim(registry, number)?;
            let direction = if number % 2 == 0 { "in" } else { "out" };
            let own = rules(&format!("{direction} node tcp {}", 1000 + number / 4))?;
            if let (0 | 1, Some(member)) = (number % 4, registry.member_at(&FLEET, number + 2)?) {
                registry.set_member_rules(member.id, Some(&own))?;
            }
        }
        Ok(())
    })?;
    Ok(registry)
}

fn rules(one: &str) -> Result<Rules, Error> {
    let rule = one.parse().map_err(|why| Error::input(format!("{one}: {why}")))?;
    Ok([rule].into_iter().collect())
}

/// As the exchange with a node does it, but that nobody signs: the registry reads no signature.
fn claim(registry: &Registry, number: u32) -> Result<Node, Error> {
    let mut key: Key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let own = AnchorSecret::from_seed(&[1; 32]).public();
    let terms = Terms {
        fleet: "lab".into(),
        fleet_id: FLEET,
        set: AuthoritySet::alone(Authority::signer(&own)),
        configuration: Configure::Mesh(MeshTerms { authority: [9; 32], ..MeshTerms::default() }),
        anchor: AnchorKind::Image,
        warrant: None,
    };
    let grant = Grant {
        fiduciary: key,
        claim_key: key,
        mesh_key: key,
        fork: None,
        terms: &terms,
        accepted: Accepted::Expected,
        address: [0xfe; 16],
        interface: "eth0",
        own: [0xfe; 16],
        ahead: 0,
    };
    registry.known(&key)?;
    let node = registry.grant(&grant, |made| {
        let configuration = made.configuration;
        let mut head = GrantHead::new_zeroed();
        let length = u16::try_from(configuration.len()).map_err(|_| Error::input("the configuration is too long"))?;
        (head.kind, head.configuration) = (kind::GRANT, U16::new(length));
        (head.title.warrant.fiduciary, head.title.binding.counter) = (key, U64::new(made.counter));
        Ok([head.as_bytes(), configuration].concat())
    })?;
    let node = registry.paired(&node, &PairingRecord::new_zeroed(), 0, Some([2; 6]))?;
    registry.acknowledged(&node)
}
