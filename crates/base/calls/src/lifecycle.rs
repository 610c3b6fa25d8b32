//! What `beacon`, `claim` and `mesh` tell `lifecycle`.

use link::Station;
use wire::{claim::MAX_CONFIGURATION, staged::MAX_STAGED, title::Title};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

refusals! {
    /// Why lifecycle refuses.
    Refusal {
        /// The phase does not allow it: drop what it was about.
        Phase = 1,
        /// The gate is another peer's: drop the open. It has been counted.
        Busy = 2,
        /// Not the present gate: end the claim.
        Gate = 3,
        /// The configuration does not have its length or hash: end the claim.
        Configuration = 4,
        /// Not an operation of this channel.
        NotAllowed = 5,
        /// The configuration could not be written to the store: end the claim. Nothing is committed.
        Store = 6,
        /// The keystore would not commit the binding: end the claim. Nothing is written.
        Binding = 7,
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GateRequest {
    /// Whom the gate is to be open to.
    pub peer: Station,
    pub token: [u8; 16],
    /// The hello's nonce, for the Noise prologue.
    pub nonce: [u8; 16],
}

/// What `beacon` may ask.
pub mod for_beacon {
    use super::GateRequest;

    operations! {
        /// Opens the gate. When the reply is there, perimeter and claim have been told: the answer may go out.
        OpenGate = 1, repeatable false: GateRequest => ();
    }
}

wire::numbers! {
    /// Why a gate closed. The four from `Rejected` on are the reasons of `claim`.
    Closed {
        /// The claim is final.
        Done = 0, "done";
        /// The exchange was broken by the peer: malformed, refused or unauthentic.
        Rejected = 1, "the peer broke the exchange";
        /// The running claim took too long.
        Deadline = 2, "the claim took too long";
        /// The peer closed or reset the connection.
        PeerLeft = 3, "the peer went away";
        /// The keystore or lifecycle did not answer.
        Internal = 4, "a domain did not answer";
        /// Nobody presented the token in time.
        Expired = 5, "nobody came with the token in time";
        /// The same peer opened anew.
        Replaced = 6, "opened anew by the same peer";
        /// Something failed for good.
        Sealed = 7, "the node is sealed";
        /// A domain that served it died or hung.
        Fault = 8, "a domain is started anew";
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EndRequest {
    pub gate: u64,
    /// [`Closed`] as a number.
    pub reason: u32,
    pub zero: u32,
}

impl EndRequest {
    pub const fn new(gate: u64, reason: Closed) -> Self {
        Self { gate, reason: reason as u32, zero: 0 }
    }

    /// A number that is no reason comes of a claim that does not work.
    pub fn reason(&self) -> Closed {
        Closed::from_number(self.reason.into()).unwrap_or(Closed::Internal)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StageRequest {
    pub gate: u64,
    pub length: u64,
    /// It has the configuration's hash.
    pub title: Title,
    pub configuration: [u8; MAX_CONFIGURATION],
}

/// What `claim` may ask. Each call names its gate.
pub mod for_claim {
    use super::{EndRequest, StageRequest};

    operations! {
        /// A connection presented the token: the claim runs, and the gate stays for its time.
        Started = 16, repeatable true: u64 => ();
        /// Keeps the configuration whose hash the binding names, if that is one that the keystore would commit. Before the
        /// commit.
        Stage = 17, repeatable true: StageRequest => ();
        /// The keystore has committed. Replies with the number of rivals.
        Committed = 18, repeatable true: u64 => u32;
        /// The acknowledgement came: the claim is final and the gate closes.
        Acknowledged = 19, repeatable true: u64 => ();
        /// The claim ended without an acknowledgement: the gate closes.
        Ended = 20, repeatable true: EndRequest => ();
    }
}

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ApplyRequest {
    pub length: u64,
    /// An order and its body, or an authority record, as they were staged.
    pub staged: [u8; MAX_STAGED],
}

/// What `mesh` may ask.
pub mod for_mesh {
    use super::ApplyRequest;

    operations! {
        /// The authority has made a handshake: a claim that was not acknowledged is final.
        Joined = 32, repeatable true: () => ();
        /// Has what was staged verified and committed, and puts it into force. Replies with a [`wire::telemetry::CommandResult`] as a number;
        /// when it is there, the cells say what holds now.
        Apply = 33, repeatable true: ApplyRequest => u32;
    }
}
