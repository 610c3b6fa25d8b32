//! What lifecycle does for `claim`: the configuration that a grant brings, and what the claim says of the binding.

use calls::{
    keystore::{Ownership, StatusReply},
    lifecycle::{Refusal, StageRequest},
};

use crate::{configuration::Kept, waiting::Waiting};

/// A call of `claim` about the binding. It is believed when the keystore's status says the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Committed,
    Acknowledged,
}

/// The call of `claim` that waits for the keystore.
pub type Claim = Waiting<Claimed>;

/// The configuration that is staged, if it is what the claim says and what a committed binding names.
pub fn read(request: &StageRequest, status: Option<&StatusReply>) -> Result<Kept, Refusal> {
    let length = usize::try_from(request.length).ok();
    let bytes = length.and_then(|length| request.configuration.get(..length)).ok_or(Refusal::Configuration)?;
    let kept = Kept::read(bytes).filter(|kept| kept.hash == request.hash).ok_or(Refusal::Configuration)?;
    let committed = status.filter(|status| status.ownership() != Ownership::Unclaimed);
    match committed {
        Some(status) if status.configuration != kept.hash => Err(Refusal::Configuration),
        _ => Ok(kept),
    }
}
