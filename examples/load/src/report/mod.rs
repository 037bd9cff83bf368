//! The report of a run: everything that the table, the JSON, the HTML and the limits are made from.

pub(crate) mod build;
pub(crate) mod html;
mod plot;
pub(crate) mod table;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::books::Books;
use crate::chat::ChatFigures;
use crate::engine::SecondFigures;
use crate::host::{Host, OwnCpu, ServerUse};
use crate::search::{Found, Trial};
use crate::slo::Checked;

/// The version of the JSON report. It goes up when a field changes its meaning or goes away.
pub(crate) const SCHEMA: u32 = 1;

/// Percentiles are given only from so many samples on.
const P99_9_FROM: u64 = 1_000;
const P99_99_FROM: u64 = 10_000;

/// A latency distribution, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    /// Not from under a thousand samples.
    pub(crate) p99_9_us: Option<f64>,
    /// Not from under ten thousand samples.
    pub(crate) p99_99_us: Option<f64>,
    pub(crate) max_us: f64,
    /// The histogram: values and how many were that long.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// The distribution in a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let count = histogram.len();
        if count == 0 {
            return Self::default();
        }
        let at = |q| us(histogram.value_at_quantile(q));
        Self {
            count,
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: (count >= P99_9_FROM).then(|| at(0.999)),
            p99_99_us: (count >= P99_99_FROM).then(|| at(0.9999)),
            max_us: us(histogram.max()),
            buckets: histogram
                .iter_recorded()
                .map(|step| (us(step.value_iterated_to()), step.count_at_value()))
                .collect(),
        }
    }

    /// A percentile, if there are samples enough to speak of it.
    pub(crate) fn quantile_us(&self, q: f64) -> Option<f64> {
        if self.count == 0 || (q > 0.999 && q < 1.0 && self.count < P99_99_FROM) {
            return None;
        }
        if q > 0.99 && q < 1.0 && self.count < P99_9_FROM {
            return None;
        }
        self.any_quantile_us(q)
    }

    /// A percentile, however few the samples.
    pub(crate) fn any_quantile_us(&self, q: f64) -> Option<f64> {
        if q >= 1.0 && self.count > 0 {
            return Some(self.max_us);
        }
        let rank = (q * self.count as f64).ceil() as u64;
        let mut seen = 0;
        self.buckets.iter().find_map(|&(value, count)| {
            seen += count;
            (seen >= rank).then_some(value.min(self.max_us))
        })
    }
}

fn us(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 10.0).round() / 100.0
}

/// What the run was told, in words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) url: String,
    pub(crate) scenario: String,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) depth: u32,
    /// `closed`, or `open`.
    pub(crate) load: String,
    pub(crate) rate: Option<f64>,
    pub(crate) arrival: Option<String>,
    pub(crate) duration_s: f64,
    pub(crate) count: Option<u64>,
    pub(crate) warmup_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) framing: String,
    pub(crate) expect: String,
    pub(crate) size_least: usize,
    pub(crate) size_most: usize,
    pub(crate) silent: usize,
    pub(crate) slow_readers: usize,
    pub(crate) dribblers: usize,
    pub(crate) loss_allowed: f64,
    pub(crate) seed: u64,
}

/// The server's process during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    #[serde(flatten)]
    pub(crate) used: ServerUse,
    pub(crate) cpu_us_per_message: f64,
    /// Memory that came with the connections, per connection.
    pub(crate) bytes_per_connection: f64,
    pub(crate) drained_in_ms: Option<f64>,
}

/// The generator itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generator {
    /// The share of its time that the busiest thread worked.
    pub(crate) busy: f64,
    /// The share of the time in which a due request found every connection full.
    pub(crate) full: f64,
    pub(crate) lag: Distribution,
    pub(crate) cpu: OwnCpu,
    pub(crate) cpu_us_per_message: f64,
    pub(crate) kernel_drops: u64,
    pub(crate) sides_up: usize,
}

/// What the run comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The exit status.
    pub(crate) status: u8,
    /// Whether the measurement is valid; if not, why.
    pub(crate) valid: bool,
    pub(crate) invalid_because: Vec<String>,
    /// What was wrong or missing.
    pub(crate) faults: Vec<String>,
    pub(crate) slos: Vec<Checked>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) tool: String,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) config: Config,
    pub(crate) host: Host,
    pub(crate) outcome: Outcome,
    /// Right replies a second.
    pub(crate) rate: f64,
    pub(crate) measured_s: f64,
    pub(crate) books_balance: bool,
    pub(crate) counters: Books,
    /// From the planned instant; in a closed loop the same as service.
    pub(crate) response: Distribution,
    /// From the write.
    pub(crate) service: Distribution,
    pub(crate) connect: Distribution,
    pub(crate) first_byte: Distribution,
    pub(crate) connections_per_s: f64,
    pub(crate) generator: Generator,
    pub(crate) server: Option<Server>,
    pub(crate) seconds: Vec<SecondFigures>,
    /// The same load without the parked connections (`idle:N`, `slowloris`).
    pub(crate) baseline: Option<Distribution>,
    pub(crate) chat: Option<ChatFigures>,
    pub(crate) search: Option<Found>,
    /// The steps of a sweep.
    pub(crate) sweep: Option<Vec<Trial>>,
}

impl Report {
    /// The share of requests without a right reply in time.
    pub(crate) fn loss(&self) -> f64 {
        let asked = (self.counters.sent + self.counters.empty_sent).max(1);
        self.counters.missing() as f64 / asked as f64
    }

    /// Everything wrong or missing.
    pub(crate) fn faults(&self) -> u64 {
        self.counters.missing() + self.counters.wrong(self.is_stream()) + self.counters.never_closed
    }

    /// Whether the server is one of byte streams.
    pub(crate) fn is_stream(&self) -> bool {
        self.config.url.starts_with("tcp:") || self.config.url.starts_with("unix:")
    }

    /// A counter by its name.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let extras = [
            ("duplicate", self.counters.duplicate),
            ("crossed", self.counters.crossed),
            ("reordered", self.counters.reordered),
            ("unsolicited", self.counters.unsolicited),
        ];
        let fates = self.counters.fates();
        let all = fates.iter().chain(extras.iter());
        all.filter(|(known, _)| *known == name).map(|(_, count)| *count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Distribution;
    use crate::tally::histogram;

    #[test]
    fn no_far_percentile_comes_from_few_samples() {
        let mut values = histogram();
        for n in 1..=9_999u64 {
            values.saturating_record(n * 1000);
        }
        let found = Distribution::of(&values);
        assert_eq!(found.p99_99_us, None);
        assert_eq!(found.quantile_us(0.9999), None);
        assert!(found.p99_9_us.is_some());
        let half = found.quantile_us(0.5).expect("enough samples");
        assert!((half - 5000.0).abs() < 10.0, "{half}");
        values.saturating_record(77_000_000);
        let found = Distribution::of(&values);
        assert!(found.p99_99_us.is_some());
        assert!((found.quantile_us(1.0).expect("some") - 77_000.0).abs() < 100.0);
    }
}
