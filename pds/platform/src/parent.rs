//! A domain's hold on its children.

use pd::Child;
use sel4::{UserContext, cap::Tcb};

/// The children of this domain, and where each begins.
pub struct Parent<const N: usize>([Begin; N]);

struct Begin {
    child: Child,
    pc: sel4::Word,
    sp: sel4::Word,
}

impl<const N: usize> Parent<N> {
    /// Before any of them has run: their parent outranks them, so that is when it starts itself.
    pub fn new(children: [Child; N]) -> Self {
        Self(children.map(|child| {
            let registers = tcb(child).tcb_read_all_registers(false);
            let registers = registers.unwrap_or_else(|_| panic!("no child has this number"));
            Begin { child, pc: *registers.pc(), sp: *registers.sp() }
        }))
    }
}

impl<const N: usize> pd::Parent for Parent<N> {
    /// Its memory is put in order by what it begins with: `_reset`.
    fn restart(&mut self, child: Child) {
        let Some(begin) = self.0.iter().find(|begin| begin.child == child) else { return };
        // All else is zero, as it was.
        let mut registers = UserContext::default();
        *registers.pc_mut() = begin.pc;
        *registers.sp_mut() = begin.sp;
        let tcb = tcb(child);
        // A child that hangs runs; one that has died waits for an answer to its fault, which never comes.
        let done = tcb.tcb_suspend().and_then(|()| tcb.tcb_write_all_registers(true, &mut registers));
        done.unwrap_or_else(|_| panic!("a child cannot be restarted"));
    }
}

fn tcb(child: Child) -> Tcb {
    sel4_microkit::Child::new(child.0).tcb()
}
