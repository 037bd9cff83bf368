//! Places for what is served: each has a word that says whose turn it is, and a cell to take it from.
//!
//! The word holds a generation and flags. A token names a place and its generation, so that an event of
//! somebody who has left is recognised and ignored. Whoever sets `RUNNING` is the claimant: it takes the
//! content out of the cell, runs a turn without any lock, and puts it back before it parks.
//!
//! ```text
//!            notify                     claim
//!   idle ────────────────▶ queued ────────────────▶ running ──▶ free
//!    ▲                       ▲                          │
//!    └───────────────────────┴────────── park ──────────┘
//!        nothing came up           something came up
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;

use crate::desk::Why;
use crate::outbox::Line;
use crate::peer::ConnectionId;
use crate::timer::Alarm;

/// Somebody has the place.
const OCCUPIED: u64 = 1;
/// Somebody runs its turn.
const RUNNING: u64 = 1 << 1;
/// It stands in the ready queue, once.
const QUEUED: u64 = 1 << 2;
/// Parked with an interest in reading.
const WANT_READ: u64 = 1 << 3;
/// Parked with an interest in writing.
const WANT_WRITE: u64 = 1 << 4;

/// Reasons that count only while there is an interest in them.
const ON_READ: u64 = Why::READ.0;
const ON_WRITE: u64 = Why::WRITE.0;

/// Whether a parked word has a reason for a turn.
fn has_work(word: u64) -> bool {
    let (read, write) = (word & WANT_READ != 0, word & WANT_WRITE != 0);
    let always = Why::ALL & !ON_READ & !ON_WRITE;
    word & always != 0 || (read && word & ON_READ != 0) || (write && word & ON_WRITE != 0)
}

/// One place.
pub(crate) struct Slot<T> {
    word: AtomicU64,
    content: AtomicCell<Option<Box<T>>>,
    /// The entry in the timers. It belongs to the place: whoever comes next finds it armed.
    pub(crate) alarm: Alarm,
    /// Where its peer is reached, for as long as somebody has the place.
    line: Mutex<Option<Arc<Line>>>,
    /// The worker that waits on this connection itself, and one: under `Threads` only.
    owner: AtomicU32,
}

/// Slots are allocated this many at a time.
const SEGMENT: usize = 1024;

/// A run of places that is allocated when the first of them is taken.
type Segment<T> = OnceLock<Box<[Slot<T>]>>;

/// All places of a server.
pub(crate) struct Slots<T> {
    segments: Box<[Segment<T>]>,
    capacity: usize,
    vacant: Mutex<Vacant>,
    /// Stands in the low half of every token, beside the index: whose slots these are.
    tag: u64,
}

#[derive(Debug, Default)]
struct Vacant {
    /// Places that were left, the last one first: it is still in the cache.
    left: Vec<u32>,
    /// Places from here on were never taken.
    fresh: u32,
}

/// The tag of the sessions' slots; the connections' have none.
pub(crate) const SESSION_TAG: u64 = 1 << 31;

fn index_of(id: ConnectionId) -> usize {
    (id.0 & (SESSION_TAG - 1)) as usize
}

fn generation(word: u64) -> u64 {
    word >> 32
}

impl<T> Slots<T> {
    pub(crate) fn new(capacity: usize, tag: u64) -> Self {
        // As many as an index can tell apart.
        let capacity = capacity.min(SESSION_TAG as usize);
        let segments = (0..capacity.div_ceil(SEGMENT)).map(|_| OnceLock::new()).collect();
        Self { segments, capacity, vacant: Mutex::default(), tag }
    }

