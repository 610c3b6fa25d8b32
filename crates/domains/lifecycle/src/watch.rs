//! Looks for children that hang: whose step has begun and does not end.
//!
//! A child that works notifies lifecycle at most every [`pd::WATCHED`], and so long after that lifecycle looks by its own alarm,
//! and goes on so until nobody is in a step: an idle hold has no alarm. The timer's own steps are no reason for that, since
//! each alarm is one; nor can it be waited for, so the first look decides. Whoever looks while the timer is in a step has to
//! be woken again by somebody else.

use calls::Domain;
use heapless::Vec;
use shm::Micros;

/// For so long a step may take.
pub const STEP: Micros = 2_000_000;
/// Whoever is in the same step after this besides hangs: not whoever was only held up with all others.
pub const AGAIN: Micros = 500_000;

pub struct Watch {
    /// When to look next.
    at: Option<Micros>,
    /// Who was too long in the step that began then.
    suspects: Vec<(Domain, Micros), { Domain::CHILDREN.len() }>,
    /// By the number of a domain, the step in which its predecessor ended: it stands there until the successor has started.
    ended: [Micros; Domain::ALL.len() + 1],
    /// So often yet a step of the timer's is one that lifecycle has not seen.
    doubts: u8,
    /// The timer's step that was seen last.
    seen: Micros,
}

impl Watch {
    pub const fn new() -> Self {
        Self { at: None, suspects: Vec::new(), ended: [0; _], doubts: 0, seen: 0 }
    }

    pub fn deadline(&self) -> Option<Micros> {
        self.at
    }

    /// A child works, or has just worked. Whether an alarm is needed for it that was not before.
    pub fn stirred(&mut self, now: Micros) -> bool {
        let is_new = self.at.is_none();
        self.at.get_or_insert(now.saturating_add(pd::WATCHED));
        if is_new {
            self.doubt();
        }
        is_new
    }

    /// The timer works, or is to.
    pub fn doubt(&mut self) {
        self.doubts = 2;
    }

    /// `since`: when the step began that the timer is in, or 0. Whether lifecycle is to look again soon, whoever wakes it for
    /// that. A timer that says of each look that it is in another step is not waited for.
    pub fn is_open(&mut self, now: Micros, since: Micros) -> bool {
        let is_step = since != 0 && since != self.ended[Domain::Timer as usize] && since <= now;
        let looks = is_step && (self.doubts > 0 || since == self.seen);
        self.doubts = self.doubts.saturating_sub(1);
        self.seen = since;
        looks
    }

    /// A child is down, in the step that began then.
    pub fn ended(&mut self, child: Domain, since: Micros) {
        self.ended[child as usize] = since;
    }

