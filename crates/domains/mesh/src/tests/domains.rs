//! The domains around mesh: a keystore with the real static steps, and a lifecycle, each with knobs to make it fail.
//! Without them they answer and refuse what the real ones do: `sim/tests/fakes` compares them. What comes of an update the
//! test says.

use std::vec::Vec;

use calls::{
    keystore::{CommandReply, Refusal, for_mesh as ops},
    lifecycle::{ApplyRequest, Refusal as LifecycleRefusal, for_mesh as asked},
    mesh::Membership,
};
use crypto::Secret;
use shm::{
    cell,
    mailbox::{Operation as Call, Server},
};
use wire::{
    Key, Phase,
    command::{Command, Operation, target},
    handshake::{self, Started, Timestamps},
    order::Kind,
    receipt::Receipt,
    staged::Staged,
    telemetry::CommandResult,
};

/// How the next calls of one operation go wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Refuse,
    /// This many calls are taken and never answered.
    Silent(u32),
}

pub struct Keystore {
    pub server: Server<'static, { ops::MAX_REQUEST }>,
    pub secret: Secret,
    pub fiduciary: Key,
    pub command_key: Secret,
    /// The key and the counter of the second authority, if the set has one.
    pub second: Option<(Secret, u32)>,
    /// A binding is committed.
    pub owned: bool,
    pub counter: u32,
    pub isolated: bool,
    pub receipt: Option<Receipt>,
    pub trouble: Option<(u32, Trouble)>,
    /// Every call taken.
    pub log: Vec<u32>,
    pub stamps: Timestamps,
    drawn: u64,
}

impl Keystore {
    pub fn new(server: Server<'static, { ops::MAX_REQUEST }>, n: u8) -> Self {
        Self {
            server,
            secret: Secret::new([n; 32]),
            fiduciary: [n | 0x80; 32],
            command_key: Secret::new([0xc; 32]),
            second: None,
            owned: false,
            counter: 0,
            isolated: false,
            receipt: None,
            trouble: None,
            log: Vec::new(),
            stamps: Timestamps::of(1),
            drawn: u64::from(n) << 32,
        }
    }

    pub fn asked(&self, op: u32) -> usize {
        self.log.iter().filter(|logged| **logged == op).count()
    }

    /// Answers a call, if one has come. Returns whether its client is to be notified.
    pub fn serve(&mut self) -> bool {
        if let Some(call) = self.server.take().unwrap() {
            self.log.push(call.op);
            match self.trouble {
                Some((op, Trouble::Refuse)) if op == call.op => self.server.refuse(Refusal::NotReady.code()),
                Some((op, Trouble::Silent(times))) if op == call.op && times > 0 => {
                    self.trouble = Some((op, Trouble::Silent(times - 1)));
                }
                _ if call.op == ops::Prove::OP => {
                    self.answer::<ops::Prove>(self.receipt.ok_or(Refusal::NotReady));
                }
                _ if !self.owned => self.server.refuse(Refusal::NotReady.code()),
                _ if call.op == ops::MeshKey::OP => {
                    self.server.reply::<ops::MeshKey>(&crypto::dh_public(&self.secret));
                }
                _ if call.op == ops::MeshRandom::OP => {
                    self.drawn += 1;
                    self.server.reply::<ops::MeshRandom>(&crypto::sha256(&self.drawn.to_le_bytes()));
                }
                _ if call.op == ops::StartMeshHandshake::OP => {
                    let request = call.parse::<ops::StartMeshHandshake>().unwrap();
                    let timestamp = self.stamps.next().unwrap();
                    let started = Started::new(&self.secret, &request).map(|started| started.seal(timestamp));
                    self.answer::<ops::StartMeshHandshake>(started.ok_or(Refusal::Forged));
                }
                _ if call.op == ops::FinishMeshHandshake::OP => {
                    let request = call.parse::<ops::FinishMeshHandshake>().unwrap();
                    let next = handshake::finish(&self.secret, &request);
                    self.answer::<ops::FinishMeshHandshake>(next.ok_or(Refusal::Forged));
                }
                _ if call.op == ops::ReadMeshHandshake::OP => {
                    let request = call.parse::<ops::ReadMeshHandshake>().unwrap();
                    let read = handshake::read(&self.secret, &request);
                    self.answer::<ops::ReadMeshHandshake>(read.ok_or(Refusal::Forged));
                }
                _ if call.op == ops::CheckCommand::OP => {
                    let reply = self.check(&call.parse::<ops::CheckCommand>().unwrap());
                    self.answer::<ops::CheckCommand>(reply);
                }
                _ => panic!("an operation that is not mesh's: {}", call.op),
            }
        }
        self.server.take_signal()
    }

