//! What one thread counts while it runs: books, histograms, and the second that is passing.
use hdrhistogram::Histogram;

use crate::books::{Books, Extra, Fate};
use crate::proof::window::Times;
use crate::ticks::Ticks;

/// Latencies from one microsecond to a hundred seconds, in nanoseconds.
const LEAST: u64 = 1_000;
const MOST: u64 = 100_000_000_000;

/// A histogram of nanoseconds with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LEAST, MOST, 3).expect("invariant: constant bounds are sound")
}

/// A smaller one, for a single second: two digits.
pub(crate) fn small_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(LEAST, MOST, 2).expect("invariant: constant bounds are sound")
}

/// The histograms of a run.
#[derive(Clone, Debug)]
pub(crate) struct Histograms {
    /// From the planned instant to the reply.
    pub(crate) response: Histogram<u64>,
    /// From the write to the reply.
    pub(crate) service: Histogram<u64>,
    /// How late the generator itself was: from when it could have written to when it did.
    pub(crate) lag: Histogram<u64>,
    /// From the start of a connection until it stood, and until its first reply came.
    pub(crate) connect: Histogram<u64>,
    pub(crate) first_byte: Histogram<u64>,
}

impl Histograms {
    pub(crate) fn new() -> Self {
        Self {
            response: histogram(),
            service: histogram(),
            lag: histogram(),
            connect: histogram(),
            first_byte: histogram(),
        }
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.connect, &other.connect),
            (&mut self.first_byte, &other.first_byte),
        ];
        for (mine, theirs) in pairs {
            mine.add(theirs).expect("invariant: all have the same bounds");
        }
    }
}

/// One second of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    pub(crate) second: u64,
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) faults: u64,
    pub(crate) connected: u64,
    pub(crate) bytes_received: u64,
    pub(crate) lag_max: u64,
    pub(crate) response: Histogram<u32>,
}

impl Interval {
    /// Nothing yet in this second.
    pub(crate) fn new(second: u64) -> Self {
        Self {
            second,
            sent: 0,
            ok: 0,
            faults: 0,
            connected: 0,
            bytes_received: 0,
            lag_max: 0,
            response: small_histogram(),
        }
    }

    /// Adds another thread's same second.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.faults += other.faults;
        self.connected += other.connected;
        self.bytes_received += other.bytes_received;
        self.lag_max = self.lag_max.max(other.lag_max);
        self.response.add(&other.response).expect("invariant: all have the same bounds");
    }
}

/// Everything that one thread counts.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) books: Books,
    pub(crate) histograms: Histograms,
    pub(crate) interval: Interval,
    /// Requests planned before this are warm-up: in the books, but in no histogram.
    pub(crate) measure_from: u64,
    /// Right replies to requests of the measured time that arrived in it.
    pub(crate) measured: u64,
    /// Until when replies count for the rate.
    pub(crate) measure_until: u64,
    /// Nanoseconds spent waiting for events.
    pub(crate) waited: u64,
    /// Nanoseconds in which a due request had to wait because every connection was full.
    pub(crate) full: u64,
    /// When an open loop does not shift, planned and written times differ; else one histogram serves both.
    pub(crate) open_loop: bool,
    earlier: Books,
    /// What has been measured since the second began; not in the histograms yet.
    response: Ticks,
    service: Ticks,
}

