//! Waiting for events: a journal of what happened, a gate to block behind, a condition to poll.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::PATIENCE;

/// What happened, in order; whoever waits for an entry is woken by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Journal {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.0.lock().push(what.into());
        self.0.1.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().clone()
    }

    /// How many entries begin like this.
    pub(crate) fn count(&self, beginning: &str) -> usize {
        self.0.0.lock().iter().filter(|entry| entry.starts_with(beginning)).count()
    }

    /// Waits for an entry.
    #[track_caller]
    pub(crate) fn wait_for(&self, entry: &str) {
        self.wait_for_so_many(1, entry);
    }

    /// Waits until so many entries begin like this.
    #[track_caller]
    pub(crate) fn wait_for_so_many(&self, count: usize, beginning: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut entries = self.0.0.lock();
        while entries.iter().filter(|entry| entry.starts_with(beginning)).count() < count {
            let late = self.0.1.wait_until(&mut entries, deadline).timed_out();
            assert!(!late, "{count} times {beginning:?} never came: {entries:?}");
        }
    }
}

/// Blocks whoever comes until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    /// Waits for the gate to be opened; says whether it was, in good time.
    pub(crate) fn pass(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock();
        state.0 += 1;
        self.0.1.notify_all();
        while !state.1 {
            if self.0.1.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// As [`Gate::pass`], without ever leaving the processor.
    pub(crate) fn pass_by_computing(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        self.0.0.lock().0 += 1;
        self.0.1.notify_all();
        let mut rounds = 0_u64;
        while Instant::now() < deadline {
            rounds = std::hint::black_box(rounds.wrapping_mul(31).wrapping_add(7));
            if self.0.0.try_lock().is_some_and(|state| state.1) {
                return true;
            }
        }
        false
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().1 = true;
        self.0.1.notify_all();
    }

    /// Waits until so many have come.
    #[track_caller]
    pub(crate) fn wait_for_arrivals(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock();
        while state.0 < count {
            let late = self.0.1.wait_until(&mut state, deadline).timed_out();
            assert!(!late, "only {} of {count} came to the gate", state.0);
        }
    }
}

/// Opens on drop, so that a failing test does not leave handlers behind the gate.
impl Gate {
    pub(crate) fn open_at_the_end(&self) -> impl Drop {
        struct Opens(Gate);
        impl Drop for Opens {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Opens(self.clone())
    }
}

/// Polls a condition that nothing announces, such as a counter, until it holds.
#[track_caller]
pub(crate) fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let ticks = crossbeam_channel::tick(Duration::from_millis(1));
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true: {claim}");
        let _ = ticks.recv();
    }
}
