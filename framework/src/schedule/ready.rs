//! The ready queue: everything that can be run at once, oldest first.
//!
//! It is bounded by construction: a connection, a session and a datagram listener stand in it once each,
//! which a bit of their word sees to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::schedule::token::Token;

#[derive(Debug, Default)]
pub(crate) struct Ready {
    queue: Mutex<VecDeque<Token>>,
    /// The queue's length, to be read without the lock.
    len: AtomicUsize,
    /// How many were put in and taken out so far: by these the watchman sees whether work waits.
    pushed: AtomicU64,
    popped: AtomicU64,
}

impl Ready {
    pub(crate) fn push(&self, token: Token) {
        let mut queue = self.queue.lock();
        queue.push_back(token);
        self.len.store(queue.len(), Ordering::SeqCst);
        self.pushed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<Token> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue.lock();
        let token = queue.pop_front()?;
        self.len.store(queue.len(), Ordering::SeqCst);
        self.popped.fetch_add(1, Ordering::Relaxed);
        Some(token)
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were put in so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// How many were taken out so far.
    pub(crate) fn popped(&self) -> u64 {
        self.popped.load(Ordering::Relaxed)
    }
}
