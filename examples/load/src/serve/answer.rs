//! What the reference server answers, to whom and when: faults are committed here. No sockets.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::Hash;

use crate::proof::Expect;
use crate::serve::faults::{Done, Fault, FaultArgs, corrupt, truncated_len};

/// An answer that waits for its companion is sent alone after this.
const HOLD: u64 = 50_000_000;
/// Answers that may wait for their time; above that nothing more is read.
const WAITING_MAX: usize = 1 << 16;
/// How far a limited rate may catch up.
const CREDIT: u64 = 10_000_000;
const STRAY: &[u8] = b"nobody asked for this, nobody did";

/// What is to be done about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act<P> {
    /// Send this message.
    Send(P, Vec<u8>),
    /// Close its connection.
    Close(P),
    /// Reset it.
    Reset(P),
}

/// The answering side of the server; `P` names a peer.
#[derive(Debug)]
pub(crate) struct Answers<P> {
    reply: Expect,
    faults: FaultArgs,
    pub(crate) done: Done,
    /// An answer that the peer's next one is to overtake.
    held: HashMap<P, (u64, Vec<u8>)>,
    /// An answer to be swapped with the next other peer's.
    crossing: Option<(u64, P, Vec<u8>)>,
    stalled: HashSet<P>,
    waiting: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// The acts that `waiting` puts in order, and free places among them.
    acts: Vec<Option<Act<P>>>,
    free: Vec<usize>,
    next_free: u64,
    order: u64,
    /// What is to be done now.
    pub(crate) ready: Vec<Act<P>>,
}

impl<P: Clone + Eq + Hash> Answers<P> {
    /// A server that answers like this, with these faults.
    pub(crate) fn new(reply: Expect, faults: FaultArgs) -> Self {
        Self {
            reply,
            faults,
            done: Done::default(),
            held: HashMap::new(),
            crossing: None,
            stalled: HashSet::new(),
            waiting: BinaryHeap::new(),
            acts: Vec::new(),
            free: Vec::new(),
            next_free: 0,
            order: 0,
            ready: Vec::new(),
        }
    }

    /// Whether more messages may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// A message has come.
    pub(crate) fn message(&mut self, from: &P, message: &[u8], now: u64) {
        let number = self.done.received;
        self.done.received += 1;
        if self.stalled.contains(from) {
            self.done.stalled += 1;
            return;
        }
        if self.reply == Expect::Nothing {
            return;
        }
        let mut reply = self.reply.transform(message);
        let (fault, detail) = self.faults.choose(number);
        if let Some((_, held)) = self.held.remove(from) {
            self.done.reordered += 1;
            self.later(Act::Send(from.clone(), reply), detail, now);
            self.later(Act::Send(from.clone(), held), detail, now);
            return;
        }
        if let Some((_, other, theirs)) = self.crossing.take_if(|(_, other, _)| other != from) {
            self.done.crossed += 2;
            self.later(Act::Send(other, reply), detail, now);
            self.later(Act::Send(from.clone(), theirs), detail, now);
            return;
        }
        match fault {
            Some(Fault::Drop) => self.done.dropped += 1,
            Some(Fault::Duplicate) => {
                self.done.duplicated += 1;
                self.later(Act::Send(from.clone(), reply.clone()), detail, now);
                self.later(Act::Send(from.clone(), reply), detail, now);
            }
            Some(Fault::Reorder) => {
                self.held.insert(from.clone(), (now + HOLD, reply));
            }
            Some(Fault::Corrupt) => {
                self.done.corrupted += 1;
                corrupt(&mut reply, detail);
                self.later(Act::Send(from.clone(), reply), detail, now);
            }
            Some(Fault::Cross) if self.crossing.is_none() => {
                self.crossing = Some((now + HOLD, from.clone(), reply));
            }
            // Two pairs at a time cannot be crossed: this one is answered as it should be.
            None | Some(Fault::Cross) => self.later(Act::Send(from.clone(), reply), detail, now),
            Some(Fault::Truncate) => {
                self.done.truncated += 1;
                reply.truncate(truncated_len(reply.len(), detail));
                self.later(Act::Send(from.clone(), reply), detail, now);
            }
            Some(Fault::CloseEarly) => {
                self.done.closed_early += 1;
                self.ready.push(Act::Close(from.clone()));
            }
            Some(Fault::Reset) => {
                self.done.reset += 1;
                self.ready.push(Act::Reset(from.clone()));
            }
            Some(Fault::Stall) => {
                self.done.stalled += 1;
                self.stalled.insert(from.clone());
            }
            Some(Fault::Unsolicited) => {
                self.done.unsolicited += 1;
                let len = reply.len();
                self.later(Act::Send(from.clone(), reply), detail, now);
                let stray = STRAY.iter().copied().cycle().take(len).collect();
                self.later(Act::Send(from.clone(), stray), detail, now);
            }
        }
    }

