//! One worker's place in the crew: what it does, as others may see it, and how it is called.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::schedule::token::Token;
use crate::sys::thread::ThreadId;
use crate::sys::wake::Wake;

/// One worker's place.
#[derive(Debug)]
pub(crate) struct Member {
    /// In a turn and blocked, as it said or as the watchman saw: it does not count as awake.
    pub(super) blocked: AtomicBool,
    /// Counted up when a turn begins and when it ends: odd in a turn.
    pub(super) turns: AtomicU64,
    /// The kernel's number of its thread, once it runs.
    pub(super) thread: AtomicU32,
    /// Its thread has ended, or was never there.
    pub(super) gone: AtomicBool,
    /// What it runs now.
    pub(super) running: AtomicU64,
    /// Called in beside enough others, to run what has waited; it sleeps again when nothing is ready.
    pub(super) helping: AtomicBool,
    /// Calls it in.
    pub(super) call: Sender<()>,
    pub(super) called: Receiver<()>,
    /// Under `Threads`: ends its wait on its own connection.
    pub(crate) wake: OnceLock<Wake>,
}

impl Member {
    pub(super) fn new() -> Self {
        let (call, called) = bounded(1);
        Self {
            blocked: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            gone: AtomicBool::new(true),
            running: AtomicU64::new(0),
            helping: AtomicBool::new(false),
            call,
            called,
            wake: OnceLock::new(),
        }
    }

    pub(crate) fn turn_begins(&self, token: Token) {
        self.running.store(token.pack(), Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// The turn goes on to another peer's datagram: who watches sees that it moves.
    pub(crate) fn turn_moves_on(&self) {
        self.turns.fetch_add(2, Ordering::SeqCst);
    }

    pub(crate) fn turn_ends(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// Within its turn it goes on with this.
    pub(crate) fn goes_on_with(&self, token: Token) {
        self.running.store(token.pack(), Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// What it runs, while it is in a turn.
    pub(crate) fn runs(&self) -> Option<Token> {
        (self.turns() % 2 == 1).then(|| Token::unpack(self.running.load(Ordering::Relaxed)))
    }

    pub(crate) fn thread(&self) -> Option<ThreadId> {
        match self.thread.load(Ordering::Acquire) {
            0 => None,
            number => Some(ThreadId::from_number(number)),
        }
    }
}
