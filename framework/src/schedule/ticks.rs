//! Ticks: what the user wants run at regular instants, as ready work like any other.
//!
//! A tick has one entry in the timers while it waits for its instant, and one place in the ready queue
//! when that has come. It is armed anew only when its run is over: so no two runs of it overlap, and it
//! stands in the queue once.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use crate::event::Event;
use crate::handler::{discard, isolated};
use crate::schedule::engine::Engine;
use crate::schedule::token::Token;
use crate::timer::{Alarm, Moment};

/// What a tick runs.
pub(crate) type Run = Box<dyn FnMut() + Send>;

/// One tick.
struct Tick {
    interval: Duration,
    alarm: Alarm,
    /// The number of the instant that it was armed for last: 1 is the first.
    round: AtomicU64,
    /// Out of its place while it runs: no lock is held meanwhile.
    run: AtomicCell<Option<Run>>,
}

/// All ticks of a server.
pub(crate) struct Ticks {
    ticks: Box<[Tick]>,
    /// When the server began to serve.
    began: OnceLock<Moment>,
    /// How many run now.
    running: AtomicUsize,
}

/// A tick that runs: it counts for as long as the value lives.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticks {
    pub(super) fn new(intervals: &[Duration]) -> Self {
        let tick = |interval: &Duration| Tick {
            interval: *interval,
            alarm: Alarm::new(),
            round: AtomicU64::new(0),
            run: AtomicCell::new(None),
        };
        let ticks = intervals.iter().map(tick).collect();
        Self { ticks, began: OnceLock::new(), running: AtomicUsize::new(0) }
    }

    pub(super) fn alarm(&self, index: usize) -> Option<&Alarm> {
        self.ticks.get(index).map(|tick| &tick.alarm)
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(&self.running)
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").field("ticks", &self.ticks.len()).finish_non_exhaustive()
    }
}

/// The next instant after this one, by number: those that have passed are skipped. Pure.
///
/// The instants are `began + n * interval`, whenever a run is over: nothing drifts.
fn next_round(last: u64, began: Moment, interval: Duration, now: Moment) -> u64 {
    // As `Moment::after` has it, an instant lies up to a millisecond behind the multiple.
    let passed = now.since(began).saturating_sub(Duration::from_millis(1));
    let passed = passed.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(passed).unwrap_or(u64::MAX).max(last).saturating_add(1)
}

/// When a round is due. Pure.
fn due(round: u64, began: Moment, interval: Duration) -> Moment {
    let nanos = interval.as_nanos().saturating_mul(u128::from(round));
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    began.after(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

impl Engine {
    /// Says what the ticks run, in their order.
    pub(crate) fn set_ticks(&self, runs: impl IntoIterator<Item = Run>) {
        for (tick, run) in self.ticks.ticks.iter().zip(runs) {
            tick.run.store(Some(run));
        }
    }

    /// The server begins to serve: the intervals count from now on.
    pub(super) fn begin_ticks(&self) {
        self.ticks.began.get_or_init(|| self.core.clock.now());
        (0..self.ticks.ticks.len()).for_each(|index| self.arm_tick(index));
    }

    fn arm_tick(&self, index: usize) {
        let (Some(tick), Some(&began)) = (self.ticks.ticks.get(index), self.ticks.began.get())
        else {
            return;
        };
        let last = tick.round.load(Ordering::Relaxed);
        let round = next_round(last, began, tick.interval, self.core.clock.now());
        tick.round.store(round, Ordering::Relaxed);
        self.arm(Token::Tick(index), due(round, began, tick.interval));
    }

    /// Runs a tick that was ready, and arms it for its next instant. A drain ends it for good.
    pub(super) fn run_tick(&self, index: usize) {
        let Some(tick) = self.ticks.ticks.get(index) else { return };
        // Counted before it asks for the drain: one that begins in between waits for this run.
        let running = self.ticks.begin();
        if !self.core.is_draining()
            && let Some(mut run) = tick.run.take()
        {
            self.core.events.counters.ticked();
            let ran = isolated(|| {
                run();
                Ok(())
            });
            if ran.is_err() {
                self.core.events.emit(&Event::TickPanicked { tick: index });
            }
            tick.run.store(Some(run));
        }
        let draining = self.core.is_draining();
        if draining {
            discard(tick.run.take());
        } else {
            self.arm_tick(index);
        }
        drop(running);
        if draining {
            // It may have been the last thing that the drain waited for.
            self.wake_poller();
        }
    }

    /// Nobody serves any more: gives up what the ticks have captured.
    pub(super) fn end_ticks(&self) {
        self.ticks.ticks.iter().for_each(|tick| discard(tick.run.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer::Clock;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn rounds_follow_one_another_without_drift_and_those_that_were_missed_are_skipped() {
        let began = Clock::start().now();
        let at = |round| due(round, began, TENTH);
        assert_eq!(at(3).since(began), Duration::from_millis(301));
        assert_eq!(next_round(0, began, TENTH, began), 1);
        assert_eq!(next_round(1, began, TENTH, at(1)), 2);
        // Late by less than an interval: the next instant is where it was.
        assert_eq!(next_round(1, began, TENTH, at(1).after(TENTH / 2)), 2);
        // Late by three intervals and a half: one run, not four.
        assert_eq!(next_round(1, began, TENTH, at(4).after(TENTH / 2)), 5);
    }

    #[test]
    fn the_shortest_interval_misses_nothing() {
        let (began, step) = (Clock::start().now(), Duration::from_millis(1));
        let mut round = next_round(0, began, step, began);
        for expected in 1..100 {
            assert_eq!(round, expected);
            round = next_round(round, began, step, due(round, began, step));
        }
    }

    #[test]
    fn an_interval_beyond_the_clock_never_comes() {
        let began = Clock::start().now();
        assert_eq!(due(u64::MAX, began, Duration::MAX), Moment::NEVER);
    }
}
