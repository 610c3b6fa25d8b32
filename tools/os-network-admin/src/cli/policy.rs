//! `policy`.

use clap::Subcommand;
use policy::Flow;

use super::{
    common::{Common, InFleet, Wait, open, print, view},
    order::{self, Proposing},
    push::{prepare, push, report, tell},
};
use crate::{
    base::{error::Error, paper::Papers},
    fleet::{Owed, View, decree::Wish, rules, show},
    output::Pushed,
    registry::{Member, Registry, Rules},
};

#[derive(Subcommand)]
pub enum PolicyVerb {
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
        proposing: Proposing,
        #[command(flatten)]
        fleet: InFleet,
        #[command(flatten)]
        wait: Wait,
    },
    /// Tell every node that lacks its configuration what it should have
    Push {
        #[command(flatten)]
        proposing: Proposing,
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

pub async fn run(common: &Common, command: PolicyVerb) -> Result<(), Error> {
    match command {
        PolicyVerb::Set { rules, none: _, node, inherit, proposing, fleet, wait } => {
            let rules = if inherit { None } else { Some(rules::read(&rules)?) };
            set(common, rules, node.as_deref(), &proposing, &fleet, &wait).await
        }
        PolicyVerb::Push { proposing, fleet, wait } => {
            proposing.check()?;
            let registry = open(common)?;
            if let Some(out) = &proposing.out {
                let view = view(common, &registry, &fleet)?;
                let orders = proposing.write(&view, out, &owed(&view)?)?;
                return order::show(common, Some(out), &Papers { orders, ..Papers::default() }, Some(&registry));
            }
            let account = push(common, &view(common, &registry, &fleet)?, &wait).await?;
            report(common, Pushed {}, &account)
        }
        PolicyVerb::Show { node, fleet } => {
            let registry = open(common)?;
            let view = view(common, &registry, &fleet)?;
            let one = node.as_deref().map(|text| view.find(text)).transpose()?;
            print(common, &show::policy(&view, one.as_ref())?)
        }
        PolicyVerb::Explain { node, flow, fleet } => {
            let flow: Flow = flow.join(" ").parse().map_err(|why| Error::input(format!("no flow: {why}")))?;
            let registry = open(common)?;
            let view = view(common, &registry, &fleet)?;
            print(common, &rules::explain(&view, &view.find(&node)?, &flow)?)
        }
    }
}

/// Sets rules if every node could have the configuration that follows, and tells those that lack it.
pub(super) async fn set(
    common: &Common,
    rules: Option<Rules>,
    node: Option<&str>,
    proposing: &Proposing,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    proposing.check()?;
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let member = node.map(|text| view.find(text)).transpose()?.map(|member| member.id);
    let change = |registry: &Registry| match member {
        Some(id) => registry.set_member_rules(id, rules.as_ref()),
        None => registry.set_fleet_rules(&view.fleet.id, &rules.clone().unwrap_or_default()),
    };
    if let Some(out) = &proposing.out {
        let before = view.unworkable()?;
        let orders = registry.whole(|registry| {
            change(registry)?;
            let view = view.again()?;
            view.check(&before)?;
            proposing.write(&view, out, &owed(&view)?)
        })?;
        return order::show(common, Some(out), &Papers { orders, ..Papers::default() }, Some(&registry));
    }
    // What would be refused is refused before anything is stored.
    let teller = prepare(common, &view, change).await?;
    change(&registry)?;
    let view = view.again()?;
    let account = tell(teller, &view, wait).await?;
    let one = node.map(|text| view.find(text)).transpose()?;
    report(common, show::policy(&view, one.as_ref())?, &account)
}

/// What each node lacks; an error if one can have nothing.
fn owed(view: &View<'_>) -> Result<Vec<(Member, Wish)>, Error> {
    let owed = view.behind()?.into_iter().map(|behind| {
        let Owed { member, configuration } = behind.owed?;
        Ok((member, Wish::Configuration(configuration)))
    });
    owed.collect()
}
