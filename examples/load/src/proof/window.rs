//! The open requests of one connection, and enough of the past to tell a duplicate from a late reply.
//!
//! A ring of slots, four for each request that may be open at once. A request's sequence number names its slot; a number
//! whose slot is still open is skipped. Each slot remembers the last 64 requests it held in one bit each, so memory is
//! flat however long the run is.

use crate::proof::Promise;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Empty,
    /// A request that waits for its reply.
    Open,
    /// A request that got its reply.
    Answered,
    /// A request that was given up.
    GivenUp,
}

/// When a request was due, and when it was written; nanoseconds on the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) planned: u64,
    pub(crate) sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    times: Times,
    /// Bit n: the request n turns of the ring ago was answered. Bit 0 belongs to the current one.
    history: u64,
    promise: Promise,
    seq: u32,
    state: State,
}

/// What a reply to a sequence number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answers an open request; `overtook` says that a later one had been answered before.
    Open { times: Times, overtook: bool },
    /// The request had been answered before.
    Duplicate,
    /// The request had been given up; its times, if still known.
    Late(Option<Times>),
    /// No such request was made.
    Unknown,
}

/// The sliding window of one connection.
#[derive(Debug)]
pub(crate) struct Window {
    slots: Box<[Slot]>,
    next: u32,
    open: u32,
    depth: u32,
    /// No open request is older than this one.
    oldest: u32,
    /// The one after the newest that was answered: on a stream, the next reply is to this one.
    expected: u32,
}

/// Whether `a` was issued before `b`; sequence numbers wrap.
#[inline]
fn before(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) > 0
}

impl Window {
    /// A window for `depth` open requests.
    pub(crate) fn new(depth: u32) -> Self {
        let slots = (depth.max(2) as usize * 4).next_power_of_two();
        let empty = Slot {
            times: Times::default(),
            history: 0,
            promise: Promise::default(),
            seq: 0,
            state: State::Empty,
        };
        Self {
            slots: vec![empty; slots].into_boxed_slice(),
            next: 0,
            open: 0,
            depth,
            oldest: 0,
            expected: 0,
        }
    }

    #[inline]
    fn at(&self, seq: u32) -> usize {
        seq as usize & (self.slots.len() - 1)
    }

