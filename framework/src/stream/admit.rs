//! Admission: a connection holds a permit for as long as it lives, and there are only so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// In the gate's word: nobody is let in any more. The low half counts who is in.
const STOPPED: u64 = 1 << 32;
const COUNT: u64 = STOPPED - 1;

/// The gate of a server: one atomic word, so that "is it open?" and "one more" are one step. Asking
/// first and counting then would let somebody in behind a stop that has counted nobody.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    max: u64,
    /// A listener rests until somebody leaves.
    awaited: AtomicBool,
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
        let max = (max as u64).min(COUNT);
        Arc::new(Self { word: AtomicU64::new(0), max, awaited: AtomicBool::new(false) })
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Refused> {
        let enter = |word: u64| (word & STOPPED == 0 && word < self.max).then(|| word + 1);
        match self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => Ok(Permit(self.clone())),
            Err(word) if word & STOPPED != 0 => Err(Refused::Stopped),
            Err(_) => Err(Refused::Full),
        }
    }

    /// How many are in.
    pub(crate) fn open(&self) -> usize {
        (self.word.load(Ordering::Acquire) & COUNT) as usize
    }

    pub(crate) fn max(&self) -> usize {
        self.max as usize
    }

    /// Closes the gate if nobody is in, in one step. Returns whether it is closed.
    pub(crate) fn stop_if_empty(&self) -> bool {
        let stopped = self.word.compare_exchange(0, STOPPED, Ordering::AcqRel, Ordering::Acquire);
        match stopped {
            Ok(_) => true,
            Err(word) => word & STOPPED != 0,
        }
    }

    /// Closes the gate, whoever is in.
    pub(crate) fn stop(&self) {
        self.word.fetch_or(STOPPED, Ordering::AcqRel);
    }

    /// A listener is going to rest until somebody leaves. It must ask for admission once more after
    /// this: somebody may have left in between.
    pub(crate) fn await_leave(&self) {
        self.awaited.store(true, Ordering::SeqCst);
    }

    /// Somebody has left. Returns whether a listener waits for it, once.
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
    fn the_limit_holds_at_every_instant_under_many_threads() {
        let gate = Gate::new(3);
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(permit) = gate.admit() {
                            most.fetch_max(gate.open() as u64, Ordering::Relaxed);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::Relaxed)));
        assert_eq!(gate.open(), 0);
    }
}
