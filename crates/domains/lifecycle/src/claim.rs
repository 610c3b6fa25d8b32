//! What lifecycle does for `claim`: the configuration that a grant brings, and what the claim says of the binding.

use calls::{
    keystore::{Ownership, Refusal as KeystoreRefusal, StatusReply},
    lifecycle::{EndRequest, Refusal, StageRequest},
    params::micros,
};
use shm::{Micros, mailbox};
use wire::title::Title;

use crate::{Lifecycle, Ports, configuration::Kept, keystore::Errand, waiting::Waiting};

/// A call of `claim` about the binding. It is believed when the keystore's status says the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Committed,
    Acknowledged,
}

/// The call of `claim` that waits for the keystore.
pub type Claim = Waiting<Claimed>;

/// A configuration that is to be at rest before the binding is committed that names it.
pub struct Staged {
    pub kept: Kept,
    title: Title,
    /// The keystore would commit the binding. Nothing is erased or written for another.
    checked: bool,
}

impl Staged {
    /// If the configuration is what the binding says, and what a committed one names.
    pub fn read(request: &StageRequest, status: Option<&StatusReply>) -> Result<Self, Refusal> {
        let length = usize::try_from(request.length).ok();
        let bytes = length.and_then(|length| request.configuration.get(..length)).ok_or(Refusal::Configuration)?;
        let title = request.title;
        let kept =
            Kept::read(bytes).filter(|kept| kept.hash == title.warrant.configuration).ok_or(Refusal::Configuration)?;
        let committed = status.filter(|status| status.ownership() != Ownership::Unclaimed);
        match committed {
            Some(status) if status.configuration != kept.hash => Err(Refusal::Configuration),
            _ => Ok(Self { kept, title, checked: false }),
        }
    }

    /// What the keystore has to do.
    pub fn errand(&self) -> Option<Errand<'_>> {
        (!self.checked).then_some(Errand::CheckBinding(&self.title))
    }

    pub fn checked(&mut self) {
        self.checked = true;
    }

    /// What is to be brought to rest.
    pub fn to_keep(&self) -> Option<&Kept> {
        self.checked.then_some(&self.kept)
    }
}

impl Lifecycle {
    pub(crate) fn started(&mut self, now: Micros, gate: u64, ports: &mut Ports<'_>) -> Result<(), Refusal> {
        if self.gate.start(gate, now.saturating_add(micros(self.params.claim_ms)))? {
            self.publish(ports);
        }
        Ok(())
    }

    pub(crate) fn ended(&mut self, request: &EndRequest, ports: &mut Ports<'_>) -> Result<(), Refusal> {
        self.gate.check(request.gate)?;
        self.close_gate(request.reason(), ports);
        Ok(())
    }

    /// The keystore would not commit the binding, or cannot say. Only its word about the binding is a word against it.
    pub(crate) fn binding_refused(&mut self, refusal: Option<KeystoreRefusal>, ports: &mut Ports<'_>) {
        use KeystoreRefusal::{Forged, Nonce, NotMine, Stale, Taken};
        let bad = matches!(refusal, Some(Forged | Nonce | NotMine | Stale | Taken));
        if self.staged.take().is_some() {
            ports.claim.refuse(if bad { Refusal::Binding } else { Refusal::Store }.code());
        }
    }
}

pub fn answer<O: mailbox::Operation<Reply = ()>>(ports: &mut Ports<'_>, answer: Result<(), Refusal>) {
    match answer {
        Ok(()) => ports.claim.reply::<O>(&()),
        Err(refusal) => ports.claim.refuse(refusal.code()),
    }
}
