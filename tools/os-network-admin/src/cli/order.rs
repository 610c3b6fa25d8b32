//! `order`, and what other verbs write in its place where several must sign.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{
    approve::{Approving, Signing, approve, free, write},
    common::{Common, Wait, open, optional, print, registry_path, unlock},
    interrupt::{Interrupt, Interruptible},
    push::report,
};
use crate::{
    base::{
        error::Error,
        host::{Host, System},
        paper::{Decree, Paper, Papers},
    },
    fleet::{
        View,
        decree::{self, Wish},
        papers::log_refused,
    },
    mesh::control::DaemonLane,
    output::{self, Orders},
    registry::{Member, Registry},
};

#[derive(Subcommand)]
pub enum OrderVerb {
    /// Approve orders: shows them, asks, and writes the approvals into a file of their own
    Sign(Signing),
    /// Who has approved, and which nodes have shown that they did it
    Show {
        /// Files with proposals and approvals, in any order
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Tell the nodes, when enough have approved; exit code 15 if not. Who has done it is not told again
    Deliver {
        /// Files with proposals and approvals, in any order
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Where a proposal goes, where several must sign.
#[derive(Args)]
pub struct Proposing {
    /// Write proposals of orders, for all who must sign, in place of telling the nodes
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How long they may be signed and delivered, such as 30days
    #[arg(long = "for", value_name = "TIME", default_value = "30days", value_parser = humantime::parse_duration)]
    lasts: Duration,
}

impl Proposing {
    /// Nothing that somebody may have signed is overwritten: an error before anything is stored.
    pub fn check(&self) -> Result<(), Error> {
        self.out.as_deref().map_or(Ok(()), free)
    }

    /// Writes proposals for these members, in the transaction that is open.
    pub fn write(&self, view: &View<'_>, out: &Path, wishes: &[(Member, Wish)]) -> Result<Vec<Decree>, Error> {
        let expires_s = System.since_1970().saturating_add(self.lasts).as_secs();
        view.registry.whole(|_| {
            let decrees = wishes.iter().map(|(member, wish)| decree::propose(view, member, wish, expires_s));
            let decrees = decrees.collect::<Result<Vec<_>, _>>()?;
            if decrees.is_empty() {
                return Err(Error::input("every node has what it should have: there is nothing to sign"));
            }
            write(out, decrees.iter().map(|decree| Paper::Order(Box::new(decree.clone()))))?;
            Ok(decrees)
        })
    }
}

pub async fn run(common: &Common, verb: OrderVerb) -> Result<(), Error> {
    match verb {
        OrderVerb::Sign(signing) => {
            let about = Approving {
                which: |papers| papers.orders.iter().map(|one| Paper::Order(Box::new(one.clone()))).collect(),
                none: "there is no order in these files that could be approved",
                differences: |registry, paper| match paper {
                    Paper::Order(decree) => of_order(registry, decree),
                    _ => Ok(Vec::new()),
                },
                durable: false,
            };
            let (papers, registry) = approve(common, &signing, &about)?;
            show(common, Some(&signing.out), &papers, registry.as_ref())
        }
        OrderVerb::Show { files } => show(common, None, &Papers::read(&files)?, optional(common)?.as_ref()),
        OrderVerb::Deliver { files, wait } => deliver(common, &files, &wait).await,
    }
}

/// The fleet of an order, if it is here.
fn fleet_of<'r>(registry: &'r Registry, decree: &Decree) -> Result<Option<View<'r>>, Error> {
    Ok(registry.fleet(&decree.order.fleet)?.map(|fleet| View { registry, fleet }))
}

fn of_order(registry: &Registry, decree: &Decree) -> Result<Vec<String>, Error> {
    match fleet_of(registry, decree)? {
        Some(view) => decree::differences(&view, decree),
        None => Ok(vec!["this registry has nothing of the fleet in force".into()]),
    }
}

/// How far each has come.
pub fn show(common: &Common, path: Option<&Path>, papers: &Papers, registry: Option<&Registry>) -> Result<(), Error> {
    let orders = papers.orders.iter().map(|decree| {
        let view = registry.map(|registry| fleet_of(registry, decree)).transpose()?.flatten();
        let decided = decree.standing(papers);
        let state = decree::state(view.as_ref(), decree, &decided)?;
        let differences = view.map_or(Ok(Vec::new()), |view| decree::differences(&view, decree))?;
        Ok(output::Order::new(decree, &decided, state.name(), differences))
    });
    print(common, &Orders::new(path, orders.collect::<Result<_, Error>>()?))
}

async fn deliver(common: &Common, files: &[PathBuf], wait: &Wait) -> Result<(), Error> {
    let papers = Papers::read(files)?;
    let registry = open(common)?;
    let first = papers.orders.first().ok_or_else(|| Error::input("there is no order in these files"))?;
    let view = fleet_of(&registry, first)?
        .ok_or_else(|| Error::input(format!("this registry does not have the fleet {} of the order", first.fleet)))?;
    if let Err(why) = decree::check(&view, &papers) {
        log_refused(&registry, &[], &why)?;
        return Err(why);
    }
    let signer = unlock(common, &registry)?;
    let lane = DaemonLane::connect(&registry_path(common)?).await?;
    let mut mesh = Interruptible { lane, interrupt: Interrupt::watch()? };
    let account = decree::deliver(&mut mesh, &view, &signer, &papers, Duration::from_secs(wait.wait)).await?;
    let _ = mesh.lane.reload().await;
    let of = account.entries.len();
    let delivered = account.entries.iter().filter(|entry| entry.outcome.exit().is_none()).count();
    report(common, output::Delivered { delivered, of }, &account)
}
