//! When a thread makes its requests, and how it waits in between.
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdTimerFlags};

use crate::engine::peer::Line;
use crate::engine::worker::{SECOND, Worker};
use crate::engine::{datagram, stream};
use crate::proof::Expect;
use crate::proof::window::Times;

/// A request due sooner than this is waited for awake: waking up takes about as long.
const SPIN: u64 = 80_000;

/// Requests made before replies have their turn again, however far behind the plan the thread is.
const DISPATCH_MAX: usize = 256;

impl Worker<'_> {
    /// Whether every request of the plan is made.
    pub(super) fn plan_is_done(&self) -> bool {
        let planned = self.schedule.as_ref().is_none_or(|schedule| schedule.due() >= self.stop_at);
        planned && (self.due.is_empty() || self.due.len() < self.desk.plan.glue as usize)
    }

    /// Counts what the plan still holds when time is up for good.
    pub(super) fn count_unsent(&mut self) {
        let Some(mut schedule) = self.schedule.take() else { return };
        let mut unsent = self.due.len() as u64;
        while schedule.due() < self.stop_at && unsent < self.desk.remaining {
            unsent += 1;
            schedule.advance();
        }
        self.desk.tally.books.unsent = unsent.min(self.desk.remaining);
    }

    /// A connection can be written: make requests, or put it in line for the next that is due.
    pub(super) fn attend(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if self.desk.room(peer) == 0 {
            return;
        }
        if self.paced {
            if !peer.talk.listed {
                peer.talk.listed = true;
                self.list(index);
            }
            return;
        }
        let end = if self.desk.plan.target.is_stream() {
            stream::fill(&mut self.desk, peer)
        } else {
            datagram::fill(&mut self.desk, peer)
        };
        match end {
            Some(end) => self.hang_up(index, end),
            // Nothing is waited for, so no reply will bring this connection back.
            None if *self.desk.proof.expect() == Expect::Nothing => {
                self.again.push_back(index as u32);
            }
            None => {}
        }
    }

    fn list(&mut self, index: usize) {
        if self.ready.is_empty() {
            self.freed_at = self.desk.clock.now();
            if let Some(since) = self.full_since.take() {
                self.desk.tally.full += self.freed_at - since;
            }
        }
        self.ready.push_back(index as u32);
    }

    /// Sends every request that is due and finds a connection (open loop).
    pub(super) fn dispatch(&mut self, now: u64) {
        let Some(mut schedule) = self.schedule.take() else { return };
        for _ in 0..DISPATCH_MAX {
            if !self.desk.sending || self.desk.remaining == 0 {
                break;
            }
            // The plan goes on whether or not these can be sent; nothing but a number is kept for what is overdue.
            let group = u64::from(self.desk.plan.glue.max(1)).min(self.desk.remaining) as usize;
            while self.due.len() < group && schedule.due() <= now && schedule.due() < self.stop_at {
                self.due.push(schedule.due());
                schedule.advance();
            }
            if self.due.len() < group {
                break;
            }
            if !self.dispatch_due() {
                self.full_since.get_or_insert(now);
                break;
            }
        }
        self.schedule = Some(schedule);
    }

    /// Sends what has collected in `due` over the next connection that can take it.
    fn dispatch_due(&mut self) -> bool {
        while let Some(index) = self.ready.pop_front() {
            let index = index as usize;
            let peer = &mut self.peers[index];
            peer.talk.listed = false;
            if (self.desk.room(peer) as usize) < self.due.len() {
                continue;
            }
            let now = self.desk.clock.now();
            self.desk.start_batch();
            for planned in self.due.drain(..) {
                // Not the generator's fault: the time in which no connection could take the request.
                let could = planned.max(self.freed_at);
                self.desk.tally.lag(planned, now.saturating_sub(could));
                self.desk.append_request(&mut peer.talk, Times { planned, sent: now });
            }
            let end = if self.desk.plan.target.is_stream() {
                stream::write(&mut self.desk, peer)
            } else {
                datagram::write(&mut self.desk, peer)
            };
            match end {
                Some(end) => self.hang_up(index, end),
                None => self.attend(index),
            }
            return true;
        }
        false
    }

    /// Connections that need looking after without an event.
    pub(super) fn look_again(&mut self) {
        for _ in 0..self.again.len() {
            let Some(index) = self.again.pop_front() else { return };
            let index = index as usize;
            match self.peers[index].line {
                Line::Up { .. } if self.peers[index].talk.more => {
                    self.on_peer(index, epoll::EventFlags::IN);
                }
                Line::Up { .. } => self.attend(index),
                Line::Down { retry_at } if retry_at <= self.desk.clock.now() => self.open(index),
                Line::Down { .. } | Line::Connecting { .. } => {}
            }
        }
    }

    /// Waits for events until the next thing to do, and handles them.
    pub(super) fn wait(&mut self, events: &mut Vec<epoll::Event>, began: u64) {
        let due = match &self.schedule {
            Some(schedule) if self.desk.sending && !self.ready.is_empty() => schedule.due(),
            // Nobody could take a request: the event to wait for is a reply.
            _ => u64::MAX,
        };
        let until = due.min(self.next_tick);
        let idle = self.again.is_empty();
        // Reading the clock costs as much as proving a reply: each reading serves until the next system call.
        let mut now = if self.paced { self.desk.clock.now() } else { began };
        loop {
            let left = until.saturating_sub(now);
            let awake = !idle || left == 0 || (until == due && left < SPIN);
            let timeout =
                if awake { Timespec::default() } else { self.set_timer(until, left, until == due) };
            events.clear();
            // An interrupted wait is one without events.
            let count = epoll::wait(&self.desk.epoll, spare_capacity(events), Some(&timeout))
                .unwrap_or_default();
            let woke = self.desk.clock.now();
            if count == 0 && awake && idle && woke < until {
                now = woke;
                continue;
            }
            // Waiting is what no work was done in: all of it if nothing came, else up to when something did.
            let waited = if count == 0 || !awake { woke } else { now };
            self.desk.tally.waited += waited - began;
            self.handle(events);
            return;
        }
    }

    /// How long to sleep. What is finer than a millisecond, the thread's timer does.
    fn set_timer(&mut self, until: u64, left: u64, request: bool) -> Timespec {
        if self.paced && self.timer_due != until {
            // A request is met awake; for a tick there is no hurry.
            let at = if request { left - SPIN / 2 } else { left };
            let value = Timespec { tv_sec: (at / SECOND) as i64, tv_nsec: (at % SECOND) as i64 };
            let spec = Itimerspec { it_interval: Timespec::default(), it_value: value };
            let flags = TimerfdTimerFlags::empty();
            if rustix::time::timerfd_settime(&self.timer, flags, &spec).is_ok() {
                self.timer_due = until;
            }
        }
        let millis = left.div_ceil(1_000_000);
        Timespec { tv_sec: (millis / 1000) as i64, tv_nsec: (millis % 1000 * 1_000_000) as i64 }
    }
}