    /// `steps`: of each child that lives, when the step began that it is in; 0 if it is in none. Returns those that hang.
    pub fn look(
        &mut self,
        now: Micros,
        steps: impl Iterator<Item = (Domain, Micros)>,
    ) -> Vec<Domain, { Domain::CHILDREN.len() }> {
        let (mut hung, mut suspects, mut next) = (Vec::new(), Vec::new(), None);
        let is_due = self.at.is_none_or(|at| at <= now);
        let ended = self.ended;
        for (child, since) in steps.filter(|(child, since)| *since != 0 && *since != ended[*child as usize]) {
            let is_long = now.saturating_sub(since) >= STEP;
            let is_known = self.suspects.contains(&(child, since));
            // There is room for each child once.
            if is_long && (child == Domain::Timer || (is_known && is_due)) {
                let _ = hung.push(child);
            } else if child != Domain::Timer {
                // A time that is yet to come is nobody's that works.
                let at = if is_long { now + AGAIN } else { now.min(since).saturating_add(pd::WATCHED) };
                next = Some(next.map_or(at, |next: Micros| next.min(at)));
                if is_long {
                    let _ = suspects.push((child, since));
                }
            }
        }
        if is_due {
            (self.at, self.suspects) = (next, suspects);
        }
        hung
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec as List;

    use super::*;

    const S: Micros = 1_000_000;

    fn look(watch: &mut Watch, now: Micros, steps: &[(Domain, Micros)]) -> List<Domain> {
        watch.look(now, steps.iter().copied()).into_iter().collect()
    }

    #[test]
    fn nobody_in_a_step_is_no_alarm() {
        let mut watch = Watch::new();
        assert_eq!(look(&mut watch, 10 * S, &[(Domain::Net, 0), (Domain::Timer, 10 * S)]), []);
        assert_eq!(watch.deadline(), None);
        // One alarm after a step, whoever else wakes lifecycle meanwhile.
        look(&mut watch, 10 * S, &[(Domain::Net, 10 * S)]);
        assert_eq!(watch.deadline(), Some(13 * S));
        look(&mut watch, 11 * S, &[(Domain::Net, 11 * S)]);
        assert_eq!(watch.deadline(), Some(13 * S));
        look(&mut watch, 13 * S, &[(Domain::Net, 0)]);
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn a_step_that_does_not_end_is_found_within_five_seconds() {
        for began in (10 * S..=13 * S).step_by(100_000) {
            for child in Domain::CHILDREN.iter().copied().filter(|child| *child != Domain::Timer) {
                // It was notified of a step at 10 s; the step that hangs may be this or a later one, of which it is not.
                let mut watch = Watch::new();
                look(&mut watch, 10 * S, &[(child, 10 * S)]);
                let mut now = 10 * S;
                loop {
                    now = watch.deadline().expect("somebody is in a step").max(now);
                    let step = if now < began { 0 } else { began };
                    if look(&mut watch, now, &[(child, step)]) == [child] {
                        break;
                    }
                }
                assert!((began + STEP..began + 5 * S).contains(&now), "{began} {now}");
            }
        }
    }

    #[test]
    fn who_was_held_up_and_goes_on_does_not_hang() {
        let mut watch = Watch::new();
        look(&mut watch, 10 * S, &[(Domain::Claim, 10 * S)]);
        // The machine was stopped for an hour.
        let late = 3610 * S;
        assert_eq!(look(&mut watch, late, &[(Domain::Claim, 10 * S)]), []);
        // Not decided before its time, whatever wakes lifecycle.
        assert_eq!(look(&mut watch, late + 1, &[(Domain::Claim, 10 * S)]), []);
        assert_eq!(look(&mut watch, late + AGAIN, &[(Domain::Claim, late + 100)]), []);
        assert_eq!(look(&mut watch, late + 4 * S, &[(Domain::Claim, 0)]), []);
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn the_step_of_a_predecessor_is_not_the_successors() {
        let mut watch = Watch::new();
        watch.ended(Domain::Mesh, 9 * S);
        assert_eq!(look(&mut watch, 20 * S, &[(Domain::Mesh, 9 * S)]), []);
        assert_eq!(watch.deadline(), None);
        look(&mut watch, 20 * S, &[(Domain::Mesh, 20 * S)]);
        assert_eq!(watch.deadline(), Some(23 * S));
    }

    #[test]
    fn a_step_of_the_timers_is_looked_at_until_it_ends_and_no_other_after_it() {
        let mut watch = Watch::new();
        assert!(!watch.is_open(10 * S, 10 * S), "nobody has said that it works");
        watch.doubt();
        assert!(!watch.is_open(10 * S, 0) && watch.is_open(10 * S, 9 * S));
        (0..9).for_each(|_| assert!(watch.is_open(11 * S, 9 * S)));
        // It says something else each time, or what cannot be.
        assert!(!watch.is_open(11 * S, 10 * S) && !watch.is_open(11 * S, 9 * S));
        watch.doubt();
        assert!(!watch.is_open(11 * S, 12 * S));
        watch.doubt();
        watch.ended(Domain::Timer, 11 * S);
        assert!(!watch.is_open(11 * S, 11 * S));
    }

    #[test]
    fn a_timer_is_not_waited_for() {
        let mut watch = Watch::new();
        assert_eq!(look(&mut watch, 10 * S, &[(Domain::Timer, 9 * S)]), []);
        assert_eq!(watch.deadline(), None);
        assert_eq!(look(&mut watch, 11 * S, &[(Domain::Timer, 9 * S)]), [Domain::Timer]);
    }
}