    /// How many places there are.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn at(&self, index: usize) -> Option<&Slot<T>> {
        self.segments.get(index / SEGMENT)?.get()?.get(index % SEGMENT)
    }

    pub(crate) fn slot(&self, id: ConnectionId) -> Option<&Slot<T>> {
        self.at(index_of(id))
    }

    /// Takes a place, claimed by the caller. `None`: there is none.
    pub(crate) fn reserve(&self) -> Option<ConnectionId> {
        let index = {
            let mut vacant = self.vacant.lock();
            if let Some(index) = vacant.left.pop() {
                index as usize
            } else {
                let index = vacant.fresh as usize;
                if index >= self.capacity {
                    return None;
                }
                vacant.fresh += 1;
                index
            }
        };
        let segment = self.segments.get(index / SEGMENT)?;
        let slot =
            &segment.get_or_init(|| (0..SEGMENT).map(|_| Slot::new()).collect())[index % SEGMENT];
        let word = slot.word.load(Ordering::Relaxed);
        // Generation 0 is nobody's: tokens of the server's own sources are below it.
        let generation = ((generation(word) + 1) & 0xffff_ffff).max(1);
        slot.word.store(generation << 32 | OCCUPIED | RUNNING, Ordering::Release);
        Some(ConnectionId(generation << 32 | self.tag | index as u64))
    }

    /// Remembers the way to a place's peer.
    pub(crate) fn set_line(&self, id: ConnectionId, line: Arc<Line>) {
        if let Some(slot) = self.slot(id) {
            *slot.line.lock() = Some(line);
        }
    }

    /// Puts the content back and gives the claim up, for another turn with this reason. The caller must
    /// queue it.
    pub(crate) fn requeue(&self, id: ConnectionId, content: Box<T>, why: Why) {
        if let Some(slot) = self.slot(id) {
            slot.content.store(Some(content));
        }
        let _ = self.update(id, |word| Some(word & !RUNNING | QUEUED | why.0));
    }

    fn update(&self, id: ConnectionId, change: impl Fn(u64) -> Option<u64>) -> Option<(u64, u64)> {
        let slot = self.slot(id)?;
        let mine = |word| generation(word) == generation(id.0) && word & OCCUPIED != 0;
        let change = |word| if mine(word) { change(word) } else { None };
        let before = slot.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).ok()?;
        Some((before, change(before)?))
    }

    /// Gives a reason for a turn. Returns whether the caller must queue it now: nobody runs it, and it
    /// is not queued yet.
    #[must_use]
    pub(crate) fn notify(&self, id: ConnectionId, why: Why) -> bool {
        let words = self.update(id, |word| {
            let word = word | why.0;
            let idle = word & (RUNNING | QUEUED) == 0;
            Some(if idle && has_work(word) { word | QUEUED } else { word })
        });
        words.is_some_and(|(before, after)| before & QUEUED == 0 && after & QUEUED != 0)
    }

    /// Claims what was queued. `None`: it has left meanwhile.
    pub(crate) fn claim(&self, id: ConnectionId) -> Option<(Why, Box<T>)> {
        let (before, _) = self.update(id, |word| {
            (word & QUEUED != 0).then_some(word & !(QUEUED | Why::ALL) | RUNNING)
        })?;
        Some((Why(before & Why::ALL), self.slot(id)?.content.take()?))
    }

    /// Claims what is neither queued nor run by anybody.
    pub(crate) fn claim_idle(&self, id: ConnectionId) -> Option<(Why, Box<T>)> {
        let (before, _) = self.update(id, |word| {
            (word & (QUEUED | RUNNING) == 0).then_some(word & !Why::ALL | RUNNING)
        })?;
        Some((Why(before & Why::ALL), self.slot(id)?.content.take()?))
    }

    /// Puts the content back and gives the claim up. Returns whether the caller must queue it: something
    /// came up during the turn.
    #[must_use]
    pub(crate) fn park(&self, id: ConnectionId, content: Box<T>, read: bool, write: bool) -> bool {
        if let Some(slot) = self.slot(id) {
            slot.content.store(Some(content));
        }
        let wants = if read { WANT_READ } else { 0 } | if write { WANT_WRITE } else { 0 };
        let words = self.update(id, |word| {
            let word = word & !(RUNNING | WANT_READ | WANT_WRITE) | wants;
            Some(if has_work(word) { word | QUEUED } else { word })
        });
        words.is_some_and(|(_, after)| after & QUEUED != 0)
    }

    /// Frees a place that the caller has claimed, after the content was dropped.
    pub(crate) fn free(&self, id: ConnectionId) {
        let Some(slot) = self.slot(id) else { return };
        let line = slot.line.lock().take();
        slot.owner.store(0, Ordering::Relaxed);
        slot.word.store(generation(id.0) << 32, Ordering::Release);
        self.vacant.lock().left.push(index_of(id) as u32);
        drop(line);
    }

    /// Whether somebody is parked with an interest in reading.
    pub(crate) fn wants_read(&self, id: ConnectionId) -> bool {
        self.slot(id).is_some_and(|slot| slot.word.load(Ordering::Acquire) & WANT_READ != 0)
    }

    pub(crate) fn is_running(&self, id: ConnectionId) -> bool {
        let word = self.slot(id).map_or(0, |slot| slot.word.load(Ordering::Acquire));
        generation(word) == generation(id.0) && word & RUNNING != 0
    }

    /// Whoever has the place of `id` now, whatever the generation.
    pub(crate) fn occupant(&self, id: ConnectionId) -> Option<ConnectionId> {
        let word = self.slot(id)?.word.load(Ordering::Acquire);
        let place = id.0 & 0xffff_ffff;
        (word & OCCUPIED != 0).then_some(ConnectionId(generation(word) << 32 | place))
    }

    /// Everybody who is here now.
    pub(crate) fn occupants(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let fresh = u64::from(self.vacant.lock().fresh);
        (0..fresh).filter_map(|index| self.occupant(ConnectionId(self.tag | index)))
    }

    /// The way to somebody's peer.
    pub(crate) fn line(&self, id: ConnectionId) -> Option<Arc<Line>> {
        let line = self.slot(id)?.line.lock().clone();
        line.filter(|line| line.id == id)
    }
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            content: AtomicCell::new(None),
            alarm: Alarm::new(),
            line: Mutex::new(None),
            owner: AtomicU32::new(0),
        }
    }

    /// The worker that waits on this connection itself.
    pub(crate) fn owner(&self) -> Option<usize> {
        (self.owner.load(Ordering::Acquire) as usize).checked_sub(1)
    }

    pub(crate) fn set_owner(&self, worker: usize) {
        self.owner.store(worker as u32 + 1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slots: &Slots<u8>) -> ConnectionId {
        let id = slots.reserve().expect("a free place");
        if let Some(slot) = slots.slot(id) {
            slot.content.store(Some(Box::new(7)));
        }
        id
    }

    fn idle(slots: &Slots<u8>) -> ConnectionId {
        let id = place(slots);
        let content = slots.slot(id).and_then(|slot| slot.content.take()).expect("filled");
        assert!(!slots.park(id, content, true, false));
        id
    }

    #[test]
    fn a_reason_queues_once_and_the_claim_takes_all_reasons() {
        let slots = Slots::new(8, 0);
        let id = idle(&slots);
        assert!(slots.notify(id, Why::READ));
        assert!(!slots.notify(id, Why::TIMER));
        let (why, _) = slots.claim(id).expect("queued");
        assert!(why.has(Why::READ) && why.has(Why::TIMER));
        assert!(slots.claim(id).is_none(), "nobody claims what is running");
    }

    #[test]
    fn a_reason_that_comes_up_during_the_turn_queues_at_the_park() {
        let slots = Slots::new(8, 0);
        let id = idle(&slots);
        let (_, content) = slots.claim_idle(id).expect("idle");
        assert!(!slots.notify(id, Why::SEND), "the claimant will see it");
        assert!(slots.park(id, content, true, false));
        assert!(slots.claim(id).is_some());
    }

    #[test]
    fn reading_is_no_reason_while_nobody_wants_to_read_and_is_remembered() {
        let slots = Slots::new(8, 0);
        let id = idle(&slots);
        let (_, content) = slots.claim_idle(id).expect("idle");
        assert!(!slots.park(id, content, false, false));
        assert!(!slots.notify(id, Why::READ));
        let (why, content) = slots.claim_idle(id).expect("idle");
        assert!(why.has(Why::READ));
        assert!(!slots.park(id, content, true, false));
    }

    #[test]
    fn an_event_of_somebody_who_left_is_ignored() {
        let slots = Slots::new(1, SESSION_TAG);
        let old = place(&slots);
        slots.free(old);
        let new = place(&slots);
        assert_eq!(index_of(old), index_of(new));
        assert_ne!(old, new);
        assert!(!slots.notify(old, Why::READ));
        assert!(slots.claim(old).is_none() && slots.line(old).is_none());
        assert!(slots.reserve().is_none(), "one place only");
    }

    #[test]
    fn a_generation_that_wraps_is_never_zero() {
        let slots: Slots<u8> = Slots::new(1, SESSION_TAG);
        let first = slots.reserve().expect("a place");
        slots.slot(first).expect("its slot").word.store(0xffff_ffff << 32, Ordering::Relaxed);
        slots.vacant.lock().left.push(0);
        let next = slots.reserve().expect("the place again");
        assert_eq!(next.0 >> 32, 1);
    }
}