fn record(histogram: &mut Histogram<u64>, value: u64) {
    histogram.saturating_record(value);
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new(open_loop: bool) -> Self {
        Self {
            books: Books::default(),
            histograms: Histograms::new(),
            interval: Interval::new(0),
            measure_from: 0,
            measured: 0,
            measure_until: u64::MAX,
            waited: 0,
            full: 0,
            open_loop,
            earlier: Books::default(),
            response: Ticks::new(),
            service: Ticks::new(),
        }
    }

    /// A right reply has come in time.
    #[inline(always)]
    pub(crate) fn answered(&mut self, times: Times, now: u64) {
        self.books.settle(Fate::Ok);
        self.latency(times, now);
        self.measured += u64::from(times.planned >= self.measure_from && now <= self.measure_until);
    }

    /// Notes how long a right reply took.
    #[inline(always)]
    pub(crate) fn latency(&mut self, times: Times, now: u64) {
        let response = now.saturating_sub(times.planned);
        let service = now.saturating_sub(times.sent);
        let counted = times.planned >= self.measure_from
            && self.response.count(response)
            && (!self.open_loop || self.service.count(service));
        if !counted {
            self.latency_apart(times.planned >= self.measure_from, response, service);
        }
    }

    /// The latency of a reply in the warm-up, or of one that is too long for the tables. No reply takes longer from its
    /// write than from its planned instant, so neither table has counted it.
    #[cold]
    #[inline(never)]
    fn latency_apart(&mut self, measured: bool, response: u64, service: u64) {
        self.interval.response.saturating_record(response);
        if measured {
            self.histograms.response.saturating_record(response);
        }
        if measured && self.open_loop {
            self.histograms.service.saturating_record(service);
        }
    }

    /// Puts what `latency` has counted into the histograms.
    pub(crate) fn settle_latency(&mut self) {
        self.response.add_to(&mut self.interval.response);
        self.response.add_to(&mut self.histograms.response);
        self.response.clear();
        if self.open_loop {
            self.service.add_to(&mut self.histograms.service);
            self.service.clear();
        }
    }

    /// The generator wrote a request this long after it could have.
    pub(crate) fn lag(&mut self, planned: u64, lag: u64) {
        self.interval.lag_max = self.interval.lag_max.max(lag);
        if planned >= self.measure_from {
            record(&mut self.histograms.lag, lag);
        }
    }

    /// A connection stands, this long after it was begun.
    pub(crate) fn connected(&mut self, took: u64) {
        self.books.connected += 1;
        record(&mut self.histograms.connect, took);
    }

    /// The first byte came, this long after the connection was begun.
    pub(crate) fn first_byte(&mut self, took: u64) {
        record(&mut self.histograms.first_byte, took);
    }

    /// Something came that answers no open request; its first examples are kept.
    pub(crate) fn extra(&mut self, extra: Extra, whose: (u32, Option<u32>), got: &[u8]) {
        self.books.extra(extra);
        if self.books.wants_example(extra.name()) {
            self.books.keep_example(extra.name(), whose, got, b"");
        }
    }

    /// Ends the passing second and hands it out.
    pub(crate) fn turn_second(&mut self, second: u64) -> Interval {
        self.settle_latency();
        let mut passed = std::mem::replace(&mut self.interval, Interval::new(second));
        let before = &self.earlier;
        passed.sent = self.books.sent - before.sent;
        passed.ok = self.books.ok - before.ok;
        passed.faults = self.books.faults().saturating_sub(before.faults());
        passed.connected = self.books.connected - before.connected;
        passed.bytes_received = self.books.bytes_received - before.bytes_received;
        self.earlier = self.books.clone();
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::{histogram, small_histogram};
    use proptest::prelude::*;

    proptest! {
        /// A percentile lies within a thousandth of what a plain sort says.
        #[test]
        fn percentiles_agree_with_a_plain_sort(
            mut values in proptest::collection::vec(1_000u64..100_000_000_000, 1..2000), q in 0.0f64..1.0,
        ) {
            let (mut merged, mut other, mut coarse) = (histogram(), histogram(), small_histogram());
            for (n, value) in values.iter().enumerate() {
                if n % 2 == 0 { &mut merged } else { &mut other }.saturating_record(*value);
                coarse.saturating_record(*value);
            }
            merged.add(&other).expect("same bounds");
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let sorted = values[rank - 1] as f64;
            let found = merged.value_at_quantile(q) as f64;
            prop_assert!((found - sorted).abs() <= sorted / 1000.0 + 512.0, "{found} {sorted}");
            let found = coarse.value_at_quantile(q) as f64;
            prop_assert!((found - sorted).abs() <= sorted / 100.0 + 512.0, "{found} {sorted}");
            prop_assert_eq!(merged.len(), values.len() as u64);
            prop_assert!(merged.max() >= *values.last().expect("one") && merged.max() as f64 <= *values.last().expect("one") as f64 * 1.001 + 512.0);
        }
    }
}
