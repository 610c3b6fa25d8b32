//! What the system tests share: stations and hosts on a segment, an administrator that can stop anywhere, members of a
//! mesh, and hostile frames. The node under test is a black box: only its frames and its console are looked at.
#![allow(
    clippy::print_stderr,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

pub mod admin;
pub mod bed;
pub mod flash;
pub mod fleet;
#[path = "../../pds/faulty/src/fuse.rs"]
pub mod fuse;
pub mod host;
pub mod hostile;
pub mod machine;
pub mod member;
pub mod power;
pub mod process;
pub mod receipt;
pub mod regions;
pub mod seeds;
pub mod station;
pub mod targets;
pub mod tool;

use std::time::Duration;

/// How long anything may take before a test calls it a hang. Not a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);
