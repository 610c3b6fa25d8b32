//! What a node is started with, on whatever it runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use native::runner::Entropy;

/// Every node has all of it, native or on a board.
pub struct Boot<'a> {
    pub name: String,
    /// The text of the system description.
    pub description: &'a str,
    /// For files of its own; readable for this user only.
    pub dir: &'a Path,
    pub mac: [u8; 6],
    /// Its own end of the cable, and the switch's.
    pub own: PathBuf,
    pub behind: PathBuf,
    pub device_secret: [u8; 32],
    pub prefill: BTreeMap<String, Vec<u8>>,
    pub entropy: Entropy,
    /// The program in the workload's place.
    pub tenant: Option<String>,
    /// The domain whose program is the one with a fuse.
    pub faulty: Option<String>,
}
