//! The claim of the one connection that has the slot, from its token to the acknowledgement: which message
//! comes when, what is asked of the keystore and of lifecycle in between. Anything that is not exactly the
//! next step is a failure, and a failure is an end: nothing here tells the peer why, or at all.

use core::{mem, ops::RangeInclusive};

use calls::{
    keystore::{Refusal, for_claim as keystore},
    lifecycle::{Closed, Refusal as Unkept, StageRequest, for_claim as lifecycle},
};
use crypto::{Secret, noise::Cipher};
use shm::{
    Micros,
    mailbox::{CallError, Client, Patience},
};
use smoltcp::socket::tcp::Socket;
use wire::{
    Key, U32,
    binding::{PairingRecord, configuration_hash},
    claim::{
        Acknowledgement, GrantHead, INITIATION, IdentityMessage, MAX_GRANT, PairingMessage, RESPONSE, TAG, kind,
        parse_grant,
    },
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::{
    noise::{Begun, Read, Session},
    upgrade::{ACCEPT, response},
    ws,
};

/// The longest message of the peer.
pub const MESSAGE: usize = MAX_GRANT + TAG;
/// How long one call may take before it is made again, once.
pub const PATIENCE: Patience = Patience { each: 2_000_000, tries: 2 };
/// The same of a call for which the store erases and writes.
const STORE_PATIENCE: Patience = Patience { each: 5_000_000, tries: 2 };

const ACKNOWLEDGEMENT: usize = size_of::<Acknowledgement>();
const INITIATIONS: RangeInclusive<usize> = INITIATION..=INITIATION;
const GRANTS: RangeInclusive<usize> = size_of::<GrantHead>() + TAG..=MESSAGE;
const ACKNOWLEDGEMENTS: RangeInclusive<usize> = ACKNOWLEDGEMENT + TAG..=ACKNOWLEDGEMENT + TAG;

/// Whose fault it is that a call of the keystore's brought no reply.
pub fn blame(error: CallError) -> Closed {
    const OWN: [u32; 2] = [Refusal::NotReady.code(), Refusal::Store.code()];
    match error {
        CallError::Refused(code) if !OWN.contains(&code) => Closed::Rejected,
        _ => Closed::Internal,
    }
}

/// What the slot is for.
pub struct Slot {
    pub gate: u64,
    pub prologue: [u8; 80],
    /// N's public half.
    pub claim_key: Key,
    pub deadline: Micros,
}

/// What an exchange works with.
pub struct Means<'e, 'p, 's> {
    pub socket: &'e mut Socket<'s>,
    pub message: &'e mut [u8; MESSAGE],
    pub keystore: &'e mut Client<'p>,
    pub lifecycle: &'e mut Client<'p>,
    /// The perimeter has taken all that was sent.
    pub drained: bool,
}

pub struct Exchange {
    slot: Slot,
    state: State,
    receiver: ws::Receiver,
}

/// A grant whose configuration is what its binding says; the configuration's bytes are in the message buffer.
struct Grant {
    session: Session,
    title: Title,
    length: usize,
}

/// What is waited for.
enum State {
    /// lifecycle, to know of the slot.
    Starting {
        accept: [u8; ACCEPT],
    },
    /// Noise message 1.
    Initiation,
    /// The keystore's part of it.
    Reading(Begun),
    /// Random bytes for the ephemeral key.
    Responding(Read),
    /// The signed identity.
    Identifying {
        session: Session,
        response: [u8; RESPONSE],
    },
    Granting(Session),
    /// lifecycle, to keep the configuration.
    Staging(Grant),
    /// The keystore, to commit the binding.
    Committing(Grant),
    /// lifecycle, to know of it.
    Committed {
        session: Session,
        record: PairingRecord,
    },
    Acknowledgement {
        session: Session,
        record: PairingRecord,
    },
    /// The perimeter, to let the peer know that its acknowledgement has come: what follows closes the gate.
    Settling(PairingRecord),
    /// The keystore, to make it final.
    Finishing(PairingRecord),
    /// lifecycle, to close the gate.
    Closing,
    /// Nothing more.
    Over,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something must arrive first.
    Waiting,
    /// Another step may be possible at once.
    Onward,
    /// The claim is final.
    Done,
}

impl Exchange {
    pub fn new(slot: Slot, accept: [u8; ACCEPT]) -> Self {
        Self { slot, state: State::Starting { accept }, receiver: ws::Receiver::new() }
    }

    /// When the claim has taken too long.
    pub fn deadline(&self) -> Micros {
        self.slot.deadline
    }

