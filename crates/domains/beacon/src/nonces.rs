//! The nonces of the last four hellos, and what has become of each.
//!
//! A nonce is used up by the open that opened the gate, or that may have (an outcome that is unknown). An open that was
//! turned away because the gate is another's uses up nothing: it may come again when the gate has closed.
//!
//! While the gate is someone's, one open by someone else goes through for each nonce, be it fresh or used: lifecycle turns
//! it away and counts the rival, once. Whoever used a nonce is never let through with it again.

use link::Station;
use shm::Micros;

pub type Nonce = [u8; 16];

const KEPT: usize = 4;

struct Sent {
    nonce: Nonce,
    at: Micros,
    used_by: Option<Station>,
    /// A rival has come with it.
    contested: bool,
}

/// The circumstances in which an open is looked at: the time, how long a nonce is good, and whose the gate is.
pub struct Now<'a> {
    pub time: Micros,
    pub lifetime: Micros,
    pub gate: Option<&'a Station>,
}

pub struct Nonces {
    sent: [Option<Sent>; KEPT],
    next: usize,
}

impl Nonces {
    pub const fn new() -> Self {
        Self { sent: [const { None }; KEPT], next: 0 }
    }

    /// A hello with this nonce is on its way. The oldest is forgotten.
    pub fn sent(&mut self, nonce: Nonce, at: Micros) {
        if let Some(place) = self.sent.get_mut(self.next) {
            *place = Some(Sent { nonce, at, used_by: None, contested: false });
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// Whether an open with this nonce and from this sender is worth a check.
    pub fn admits(&self, nonce: &Nonce, sender: &Station, now: &Now<'_>) -> bool {
        let Some(sent) = self.sent.iter().flatten().find(|sent| sent.nonce == *nonce) else { return false };
        if now.time.saturating_sub(sent.at) >= now.lifetime || sent.used_by.as_ref() == Some(sender) {
            return false;
        }
        if is_rival(sender, now.gate) { !sent.contested } else { sent.used_by.is_none() }
    }

    /// The open was found to be genuine.
    pub fn checked(&mut self, nonce: &Nonce, sender: &Station, gate: Option<&Station>) {
        if let Some(sent) = self.of(nonce) {
            sent.contested |= is_rival(sender, gate);
        }
    }

    /// The gate was opened with it, or may have been.
    pub fn used(&mut self, nonce: &Nonce, by: Station) {
        if let Some(sent) = self.of(nonce) {
            sent.used_by = Some(by);
        }
    }

    fn of(&mut self, nonce: &Nonce) -> Option<&mut Sent> {
        self.sent.iter_mut().flatten().find(|sent| sent.nonce == *nonce)
    }
}

fn is_rival(sender: &Station, gate: Option<&Station>) -> bool {
    gate.is_some_and(|peer| peer != sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Micros = 30;
    const A: Station = Station::new([1; 16], [1; 6]);
    const B: Station = Station::new([2; 16], [2; 6]);
    const C: Station = Station::new([3; 16], [3; 6]);

    fn at(time: Micros) -> Now<'static> {
        Now { time, lifetime: LIFETIME, gate: None }
    }

    fn with(gate: &Station) -> Now<'_> {
        Now { gate: Some(gate), ..at(0) }
    }

    #[test]
    fn the_last_four_are_known_while_they_are_young() {
        let mut nonces = Nonces::new();
        for n in 0..4 {
            nonces.sent([n; 16], n.into());
        }
        assert!((0..4).all(|n| nonces.admits(&[n; 16], &A, &at(10))));
        assert!(!nonces.admits(&[4; 16], &A, &at(10)));
        assert!(!nonces.admits(&[0; 16], &A, &at(LIFETIME)));
        assert!(nonces.admits(&[1; 16], &A, &at(LIFETIME)));
        nonces.sent([9; 16], 5);
        assert!(!nonces.admits(&[0; 16], &A, &at(10)));
        assert!(nonces.admits(&[1; 16], &A, &at(10)) && nonces.admits(&[9; 16], &A, &at(10)));
    }

    #[test]
    fn a_used_nonce_opens_nothing_again() {
        let mut nonces = Nonces::new();
        nonces.sent([1; 16], 0);
        nonces.used(&[1; 16], A);
        for sender in [&A, &B] {
            assert!(!nonces.admits(&[1; 16], sender, &at(0)));
            assert!(!nonces.admits(&[1; 16], sender, &with(sender)));
        }
        assert!(!nonces.admits(&[1; 16], &A, &with(&B)));
    }

    #[test]
    fn a_rival_is_counted_once_and_its_own_nonce_stays_good() {
        let mut nonces = Nonces::new();
        nonces.sent([1; 16], 0);
        nonces.sent([2; 16], 0);
        nonces.used(&[1; 16], A);
        // With the winner's nonce, and with one of its own.
        for nonce in [[1; 16], [2; 16]] {
            assert!(nonces.admits(&nonce, &B, &with(&A)));
            nonces.checked(&nonce, &B, Some(&A));
            assert!(!nonces.admits(&nonce, &B, &with(&A)));
            assert!(!nonces.admits(&nonce, &C, &with(&A)));
        }
        assert!(!nonces.admits(&[1; 16], &B, &at(0)));
        assert!(nonces.admits(&[2; 16], &B, &at(0)));
    }

    #[test]
    fn no_order_of_events_lets_an_accepted_open_through_again() {
        let mut nonces = Nonces::new();
        nonces.sent([1; 16], 0);
        nonces.used(&[1; 16], A);
        // A's gate closes between the look at B's open and lifecycle's: it opens to B.
        nonces.checked(&[1; 16], &B, Some(&A));
        nonces.used(&[1; 16], B);
        for sender in [&A, &B] {
            for now in [at(0), with(&A), with(&B), with(&C)] {
                assert!(!nonces.admits(&[1; 16], sender, &now));
            }
        }
    }
}
