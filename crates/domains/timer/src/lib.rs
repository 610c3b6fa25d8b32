//! `timer`: wakes domains that have a deadline. It keeps one deadline for each of them and one clock,
//! armed only while a deadline is. It tells nobody the time: domains read the counter themselves.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod shell;

use calls::alarm::AlarmOf;
use shm::Micros;

/// Its channels: those with deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Beacon,
    Claim,
    Lifecycle,
    Mesh,
    Workload,
}

pub struct Ports<'a> {
    pub beacon: AlarmOf<'a>,
    pub claim: AlarmOf<'a>,
    pub lifecycle: AlarmOf<'a>,
    pub mesh: AlarmOf<'a>,
    pub workload: AlarmOf<'a>,
}

impl<'a> Ports<'a> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        for (peer, alarm) in self.each() {
            if alarm.take_signal() {
                notify(peer);
            }
        }
    }

    fn each(&mut self) -> [(Channel, &mut AlarmOf<'a>); 5] {
        [
            (Channel::Beacon, &mut self.beacon),
            (Channel::Claim, &mut self.claim),
            (Channel::Lifecycle, &mut self.lifecycle),
            (Channel::Mesh, &mut self.mesh),
            (Channel::Workload, &mut self.workload),
        ]
    }
}

/// The one clock.
pub trait Clock {
    /// Has the domain woken at this time, or no more. True: the platform has no such clock, and the domain is to look again
    /// at once.
    fn arm(&mut self, next: Option<Micros>) -> bool;
}

/// Notes the deadlines that have passed and returns the next one: the shell arms its clock with it, or stops the clock.
pub fn step(now: Micros, ports: &mut Ports<'_>) -> Option<Micros> {
    ports.each().into_iter().filter_map(|(_, alarm)| alarm.poll(now)).min()
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    use calls::alarm::Alarm;
    use shm::{ReadOnly, ReadWrite};

    use super::*;

    #[test]
    fn each_is_woken_once_at_its_own_deadline_and_an_idle_system_arms_nothing() {
        let words: [[AtomicU64; 4]; 5] = Default::default();
        let [a, b, c, d, e] = &words;
        let alarm_of = |words| AlarmOf::new(ReadOnly::new(words)).unwrap();
        let mut ports = Ports {
            beacon: alarm_of(a),
            claim: alarm_of(b),
            lifecycle: alarm_of(c),
            mesh: alarm_of(d),
            workload: alarm_of(e),
        };
        let mut beacon = Alarm::new(ReadWrite::new(a)).unwrap();
        let mut claim = Alarm::new(ReadWrite::new(b)).unwrap();
        let woken = |ports: &mut Ports<'_>| {
            let mut woken = Vec::new();
            ports.signals(|peer| woken.push(peer));
            woken
        };
        assert_eq!(step(0, &mut ports), None);
        beacon.set(Some(50));
        claim.set(Some(20));
        assert_eq!(step(0, &mut ports), Some(20));
        assert_eq!(woken(&mut ports), []);
        assert_eq!(step(20, &mut ports), Some(50));
        assert_eq!(woken(&mut ports), [Channel::Claim]);
        claim.set(Some(60));
        beacon.set(None);
        assert_eq!(step(55, &mut ports), Some(60));
        assert_eq!(woken(&mut ports), []);
        claim.set(Some(0));
        assert_eq!(step(55, &mut ports), None);
        assert_eq!(woken(&mut ports), [Channel::Claim]);
        assert!(claim.take_signal());
        claim.set(Some(0));
        assert!(!claim.take_signal());
    }
}
