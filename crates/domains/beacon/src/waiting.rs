//! Who is heard when more comes than can be checked: a budget per second, and among those that wait a choice
//! at random, so that nobody gains by being first or by knowing when.

use heapless::Vec;
use shm::Micros;

const SECOND: Micros = 1_000_000;
/// How many of a kind may wait.
pub const PLACES: usize = 8;

/// A small generator (SplitMix64), for choices only: no secret and no address is made with it.
pub struct Choice(u64);

impl Choice {
    pub fn new(seed: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *seed;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Uniform below `range`; 0 if that is 0.
    pub fn below(&mut self, range: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        scale(z ^ (z >> 31), range)
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

/// Brings a random number below `range`, by multiplying, so that no value is favoured by more than 2^-64 of the range.
pub fn scale(random: u64, range: u64) -> u64 {
    ((u128::from(random) * u128::from(range)) >> 64) as u64
}

/// So many per second, saved up for a second at most. Time alone refills it: no timer runs for it.
pub struct Budget {
    interval: Micros,
    /// When the next one may be spent.
    at: Micros,
}

impl Budget {
    /// 0 counts as 1: a node that checks nothing could never be claimed.
    pub fn new(per_second: u32) -> Self {
        Self { interval: SECOND / u64::from(per_second.max(1)), at: 0 }
    }

    pub fn ready_at(&self) -> Micros {
        self.at
    }

    pub fn spend(&mut self, now: Micros) {
        self.at = self.at.max(now.saturating_sub(SECOND)).saturating_add(self.interval);
    }
}

/// A reservoir. Of all that arrived since one was taken, each has the same chance to be among those that wait.
pub struct Waiting<T> {
    items: Vec<T, PLACES>,
    arrived: u64,
}

impl<T> Waiting<T> {
    pub const fn new() -> Self {
        Self { items: Vec::new(), arrived: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.arrived = 0;
    }

    /// Without a generator the first ones stay.
    pub fn add(&mut self, item: T, choice: Option<&mut Choice>) {
        self.arrived = self.arrived.saturating_add(1);
        if let Err(item) = self.items.push(item)
            && let Some(choice) = choice
            && let Ok(at) = usize::try_from(choice.below(self.arrived))
            && let Some(place) = self.items.get_mut(at)
        {
            *place = item;
        }
    }

    /// One of those that wait, any of them. The rest count as arrived now, so that what comes next has a fair chance too.
    pub fn take(&mut self, choice: &mut Choice) -> Option<T> {
        if self.items.is_empty() {
            return None;
        }
        let item = self.items.swap_remove(choice.index(self.items.len()));
        self.arrived = self.items.len() as u64;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_is_kept_over_any_second_and_refills_by_itself() {
        let mut budget = Budget::new(50);
        let spend_all = |budget: &mut Budget, now| {
            let mut spent = 0;
            while budget.ready_at() <= now {
                budget.spend(now);
                spent += 1;
            }
            spent
        };
        let hour = 3600 * SECOND;
        assert_eq!(spend_all(&mut budget, hour), 51);
        assert_eq!(spend_all(&mut budget, hour), 0);
        assert_eq!(budget.ready_at(), hour + SECOND / 50);
        assert_eq!(spend_all(&mut budget, hour + SECOND / 2), 25);
        assert_eq!(spend_all(&mut budget, 2 * hour), 51);
        assert_eq!(spend_all(&mut Budget::new(0), hour), 2);
    }

    #[test]
    fn all_are_taken_while_no_more_arrive_than_there_are_places() {
        let mut choice = Choice::new(&[1; 32]);
        let mut waiting = Waiting::new();
        for item in 0..PLACES {
            waiting.add(item, Some(&mut choice));
        }
        let mut taken: [usize; PLACES] = core::array::from_fn(|_| waiting.take(&mut choice).unwrap());
        assert_ne!(taken, core::array::from_fn(|n| n), "in the order of arrival");
        taken.sort_unstable();
        assert_eq!(taken, core::array::from_fn(|n| n));
        assert!(waiting.is_empty() && waiting.take(&mut choice).is_none());
    }

    #[test]
    fn nobodys_place_in_a_flood_matters() {
        // 200 arrive for each one that is taken. What is expected for each tenth of the interval is 1/10.
        const ARRIVALS: u64 = 200;
        const ROUNDS: u64 = 20_000;
        let mut choice = Choice::new(&[2; 32]);
        let mut waiting = Waiting::new();
        let mut taken = [0u64; 10];
        for _ in 0..ROUNDS {
            for n in 0..ARRIVALS {
                waiting.add(n, Some(&mut choice));
            }
            taken[(waiting.take(&mut choice).unwrap() * 10 / ARRIVALS) as usize] += 1;
        }
        for count in taken {
            assert!((1700..2300).contains(&count), "{taken:?}");
        }
    }

    proptest! {
        #[test]
        fn a_scaled_number_is_below_its_range(random: u64, range: u64) {
            let scaled = scale(random, range);
            prop_assert!(scaled < range || (range == 0 && scaled == 0));
        }
    }
}
