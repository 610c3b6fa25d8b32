//! Which counters have come: a window that slides with the highest one (RFC 6479).

/// Words of the ring.
const WORDS: usize = 33;
/// How far behind the highest a counter may come. One word of the ring is always being begun.
pub const SPAN: u64 = (WORDS as u64 - 1) * 64;

pub struct Window {
    /// The highest that came, plus one.
    next: u64,
    ring: [u64; WORDS],
}

const fn word(counter: u64) -> usize {
    (counter / 64) as usize % WORDS
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

impl Window {
    pub const fn new() -> Self {
        Self { next: 0, ring: [0; WORDS] }
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether a packet with this counter may be new. Says nothing of its authenticity and changes nothing.
    pub fn fresh(&self, counter: u64) -> bool {
        counter >= self.next || (self.next - 1 - counter <= SPAN && self.ring[word(counter)] & bit(counter) == 0)
    }

    /// Takes note of an authentic packet. Only for a counter that is [`Self::fresh`].
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            // Words that begin between the highest so far and this one.
            let begun = (counter / 64).saturating_sub(self.next.saturating_sub(1) / 64).min(WORDS as u64);
            for back in 0..begun {
                self.ring[word(counter.wrapping_sub(back * 64))] = 0;
            }
            self.next = counter.saturating_add(1);
        }
        self.ring[word(counter)] |= bit(counter);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// What the window should say, with all the memory it needs.
    #[derive(Default)]
    struct Model {
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn fresh(&self, counter: u64) -> bool {
            let behind = self.seen.last().is_some_and(|last| last.saturating_sub(counter) > SPAN);
            !behind && !self.seen.contains(&counter)
        }
    }

    fn check(counters: impl IntoIterator<Item = u64>) {
        let (mut window, mut model) = (Window::new(), Model::default());
        for counter in counters {
            assert_eq!(window.fresh(counter), model.fresh(counter), "{counter}");
            if window.fresh(counter) {
                window.mark(counter);
                model.seen.insert(counter);
                assert!(!window.fresh(counter), "{counter}");
            }
        }
    }

    #[test]
    fn the_edges_of_words_and_window_are_where_they_should_be() {
        check([0, 0, 1, 63, 64, 65, 64, SPAN, SPAN + 1, 2, 1, 0, SPAN + 64, 65, 64, 63]);
        check([SPAN, 0, SPAN + 1, 0, 1, 2, 1]);
        for jump in [1, 63, 64, 65, SPAN - 1, SPAN, SPAN + 1, SPAN + 63, SPAN + 64, SPAN + 65, 1 << 40] {
            for start in [0, 1, 62, 63, 64, 1000] {
                check((0..=start).chain([start + jump]).chain((0..=start + 200).rev()).chain([start + jump + 1]));
            }
        }
    }

    #[test]
    fn the_window_is_as_wide_as_it_says() {
        const { assert!(SPAN >= 2048) };
        let mut window = Window::new();
        window.mark(10 * SPAN);
        assert!(window.fresh(9 * SPAN) && !window.fresh(9 * SPAN - 1));
    }

    #[test]
    fn the_last_counters_do_not_overflow() {
        check([u64::MAX - 2, u64::MAX - 1, u64::MAX - 2 - SPAN, 0]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_model_whatever_comes(
            steps in prop::collection::vec(prop_oneof![
                5 => (0u64..8).prop_map(|n| (true, n)),
                3 => (0u64..200).prop_map(|n| (false, n)),
                2 => (SPAN - 70..SPAN + 70).prop_map(|n| (false, n)),
                1 => (SPAN - 70..3 * SPAN).prop_map(|n| (true, n)),
            ], 0..600)
        ) {
            let mut highest = 0u64;
            let counters: Vec<u64> = steps.iter().map(|(up, by)| {
                let counter = if *up { highest + by } else { highest.saturating_sub(*by) };
                highest = highest.max(counter);
                counter
            }).collect();
            check(counters);
        }
    }
}
