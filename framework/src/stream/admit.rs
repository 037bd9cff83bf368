//! Admission: a connection holds a permit for as long as it lives, and there are only so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// In the gate's word, from the top: nobody is let in any more; how many may be in; how many are.
const STOPPED: u64 = 1 << 63;
const MAX_AT: u32 = 31;
const COUNT: u64 = (1 << MAX_AT) - 1;

/// The gate of a server: one atomic word, so that "is it open?", "is there room?" and "one more" are one
/// step. Asking first and counting then would let somebody in behind a stop that has counted nobody, or
/// beyond a limit that was lowered in between.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    /// A listener rests until somebody leaves, or until more may be in.
    awaited: AtomicBool,
}

fn count(word: u64) -> u64 {
    word & COUNT
}

fn max(word: u64) -> u64 {
    word >> MAX_AT & COUNT
}

fn with_max(word: u64, max: usize) -> u64 {
    word & (STOPPED | COUNT) | (max as u64).min(COUNT) << MAX_AT
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Stopped,
}

/// One of the `max_connections`. It gives itself back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

impl Gate {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { word: AtomicU64::new(with_max(0, max)), awaited: AtomicBool::new(false) })
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Refused> {
        let enter =
            |word: u64| (word & STOPPED == 0 && count(word) < max(word)).then_some(word + 1);
        match self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => Ok(Permit(self.clone())),
            Err(word) if word & STOPPED != 0 => Err(Refused::Stopped),
            Err(_) => Err(Refused::Full),
        }
    }

    /// How many are in, and how many may be, at one instant.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        let word = self.word.load(Ordering::SeqCst);
        (count(word) as usize, max(word) as usize)
    }

    /// How many are in.
    pub(crate) fn open(&self) -> usize {
        self.occupancy().0
    }

    pub(crate) fn max(&self) -> usize {
        self.occupancy().1
    }

    /// Changes how many may be in. Whoever is in stays; nobody gets in until fewer are. The caller asks
    /// [`Gate::left`] then: there may be room now for which a listener waits.
    pub(crate) fn set_max(&self, max: usize) {
        let change = |word| Some(with_max(word, max));
        // It always changes something: there is no failure.
        let _ = self.word.fetch_update(Ordering::SeqCst, Ordering::Acquire, change);
    }

    /// Closes the gate if nobody is in, in one step. Returns whether it is closed.
    pub(crate) fn stop_if_empty(&self) -> bool {
        let stop = |word: u64| (count(word) == 0).then_some(word | STOPPED);
        match self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, stop) {
            Ok(_) => true,
            Err(word) => word & STOPPED != 0,
        }
    }

    /// Closes the gate, whoever is in.
    pub(crate) fn stop(&self) {
        self.word.fetch_or(STOPPED, Ordering::AcqRel);
    }

    /// A listener is going to rest until somebody leaves. It must look for room once more after this:
    /// somebody may have left in between, or more may be in.
    pub(crate) fn await_leave(&self) {
        self.awaited.store(true, Ordering::SeqCst);
    }

    /// Somebody has left, or more may be in. Returns whether a listener waits for it, once.
    pub(crate) fn left(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) && self.awaited.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.word.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_are_in_than_may_be_and_permits_give_themselves_back() {
        let gate = Gate::new(2);
        let first = gate.admit().expect("room");
        let second = gate.admit().expect("room");
        assert_eq!(gate.admit().err(), Some(Refused::Full));
        drop(first);
        assert_eq!(gate.open(), 1);
        let third = gate.admit().expect("room again");
        drop((second, third));
        assert_eq!(gate.open(), 0);
    }

    #[test]
    fn a_stop_happens_only_when_nobody_is_in_and_then_nobody_gets_in() {
        let gate = Gate::new(2);
        let permit = gate.admit().expect("room");
        assert!(!gate.stop_if_empty());
        drop(permit);
        assert!(gate.stop_if_empty());
        assert_eq!(gate.admit().err(), Some(Refused::Stopped));
        assert!(gate.stop_if_empty(), "stopping twice is fine");
    }

    #[test]
    fn a_lowered_limit_drops_nobody_and_admits_nobody_until_fewer_are_in() {
        let gate = Gate::new(3);
        let mut permits: Vec<_> = (0..3).map(|_| gate.admit().expect("room")).collect();
        gate.set_max(1);
        assert_eq!(gate.occupancy(), (3, 1));
        permits.pop();
        permits.pop();
        assert_eq!(gate.admit().err(), Some(Refused::Full), "one is in, and one may be");
        permits.pop();
        let _one = gate.admit().expect("room");
        gate.set_max(2);
        let _two = gate.admit().expect("room at once");
        assert!(!gate.stop_if_empty());
        gate.stop();
        gate.set_max(9);
        assert_eq!(gate.admit().err(), Some(Refused::Stopped), "a new limit opens nothing");
    }

    #[test]
    fn the_limit_holds_at_every_instant_under_many_threads_also_while_it_changes() {
        let gate = Gate::new(3);
        let entered = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(permit) = gate.admit() {
                            let (open, _) = gate.occupancy();
                            assert!((1..=3).contains(&open), "{open} are in, three may ever be");
                            entered.fetch_add(1, Ordering::Relaxed);
                            drop(permit);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for step in 0..20_000 {
                    gate.set_max(1 + step % 3);
                }
            });
        });
        assert!(entered.load(Ordering::Relaxed) > 0);
        assert_eq!(gate.open(), 0);
    }

    /// A lock of the test's keeps the limit still while somebody gets in, so that the limit in force is
    /// known: whoever gets in stands within it, whatever the others do. No overshoot, not by one.
    #[test]
    fn nobody_gets_in_beyond_the_limit_that_is_in_force() {
        let gate = Gate::new(5);
        let in_force = parking_lot::RwLock::new(5);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    for round in 0..10_000 {
                        let limit = in_force.read();
                        if let Ok(permit) = gate.admit() {
                            assert!(gate.open() <= *limit, "{} of {limit}", gate.open());
                            held.push(permit);
                        }
                        if round % 3 == 0 {
                            held.clear();
                        }
                    }
                });
            }
            scope.spawn(|| {
                for step in 0..5_000 {
                    let mut limit = in_force.write();
                    *limit = 1 + step % 5;
                    gate.set_max(*limit);
                }
            });
        });
        assert_eq!(gate.open(), 0);
    }
}
