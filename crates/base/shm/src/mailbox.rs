//! A call from one domain to another: two regions, one per direction, and a notification each way.
//!
//! Request region, written by the client: word 0 the sequence number, word 1 the operation, word 2
//! the length, then the body. Reply region, written by the server: word 0 the sequence number it
//! answers, word 1 the status (0 for done), word 2 the length, word 3 the server's generation, word 4
//! its count of nudges, then the body. The sequence number is written last.
//!
//! What has been asked and answered does not stay: a client that has its answer, or gives up, writes operation 0 with a
//! new number and wipes its request; the server, which is notified of that, wipes its reply. A client that is started anew
//! does the same first of all; a server counts its generation up and wipes its reply.
//!
//! One request is outstanding at a time. A client never blocks: it asks [`Client::poll`] whenever it
//! runs, and gets the reply, a refusal, a timeout or "the server restarted" exactly once. A request that
//! may be repeated is sent again by `poll` itself, as often as the caller's [`Patience`] says.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{Micros, Misbehaved, Plain, ReadOnly, ReadWrite, TooSmall, region::WORD};

const SEQ: usize = 0;
const OP: usize = WORD;
const STATUS: usize = WORD;
const LEN: usize = 2 * WORD;
const GENERATION: usize = 3 * WORD;
const NUDGES: usize = 4 * WORD;
/// The operation of a client that asks nothing.
const NOTHING: u64 = 0;
/// Where the body begins, in either region.
pub const BODY: usize = 5 * WORD;

/// One operation of an interface.
pub trait Operation {
    /// Its number, unique in the interface.
    const OP: u32;
    /// Whether the client may send it again when the outcome is unknown.
    const REPEATABLE: bool;
    type Request: Plain;
    type Reply: Plain;
}

/// Why a call brought no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// The server refused; the code is the interface's. This is an answer: the request is never repeated.
    Refused(u32),
    /// No answer came in time, however often the request was sent; the outcome is unknown.
    Timeout,
    /// The server restarted with the last of the requests unanswered. As `Timeout`, but at once.
    Restarted,
    /// The reply does not fit the operation. Treat the server as failed.
    Misbehaved,
}

/// How long a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long the server may take to answer one request.
    pub each: Micros,
    /// How often an operation that may be repeated is asked for; one that may not is asked for once.
    pub tries: u8,
}

impl Patience {
    /// For a caller who waits for one answer as long as it takes.
    pub const ENDLESS: Self = Self { each: Micros::MAX, tries: 1 };
}

/// The calling end.
pub struct Client<'a> {
    request: ReadWrite<'a>,
    reply: ReadOnly<'a>,
    seq: u64,
    nudges: u64,
    outstanding: Option<Outstanding>,
    /// Bytes of the body that stand in the request.
    asked: usize,
    signal: bool,
}

struct Outstanding {
    op: u32,
    deadline: Micros,
    generation: u64,
    each: Micros,
    /// How often the request may still be sent.
    left: u8,
}

impl<'a> Client<'a> {
    pub fn new(request: ReadWrite<'a>, reply: ReadOnly<'a>) -> Result<Self, TooSmall> {
        if request.len() < BODY || reply.len() < BODY {
            return Err(TooSmall);
        }
        let (seq, asked) = (request.load(SEQ), request.len() - BODY);
        let mut client = Self { request, reply, seq, nudges: 0, outstanding: None, asked, signal: false };
        if client.seq != 0 {
            // A predecessor's, or what it was just writing; and the server may still have its answer.
            client.withdraw();
        }
        Ok(client)
    }

    /// The operation that is outstanding.
    pub fn busy(&self) -> Option<u32> {
        self.outstanding.as_ref().map(|call| call.op)
    }

    /// When the outstanding call is to be polled at the latest; for the caller's alarm.
    pub fn deadline(&self) -> Option<Micros> {
        self.outstanding.as_ref().map(|call| call.deadline)
    }

