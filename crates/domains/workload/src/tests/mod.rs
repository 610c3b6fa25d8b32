mod beats;
mod hostile;
mod pages;
pub mod world;

use std::boxed::Box;

use calls::params::Params;
use world::{PLACE, Step, World};

use crate::{Memory, Workload};

fn step() -> Step {
    let mut workload = Workload::new(Box::leak(Box::new(Memory::new())), &Params::DEFAULT);
    Box::new(move |now, ports| workload.step(now, ports))
}

/// A workload that has no place yet.
fn homeless() -> World {
    World::new(step())
}

fn placed() -> World {
    let mut world = homeless();
    world.settle(PLACE);
    world
}
