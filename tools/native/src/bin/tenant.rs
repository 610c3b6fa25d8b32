//! The test tenant, in the place of the workload domain, on native.

use native::pd::{Domain, Heap};
use pd::{Domain as _, Platform as _, Watch};
use tenant::{Memory, Tenant};
use workload::shell::{Shell, Wires};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut process = Domain::start();
    let watch = Watch::bind(&mut process);
    let memory = process.memory(Memory::new);
    let shell = Shell::new(Wires::bind(&mut process), |params| Tenant::new(memory, params));
    let mut domain = Box::new(watch.over(shell));
    process.run(move |wake| domain.step(wake))
}
