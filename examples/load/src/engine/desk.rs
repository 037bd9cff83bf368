//! What all connections of one thread share, and the books they write into: an arrival is judged and settled here.
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use rustix::event::epoll;
use rustix::time::{ClockId, clock_gettime};

use crate::books::{Extra, Fate};
use crate::engine::peer::{Peer, Talk};
use crate::framing::Framing;
use crate::plan::Plan;
use crate::proof::id::Id;
use crate::proof::window::{Answer, Times};
use crate::proof::{Expect, Proof, Verdict};
use crate::tally::Tally;
use crate::target::Sources;

/// Of an unframed pile of open requests, how many are compared with a reply whose id is damaged.
const CANDIDATES_MAX: usize = 64;

/// Replies of so many bytes are proved before a reading of the clock is out of date.
const FRESH_BYTES: usize = 2048;

/// The run's clock: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(u64);

/// Nanoseconds on the system's monotonic clock.
#[inline]
fn reading() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new() -> Self {
        Self(reading())
    }

    /// Nanoseconds since the start.
    #[inline]
    pub(crate) fn now(self) -> u64 {
        reading() - self.0
    }
}

/// What the threads of a run are told while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// When the server was told to stop; zero if it was not.
    pub(crate) signalled_at: AtomicU64,
    /// Ctrl-C: once to stop sending and report, twice to give up at once.
    pub(crate) interrupts: std::sync::Arc<AtomicU8>,
}

/// A thread's common things.
#[derive(Debug)]
pub(crate) struct Desk<'r> {
    pub(crate) plan: &'r Plan,
    pub(crate) proof: &'r Proof,
    pub(crate) clock: Clock,
    pub(crate) orders: &'r Orders,
    pub(crate) epoll: OwnedFd,
    pub(crate) tally: Tally,
    /// Everything is read into this one; a connection keeps only what makes no whole reply.
    pub(crate) input: Vec<u8>,
    /// Requests are written here first.
    pub(crate) output: Vec<u8>,
    /// Where each request in `output` ends.
    pub(crate) ends: Vec<usize>,
    pub(crate) scratch: Vec<u8>,
    /// Requests this thread may still make.
    pub(crate) remaining: u64,
    /// Requests are being made; false before the start and while draining.
    pub(crate) sending: bool,
    pub(crate) sources: Sources,
    /// Connections whose handshake is under way.
    pub(crate) connecting: usize,
    /// When something last arrived.
    pub(crate) arrived_at: u64,
    /// A reading of the clock that is good for the write that answers what was read; nothing once that event is handled.
    pub(crate) fresh_reading: Option<u64>,
}