    /// Sends a request. An earlier one that is still outstanding is abandoned.
    pub fn call<O: Operation>(&mut self, request: &O::Request, now: Micros, patience: Patience) {
        const { assert!(O::OP as u64 != NOTHING) };
        debug_assert!(BODY + size_of::<O::Request>() <= self.request.len());
        self.abandon();
        self.request.write(BODY, request.as_bytes());
        self.asked = size_of::<O::Request>();
        self.request.store(OP, u64::from(O::OP));
        self.request.store(LEN, size_of::<O::Request>() as u64);
        let left = if O::REPEATABLE { patience.tries } else { 1 };
        self.send(O::OP, now, patience.each, left);
    }

    /// Sends the request that stands in the region, which nobody else writes.
    fn send(&mut self, op: u32, now: Micros, each: Micros, left: u8) {
        self.seq = self.seq.wrapping_add(1);
        self.request.store(SEQ, self.seq);
        let (deadline, generation) = (now.saturating_add(each), self.reply.load(GENERATION));
        self.outstanding = Some(Outstanding { op, deadline, generation, each, left: left.saturating_sub(1) });
        self.signal = true;
    }

    /// The outcome of the outstanding call, once, if it is `O` and has one.
    pub fn poll<O: Operation>(&mut self, now: Micros) -> Option<Result<O::Reply, CallError>> {
        let outcome = self.answered(O::OP, now)?.and_then(|()| self.take_reply::<O>());
        self.withdraw();
        Some(outcome)
    }

    /// Makes the call if it is not outstanding, and returns its reply once it is there: for a caller who asks
    /// whenever it runs. The call that was outstanding before, if it is another, is abandoned.
    pub fn ask<O: Operation>(
        &mut self,
        now: Micros,
        patience: Patience,
        request: impl FnOnce() -> O::Request,
    ) -> Result<Option<O::Reply>, CallError> {
        if self.busy() != Some(O::OP) {
            self.call::<O>(&request(), now, patience);
        }
        self.poll::<O>(now).transpose()
    }

    /// Whether the outstanding call, if it is this operation, is over. What is not answered is sent again first.
    fn answered(&mut self, op: u32, now: Micros) -> Option<Result<(), CallError>> {
        let Outstanding { deadline, generation, each, left, .. } =
            *self.outstanding.as_ref().filter(|call| call.op == op)?;
        let outcome = if self.reply.load(SEQ) == self.seq {
            Ok(())
        } else if self.reply.load(GENERATION) != generation {
            Err(CallError::Restarted)
        } else if now >= deadline {
            Err(CallError::Timeout)
        } else {
            return None;
        };
        if outcome.is_err() && left > 0 {
            self.send(op, now, each, left);
            return None;
        }
        Some(outcome)
    }

    /// Nothing is asked any more, and nothing of it stays.
    fn withdraw(&mut self) {
        self.outstanding = None;
        self.request.store(OP, NOTHING);
        self.request.store(LEN, 0);
        // A server that is just reading the body sees by this that it is none.
        self.seq = self.seq.wrapping_add(1);
        self.request.store(SEQ, self.seq);
        self.request.wipe(BODY, core::mem::take(&mut self.asked));
        self.signal = true;
    }

    fn take_reply<O: Operation>(&self) -> Result<O::Reply, CallError> {
        let status = self.reply.load(STATUS);
        if status != 0 {
            return Err(u32::try_from(status).map_or(CallError::Misbehaved, CallError::Refused));
        }
        if self.reply.load(LEN) != size_of::<O::Reply>() as u64 {
            return Err(CallError::Misbehaved);
        }
        let mut reply = O::Reply::new_zeroed();
        self.reply.read(BODY, reply.as_mut_bytes());
        Ok(reply)
    }

    /// Whether the server has said, since this was last asked, that something which it can be asked for has changed.
    pub fn nudged(&mut self) -> bool {
        let nudges = self.reply.load(NUDGES);
        core::mem::replace(&mut self.nudges, nudges) != nudges
    }

    /// The server's generation: another each time that it starts.
    pub fn generation(&self) -> u64 {
        self.reply.load(GENERATION)
    }

    /// Forgets the outstanding call; its reply, if one comes, is ignored.
    pub fn abandon(&mut self) {
        if self.outstanding.is_some() {
            self.withdraw();
        }
    }

