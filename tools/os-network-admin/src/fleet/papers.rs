//! What is logged of papers, whatever they are about.

use crate::{
    base::{
        error::Error,
        paper::{Approval, Paper},
    },
    registry::{Event, Kind, Outcome, Registry, Tag},
};

/// An entry about a paper.
pub fn told(kind: Kind, paper: &Paper) -> Event {
    let event = Event::new(kind);
    match paper {
        Paper::Warrant(proposal) => {
            let warrant = &proposal.warrant;
            let event =
                event.node(&warrant.fiduciary).bytes(Tag::Fleet, &warrant.fleet).text(Tag::Name, &proposal.fleet);
            event.bytes(Tag::Proposal, &proposal.subject().hash()).number(Tag::Epoch, warrant.epoch.get())
        }
        Paper::Genesis(genesis) => {
            let id = genesis.id();
            let nodes = genesis.members.len() as u64;
            event
                .bytes(Tag::Fleet, &id)
                .bytes(Tag::Proposal, &id)
                .text(Tag::Name, &genesis.name)
                .number(Tag::Nodes, nodes)
        }
        Paper::Record(change) => event
            .bytes(Tag::Fleet, &change.record.fleet)
            .bytes(Tag::Proposal, &change.subject().hash())
            .text(Tag::Name, &change.fleet)
            .number(Tag::Number, change.record.sequence.get()),
        Paper::Order(decree) => event
            .node(&decree.order.fiduciary)
            .bytes(Tag::Fleet, &decree.order.fleet)
            .bytes(Tag::Proposal, &decree.subject().hash())
            .text(Tag::Operation, &decree.what())
            .number(Tag::Counter, decree.order.counter.get()),
        Paper::Export(export) => event
            .bytes(Tag::Fleet, &export.id)
            .bytes(Tag::Proposal, &export.hash())
            .text(Tag::Name, &export.fleet)
            .number(Tag::Nodes, export.nodes.len() as u64),
        Paper::Authority(card) => event.bytes(Tag::Key, &card.0.sign),
        Paper::Approval(approval) => {
            event.bytes(Tag::Proposal, &approval.subject.hash()).bytes(Tag::Key, &approval.signer)
        }
    }
}

/// Notes that a person has approved.
pub fn log_approved(registry: &Registry, paper: &Paper, approval: &Approval) -> Result<(), Error> {
    registry.log(told(Kind::Approved, paper).bytes(Tag::Key, &approval.signer))
}

/// Notes that papers were refused, or that a person has not approved.
pub fn log_refused(registry: &Registry, papers: &[Paper], why: &Error) -> Result<(), Error> {
    let event = match papers {
        [one] => told(Kind::Approved, one),
        _ => Event::new(Kind::Approved),
    };
    registry.log(event.ended(Outcome::Refused).text(Tag::Why, &why.message))
}
