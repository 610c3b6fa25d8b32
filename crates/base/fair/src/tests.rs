use super::*;

/// SplitMix64.
struct Generator(u64);

impl Draw for Generator {
    fn below(&mut self, range: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(range)) >> 64) as u32
    }
}

const PLACES: usize = 8;
type Waiting = Reservoir<u32, PLACES>;

fn spend_all(budget: &mut Budget, now: Micros) -> usize {
    (0..1000).filter(|_| budget.spend(now)).count()
}

#[test]
fn a_budget_is_kept_over_any_second_and_refills_by_itself() {
    let mut budget = Budget::new(50);
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
    let (mut draw, mut waiting) = (Generator(1), Waiting::new());
    for item in 0..PLACES as u32 {
        assert!(!waiting.is_full() && !waiting.add(item, Some(&mut draw)));
    }
    assert!(waiting.is_full());
    let mut taken: [u32; PLACES] = core::array::from_fn(|_| waiting.take(&mut draw).unwrap());
    assert_ne!(taken, core::array::from_fn(|n| n as u32), "in the order of arrival");
    taken.sort_unstable();
    assert_eq!(taken, core::array::from_fn(|n| n as u32));
    assert!(waiting.is_empty() && waiting.take(&mut draw).is_none());
}

#[test]
fn nobodys_place_in_a_flood_matters() {
    // 200 arrive for each one that is taken. What is expected for each tenth of the interval is 1/10.
    const ARRIVALS: u32 = 200;
    let (mut draw, mut waiting) = (Generator(2), Waiting::new());
    let mut taken = [0u32; 10];
    for _ in 0..20_000 {
        for n in 0..ARRIVALS {
            waiting.add(n, Some(&mut draw));
        }
        taken[(waiting.take(&mut draw).unwrap() * 10 / ARRIVALS) as usize] += 1;
    }
    assert!(taken.iter().all(|count| (1700..2300).contains(count)), "{taken:?}");
}

#[test]
fn without_a_draw_the_first_ones_stay_and_one_that_is_found_can_be_replaced() {
    let mut waiting = Waiting::new();
    for n in 0..100 {
        assert_eq!(waiting.add(n, None::<&mut Generator>), n >= PLACES as u32);
    }
    assert!(waiting.find(|n| *n == 8).is_none());
    *waiting.find(|n| *n == 3).unwrap() = 77;
    let mut draw = Generator(3);
    let mut left = [0; PLACES].map(|_: u32| waiting.take(&mut draw).unwrap());
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 4, 5, 6, 7, 77]);
    waiting.add(1, Some(&mut draw));
    waiting.clear();
    assert!(waiting.is_empty());
}