    /// Whether the server is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}

/// The answering end. `MAX` is the largest request body of the interface.
pub struct Server<'a, const MAX: usize> {
    request: ReadOnly<'a>,
    reply: ReadWrite<'a>,
    seq: u64,
    /// Bytes of the body that stand in the reply.
    said: usize,
    signal: bool,
}

/// A request, copied out of the shared region.
pub struct Incoming<const MAX: usize> {
    pub op: u32,
    body: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Incoming<MAX> {
    /// The request, if this is an `O` of the right length.
    pub fn parse<O: Operation>(&self) -> Option<O::Request> {
        if self.op != O::OP {
            return None;
        }
        O::Request::read_from_bytes(self.body.get(..self.len)?).ok()
    }
}

impl<'a, const MAX: usize> Server<'a, MAX> {
    pub fn new(request: ReadOnly<'a>, mut reply: ReadWrite<'a>) -> Result<Self, TooSmall> {
        if request.len() < BODY + MAX || reply.len() < BODY {
            return Err(TooSmall);
        }
        // A request that a predecessor left unanswered stays so; the new generation tells its client.
        let seq = request.load(SEQ);
        reply.store(GENERATION, reply.load(GENERATION).wrapping_add(1));
        reply.wipe(BODY, usize::MAX);
        Ok(Self { request, reply, seq, said: 0, signal: true })
    }

    /// The operation and the number of the request that [`Self::take`] brings next, for a server that may leave it where it
    /// is. The number is another each time that it is sent.
    pub fn waiting(&mut self) -> Option<(u32, u64)> {
        let seq = self.request.load(SEQ);
        if seq == self.seq {
            return None;
        }
        // Whoever asks anew has had the reply.
        self.reply.wipe(BODY, core::mem::take(&mut self.said));
        Some((u32::try_from(self.request.load(OP)).ok()?, seq))
    }

    /// The next request, each once. It must be answered by [`Self::reply`] or [`Self::refuse`]. A client that has taken its
    /// reply notifies; then this is to be asked, so that the reply does not stay.
    pub fn take(&mut self) -> Result<Option<Incoming<MAX>>, Misbehaved> {
        let seq = self.request.load(SEQ);
        if seq == self.seq {
            return Ok(None);
        }
        self.seq = seq;
        // Whoever asks anew, or nothing any more, has had the reply.
        self.reply.wipe(BODY, core::mem::take(&mut self.said));
        if self.request.load(OP) == NOTHING {
            return Ok(None);
        }
        let op = u32::try_from(self.request.load(OP));
        let len = usize::try_from(self.request.load(LEN)).ok().filter(|len| *len <= MAX);
        let (Ok(op), Some(len)) = (op, len) else {
            return Err(Misbehaved);
        };
        let mut body = [0; MAX];
        self.request.read(BODY, &mut body[..len]);
        // Withdrawn, or sent again, while it was read: what stands there now is looked at when its notification comes.
        if self.request.load(SEQ) != seq {
            body[..len].fill(0);
            return Ok(None);
        }
        Ok(Some(Incoming { op, body, len }))
    }

    pub fn reply<O: Operation>(&mut self, reply: &O::Reply) {
        let bytes = reply.as_bytes();
        debug_assert!(BODY + bytes.len() <= self.reply.len());
        self.reply.write(BODY, bytes);
        self.said = bytes.len();
        self.finish(0, bytes.len());
    }

    /// `code` is the interface's and not zero.
    pub fn refuse(&mut self, code: u32) {
        self.finish(u64::from(code.max(1)), 0);
    }

    fn finish(&mut self, status: u64, len: usize) {
        self.reply.store(STATUS, status);
        self.reply.store(LEN, len as u64);
        self.reply.store(SEQ, self.seq);
        self.signal = true;
    }

    /// Tells the client, although no call of its is answered, that something which it asks for has changed.
    pub fn nudge(&mut self) {
        self.reply.store(NUDGES, self.reply.load(NUDGES).wrapping_add(1));
        self.signal = true;
    }

    /// Whether the client is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}

#[cfg(test)]
mod tests;
