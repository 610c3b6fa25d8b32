//! The children of lifecycle: which of them is down, when it is started anew, and what it means for the node that it is not.
//!
//! A child that dies or hangs is started anew at once, and, if it goes on so, after a pause that doubles. After [`LIMIT`]
//! times within [`WINDOW`] it stays down, and a node that needs it is sealed; then it has one try an hour.

use calls::{Domain, Needed};
use shm::Micros;
use wire::{Phase, telemetry::Cause};

const SECOND: Micros = 1_000_000;
/// So often within a window a child is started anew.
pub const LIMIT: u8 = 5;
pub const WINDOW: Micros = 600 * SECOND;
/// How long a child stays down that has had its restarts.
pub const TRY: Micros = 3600 * SECOND;

/// What becomes of a child that has died or hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is started anew after so long.
    Again(Micros),
    /// It stays down, but for a try an hour.
    Out,
}

/// The last time that a child died or hung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub domain: Domain,
    pub cause: Cause,
    /// How often this domain has, since power-up.
    pub count: u32,
    pub at: Micros,
}

#[derive(Clone, Copy)]
struct Ward {
    /// It is down, until this time.
    due: Option<Micros>,
    /// How often it died or hung in the window that began at `since`.
    recent: u8,
    since: Micros,
    /// And in all.
    count: u32,
}

/// All of them, by the number of the domain.
pub struct Children {
    wards: [Ward; WARDS],
}

/// As many as there are numbers of domains, and room.
const WARDS: usize = 16;

impl Children {
    pub const fn alive() -> Self {
        Self { wards: [Ward { due: None, recent: 0, since: 0, count: 0 }; WARDS] }
    }

    fn ward(&self, child: Domain) -> &Ward {
        const { assert!(Domain::ALL.len() < WARDS) };
        &self.wards[child as usize]
    }

    /// A child has died or hangs. `None`: it is down already.
    pub fn fell(&mut self, child: Domain, cause: Cause, now: Micros) -> Option<(Verdict, Fault)> {
        let ward = &mut self.wards[child as usize];
        if ward.due.is_some() {
            return None;
        }
        if now.saturating_sub(ward.since) >= WINDOW {
            (ward.recent, ward.since) = (0, now);
        }
        ward.recent = ward.recent.saturating_add(1);
        ward.count = ward.count.saturating_add(1);
        let fault = Fault { domain: child, cause, count: ward.count, at: now };
        let verdict = match ward.recent {
            0..=1 => Verdict::Again(0),
            // Without a timer nobody would wake lifecycle later.
            2..=LIMIT if child == Domain::Timer => Verdict::Again(0),
            2..=LIMIT => Verdict::Again(SECOND << (ward.recent - 2)),
            _ => Verdict::Out,
        };
        ward.due = Some(now.saturating_add(match verdict {
            Verdict::Again(pause) => pause,
            Verdict::Out => TRY,
        }));
        Some((verdict, fault))
    }

    /// A child whose time has come: it lives from now on.
    pub fn take_due(&mut self, now: Micros) -> Option<Domain> {
        let is_due = |child: &Domain| self.ward(*child).due.is_some_and(|at| at <= now);
        let child = Domain::CHILDREN.iter().copied().find(is_due)?;
        let ward = &mut self.wards[child as usize];
        ward.due = None;
        if ward.recent > LIMIT {
            // A try: what has been counted stays counted for a window from here.
            ward.since = now;
        }
        Some(child)
    }

    /// When the next is due.
    pub fn deadline(&self) -> Option<Micros> {
        self.wards.iter().filter_map(|ward| ward.due).min()
    }

    pub fn is_down(&self, child: Domain) -> bool {
        self.ward(child).due.is_some()
    }

    /// Whether it is down, and not only for a pause.
    pub fn is_out(&self, child: Domain) -> bool {
        let ward = self.ward(child);
        ward.due.is_some() && ward.recent > LIMIT
    }

    /// Whether all children do, or soon will, that a node in this phase needs.
    pub fn suffice(&self, phase: Phase) -> bool {
        !Domain::CHILDREN.iter().any(|child| self.is_out(*child) && needed(*child, phase))
    }
}

/// Whether a node in this phase can no longer be what it is without this domain.
pub const fn needed(domain: Domain, phase: Phase) -> bool {
    match domain.needed() {
        Needed::Never => false,
        Needed::UntilClaimed => !matches!(phase, Phase::Claimed),
        Needed::Always => true,
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Dies as soon as it lives, so often; the verdicts.
    fn dies(children: &mut Children, child: Domain, now: &mut Micros, times: usize) -> Vec<Verdict> {
        let die = |_| {
            let (verdict, fault) = children.fell(child, Cause::Died, *now).unwrap();
            assert_eq!(children.fell(child, Cause::Hung, *now), None, "it is down");
            assert_eq!((fault.domain, fault.at), (child, *now));
            *now = children.deadline().unwrap();
            assert_eq!((children.take_due(*now - 1), children.take_due(*now)), (None, Some(child)));
            assert_eq!((children.take_due(*now), children.deadline()), (None, None));
            verdict
        };
        (0..times).map(die).collect()
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_then_there_is_a_try_an_hour() {
        use Verdict::{Again, Out};
        let (mut children, mut now) = (Children::alive(), SECOND);
        let said = dies(&mut children, Domain::Claim, &mut now, 8);
        let pauses = [0, 1, 2, 4, 8].map(|seconds| Again(seconds * SECOND));
        assert_eq!(said, [&pauses[..], &[Out; 3]].concat());
        // It has lived for a window since the last try.
        now += WINDOW;
        assert_eq!(dies(&mut children, Domain::Claim, &mut now, 6), [&pauses[..], &[Out]].concat());
        assert_eq!((children.ward(Domain::Claim).count, children.ward(Domain::Net).count), (14, 0));
    }

    #[test]
    fn a_timer_is_never_waited_for() {
        let (mut children, mut now) = (Children::alive(), SECOND);
        let said = dies(&mut children, Domain::Timer, &mut now, 6);
        assert_eq!(said, [&[Verdict::Again(0); 5][..], &[Verdict::Out]].concat());
    }

    #[test]
    fn each_is_counted_apart_and_seldom_deaths_are_no_series() {
        let (mut children, mut now) = (Children::alive(), SECOND);
        for _ in 0..100 {
            for child in Domain::CHILDREN.iter().copied() {
                assert_eq!(dies(&mut children, child, &mut now, 1), [Verdict::Again(0)]);
            }
            now += WINDOW;
        }
    }

    #[test]
    fn a_node_is_sealed_for_what_is_out_and_not_for_a_pause() {
        for child in Domain::CHILDREN.iter().copied() {
            let mut children = Children::alive();
            for recent in 1..=LIMIT {
                children.fell(child, Cause::Died, 0).unwrap();
                assert!(children.is_down(child) && !children.is_out(child), "{recent}");
                assert!(children.suffice(Phase::Hold) && children.suffice(Phase::Claimed));
                assert_eq!(children.take_due(TRY), Some(child));
            }
            children.fell(child, Cause::Died, 0).unwrap();
            assert!(children.is_out(child));
            assert_eq!(children.suffice(Phase::Hold), child.needed() == Needed::Never);
            assert_eq!(children.suffice(Phase::Claimed), child.needed() != Needed::Always);
        }
    }
}
