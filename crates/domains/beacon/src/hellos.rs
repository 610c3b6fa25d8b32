//! When hellos are to be said: after a valid find, and a few over the scan window.

use heapless::Vec;
use shm::Micros;

use crate::waiting::Choice;

/// As many hellos may be pending as nonces are kept; further finds wait.
const PENDING: usize = 4;
/// More than these are not said in a scan, whatever the parameters say.
const MAX_SCAN: u32 = 64;

pub struct Hellos {
    asked: Vec<Micros, PENDING>,
    scan: Option<Scan>,
}

/// The window in equal slices, a hello at a random time in each.
struct Scan {
    slice: Micros,
    /// Start of the next slice.
    start: Micros,
    left: u32,
    /// The hello of the present slice.
    next: Option<Micros>,
}

impl Hellos {
    pub const fn new() -> Self {
        Self { asked: Vec::new(), scan: None }
    }

    pub fn scan(&mut self, start: Micros, window: Micros, hellos: u32) {
        let hellos = hellos.min(MAX_SCAN);
        let slice = window.checked_div(hellos.into()).unwrap_or_default();
        self.scan = Some(Scan { slice, start, left: hellos, next: None });
    }

    pub fn has_room(&self) -> bool {
        !self.asked.is_full()
    }

    /// A valid find asked for one. Without room it gets none.
    pub fn add(&mut self, at: Micros) {
        let _ = self.asked.push(at);
    }

    /// Whether one is to be said now. Those of the scan are passed over while the gate is open.
    pub fn is_due(&mut self, now: Micros, gate_is_open: bool, choice: &mut Choice) -> bool {
        if let Some(at) = self.asked.iter().position(|at| *at <= now) {
            self.asked.swap_remove(at);
            return true;
        }
        let Some(scan) = &mut self.scan else { return false };
        loop {
            match scan.next {
                Some(at) if at > now => return false,
                Some(_) => {
                    scan.next = None;
                    if !gate_is_open {
                        return true;
                    }
                }
                None if scan.left == 0 => return false,
                None => {
                    scan.left -= 1;
                    scan.next = Some(scan.start.saturating_add(choice.below(scan.slice)));
                    scan.start = scan.start.saturating_add(scan.slice);
                }
            }
        }
    }

    /// When the next one is to be said, as far as that has been decided.
    pub fn next(&self) -> Option<Micros> {
        let scan = self.scan.as_ref().and_then(|scan| scan.next);
        self.asked.iter().copied().chain(scan).min()
    }
}
