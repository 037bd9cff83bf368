//! When requests are due in an open loop. The plan is fixed in advance and never shifts, however slow the replies are.
use serde::{Deserialize, Serialize};

use crate::proof::id::mix;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
    /// At equal intervals.
    Constant,
    /// At random, independent of each other, as from many people.
    Poisson,
}

/// One thread's share of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: u64,
    /// Nanoseconds between this thread's requests.
    step: f64,
    /// This thread's place among the others, in steps.
    phase: f64,
    arrival: Arrival,
    issued: u64,
    random_at: f64,
    seed: u64,
    due: u64,
}

impl Schedule {
    /// The share of thread `number` of `threads` in `rate` requests a second, from `start` on.
    pub(crate) fn new(
        start: u64,
        rate: f64,
        (number, threads): (usize, usize),
        arrival: Arrival,
        seed: u64,
    ) -> Self {
        let mut schedule = Self {
            start,
            step: 1e9 * threads as f64 / rate,
            phase: number as f64 / threads as f64,
            arrival,
            issued: 0,
            random_at: 0.0,
            seed: mix(seed ^ number as u64),
            due: start,
        };
        schedule.advance();
        schedule
    }

    /// When the next request is due.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the request after.
    pub(crate) fn advance(&mut self) {
        let after = match self.arrival {
            // From the count, not from the sum: no rounding adds up.
            Arrival::Constant => (self.issued as f64 + self.phase) * self.step,
            Arrival::Poisson => {
                self.seed = mix(self.seed);
                // In (0, 1]: the logarithm of zero is never taken.
                let uniform = ((self.seed >> 11) + 1) as f64 / (1u64 << 53) as f64;
                self.random_at -= uniform.ln() * self.step;
                self.random_at
            }
        };
        self.issued += 1;
        self.due = self.start + after as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Schedule};

    fn dues(mut schedule: Schedule, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let due = schedule.due();
                schedule.advance();
                due
            })
            .collect()
    }

    #[test]
    fn constant_arrivals_of_all_threads_interleave_at_equal_intervals() {
        let mut all: Vec<_> = (0..4)
            .flat_map(|n| dues(Schedule::new(1000, 1e6, (n, 4), Arrival::Constant, 1), 25))
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).map(|n| 1000 + n * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_hour_of_constant_arrivals_does_not_drift() {
        let schedule = Schedule::new(0, 3000.0, (0, 1), Arrival::Constant, 1);
        let mut later = Schedule { issued: 3000 * 3600, ..schedule };
        later.advance();
        assert!(later.due().abs_diff(3600 * 1_000_000_000) < 1000);
    }

    #[test]
    fn random_arrivals_keep_the_rate_and_spread_as_they_should() {
        let dues = dues(Schedule::new(0, 1e5, (0, 1), Arrival::Poisson, 7), 100_000);
        let mean = *dues.last().expect("some") as f64 / 100_000.0;
        assert!((mean - 10_000.0).abs() < 150.0, "mean {mean}");
        let above = dues.windows(2).filter(|w| w[1] - w[0] > 10_000).count() as f64 / 99_999.0;
        assert!((above - (-1f64).exp()).abs() < 0.01, "{above} of the gaps are above the mean");
    }
}
