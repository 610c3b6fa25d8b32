//! `policy`.

use clap::Subcommand;
use policy::{Because, Flow};
use serde_json::{Value, json};

use super::{
    common::{Common, InFleet, Wait, open, print, registry_path, unlock},
    push::{bring_up_to_date, push, report},
};
use crate::{
    base::error::Error,
    fleet::{rules, show},
    mesh::control::Mesh,
    registry::Rules,
};

#[derive(Subcommand)]
pub enum Policy {
    /// Set the rules of the fleet, or of one node, and tell the nodes
    Set {
        /// Rules, each in quotes, such as 'in authority tcp 80'; or one file with a rule a line
        #[arg(value_name = "RULE|FILE", required_unless_present_any = ["none", "inherit"])]
        rules: Vec<String>,
        /// No rules
        #[arg(long, conflicts_with = "rules")]
        none: bool,
        /// The rules of this node only
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// The node has the fleet's rules again
        #[arg(long, requires = "node", conflicts_with_all = ["rules", "none"])]
        inherit: bool,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Tell every node that lacks its configuration what it should have
    Push {
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// The rules of the fleet, and of one node or of all that have their own
    Show {
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        #[command(flatten)]
        fleet: InFleet,
    },
    /// Whether a node has such a flow, and why
    Explain {
        node: String,
        /// As a rule is written, such as: in authority tcp 80
        #[arg(required = true, num_args = 1..)]
        flow: Vec<String>,
        #[command(flatten)]
        fleet: InFleet,
    },
}

pub async fn run(common: &Common, command: Policy) -> Result<(), Error> {
    match command {
        Policy::Set { rules, none: _, node, inherit, fleet, wait } => {
            let rules = if inherit { None } else { Some(rules::read(&rules)?) };
            set(common, rules, node.as_deref(), &fleet, &wait).await
        }
        Policy::Push { fleet, wait } => {
            let (registry, view) = open(common, &fleet.fleet)?;
            let told = bring_up_to_date(common, &registry, &view, &wait).await?;
            report(common, json!({}), Vec::new(), told)
        }
        Policy::Show { node, fleet } => {
            let (_, view) = open(common, &fleet.fleet)?;
            let one = node.as_deref().map(|text| view.find(text)).transpose()?;
            print(common, || show::policy_json(&view, one), || show::policy_text(&view, one))
        }
        Policy::Explain { node, flow, fleet } => {
            let flow: Flow = flow.join(" ").parse().map_err(|why| Error::input(format!("no flow: {why}")))?;
            let (_, view) = open(common, &fleet.fleet)?;
            let member = view.find(&node)?;
            let explained = rules::explain(&view, member, &flow)?;
            print(common, || explained.json(), || explained.text())
        }
    }
}

/// Sets rules if every node could have the configuration that follows, and tells those that lack it.
async fn set(
    common: &Common,
    rules: Option<Rules>,
    node: Option<&str>,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    let (registry, mut view) = open(common, &fleet.fleet)?;
    let member = node.map(|text| view.find(text).map(|member| member.id)).transpose()?;
    match member {
        Some(id) => view.set_member_rules(id, rules.clone()),
        None => view.fleet.rules = rules.clone().unwrap_or_default(),
    }
    let configurations: Result<Vec<_>, Error> = view.live().map(|member| view.configuration(member)).collect();
    configurations?;
    // What would be refused is refused before anything is stored.
    let authority = if view.behind().next().is_some() { Some(unlock(common)?) } else { None };
    let mut mesh = match &authority {
        Some(_) => Some(Mesh::connect(&registry_path(common)?).await?),
        None => None,
    };
    match member {
        Some(id) => registry.set_member_rules(id, rules.as_ref())?,
        None => registry.set_fleet_rules(&view.fleet.id, &rules.unwrap_or_default())?,
    }
    let told = match (&authority, &mut mesh) {
        (Some(authority), Some(mesh)) => {
            mesh.reload().await?;
            push(mesh, &registry, &view, authority, wait).await?
        }
        _ => Vec::new(),
    };
    let one = node.map(|text| view.find(text)).transpose()?;
    report(common, show::policy_json(&view, one), vec![show::policy_text(&view, one)], told)
}

/// What `decide` says, in words.
impl rules::Explained {
    fn json(&self) -> Value {
        json!({
            "allowed": self.because.is_some(),
            "because": self.reason,
            "rule": match self.because { Some(Because::Rule(at)) => Some(at + 1), _ => None },
            "isolated": self.isolated,
        })
    }

    fn text(&self) -> String {
        format!("{}: {}", if self.because.is_some() { "yes" } else { "no" }, self.reason)
    }
}
