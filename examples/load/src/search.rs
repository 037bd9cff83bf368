//! Searching for the highest rate that keeps a limit, and sweeping over rates. Decisions here, trials in `session.rs`.
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::slo::Slo;

/// Where a search begins, and below which it gives up.
const FLOOR: f64 = 500.0;
const LEAST: f64 = 5.0;
const MOST: f64 = 50e6;
const SPOILED_MAX: u32 = 4;

/// One trial at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) rate: f64,
    pub(crate) achieved: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: Option<f64>,
    pub(crate) loss: f64,
    pub(crate) lag_p99_us: f64,
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) server_rss_kib: Option<u64>,
    /// Whether the generator kept up, and whether the limit was kept.
    pub(crate) valid: bool,
    pub(crate) passed: bool,
    pub(crate) why: String,
}

/// The answer to a search: an interval, and the whole way to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) limit: String,
    /// The highest rate that passed, and the lowest that failed.
    pub(crate) passes: Option<f64>,
    pub(crate) fails: Option<f64>,
    /// Not the server but the generator set the upper end.
    pub(crate) generator_limited: bool,
    pub(crate) path: Vec<Trial>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    Try(f64),
    Done,
}

/// A search under way: a geometric ramp, then bisection; near the edge two of three trials decide.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    precision: f64,
    passes: Option<f64>,
    fails: Option<f64>,
    votes: (u32, u32),
    /// Trials at this rate that the generator spoiled.
    spoiled: u32,
}

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    Passed,
    Failed,
    /// The generator did not keep up, so nothing is said about the server. Four of these count as a failure.
    Spoiled,
}

impl Trial {
    /// What this trial says.
    pub(crate) fn vote(&self) -> Vote {
        match (self.passed, self.valid) {
            (true, _) => Vote::Passed,
            (false, true) => Vote::Failed,
            (false, false) => Vote::Spoiled,
        }
    }
}

impl Search {
    /// A search that ends when the interval is this narrow.
    pub(crate) fn new(precision: f64) -> Self {
        Self {
            precision: precision.max(0.005),
            passes: None,
            fails: None,
            votes: (0, 0),
            spoiled: 0,
        }
    }

    /// The next rate to try.
    pub(crate) fn next(&self) -> Next {
        match (self.passes, self.fails) {
            (None, None) => Next::Try(FLOOR),
            (Some(low), None) if low * 2.0 > MOST => Next::Done,
            (Some(low), None) => Next::Try(low * 2.0),
            (None, Some(high)) if high / 4.0 < LEAST => Next::Done,
            (None, Some(high)) => Next::Try(high / 4.0),
            (Some(low), Some(high)) if high / low <= 1.0 + self.precision => Next::Done,
            (Some(low), Some(high)) => Next::Try((low * high).sqrt()),
        }
    }

    /// Notes how the trial at the rate that `next` gave went.
    pub(crate) fn note(&mut self, rate: f64, vote: Vote) {
        match vote {
            Vote::Passed => self.votes.0 += 1,
            Vote::Failed => self.votes.1 += 1,
            Vote::Spoiled => {
                self.spoiled += 1;
                if self.spoiled < SPOILED_MAX {
                    return;
                }
                self.votes.1 = 2;
            }
        }
        // On the way up one pass is enough: the edge is further on, and is looked at closely later.
        let enough = if self.fails.is_none() && self.votes.1 == 0 { 1 } else { 2 };
        if self.votes.0 >= enough {
            self.passes = Some(rate);
            (self.votes, self.spoiled) = ((0, 0), 0);
        } else if self.votes.1 >= 2 {
            self.fails = Some(rate);
            (self.votes, self.spoiled) = ((0, 0), 0);
        }
    }

    /// The answer.
    pub(crate) fn found(self, limit: &Slo, path: Vec<Trial>) -> Found {
        let edge = |trial: &Trial| Some(trial.rate) == self.fails && !trial.valid;
        Found {
            limit: limit.to_string(),
            passes: self.passes,
            fails: self.fails,
            generator_limited: path.iter().any(edge),
            path,
        }
    }
}

/// Sums a trial up. It passes if the limit is kept even at the upper end of what the samples leave open.
pub(crate) fn trial(rate: f64, report: &Report, limit: Option<&Slo>) -> Trial {
    let checked = limit.map(|limit| limit.check_cautiously(report));
    let valid = report.outcome.valid;
    let (passed, why) = match &checked {
        _ if !report.outcome.faults.is_empty() => (false, report.outcome.faults.join("; ")),
        // The generator's own lateness counts against the server, so a limit that is kept is kept in spite of it.
        Some(checked) if checked.kept => (true, checked.found.clone()),
        _ if !valid => (false, report.outcome.invalid_because.join("; ")),
        Some(checked) => (false, checked.found.clone()),
        None => (true, String::new()),
    };
    Trial {
        rate,
        achieved: report.rate,
        p50_us: report.response.p50_us,
        p99_us: report.response.p99_us,
        p99_9_us: report.response.p99_9_us,
        loss: report.loss(),
        lag_p99_us: report.generator.lag.p99_us,
        server_cpu_us: report.server.as_ref().map(|server| server.cpu_us_per_message),
        server_rss_kib: report.server.as_ref().map(|server| server.used.rss_max_kib),
        valid,
        passed,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Search, Vote};
    use proptest::prelude::*;

    /// Searches for an edge that lies at `ceiling`; every trial whose number is in `wrong` goes the other way.
    fn search(ceiling: f64, wrong: &[usize]) -> (Option<f64>, Option<f64>, usize) {
        let mut search = Search::new(0.03);
        let mut trials = 0;
        while let Next::Try(rate) = search.next() {
            let passed = (rate <= ceiling) != wrong.contains(&trials);
            search.note(rate, if passed { Vote::Passed } else { Vote::Failed });
            trials += 1;
            assert!(trials < 200, "it ends");
        }
        (search.passes, search.fails, trials)
    }

    proptest! {
        #[test]
        fn the_edge_lies_in_a_narrow_interval(ceiling in 20.0f64..20e6) {
            let (passes, fails, _) = search(ceiling, &[]);
            let (passes, fails) = (passes.expect("passes"), fails.expect("fails"));
            prop_assert!(passes <= ceiling && ceiling < fails && fails / passes <= 1.03);
        }
    }

    #[test]
    fn one_bad_trial_does_not_lead_the_search_astray() {
        for wrong in 0..20 {
            // On the way up a wrong pass is not asked about again, so only wrong failures are tried there.
            let (passes, fails, _) = search(40_000.0, &[wrong]);
            let (passes, fails) = (passes.expect("passes"), fails.expect("fails"));
            if wrong != 7 {
                assert!(passes <= 40_000.0 && 40_000.0 < fails, "trial {wrong}: {passes} {fails}");
            }
        }
    }

    #[test]
    fn a_generator_that_cannot_keep_up_ends_the_ramp_and_a_hiccup_does_not() {
        let mut search = Search::new(0.03);
        for _ in 0..3 {
            search.note(500.0, Vote::Spoiled);
        }
        search.note(500.0, Vote::Passed);
        assert_eq!(search.next(), Next::Try(1000.0));
        for _ in 0..4 {
            search.note(1000.0, Vote::Spoiled);
        }
        assert_eq!(search.fails, Some(1000.0));
    }

    #[test]
    fn a_server_that_never_passes_ends_the_search() {
        let (passes, fails, trials) = search(0.0, &[]);
        assert!(passes.is_none() && fails.is_some() && trials < 20);
    }
}
