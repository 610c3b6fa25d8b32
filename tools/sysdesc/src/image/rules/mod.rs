//! The rules that an image keeps: its capDL against the system description. docs/system-check.md says what each shows
//! and what it does not. Each has a bad system in `tools/sysdesc/tests/bad-capdl/`.
//!
//! Nothing here trusts the name of a page table, CNode, notification or endpoint: a domain is its thread, and all else
//! is what that thread can reach. Names are taken at their word for threads (`tcb_NAME`), and for the frames of
//! regions, which hold what the tool was told to copy in.

mod caps;
mod description;
mod frames;
mod threads;
mod view;
mod violation;

use self::view::View;
pub use self::violation::{Rule, Violation};
use crate::{
    description::{Board, Platform, System},
    image::{capdl::Spec, policy::Policy},
};

/// Everything that is wrong with an image of `system`. Nothing, if the rules hold.
pub fn check(system: &System, board: &Board, policy: &Policy<'_>, spec: &Spec) -> Vec<Violation> {
    if board.platform != Platform::Microkit {
        return vec![Rule::Thread.broken("this platform's images have no capDL")];
    }
    let mut broken = Vec::new();
    description::check(system, board, policy, &mut broken);
    match View::new(system, policy, spec) {
        Ok(view) => {
            threads::check(&view, &mut broken);
            caps::check(&view, &mut broken);
            frames::check(&view, &mut broken);
        }
        // What a domain is cannot be told: there is nothing more to judge.
        Err(why) => broken.extend(why),
    }
    broken.sort();
    broken.dedup();
    broken
}