    /// Requests that wait for a reply.
    #[inline]
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// How many more requests may be open.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        self.depth - self.open
    }

    /// Issues a sequence number, if there is room. `write` writes that request, and says what its reply must be.
    #[inline(always)]
    pub(crate) fn issue(
        &mut self,
        times: Times,
        write: impl FnOnce(u32) -> Promise,
    ) -> Option<u32> {
        if self.open == self.depth {
            return None;
        }
        while self.slots[self.at(self.next)].state == State::Open {
            self.next = self.next.wrapping_add(1);
        }
        let seq = self.next;
        let turns = self.slots.len().trailing_zeros();
        let at = self.at(seq);
        let slot = &mut self.slots[at];
        if slot.state == State::Empty {
            // Numbers skipped before the slot's first use were never issued: as if answered.
            slot.history = !0 << 1;
        } else {
            let passed = seq.wrapping_sub(slot.seq) >> turns;
            // Numbers that were skipped were never issued; their bits say answered, so that nobody finds them lost.
            slot.history = match slot.history.checked_shl(passed) {
                Some(moved) => moved | ((1 << passed) - 2),
                None => !0 << 1,
            };
        }
        (slot.times, slot.seq, slot.state) = (times, seq, State::Open);
        slot.promise = write(seq);
        if self.open == 0 {
            self.oldest = seq;
        }
        self.open += 1;
        self.next = seq.wrapping_add(1);
        Some(seq)
    }

    /// What the next reply must be if nothing is lost or overtaken; nothing if that request is not open.
    #[inline(always)]
    pub(crate) fn promised(&self) -> Option<&Promise> {
        let slot = &self.slots[self.at(self.expected)];
        (slot.state == State::Open && slot.seq == self.expected).then_some(&slot.promise)
    }

    /// The reply that `promised` tells of has arrived.
    #[inline(always)]
    pub(crate) fn fulfil(&mut self) -> Times {
        let at = self.at(self.expected);
        let slot = &mut self.slots[at];
        debug_assert!(slot.state == State::Open && slot.seq == self.expected, "promised before");
        slot.state = State::Answered;
        slot.history |= 1;
        self.open -= 1;
        self.expected = self.expected.wrapping_add(1);
        slot.times
    }

    /// Takes back the request issued last: it could not be sent.
    pub(crate) fn take_back(&mut self) {
        // The number is not used again; taking back several goes backwards over those already taken back.
        let mut last = self.next.wrapping_sub(1);
        while self.slots[self.at(last)].state != State::Open
            || self.slots[self.at(last)].seq != last
        {
            last = last.wrapping_sub(1);
        }
        let at = self.at(last);
        self.slots[at].state = State::Answered;
        self.slots[at].history |= 1;
        self.open -= 1;
    }

    /// A reply to `seq` has arrived.
    #[inline]
    pub(crate) fn answer(&mut self, seq: u32) -> Answer {
        let turns = self.slots.len().trailing_zeros();
        let at = self.at(seq);
        let slot = &mut self.slots[at];
        if slot.state == State::Empty || before(slot.seq, seq) {
            return Answer::Unknown;
        }
        if slot.seq == seq {
            let was = std::mem::replace(&mut slot.state, State::Answered);
            slot.history |= 1;
            return match was {
                State::Open => {
                    let times = slot.times;
                    self.open -= 1;
                    let overtook = before(seq, self.expected.wrapping_sub(1));
                    if !overtook {
                        self.expected = seq.wrapping_add(1);
                    }
                    Answer::Open { times, overtook }
                }
                State::GivenUp => Answer::Late(Some(slot.times)),
                State::Answered | State::Empty => Answer::Duplicate,
            };
        }
        let ago = slot.seq.wrapping_sub(seq) >> turns;
        match 1u64.checked_shl(ago) {
            Some(bit) if slot.history & bit == 0 => {
                slot.history |= bit;
                Answer::Late(None)
            }
            // Older than the memory: more likely answered than lost.
            _ => Answer::Duplicate,
        }
    }

    /// The oldest open request.
    pub(crate) fn oldest(&mut self) -> Option<u32> {
        if self.open == 0 {
            return None;
        }
        loop {
            let slot = &self.slots[self.at(self.oldest)];
            if slot.state == State::Open && slot.seq == self.oldest {
                return Some(self.oldest);
            }
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    /// The open requests, oldest slots first as far as the ring goes.
    pub(crate) fn open_seqs(&self) -> impl Iterator<Item = u32> {
        let start = self.next;
        (0..if self.open == 0 { 0 } else { self.slots.len() as u32 }).filter_map(move |n| {
            let slot = &self.slots[self.at(start.wrapping_add(n))];
            (slot.state == State::Open).then_some(slot.seq)
        })
    }

    /// Whether any open request is of this kind.
    pub(crate) fn any_open(&self, which: impl Fn(&Times) -> bool) -> bool {
        self.open > 0 && self.slots.iter().any(|s| s.state == State::Open && which(&s.times))
    }

    /// Ends every open request for good: a reply that comes all the same is one too many.
    pub(crate) fn close(&mut self, mut each: impl FnMut(u32, Times)) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Open) {
            slot.state = State::Answered;
            slot.history |= 1;
            each(slot.seq, slot.times);
        }
        self.open = 0;
    }

    /// Gives up every open request that `which` picks, and says how long ago each was sent to `each`.
    pub(crate) fn give_up(
        &mut self,
        mut which: impl FnMut(&Times) -> bool,
        mut each: impl FnMut(u32, Times),
    ) {
        if self.open == 0 {
            return;
        }
        let start = self.next;
        for n in 0..self.slots.len() as u32 {
            let at = self.at(start.wrapping_add(n));
            let slot = &mut self.slots[at];
            if slot.state == State::Open && which(&slot.times) {
                slot.state = State::GivenUp;
                self.open -= 1;
                each(slot.seq, slot.times);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Promise, Times, Window};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn issue(window: &mut Window) -> u32 {
        window.issue(Times::default(), |_| Promise::default()).expect("room")
    }

    #[test]
    fn a_second_answer_is_a_duplicate_and_one_to_nothing_is_unknown() {
        let mut window = Window::new(2);
        let seq = issue(&mut window);
        assert!(matches!(window.answer(seq), Answer::Open { overtook: false, .. }));
        assert_eq!(window.answer(seq), Answer::Duplicate);
        assert_eq!(window.answer(seq + 5), Answer::Unknown);
    }

    #[test]
    fn an_answer_after_giving_up_is_late_once() {
        let mut window = Window::new(2);
        let seq = issue(&mut window);
        window.give_up(|_| true, |_, _| {});
        assert_eq!(window.open(), 0);
        assert_eq!(window.answer(seq), Answer::Late(Some(Times::default())));
        assert_eq!(window.answer(seq), Answer::Duplicate);
    }

    #[test]
    fn a_late_reply_is_still_late_after_the_ring_has_turned() {
        let mut window = Window::new(1);
        let lost = issue(&mut window);
        window.give_up(|_| true, |_, _| {});
        for _ in 0..100 {
            let seq = issue(&mut window);
            assert!(matches!(window.answer(seq), Answer::Open { .. }));
        }
        assert_eq!(window.answer(lost), Answer::Late(None));
        assert_eq!(window.answer(lost), Answer::Duplicate);
    }

    #[test]
    fn overtaking_is_noticed_once_for_the_overtaken() {
        let mut window = Window::new(4);
        let (a, b, c) = (issue(&mut window), issue(&mut window), issue(&mut window));
        assert!(matches!(window.answer(b), Answer::Open { overtook: false, .. }));
        assert!(matches!(window.answer(a), Answer::Open { overtook: true, .. }));
        assert!(matches!(window.answer(c), Answer::Open { overtook: false, .. }));
    }

    #[test]
    fn sequence_numbers_wrap_without_a_stumble() {
        let mut window = Window::new(3);
        (window.next, window.expected) = (u32::MAX - 4, u32::MAX - 4);
        for _ in 0..20 {
            let (a, b) = (issue(&mut window), issue(&mut window));
            assert_eq!(window.oldest(), Some(a));
            assert!(matches!(window.answer(a), Answer::Open { overtook: false, .. }));
            assert!(matches!(window.answer(b), Answer::Open { overtook: false, .. }));
        }
    }

    proptest! {
        /// Against a plain map: every issued request has one fate, whatever the order of events.
        #[test]
        fn a_window_agrees_with_a_plain_map(steps in proptest::collection::vec((0u8..4, 0u32..40), 1..400)) {
            let mut window = Window::new(5);
            let mut model: HashMap<u32, u8> = HashMap::new(); // 0 open, 1 answered, 2 given up
            let mut last = 0;
            for (step, back) in steps {
                match step {
                    0 | 1 => {
                        let open = model.values().filter(|v| **v == 0).count();
                        match window.issue(Times::default(), |_| Promise::default()) {
                            Some(seq) => { prop_assert!(open < 5); model.insert(seq, 0); last = seq; }
                            None => prop_assert_eq!(open, 5),
                        }
                    }
                    2 if back % 2 == 0 && window.promised().is_some() => {
                        let seq = window.expected;
                        window.fulfil();
                        prop_assert_eq!(model.insert(seq, 1), Some(0));
                    }
                    2 => {
                        let seq = last.wrapping_sub(back);
                        let before = model.get(&seq).copied();
                        let answer = window.answer(seq);
                        match before {
                            Some(0) => { let open = matches!(answer, Answer::Open { .. }); prop_assert!(open); model.insert(seq, 1); }
                            Some(1) => prop_assert_eq!(answer, Answer::Duplicate),
                            Some(_) => { let late = matches!(answer, Answer::Late(_)); prop_assert!(late); model.insert(seq, 1); }
                            None => { let none = matches!(answer, Answer::Unknown | Answer::Duplicate); prop_assert!(none, "{:?}", answer); }
                        }
                    }
                    _ => {
                        if let Some(seq) = window.oldest() {
                            let oldest = model.iter().filter(|(_, v)| **v == 0).map(|(k, _)| *k).min();
                            prop_assert_eq!(oldest, Some(seq));
                        }
                        let mut gone = Vec::new();
                        let mut every_other = false;
                        window.give_up(|_| { every_other = !every_other; every_other }, |seq, _| gone.push(seq));
                        for seq in gone { prop_assert_eq!(model.insert(seq, 2), Some(0)); }
                    }
                }
                prop_assert_eq!(window.open() as usize, model.values().filter(|v| **v == 0).count());
            }
        }
    }
}
