//! What lifecycle does for `mesh`: membership, the first handshake, updates.

use calls::{
    Domain,
    console::{Code, Event},
    keystore::{Ownership, Refusal as KeystoreRefusal, State, StatusReply, for_lifecycle as keystore},
    lifecycle::{ApplyRequest, Refusal, for_mesh},
    mesh::Membership,
    rules::MeshLink,
};
use link::Station;
use shm::{Micros, mailbox::CallError};
use wire::{
    Hash, Phase,
    claim::MAX_CONFIGURATION,
    telemetry::CommandResult,
    update::{self, UpdateHead},
};

use crate::{Lifecycle, Ports, configuration::Kept};

/// A call of mesh that is answered when the keystore has confirmed it: [`for_mesh::Joined`], or the update of a
/// [`for_mesh::Apply`].
pub struct Pending {
    update: Option<Update>,
    /// The keystore has done it; its status is asked for, and every answer is younger than that.
    done: bool,
}

struct Update {
    head: UpdateHead,
    next: Kept,
}

impl Pending {
    /// Of the update that waits to be committed.
    pub fn head(&self) -> Option<&UpdateHead> {
        self.update.as_ref().map(|update| &update.head)
    }
}

/// What makes one membership differ from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Told {
    phase: Phase,
    isolated: u8,
    epoch: u64,
    link: Station,
    configuration: Option<Hash>,
}

impl Lifecycle {
    /// The configuration that the keystore has committed, if it is here.
    pub(crate) fn in_force(&self) -> Option<&Kept> {
        let status = self.status?;
        let committed = status.ownership() != Ownership::Unclaimed && status.configuration == self.staged.hash;
        committed.then_some(&self.staged)
    }

    /// The link of a member; without a mesh nobody is one.
    pub(crate) fn mesh_link(&self) -> MeshLink {
        let lives = self.phase.has_mesh() && !self.is_dead(Domain::Mesh);
        self.in_force().filter(|_| lives).map_or(MeshLink::NONE, |kept| kept.link)
    }

    /// Publishes the membership if it has changed.
    pub(crate) fn tell_mesh(&mut self, ports: &mut Ports<'_>) {
        let Some(status) = self.status.filter(|status| status.state() == Some(State::Ready)) else { return };
        let kept = self.in_force().filter(|_| self.phase.has_mesh());
        let configuration = kept.map(|kept| kept.hash);
        let StatusReply { isolated, epoch, fiduciary, .. } = status;
        let told = Told { phase: self.phase, isolated, epoch, link: self.link, configuration };
        if self.told == Some(told) {
            return;
        }
        let mut membership = Membership {
            phase: self.phase as u64,
            isolated: u64::from(isolated),
            epoch,
            fiduciary,
            link: self.link,
            length: 0,
            configuration: [0; MAX_CONFIGURATION],
        };
        if let Some(kept) = kept {
            membership.length = kept.bytes().len() as u64;
            membership.configuration = *kept.padded();
        }
        ports.membership.publish(&membership);
        let peers = kept.map_or(0, |kept| kept.peers);
        let before = self.told.replace(told).and_then(|told| told.configuration);
        if let Some(hash) = configuration.filter(|hash| before != Some(*hash)) {
            self.events.say(Event::new(Code::Configured, peers, &[&hash, &epoch.to_be_bytes()]));
        }
    }

    pub(crate) fn serve_mesh(&mut self, ports: &mut Ports<'_>) {
        if self.pending.is_some() {
            return;
        }
        let call = match ports.mesh.take() {
            Ok(None) => return,
            Err(_) => return self.events.say(Event::new(Code::Misbehaved, Domain::Mesh as u32, &[])),
            Ok(Some(call)) => call,
        };
        if call.parse::<for_mesh::Joined>().is_some() {
            match self.phase {
                Phase::Claimed => self.welcome(ports),
                Phase::Committed => {
                    self.pending = Some(Pending { update: None, done: false });
                    self.wanted.settle = true;
                }
                _ => ports.mesh.refuse(Refusal::Phase.code()),
            }
        } else if let Some(request) = call.parse::<for_mesh::Apply>() {
            match read(&request) {
                // Who can command has made a handshake, and has said so.
                _ if self.phase != Phase::Claimed => ports.mesh.refuse(Refusal::Phase.code()),
                Ok(update) => {
                    self.pending = Some(Pending { update: Some(update), done: false });
                    self.wanted.update = true;
                }
                Err(result) => self.answer_apply(result, ports),
            }
        } else {
            ports.mesh.refuse(Refusal::NotAllowed.code());
        }
    }

    /// What the keystore has said about a pending call.
    pub(crate) fn hear_about_mesh(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if let Some(outcome) = ports.keystore.poll::<keystore::Settle>(now) {
            self.wanted.settle = false;
            match outcome {
                Err(CallError::Refused(_)) => self.drop_pending(ports),
                outcome => {
                    if self.said(outcome, ports).is_some() {
                        self.done();
                    }
                }
            }
        }
        if let Some(outcome) = ports.keystore.poll::<keystore::Update>(now) {
            self.wanted.update = false;
            match outcome {
                Err(CallError::Refused(code)) if self.pending.take().is_some() => {
                    let store = code == KeystoreRefusal::Store.code();
                    self.answer_apply(if store { CommandResult::Store } else { CommandResult::Refused }, ports);
                }
                Err(CallError::Refused(_)) => {}
                outcome => {
                    if self.said(outcome, ports).is_some() {
                        self.done();
                    }
                }
            }
        }
    }

    /// The keystore has done what was asked; its status shows it.
    fn done(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.done = true;
            self.wanted.status = true;
        }
    }

    pub(crate) fn confirm_mesh(&mut self, status: StatusReply, ports: &mut Ports<'_>) {
        let Some(pending) = self.pending.take_if(|pending| pending.done) else { return };
        match pending.update {
            None if status.ownership() == Ownership::Claimed => self.welcome(ports),
            None => ports.mesh.refuse(Refusal::Phase.code()),
            Some(Update { next, .. }) if status.configuration == next.hash => {
                self.staged = next;
                self.publish(ports);
                self.answer_apply(CommandResult::Done, ports);
            }
            Some(_) => self.answer_apply(CommandResult::Store, ports),
        }
    }

    fn welcome(&mut self, ports: &mut Ports<'_>) {
        if !core::mem::replace(&mut self.joined, true) {
            self.events.say(Event::new(Code::Joined, 0, &[]));
        }
        ports.mesh.reply::<for_mesh::Joined>(&());
    }

    fn answer_apply(&mut self, result: CommandResult, ports: &mut Ports<'_>) {
        if result != CommandResult::Done {
            self.events.say(Event::new(Code::UpdateRefused, result as u32, &[]));
        }
        ports.mesh.reply::<for_mesh::Apply>(&(result as u32));
    }

    pub(crate) fn drop_pending(&mut self, ports: &mut Ports<'_>) {
        if self.pending.take().is_some() {
            ports.mesh.refuse(Refusal::Phase.code());
        }
    }
}

/// An update that is worth asking the keystore about.
fn read(request: &ApplyRequest) -> Result<Update, CommandResult> {
    let bytes = usize::try_from(request.length).ok().and_then(|length| request.update.get(..length));
    let (head, configuration) = bytes.and_then(update::parse).ok_or(CommandResult::Unreadable)?;
    let next = Kept::read(configuration).ok_or(CommandResult::Unreadable)?;
    if next.hash == head.configuration { Ok(Update { head: *head, next }) } else { Err(CommandResult::Refused) }
}