    /// Whether it waits for the perimeter.
    pub fn settling(&self) -> bool {
        matches!(self.state, State::Settling(_))
    }

    /// Takes at most one step. After an error the exchange is over.
    pub fn step(&mut self, now: Micros, means: &mut Means<'_, '_, '_>) -> Result<Progress, Closed> {
        let (state, progress) = self.next(now, means)?;
        self.state = state;
        Ok(progress)
    }

    fn next(&mut self, now: Micros, means: &mut Means<'_, '_, '_>) -> Result<(State, Progress), Closed> {
        use Progress::{Done, Onward, Waiting};
        let gate = self.slot.gate;
        Ok(match mem::replace(&mut self.state, State::Over) {
            State::Starting { accept } => {
                let started = means.lifecycle.ask::<lifecycle::Started>(now, PATIENCE, || gate).map_err(internal)?;
                if started.is_none() {
                    return Ok((State::Starting { accept }, Waiting));
                }
                response(&accept).iter().try_for_each(|part| send(means.socket, part))?;
                (State::Initiation, Onward)
            }
            State::Initiation => {
                let Some(_) = self.receive(means, &INITIATIONS)? else { return Ok((State::Initiation, Waiting)) };
                let (message, _) = means.message.split_first_chunk().ok_or(Closed::Internal)?;
                (State::Reading(Begun::new(&self.slot.prologue, &self.slot.claim_key, message)), Onward)
            }
            State::Reading(begun) => {
                let reply = means.keystore.ask::<keystore::ReadInitiation>(now, PATIENCE, || begun.request());
                let Some(reply) = reply.map_err(blame)? else { return Ok((State::Reading(begun), Waiting)) };
                (State::Responding(begun.read(reply).map_err(|_| Closed::Rejected)?), Onward)
            }
            State::Responding(read) => {
                let random = means.keystore.ask::<keystore::ClaimRandom>(now, PATIENCE, || ()).map_err(blame)?;
                let Some(random) = random else { return Ok((State::Responding(read), Waiting)) };
                let (response, session) = read.respond(&Secret::new(random)).map_err(|_| Closed::Rejected)?;
                (State::Identifying { session, response }, Onward)
            }
            State::Identifying { mut session, response } => {
                let identity = means.keystore.ask::<keystore::Identify>(now, PATIENCE, || session.hash);
                let Some(identity) = identity.map_err(blame)? else {
                    return Ok((State::Identifying { session, response }, Waiting));
                };
                send_frame(means.socket, &[&response])?;
                let message = IdentityMessage { kind: kind::IDENTITY, zero: [0; 7], identity };
                send_sealed(means.socket, &mut session.send, message)?;
                (State::Granting(session), Onward)
            }
            State::Granting(mut session) => {
                let Some(length) = self.receive(means, &GRANTS)? else {
                    return Ok((State::Granting(session), Waiting));
                };
                let text = open(means.message, length, &mut session.receive)?;
                let (head, configuration) = parse_grant(text).ok_or(Closed::Rejected)?;
                if configuration_hash(configuration) != head.title.warrant.configuration {
                    return Err(Closed::Rejected);
                }
                let (title, length) = (head.title, configuration.len());
                (State::Staging(Grant { session, title, length }), Onward)
            }
            State::Staging(grant) => {
                let request = || stage_request(gate, &grant, means.message);
                let staged = means.lifecycle.ask::<lifecycle::Stage>(now, STORE_PATIENCE, request).map_err(unstaged)?;
                if staged.is_some() { (State::Committing(grant), Onward) } else { (State::Staging(grant), Waiting) }
            }
            State::Committing(grant) => {
                let record =
                    means.keystore.ask::<keystore::Commit>(now, STORE_PATIENCE, || grant.title).map_err(blame)?;
                match record {
                    Some(record) => (State::Committed { session: grant.session, record }, Onward),
                    None => (State::Committing(grant), Waiting),
                }
            }
            State::Committed { mut session, record } => {
                let rivals = means.lifecycle.ask::<lifecycle::Committed>(now, PATIENCE, || gate).map_err(internal)?;
                let Some(rivals) = rivals else { return Ok((State::Committed { session, record }, Waiting)) };
                let message = PairingMessage { kind: kind::PAIRING, zero: [0; 3], rivals: U32::new(rivals), record };
                send_sealed(means.socket, &mut session.send, message)?;
                (State::Acknowledgement { session, record }, Onward)
            }
            State::Acknowledgement { mut session, record } => {
                let Some(length) = self.receive(means, &ACKNOWLEDGEMENTS)? else {
                    return Ok((State::Acknowledgement { session, record }, Waiting));
                };
                let text = open(means.message, length, &mut session.receive)?;
                let expected = Acknowledgement { kind: kind::ACKNOWLEDGEMENT, zero: [0; 7], record: record.hash() };
                if Acknowledgement::read_from_bytes(text) != Ok(expected) {
                    return Err(Closed::Rejected);
                }
                (State::Settling(record), Onward)
            }
            State::Settling(record) if means.drained => (State::Finishing(record), Onward),
            State::Settling(record) => (State::Settling(record), Waiting),
            State::Finishing(record) => {
                let done = means.keystore.ask::<keystore::Acknowledge>(now, STORE_PATIENCE, || record.hash());
                if done.map_err(blame)?.is_some() {
                    (State::Closing, Onward)
                } else {
                    (State::Finishing(record), Waiting)
                }
            }
            State::Closing => {
                let closed = means.lifecycle.ask::<lifecycle::Acknowledged>(now, PATIENCE, || gate);
                if closed.map_err(internal)?.is_some() { (State::Over, Done) } else { (State::Closing, Waiting) }
            }
            State::Over => return Err(Closed::Internal),
        })
    }

