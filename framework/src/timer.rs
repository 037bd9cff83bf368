//! Time: a clock that begins with the server, and one structure that holds every deadline.
//!
//! Deadlines are absolute and armed lazily. Each owner (a slot, a listener, the drain) has one [`Alarm`]
//! and at most one entry in [`Timers`]. A later deadline leaves the entry alone: when it fires too early
//! the owner looks at its deadlines and arms anew. So a connection that is busy touches no timer at all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An instant of the server's clock, in milliseconds since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Later than every instant.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The instant a span later, and never earlier: the clock cuts fractions of a millisecond off, which
    /// are added here. Never, if that lies beyond the clock.
    pub(crate) fn after(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis).saturating_add(u64::from(millis > 0)))
    }

    /// The span from `earlier` to here; zero if it lies ahead.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The server's clock. It never goes back, whatever happens to the wall clock.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    /// The milliseconds since, where a test moves the clock.
    by_hand: Option<AtomicU64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), by_hand: None }
    }

    /// A clock that stands still but for [`Clock::set`].
    pub(crate) fn by_hand() -> Self {
        Self { began: Instant::now(), by_hand: Some(AtomicU64::new(0)) }
    }

    /// Moves a clock that is moved by hand on to `at`.
    pub(crate) fn set(&self, at: Moment) {
        if let Some(millis) = &self.by_hand {
            millis.fetch_max(at.0, Ordering::SeqCst);
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(self.instant())
    }

    /// Now, for the spans that are measured between two looks.
    pub(crate) fn instant(&self) -> Instant {
        match &self.by_hand {
            None => Instant::now(),
            Some(millis) => self.began + Duration::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// An instant that was read already, on this clock.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        let since = at.saturating_duration_since(self.began);
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1))
    }
}

/// When an owner's entry in [`Timers`] fires; [`Moment::NEVER`] while it has none.
#[derive(Debug)]
pub(crate) struct Alarm(AtomicU64);

impl Alarm {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    fn at(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: Moment) {
        self.0.store(at.0, Ordering::Relaxed);
    }
}

/// Every armed deadline of a server, earliest first.
#[derive(Debug)]
pub(crate) struct Timers {
    entries: Mutex<BTreeSet<(Moment, u64)>>,
    /// The earliest entry, so that a poller can read it without the lock.
    earliest: AtomicU64,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(BTreeSet::new()), earliest: AtomicU64::new(u64::MAX) }
    }

    /// Makes sure that the owner of `alarm` is woken at `at` or before. Returns whether this is now the
    /// earliest deadline of all, so that a poller asleep must be woken to hear of it.
    pub(crate) fn arm(&self, key: u64, alarm: &Alarm, at: Moment) -> bool {
        // The common case, without the lock. An entry that is fired between this look and the next
        // one wakes its owner, which comes here again.
        if at >= alarm.at() {
            return false;
        }
        let mut entries = self.entries.lock();
        let armed = alarm.at();
        if at >= armed {
            return false;
        }
        if armed != Moment::NEVER {
            entries.remove(&(armed, key));
        }
        entries.insert((at, key));
        alarm.set(at);
        let earliest = Moment(self.earliest.load(Ordering::Relaxed));
        if at < earliest {
            self.earliest.store(at.0, Ordering::SeqCst);
        }
        at < earliest
    }

    /// Takes out what is due, and hands each key to `fire` once the lock is released. `alarm_of` finds
    /// a key's alarm.
    pub(crate) fn fire<'a>(
        &self,
        now: Moment,
        alarm_of: impl Fn(u64) -> Option<&'a Alarm>,
        mut fire: impl FnMut(u64),
    ) {
        if now.0 < self.earliest.load(Ordering::SeqCst) {
            return;
        }
        let mut due = Vec::new();
        {
            let mut entries = self.entries.lock();
            while let Some(&(at, key)) = entries.first() {
                if at > now {
                    break;
                }
                entries.pop_first();
                if let Some(alarm) = alarm_of(key) {
                    alarm.set(Moment::NEVER);
                }
                due.push(key);
            }
            let earliest = entries.first().map_or(u64::MAX, |(at, _)| at.0);
            self.earliest.store(earliest, Ordering::SeqCst);
        }
        due.into_iter().for_each(&mut fire);
    }

    /// The earliest deadline of all, or never.
    pub(crate) fn earliest(&self) -> Moment {
        Moment(self.earliest.load(Ordering::SeqCst))
    }

    /// How long a poller may sleep; for ever with `None`.
    pub(crate) fn sleep(&self, now: Moment) -> Option<Duration> {
        match self.earliest() {
            Moment::NEVER => None,
            at => Some(at.since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms)
    }

    fn fired(timers: &Timers, alarms: &[Alarm], now: u64) -> Vec<u64> {
        let mut keys = Vec::new();
        timers.fire(at(now), |key| alarms.get(key as usize), |key| keys.push(key));
        keys
    }

    #[test]
    fn deadlines_fire_in_order_and_once() {
        let (timers, alarms) = (Timers::new(), [const { Alarm::new() }; 3]);
        assert!(timers.arm(0, &alarms[0], at(30)));
        assert!(timers.arm(1, &alarms[1], at(10)));
        assert!(!timers.arm(2, &alarms[2], at(20)));
        assert_eq!(timers.sleep(at(4)), Some(Duration::from_millis(6)));
        assert_eq!(fired(&timers, &alarms, 9), []);
        assert_eq!(fired(&timers, &alarms, 25), [1, 2]);
        assert_eq!(fired(&timers, &alarms, 30), [0]);
        assert_eq!(timers.sleep(at(30)), None);
    }

    #[test]
    fn a_later_deadline_touches_nothing_and_an_earlier_one_replaces_the_entry() {
        let (timers, alarms) = (Timers::new(), [const { Alarm::new() }; 1]);
        timers.arm(0, &alarms[0], at(50));
        timers.arm(0, &alarms[0], at(90));
        assert_eq!(timers.entries.lock().len(), 1);
        timers.arm(0, &alarms[0], at(20));
        assert_eq!(timers.entries.lock().len(), 1, "one entry an owner, however often it is armed");
        assert_eq!(fired(&timers, &alarms, 60), [0]);
        assert_eq!(fired(&timers, &alarms, 100), []);
    }

    #[test]
    fn spans_beyond_the_clock_are_never() {
        assert_eq!(at(5).after(Duration::MAX), Moment::NEVER);
        assert_eq!(at(5).since(at(9)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_moved_by_hand_stands_still_and_never_goes_back() {
        let clock = Clock::by_hand();
        let began = clock.instant();
        clock.set(at(70));
        clock.set(at(40));
        assert_eq!(clock.now(), at(70));
        assert_eq!(clock.instant() - began, Duration::from_millis(70));
    }

    #[test]
    fn a_span_is_never_cut_short() {
        assert_eq!(at(5).after(Duration::ZERO), at(5));
        assert_eq!(at(5).after(Duration::from_micros(1)), at(7));
        assert_eq!(at(5).after(Duration::from_millis(10)), at(16));
    }
}