    fn answer<O: Call>(&mut self, reply: Result<O::Reply, Refusal>) {
        match reply {
            Ok(reply) => self.server.reply::<O>(&reply),
            Err(refusal) => self.server.refuse(refusal.code()),
        }
    }

    fn check(&mut self, command: &Command) -> Result<CommandReply, Refusal> {
        if command.target != target(&self.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let (authority, counter) = match &mut self.second {
            _ if command.check(&self.command_key) => (0, &mut self.counter),
            Some((key, counter)) if command.check(key) => (1, counter),
            _ => return Err(Refusal::Forged),
        };
        if command.counter.get() <= *counter {
            return Err(Refusal::Stale);
        }
        *counter = command.counter.get();
        if command.operation() == Some(Operation::Isolate) {
            self.isolated = true;
        }
        Ok(CommandReply {
            operation: command.operation.into(),
            argument: command.argument.get(),
            counter: command.counter.get(),
            authority,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Joined,
    Apply(Vec<u8>),
}

pub struct Lifecycle {
    pub server: Server<'static, { asked::MAX_REQUEST }>,
    pub cell: cell::Writer<'static, Membership>,
    pub membership: Membership,
    pub told: Vec<Told>,
    pub trouble: Option<(u32, Trouble)>,
    /// What comes of an update.
    pub result: CommandResult,
}

impl Lifecycle {
    pub fn publish(&mut self) {
        self.cell.publish(&self.membership);
        self.cell.take_signal();
    }

    pub fn configure(&mut self, bytes: &[u8]) {
        self.membership.configuration = [0; _];
        self.membership.configuration[..bytes.len()].copy_from_slice(bytes);
        self.membership.length = bytes.len() as u64;
    }

    pub fn serve(&mut self) -> bool {
        if let Some(call) = self.server.take().unwrap() {
            match self.trouble {
                Some((op, Trouble::Refuse)) if op == call.op => self.server.refuse(LifecycleRefusal::Phase.code()),
                Some((op, Trouble::Silent(times))) if op == call.op && times > 0 => {
                    self.trouble = Some((op, Trouble::Silent(times - 1)));
                }
                _ if call.op == asked::Joined::OP && self.membership.phase().has_mesh() => {
                    self.told.push(Told::Joined);
                    if self.membership.phase() == Phase::Committed {
                        self.membership.phase = Phase::Claimed as u64;
                        self.publish();
                    }
                    self.server.reply::<asked::Joined>(&());
                }
                // No update before the claim is final.
                _ if call.op == asked::Joined::OP || self.membership.phase() != Phase::Claimed => {
                    self.server.refuse(LifecycleRefusal::Phase.code());
                }
                _ => {
                    let request: ApplyRequest = call.parse::<asked::Apply>().unwrap();
                    let update = request.staged[..request.length as usize].to_vec();
                    if self.result == CommandResult::Done {
                        match wire::staged::parse(&update).unwrap() {
                            Staged::Order(order, configuration) if order.kind() == Some(Kind::Configuration) => {
                                self.configure(configuration);
                            }
                            Staged::Order(..) => {}
                            Staged::Record(record) => self.membership.sequence = record.sequence.get(),
                        }
                        self.publish();
                    }
                    self.told.push(Told::Apply(update));
                    self.server.reply::<asked::Apply>(&(self.result as u32));
                }
            }
        }
        self.server.take_signal()
    }

    pub fn applied(&self) -> Vec<Vec<u8>> {
        let updates = self.told.iter().filter_map(|told| match told {
            Told::Apply(update) => Some(update.clone()),
            Told::Joined => None,
        });
        updates.collect::<Vec<_>>()
    }

    pub fn joined(&self) -> usize {
        self.told.len() - self.applied().len()
    }
}

/// A signed order is nothing but its head and body to mesh.
pub fn order(kind: Kind, body: &[u8]) -> Vec<u8> {
    let order = wire::order::Order::new(kind, body);
    [zerocopy::IntoBytes::as_bytes(&order), body].concat()
}

pub fn update(configuration: &[u8]) -> Vec<u8> {
    order(Kind::Configuration, configuration)
}
