//! A node that is somebody's: what its flash holds after its claim, which took place in `sim`, so on every machine alike.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use calls::store::BLOCKS;
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    scenario::WAIT,
};
use wire::command::Operation;

/// All blocks that are the board's. `secret` is the device's.
pub fn flash(secret: &[u8; 32]) -> Result<Vec<u8>> {
    let world = RefCell::new(World::new(1));
    let node = simulate(async {
        let admin = Administrator::new(&world, 0, 1).map_err(anyhow::Error::msg)?;
        let plan = admin.plan_without_scan();
        let node = world.borrow_mut().add(&plan);
        for (name, bytes) in &mut world.borrow_mut().setup(node).prefill {
            if *name == "device_secret" {
                *bytes = secret.to_vec();
            }
        }
        world.borrow_mut().power_on(node);
        pass(&world, WAIT).await;
        admin.claim(None, WAIT).await.map_err(anyhow::Error::msg)?;
        admin.command(Operation::Status, WAIT).await.map_err(anyhow::Error::msg)?;
        ensure!(world.borrow().phase(node) == Some("claimed"), "the node was not claimed");
        world.borrow_mut().power_off(node);
        Ok(node)
    })?;
    let flash = world.borrow().flash(node);
    let nor = flash.nor();
    Ok((0..sim::flash::BLOCK * BLOCKS).map(|at| nor.image.byte(at)).collect())
}
