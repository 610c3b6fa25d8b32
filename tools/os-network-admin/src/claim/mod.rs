//! Finding nodes and claiming them: which is meant, the exchange with it, and what of it is kept.

pub mod beacon;
mod choose;
mod claimer;
pub mod exchange;
mod pairing;

pub use choose::{Ask, Chooser, Found, Unlisted, revoked};
pub use claimer::{Claimer, Context, discover, read_hello};
pub use exchange::{Claimed, Failure, Session};
pub use pairing::{Configure, Grant, Made, MeshTerms, Pairing, Strangers, Terms};
