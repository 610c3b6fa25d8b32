//! What the peers of an engine share.

use wire::Key;

use crate::{agenda::Agenda, index::Table, random::Random};

pub struct Shared {
    pub public: Key,
    pub mtu: usize,
    pub random: Random,
    pub table: Table,
    pub agenda: Agenda,
}