    /// The length of the next message once it is whole in the message buffer. What the peer sent before it
    /// closed still counts; that it closed counts only here, where something more of it is needed.
    fn receive(
        &mut self,
        means: &mut Means<'_, '_, '_>,
        allowed: &RangeInclusive<usize>,
    ) -> Result<Option<usize>, Closed> {
        while means.socket.can_recv() {
            let fed = means.socket.recv(|bytes| match self.receiver.feed(bytes, allowed, &mut means.message[..]) {
                Ok((taken, length)) => (taken, Ok(length)),
                Err(malformed) => (0, Err(malformed)),
            });
            let length = fed.map_err(|_| Closed::PeerLeft)?.map_err(|_| Closed::Rejected)?;
            if length.is_some() {
                return Ok(length);
            }
        }
        if means.socket.may_recv() { Ok(None) } else { Err(Closed::PeerLeft) }
    }
}

/// lifecycle did not take part, for whatever reason.
fn internal(_: CallError) -> Closed {
    Closed::Internal
}

/// lifecycle did not keep the configuration, because it could not, or because of what the peer has sent.
fn unstaged(error: CallError) -> Closed {
    let binding = CallError::Refused(Unkept::Binding.code());
    if error == binding { Closed::Rejected } else { Closed::Internal }
}

/// The plain text of a transport message.
fn open<'m>(message: &'m mut [u8; MESSAGE], length: usize, cipher: &mut Cipher) -> Result<&'m [u8], Closed> {
    let sealed = message.get_mut(..length).ok_or(Closed::Rejected)?;
    let (text, tag) = sealed.split_last_chunk_mut::<TAG>().ok_or(Closed::Rejected)?;
    cipher.decrypt(text, tag).map_err(|_| Closed::Rejected)?;
    Ok(text)
}

fn send_sealed(
    socket: &mut Socket<'_>,
    cipher: &mut Cipher,
    mut message: impl IntoBytes + FromBytes + Immutable,
) -> Result<(), Closed> {
    let tag = cipher.encrypt(message.as_mut_bytes()).map_err(|_| Closed::Internal)?;
    send_frame(socket, &[message.as_bytes(), &tag])
}

fn send_frame(socket: &mut Socket<'_>, parts: &[&[u8]]) -> Result<(), Closed> {
    let header = ws::SendHeader::new(parts.iter().map(|part| part.len()).sum());
    send(socket, header.bytes())?;
    parts.iter().try_for_each(|part| send(socket, part))
}

/// All that the node sends in a claim fits the socket's buffer, even if the peer acknowledges none of it.
fn send(socket: &mut Socket<'_>, bytes: &[u8]) -> Result<(), Closed> {
    match socket.send_slice(bytes) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        _ => Err(Closed::PeerLeft),
    }
}

fn stage_request(gate: u64, grant: &Grant, message: &[u8; MESSAGE]) -> StageRequest {
    let mut request = StageRequest::new_zeroed();
    request.gate = gate;
    request.length = grant.length as u64;
    request.title = grant.title;
    let configuration = message.get(size_of::<GrantHead>()..).unwrap_or_default().iter().take(grant.length);
    request.configuration.iter_mut().zip(configuration).for_each(|(to, from)| *to = *from);
    request
}