    /// A peer will say no more: it is closed after everything that it is still to get.
    pub(crate) fn goodbye(&mut self, peer: &P, now: u64) {
        if let Some((_, held)) = self.held.remove(peer) {
            self.put(Act::Send(peer.clone(), held), now + self.faults.delay.as_nanos() as u64, now);
        }
        let last = (now + self.faults.delay.as_nanos() as u64).max(self.next_free);
        self.put(Act::Close(peer.clone()), last, now);
    }

    /// Forgets a peer that is gone.
    pub(crate) fn forget(&mut self, peer: &P) {
        self.held.remove(peer);
        self.stalled.remove(peer);
        self.crossing.take_if(|(_, who, _)| who == peer);
    }

    fn later(&mut self, act: Act<P>, detail: u64, now: u64) {
        let delay = self.faults.delay_of(detail).as_nanos() as u64;
        self.done.delayed += u64::from(delay > 0);
        let mut due = now + delay;
        if let Some(rate) = self.faults.max_rate {
            // A moment in which the server itself was held up is made good.
            self.next_free = self.next_free.max(now.saturating_sub(CREDIT));
            due = due.max(self.next_free);
            self.next_free += (1e9 / rate) as u64;
        }
        self.put(act, due, now);
    }

    fn put(&mut self, act: Act<P>, due: u64, now: u64) {
        // At a limited rate nothing overtakes what waits already, due or not.
        let queue = self.faults.max_rate.is_some() && !self.waiting.is_empty();
        if due <= now && !queue {
            self.ready.push(act);
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.acts.push(None);
            self.acts.len() - 1
        });
        self.acts[place] = Some(act);
        self.order += 1;
        self.waiting.push(Reverse((due, self.order, place)));
    }

    /// Moves what is due to `ready`; when to come again.
    pub(crate) fn advance(&mut self, now: u64) -> Option<u64> {
        while let Some(Reverse((due, _, place))) = self.waiting.peek().copied() {
            if due > now {
                break;
            }
            self.waiting.pop();
            self.free.push(place);
            self.ready.extend(self.acts[place].take());
        }
        // Companions that did not come in time.
        if let Some((_, peer, reply)) = self.crossing.take_if(|(until, _, _)| *until <= now) {
            self.ready.push(Act::Send(peer, reply));
        }
        if !self.held.is_empty() {
            let over = self.held.extract_if(|_, (until, _)| *until <= now);
            self.ready.extend(over.map(|(peer, (_, reply))| Act::Send(peer, reply)));
        }
        let held = self.held.values().map(|(until, _)| *until).min();
        let crossing = self.crossing.as_ref().map(|(until, _, _)| *until);
        let due = self.waiting.peek().map(|Reverse((due, _, _))| *due);
        [held, crossing, due].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Answers};
    use crate::proof::Expect;
    use crate::serve::faults::FaultArgs;

    fn send(peer: u8, text: &[u8]) -> Act<u8> {
        Act::Send(peer, text.to_vec())
    }

    #[test]
    fn a_reordered_answer_is_overtaken_by_the_next() {
        let faults = FaultArgs { reorder: 1.0, ..FaultArgs::default() };
        let mut answers = Answers::new(Expect::Upper, faults);
        answers.message(&1, b"a", 0);
        answers.message(&1, b"b", 0);
        assert_eq!(answers.ready, [send(1, b"B"), send(1, b"A")]);
        assert_eq!(answers.done.reordered, 1);
    }

    #[test]
    fn two_peers_get_each_others_answers_and_one_alone_its_own() {
        let faults = FaultArgs { cross: 1.0, ..FaultArgs::default() };
        let mut answers = Answers::new(Expect::Upper, faults);
        answers.message(&1, b"a", 0);
        answers.message(&2, b"b", 0);
        assert_eq!(answers.ready, [send(1, b"B"), send(2, b"A")]);
        answers.ready.clear();
        answers.message(&1, b"c", 0);
        assert!(answers.advance(1).is_some() && answers.ready.is_empty());
        assert_eq!(answers.advance(1_000_000_000), None);
        assert_eq!(answers.ready, [send(1, b"C")]);
        assert_eq!(answers.done.crossed, 2);
    }

    #[test]
    fn a_limited_server_answers_at_its_rate() {
        let faults = FaultArgs { max_rate: Some(1000.0), ..FaultArgs::default() };
        let mut answers = Answers::new(Expect::Echo, faults);
        for _ in 0..100 {
            answers.message(&1, b"a", 0);
        }
        answers.advance(50_000_000);
        assert_eq!(answers.ready.len(), 51);
    }
}
