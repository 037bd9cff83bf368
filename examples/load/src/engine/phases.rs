//! The course of a thread's run: events, time-outs, and the way from the last request to the end.
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::event::epoll::{Event, EventFlags};

use crate::books::Fate;
use crate::engine::peer::{End, Line};
use crate::engine::side;
use crate::engine::worker::{Finished, News, Phase, SECOND, TICK, TIMER_TOKEN, Wiring, Worker};
use crate::engine::{connect, datagram, stream};
use crate::plan::Ending;

/// After the last reply, duplicates and strays are waited for until so long nothing came.
const QUIET: u64 = 60_000_000;
const QUIET_MAX: u64 = SECOND;
/// With no connection standing for so long, the server is gone.
const GONE: u64 = 2 * SECOND;

impl Worker<'_> {
    /// Handles a batch of events.
    pub(super) fn handle(&mut self, events: &[Event]) {
        for event in events {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == TIMER_TOKEN {
                self.timer_due = u64::MAX;
            } else if token & side::TOKEN != 0 {
                self.on_side((token & !side::TOKEN) as usize, flags);
            } else {
                self.on_peer(token as usize, flags);
            }
        }
    }

    /// Something happened on a connection.
    pub(super) fn on_peer(&mut self, index: usize, flags: EventFlags) {
        let peer = &mut self.peers[index];
        match &peer.line {
            Line::Down { .. } => return,
            Line::Connecting { .. } => {
                match connect::finish(&mut self.desk, peer) {
                    Ok(true) => self.stands(index),
                    Ok(false) => {}
                    Err(error) => {
                        self.connect_error.get_or_insert(error);
                    }
                }
                return;
            }
            Line::Up { .. } => {}
        }
        // Whoever left bytes unread reads to the end: the edge that would tell of the end may be used up.
        let hung_up = peer.talk.more
            || flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut end = None;
        if hung_up || flags.contains(EventFlags::IN) {
            peer.talk.more = false;
            end = if self.desk.plan.target.is_stream() {
                stream::read(&mut self.desk, peer, hung_up)
            } else {
                datagram::read(&mut self.desk, peer)
            };
        }
        if end.is_none() && flags.contains(EventFlags::OUT) {
            end = if self.desk.plan.target.is_stream() {
                stream::flush(&mut self.desk, peer)
            } else {
                datagram::unblock(&self.desk, peer);
                None
            };
        }
        if peer.talk.more {
            self.again.push_back(index as u32);
        }
        let spent = peer.is_spent() && !peer.talk.half_closed;
        match end {
            Some(end) => self.hang_up(index, end),
            None if spent => self.hang_up(index, End::Ours),
            None => self.attend(index),
        }
        self.desk.fresh_reading = None;
    }

    /// A connection stands: if the load is on, it takes part.
    pub(super) fn stands(&mut self, index: usize) {
        self.no_server_since = None;
        if self.desk.sending {
            self.attend(index);
        }
    }

    /// Ends a connection; another takes its place while the load is on.
    pub(super) fn hang_up(&mut self, index: usize, end: End) {
        let peer = &mut self.peers[index];
        stream::hang_up(&mut self.desk, peer, end);
        if self.desk.sending {
            self.again.push_back(index as u32);
        }
    }

    fn on_side(&mut self, index: usize, flags: EventFlags) {
        let now = self.desk.clock.now();
        let Some(side) = self.sides.get_mut(index) else { return };
        let Some(fd) = &side.fd else { return };
        if !side.up && flags.contains(EventFlags::OUT) {
            self.desk.connecting -= 1;
            if matches!(rustix::net::sockopt::socket_error(fd.as_fd()), Ok(Ok(()))) {
                side.up = true;
                self.desk.tally.books.connected += 1;
                return;
            }
        }
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            side.fd = None;
            side.up = false;
            self.desk.tally.books.side_closed += 1;
        } else {
            self.act_side(index, now);
        }
    }

    fn act_side(&mut self, index: usize, now: u64) {
        let place = self.number + index * self.desk.plan.threads;
        let side = &mut self.sides[index];
        if self.desk.sending && !side.act(&mut self.desk, place, now) {
            side.fd = None;
            side.up = false;
            self.desk.tally.books.side_closed += 1;
        }
    }

    /// How often Ctrl-C was pressed.
    pub(super) fn interrupted(&self) -> u8 {
        self.desk.orders.interrupts.load(Ordering::Relaxed)
    }

    /// What is done every hundredth of a second.
    pub(super) fn tick(&mut self, now: u64, wiring: &Wiring) {
        self.next_tick = now + TICK;
        if now < self.stop_at {
            self.next_tick = self.next_tick.min(self.stop_at);
        }
        let second = now.saturating_sub(self.started_at) / SECOND;
        if second > self.desk.tally.interval.second {
            let passed = self.desk.tally.turn_second(second);
            // If the display cannot keep up, the second is missing there; the totals have it.
            drop(wiring.news.try_send(News::Second(Box::new(passed))));
        }
        if now >= self.next_expiry {
            self.next_expiry = now + (self.desk.plan.timeout.as_nanos() as u64 / 50).max(TICK);
            self.expire(now);
        }
        if self.desk.sending {
            self.open_due(now);
            for index in 0..self.sides.len() {
                self.act_side(index, now);
            }
        }
        self.advance_phase(now);
    }

    /// Gives up what has waited too long; a closed loop goes on with the next.
    fn expire(&mut self, now: u64) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            if let Line::Connecting { since, .. } = peer.line
                && since + self.desk.plan.timeout.as_nanos() as u64 <= now
            {
                connect::give_up(&mut self.desk, peer, now);
            }
            if peer.talk.window.open() == 0 {
                continue;
            }
            self.desk.expire(&mut peer.talk, now);
            let spent = peer.is_spent();
            if spent && peer.is_up() {
                if peer.talk.half_closed {
                    self.desk.tally.books.never_closed += 1;
                }
                self.hang_up(index, End::Ours);
            } else {
                self.attend(index);
            }
        }
    }

    fn advance_phase(&mut self, now: u64) {
        let interrupts = self.interrupted();
        if interrupts > 1 {
            self.phase = Phase::Done;
        }
        match self.phase {
            Phase::Running => {
                let all_sent = self.desk.remaining == 0;
                // Requests that were planned in time are still made when it is over: leaving them out would flatter
                // a server that kept them waiting.
                let timeout = self.desk.plan.timeout.as_nanos() as u64;
                let over = now >= self.stop_at
                    && (self.plan_is_done() || now >= self.stop_at.saturating_add(timeout));
                if over || all_sent || interrupts > 0 || self.nobody_left(now) {
                    self.stop_sending(now);
                }
            }
            Phase::Draining { since } => {
                let timeout = self.desk.plan.timeout.as_nanos() as u64;
                let over = now > since + timeout + SECOND / 2;
                let waiting = self.peers.iter().any(|peer| {
                    peer.talk.window.open() > 0 || (peer.is_up() && peer.talk.half_closed)
                });
                if !waiting || over {
                    self.note_never_closed();
                    self.phase = Phase::Lingering { since: now };
                } else if self.desk.plan.ending == Ending::HalfClose {
                    self.half_close_all();
                }
            }
            Phase::Lingering { since } => {
                let quiet_since = self.desk.arrived_at.max(since);
                // What was given up may still come, and is then late rather than lost.
                let patience = match self.desk.tally.books.lost {
                    0 => QUIET,
                    _ => QUIET.max(self.desk.plan.timeout.as_nanos() as u64).min(QUIET_MAX),
                };
                if now > quiet_since + patience || now > since + QUIET_MAX {
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
    }

    fn stop_sending(&mut self, now: u64) {
        self.desk.sending = false;
        if self.interrupted() == 0 {
            self.count_unsent();
        }
        self.sent_for = now.min(self.stop_at) - self.started_at;
        self.desk.tally.measure_until = self.desk.tally.measure_until.min(now);
        if let Some(since) = self.full_since.take() {
            self.desk.tally.full += now - since;
        }
        self.phase = Phase::Draining { since: now };
        if self.desk.plan.ending == Ending::HalfClose {
            self.half_close_all();
        }
    }

    fn half_close_all(&mut self) {
        if self.desk.plan.target.is_stream() {
            self.peers.iter_mut().for_each(stream::half_close);
        }
    }

    fn note_never_closed(&mut self) {
        let still = self.peers.iter().filter(|peer| peer.is_up() && peer.talk.half_closed).count();
        self.desk.tally.books.never_closed += still as u64;
    }

    /// Whether there is nobody to send to any more.
    fn nobody_left(&mut self, now: u64) -> bool {
        let lines = || self.peers.iter().map(|peer| &peer.line);
        let drained = lines().all(|line| matches!(line, Line::Down { retry_at: u64::MAX }));
        if drained && !self.peers.is_empty() {
            return true;
        }
        if self.peers.is_empty() || lines().any(|line| matches!(line, Line::Up { .. })) {
            self.no_server_since = None;
            return false;
        }
        // Short connections are often all down for a moment.
        let since = *self.no_server_since.get_or_insert(now);
        self.server_gone = now > since + GONE;
        self.server_gone
    }

    /// Ends all connections and hands the books over.
    pub(super) fn finish(mut self, now: u64, wiring: &Wiring) -> Finished {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            self.desk.abandon(&mut peer.talk, Fate::Abandoned);
            if peer.is_up() {
                self.hang_up(index, End::Ours);
            }
        }
        let second = self.desk.tally.interval.second;
        let passed = self.desk.tally.turn_second(second + 1);
        drop(wiring.news.try_send(News::Second(Box::new(passed))));
        let sides_up = self.sides.iter().filter(|side| side.up).count();
        Finished {
            sent_for: if self.sent_for > 0 { self.sent_for } else { now - self.started_at },
            lasted: now - self.started_at,
            tally: self.desk.tally,
            server_gone: self.server_gone,
            connect_error: self.connect_error,
            sides_up,
        }
    }
}
