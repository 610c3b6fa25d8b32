//! `command`.

use std::time::Duration;

use clap::ValueEnum;
use wire::command;

use super::{
    common::{Common, InFleet, Wait, open, print, registry_path, unlock, view},
    interrupt::{Interrupt, Interruptible},
    order::{self, Proposing},
};
use crate::{
    base::{
        error::{Error, Exit},
        paper::Papers,
    },
    fleet::{
        decree::Wish,
        delivery::{self, Outcome, Task},
        show,
    },
    mesh::control::DaemonLane,
    output::{Done, millis},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// Send a record of telemetry now
    Status,
    /// No flow but those with the authorities, until a rejoin
    Isolate,
    /// The order that ends that
    Rejoin,
    /// New session keys with every peer
    Rotate,
}

pub async fn run(
    common: &Common,
    node: &str,
    operation: Operation,
    proposing: &Proposing,
    fleet: &InFleet,
    wait: &Wait,
) -> Result<(), Error> {
    proposing.check()?;
    let registry = open(common)?;
    let view = view(common, &registry, fleet)?;
    let member = view.find(node)?;
    if let Some(out) = &proposing.out {
        if operation != Operation::Rejoin {
            return Err(Error::new(
                Exit::Usage,
                "one authority is enough for this command: there is nothing to sign with --out",
            ));
        }
        let orders = proposing.write(&view, out, &[(member, Wish::Rejoin)])?;
        return order::show(common, Some(out), &Papers { orders, ..Papers::default() }, Some(&registry));
    }
    let node = view.paired(&member)?;
    let authority = unlock(common, &registry)?;
    let lane = DaemonLane::connect(&registry_path(common)?).await?;
    let mut mesh = Interruptible { lane, interrupt: Interrupt::watch()? };
    let task = match operation {
        Operation::Status => Task::Command(command::Operation::Status),
        Operation::Isolate => Task::Command(command::Operation::Isolate),
        Operation::Rejoin => Task::Rejoin,
        Operation::Rotate => Task::Command(command::Operation::Rotate),
    };
    let name = task.name().unwrap_or_default();
    let tasks = vec![(&member, task)];
    let outcomes = delivery::run(&mut mesh, &registry, &view, &authority, tasks, Duration::from_secs(wait.wait)).await;
    let outcome = outcomes.into_iter().next().unwrap_or(Outcome::NoAnswer);
    registry.whole(|registry| {
        if let Outcome::Done { record, .. } = &outcome {
            // The mesh's daemon writes it too, but not at once.
            registry.store_shown(member.id, record)?;
        }
        registry.log(outcome.logged(delivery::command_event(&node.title.warrant.fiduciary, name)))
    })?;
    match outcome {
        Outcome::Done { record, after } => {
            let telemetry = show::record(&view, &member, &record, None);
            print(common, &Done { after_ms: millis(after), telemetry })
        }
        Outcome::Refused(why) => {
            Err(Error::new(Exit::Refused, format!("{} did not do it: {}", member.who, delivery::why(why))))
        }
        Outcome::NotReached(why) => {
            Err(Error::new(why.exit, format!("{why}; whether {} has done it is not known", member.who)))
        }
        Outcome::NotComputable(why) => Err(Error::new(Exit::NotComputable, why.message)),
        // Of a command there is no receipt.
        Outcome::NoAnswer | Outcome::Proved { .. } | Outcome::Current | Outcome::Otherwise(_) => Err(Error::new(
            Exit::NotShown,
            format!(
                "{} did not show within {} s that it has done it: is it there? See `os-network-admin mesh status`",
                member.who, wait.wait
            ),
        )),
    }
}