impl Desk<'_> {
    /// The instant at which `bytes` bytes were read, to be called right after. What is written next, in answer to them,
    /// goes by the same reading: proving so few replies takes less than a microsecond, as long as reading the clock.
    #[inline]
    pub(crate) fn received_at(&mut self, bytes: usize) -> u64 {
        let now = self.clock.now();
        self.fresh_reading = (bytes <= FRESH_BYTES).then_some(now);
        now
    }

    /// The instant of a write that follows at once.
    #[inline]
    pub(crate) fn written_at(&mut self) -> u64 {
        self.fresh_reading.take().unwrap_or_else(|| self.clock.now())
    }

    /// Registers a descriptor's interest, for the first time or anew.
    pub(crate) fn watch(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        flags: epoll::EventFlags,
        anew: bool,
    ) {
        let data = epoll::EventData::new_u64(token);
        let done = if anew {
            epoll::modify(&self.epoll, fd, data, flags)
        } else {
            epoll::add(&self.epoll, fd, data, flags)
        };
        // Only a lack of kernel memory can make this fail; such a connection stays silent and its requests time out.
        debug_assert!(done.is_ok(), "epoll: {done:?}");
    }

    /// The fate of a request that gets no answer: after the server was told to stop, a fresh one was merely declined.
    fn unanswered(&self, fate: Fate, times: Times) -> Fate {
        let signalled = self.orders.signalled_at.load(Ordering::Relaxed);
        let excused = signalled != 0 && times.sent >= signalled && fate != Fate::Reset;
        if excused { Fate::Declined } else { fate }
    }

    /// How many requests this connection may be given now; with `--glue`, none until so many can go in one write.
    pub(crate) fn room(&self, peer: &Peer) -> u32 {
        if !self.sending {
            return 0;
        }
        let room = peer.room().min(u32::try_from(self.remaining).unwrap_or(u32::MAX));
        let glue = self.plan.glue;
        let short = room < glue && self.remaining >= u64::from(glue) && peer.life.is_none();
        if short { 0 } else { room }
    }

    /// Empties the buffer that requests are written into.
    pub(crate) fn start_batch(&mut self) {
        self.output.clear();
        self.ends.clear();
    }

    /// Appends the next request of this connection, framed, to `output`; false if its window is full.
    #[inline(always)]
    pub(crate) fn append_request(&mut self, talk: &mut Talk, times: Times) -> bool {
        let (plan, proof, output) = (self.plan, self.proof, &mut self.output);
        let issued = talk.window.issue(times, |seq| {
            let id = Id { conn: talk.id, seq };
            if !plan.target.is_stream() {
                return proof.promise_request(id, talk.front, output);
            }
            if let Framing::Length { .. } = plan.framing {
                plan.framing.open(proof.request_len(id), output);
            }
            let promise = proof.promise_request(id, talk.front, output);
            plan.framing.close(output);
            promise
        });
        let Some(seq) = issued else { return false };
        self.ends.push(self.output.len());
        self.remaining -= 1;
        self.tally.books.sent += 1;
        talk.made += 1;
        if *self.proof.expect() == Expect::Nothing {
            // Nobody will answer: it is done with as soon as it is written.
            let _: Answer = talk.window.answer(seq);
            self.tally.books.settle(Fate::Unproved);
            self.tally.measured += u64::from(times.planned >= self.tally.measure_from);
        }
        true
    }

    /// The last `count` requests in `output` could not be sent: they were never made.
    pub(crate) fn take_back(&mut self, peer: &mut Peer, count: usize) {
        if count == 0 {
            return;
        }
        let nothing = *self.proof.expect() == Expect::Nothing;
        for _ in 0..count {
            if nothing {
                self.tally.books.unproved -= 1;
            } else {
                peer.talk.window.take_back();
            }
            self.tally.books.sent -= 1;
            self.remaining += 1;
            peer.talk.made -= 1;
        }
    }

    /// The reply has come that this connection's window expected next.
    #[inline(always)]
    pub(crate) fn fulfilled(&mut self, talk: &mut Talk, now: u64) {
        self.arrived_at = now;
        self.tally.answered(talk.window.fulfil(), now);
    }

    /// A right reply to `of` has come on connection `id`.
    #[inline]
    pub(crate) fn proved(&mut self, talk: &mut Talk, of: Id, message: &[u8], now: u64) {
        self.arrived_at = now;
        if of.conn == talk.id {
            self.answered(talk, of.seq, message, now);
        } else {
            self.tally.extra(Extra::Crossed, (talk.id, Some(of.seq)), message);
        }
    }

    /// A whole message has come on connection `id`.
    pub(crate) fn arrival(&mut self, talk: &mut Talk, message: &[u8], now: u64) {
        self.arrived_at = now;
        match self.proof.expect() {
            Expect::Nothing => {}
            Expect::Fixed(_) => self.nameless(talk, message, now, Some(Fate::Corrupt)),
            _ => match self.proof.judge(message) {
                Verdict::Whole(of) if of.conn == talk.id => {
                    self.answered(talk, of.seq, message, now);
                }
                Verdict::Truncated(of) if of.conn == talk.id => {
                    self.damaged(talk, (of.seq, Fate::Truncated), message);
                }
                Verdict::Corrupt(of) if of.conn == talk.id => {
                    self.damaged(talk, (of.seq, Fate::Corrupt), message);
                }
                Verdict::Whole(of) | Verdict::Truncated(of) | Verdict::Corrupt(of) => {
                    self.tally.extra(Extra::Crossed, (talk.id, Some(of.seq)), message);
                }
                Verdict::Nameless => self.nameless(talk, message, now, None),
            },
        }
    }

    #[inline]
    fn answered(&mut self, talk: &mut Talk, seq: u32, message: &[u8], now: u64) {
        match talk.window.answer(seq) {
            Answer::Open { times, overtook } => {
                self.tally.answered(times, now);
                if overtook {
                    self.tally.extra(Extra::Reordered, (talk.id, Some(seq)), message);
                }
            }
            Answer::Duplicate => self.tally.extra(Extra::Duplicate, (talk.id, Some(seq)), message),
            Answer::Late(times) => {
                self.tally.books.revise_lost(Fate::Late);
                if let Some(times) = times {
                    self.tally.latency(times, now);
                }
                self.example(Fate::Late, talk.id, seq, message);
            }
            Answer::Unknown => self.tally.extra(Extra::Unsolicited, (talk.id, Some(seq)), message),
        }
    }

    fn damaged(&mut self, talk: &mut Talk, (seq, fate): (u32, Fate), message: &[u8]) {
        match talk.window.answer(seq) {
            Answer::Open { .. } => {
                self.tally.books.settle(fate);
                self.example(fate, talk.id, seq, message);
            }
            Answer::Late(_) => {
                self.tally.books.revise_lost(fate);
                self.example(fate, talk.id, seq, message);
            }
            Answer::Duplicate => self.tally.extra(Extra::Duplicate, (talk.id, Some(seq)), message),
            Answer::Unknown => self.tally.extra(Extra::Unsolicited, (talk.id, Some(seq)), message),
        }
    }

    /// A message without a sound id: perhaps an open request's reply, damaged; else it answers nothing. Where replies
    /// never carry ids, the oldest request is meant, and `otherwise` is its fate if the bytes are wrong.
    fn nameless(&mut self, talk: &mut Talk, message: &[u8], now: u64, otherwise: Option<Fate>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let oldest = talk.window.oldest();
        let verdict = |seq, scratch: &mut Vec<u8>| {
            self.proof.resembles(message, Id { conn: talk.id, seq }, scratch)
        };
        let found = match (otherwise, oldest) {
            (_, None) => Verdict::Nameless,
            (Some(_), Some(seq)) => match verdict(seq, &mut scratch) {
                Verdict::Nameless => Verdict::Corrupt(Id { conn: talk.id, seq }),
                sure => sure,
            },
            (None, Some(_)) => talk
                .window
                .open_seqs()
                .take(CANDIDATES_MAX)
                .map(|seq| verdict(seq, &mut scratch))
                .find(|verdict| *verdict != Verdict::Nameless)
                .unwrap_or(Verdict::Nameless),
        };
        self.scratch = scratch;
        match found {
            Verdict::Whole(of) => self.answered(talk, of.seq, message, now),
            Verdict::Truncated(of) => self.damaged(talk, (of.seq, Fate::Truncated), message),
            Verdict::Corrupt(of) => self.damaged(talk, (of.seq, Fate::Corrupt), message),
            Verdict::Nameless => self.tally.extra(Extra::Unsolicited, (talk.id, None), message),
        }
    }

    /// What is left of a stream that stopped in the middle of a message is judged as it is.
    pub(crate) fn leftover(&mut self, talk: &mut Talk, now: u64) {
        if talk.partial.is_empty() {
            return;
        }
        let partial = std::mem::take(&mut talk.partial);
        let skip = match self.plan.framing {
            Framing::Length { .. } => self.plan.framing.overhead(),
            _ => 0,
        };
        self.arrival(talk, partial.get(skip..).unwrap_or_default(), now);
        talk.partial = partial;
        talk.partial.clear();
    }

    /// Gives up requests that have waited too long.
    pub(crate) fn expire(&mut self, talk: &mut Talk, now: u64) {
        let timeout = self.plan.timeout.as_nanos() as u64;
        let over = |times: &Times| times.sent + timeout <= now;
        if !talk.partial.is_empty() && talk.window.any_open(over) {
            self.leftover(talk, now);
        }
        let Talk { id, window, .. } = talk;
        window.give_up(over, |seq, times| {
            let fate = self.unanswered(Fate::Lost, times);
            self.tally.books.settle(fate);
            self.example(fate, *id, seq, b"");
        });
    }

    /// All open requests meet this fate: the connection is gone.
    pub(crate) fn abandon(&mut self, talk: &mut Talk, fate: Fate) {
        let Talk { id, window, .. } = talk;
        window.close(|seq, times| {
            let fate = self.unanswered(fate, times);
            self.tally.books.settle(fate);
            self.example(fate, *id, seq, b"");
        });
    }

    /// Keeps an example of a request's bad fate, if one is still wanted.
    fn example(&mut self, fate: Fate, conn: u32, seq: u32, got: &[u8]) {
        if self.tally.books.wants_example(fate.name()) {
            self.scratch.clear();
            let whose = Id { conn, seq };
            self.proof.append_reply(whose, &mut self.scratch);
            self.tally.books.keep_example(fate.name(), (conn, Some(seq)), got, &self.scratch);
        }
    }
}
