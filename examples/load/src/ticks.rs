//! Latencies of the passing second, counted in a flat table: no replies are so frequent that a histogram could not take them.
use hdrhistogram::{Counter, Histogram};

/// Two to this power is the width of the narrowest place, in nanoseconds: what a histogram from 1 µs on has.
const WIDTH: u32 = 9;
/// Two to this power places serve each doubling of the latency: what three digits take.
const PLACES: u32 = 10;
/// Doublings above the first; beyond them lie more than a hundred seconds.
const DOUBLINGS: usize = 19;

/// The table. Its places are those of a histogram with three digits, so that nothing is lost on the way there.
#[derive(Debug)]
pub(crate) struct Ticks(Box<[u32]>);

/// Which place a latency belongs to.
#[inline]
fn place(nanoseconds: u64) -> usize {
    let value = nanoseconds >> WIDTH;
    let shift = (value >> PLACES | 1).ilog2();
    ((u64::from(shift) << PLACES) + (value >> shift)) as usize
}

/// The least latency that belongs to a place. None is nought: a histogram would count that apart.
fn latency(place: usize) -> u64 {
    let shift = (place as u64 >> PLACES).saturating_sub(1);
    ((place as u64 - (shift << PLACES)) << shift << WIDTH).max(1)
}

impl Ticks {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self(vec![0; DOUBLINGS << PLACES].into_boxed_slice())
    }

    /// Counts one; false if it is too long for the table.
    #[inline]
    #[must_use]
    pub(crate) fn count(&mut self, nanoseconds: u64) -> bool {
        match self.0.get_mut(place(nanoseconds)) {
            Some(count) => {
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// Adds everything counted to a histogram. What was counted stays.
    pub(crate) fn add_to<C: Counter + From<u32>>(&self, histogram: &mut Histogram<C>) {
        for (place, &count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(latency(place), count.into());
        }
    }

    /// Counts from nought again.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ticks, latency, place};
    use crate::tally::{histogram, small_histogram};
    use proptest::prelude::*;

    #[test]
    fn every_place_is_that_of_its_least_latency() {
        let ticks = Ticks::new();
        for at in 0..ticks.0.len() {
            assert_eq!(place(latency(at)), at);
            assert_eq!(place(latency(at) - 1), at.saturating_sub(1));
        }
    }

    proptest! {
        /// The way over the table makes no difference to any histogram.
        #[test]
        fn histograms_come_out_as_if_every_latency_had_been_recorded(
            values in proptest::collection::vec((0u32..48, any::<u64>()), 1..500),
        ) {
            let (mut straight, mut small_straight) = (histogram(), small_histogram());
            let (mut over, mut small_over) = (histogram(), small_histogram());
            let mut ticks = Ticks::new();
            for (bits, value) in values {
                let value = (value >> (63 - bits)).max(1);
                straight.saturating_record(value);
                small_straight.saturating_record(value);
                if !ticks.count(value) {
                    prop_assert!(value > 100_000_000_000);
                    over.saturating_record(value);
                    small_over.saturating_record(value);
                }
            }
            ticks.add_to(&mut over);
            ticks.add_to(&mut small_over);
            // Too many numbers to print.
            prop_assert!(over == straight && small_over == small_straight);
            prop_assert_eq!(over.max(), straight.max());
            prop_assert_eq!(over.min(), straight.min());
        }
    }
}
