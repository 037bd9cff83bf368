//! One turn of a connection: read, decode, handle every message, and one gathered write.
//!
//! The same code runs under every concurrency; only who waits for the next turn differs.

use std::io;

use crate::codec::{Decoded, FrameError};
use crate::config::{TURN_BYTES, TURN_MESSAGES};
use crate::desk::{After, Desk, Why};
use crate::handler::{Context, Handler, Host, Next, Step, isolated, outcome};
use crate::reason::CloseReason;
use crate::stage::{Core, Stage};
use crate::stream::connection::{Connection, Input, Output, Phase, Service};
use crate::stream::sink::{StreamSink, broken};
use crate::timer::Moment;

/// A turn under way.
pub(crate) struct Turn<'a> {
    pub(super) conn: &'a mut Connection,
    pub(super) desk: &'a mut Desk,
    pub(super) core: &'a Core,
    pub(super) host: &'a dyn Host,
    messages: usize,
    /// Handlers that took over since the last message.
    pub(super) switches: usize,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// Runs one turn, made for these reasons, and says what follows.
pub(crate) fn run(
    conn: &mut Connection,
    why: Why,
    desk: &mut Desk,
    core: &Core,
    host: &dyn Host,
) -> After {
    let began = desk.now;
    let mut turn = Turn { conn, desk, core, host, messages: 0, switches: 0, received: 0, sent: 0 };
    turn.go(why);
    let Turn { messages, received, sent, .. } = turn;
    // What could not be sent is nobody else's: the desk's next turn is another peer's.
    desk.out.clear();
    desk.now = core.clock.instant();
    desk.tidy();
    conn.received += received as u64;
    let now = core.clock.moment(desk.now);
    if received > 0 {
        // From the end of the turn on: the handler's own time is not the peer's silence.
        conn.times.quiet_since = now;
    }
    let took = desk.now.saturating_duration_since(began);
    core.events.counters.turn(messages as u64, received, sent, took);
    conn.settle(core)
}

impl Turn<'_> {
    fn go(&mut self, why: Why) {
        if why.has(Why::FORCE) {
            return self.conn.force();
        }
        if why.has(Why::OVERFLOW) {
            return self.overflow();
        }
        self.heed(why);
        if why.has(Why::START) {
            self.start();
        }
        if why.has(Why::TIMER) {
            self.end_of_pause();
        }
        if self.conn.times.stalled_since.is_some() {
            self.flush();
        }
        let draining = self.core.is_draining();
        if draining && !self.conn.told && self.conn.input == Input::Quiet {
            // A request that has arrived is answered, also if nobody has announced it yet.
            self.conn.input = Input::Ready;
        }
        self.receive();
        if why.has(Why::TIMER) {
            // What had come in time, and waited for a worker, is not late.
            self.expire();
        }
        // Behind the handlers: they may have taken their time.
        let stage = self.core.stage();
        // Not of a drain that began meanwhile: this turn's budget may have left requests over. Another turn
        // is made for it.
        if draining && stage == Stage::Draining {
            self.tell_of_the_drain();
        }
        self.flush();
        self.close_if_flushed();
        if stage >= Stage::Forcing && !matches!(self.conn.phase, Phase::Ended(_)) {
            // The handler returned after the drain's deadline: nobody comes to end it any more.
            self.end(CloseReason::Forced);
        }
    }

    /// Takes note of what the poller announced.
    fn heed(&mut self, why: Why) {
        match self.conn.input {
            Input::Quiet | Input::Ready if why.has(Why::HANGUP) => {
                self.conn.input = Input::ReadyToEnd;
            }
            Input::Quiet if why.has(Why::READ) => self.conn.input = Input::Ready,
            // The peer had finished sending; now it is gone altogether.
            Input::Ended if why.has(Why::HANGUP) && self.conn.socket.is_gone() => {
                self.end(CloseReason::PeerReset);
            }
            _ => {}
        }
    }

    fn is_open(&self) -> bool {
        self.conn.phase == Phase::Open
    }

    /// Over, without flushing.
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.conn.phase = Phase::Ended(reason);
    }

    fn end_of_pause(&mut self) {
        let now = self.core.clock.now();
        let times = &mut self.conn.times;
        if self.conn.phase == Phase::Open && times.paused_until.is_some_and(|until| until <= now) {
            times.paused_until = None;
            // The peer was not heard: its silence begins now.
            times.quiet_since = now;
        }
    }

    /// A deadline has passed, or seems to have: which one?
    fn expire(&mut self) {
        let now = self.core.clock.now();
        let live = &self.core.live;
        let times = self.conn.times;
        let due = |since: Option<Moment>, timeout| {
            since.is_some_and(|since| since.after(Core::span(timeout)) <= now)
        };
        if due(times.stalled_since, live.write_timeout()) {
            return self.step(Step::Abort(CloseReason::SlowWrite));
        }
        match &self.conn.phase {
            Phase::Open if times.paused_until.is_some() || self.conn.left_over => {}
            Phase::Open if due(times.partial_since, live.message_timeout()) => {
                self.step(Step::Close(CloseReason::SlowRead));
            }
            Phase::Open if self.received > 0 => {}
            Phase::Open if due(Some(times.quiet_since), live.idle_timeout()) => {
                self.conn.times.quiet_since = now;
                self.idle();
            }
            Phase::Lingering { reason, until, .. } if *until <= now => {
                let reason = reason.clone();
                self.end(reason);
            }
            _ => {}
        }
    }

    fn idle(&mut self) {
        match self.conn.service {
            Service::Messages(_) => self.ask(CloseReason::IdleTimeout, |h, cx| h.idle(cx)),
            Service::Bytes(_) => self.step(Step::Close(CloseReason::IdleTimeout)),
        }
    }

    fn tell_of_the_drain(&mut self) {
        if !self.is_open() || std::mem::replace(&mut self.conn.told, true) {
            return;
        }
        match self.conn.service {
            Service::Messages(_) => self.ask(CloseReason::Draining, |h, cx| h.draining(cx)),
            Service::Bytes(_) => self.step(Step::Close(CloseReason::Draining)),
        }
    }

    /// Whether this turn goes on handling.
    fn may_handle(&mut self) -> bool {
        self.is_open()
            && self.conn.times.paused_until.is_none()
            // What has been read is answered before the handler is told of a drain: all of it, now.
            && (self.messages < TURN_MESSAGES || self.core.stage() == Stage::Draining)
            && !self.conn.is_held()
    }

    /// Reads and handles what is there, up to the budget.
    fn receive(&mut self) {
        if let Phase::Lingering { .. } = self.conn.phase {
            return self.throw_away();
        }
        if let Service::Bytes(_) = self.conn.service {
            return self.converse();
        }
        if self.conn.left_over && self.may_handle() {
            self.handle_unread();
        }
        let mut buffer = std::mem::take(&mut self.desk.read);
        while self.may_handle() && self.received < TURN_BYTES && !self.conn.left_over {
            if !matches!(self.conn.input, Input::Ready | Input::ReadyToEnd) {
                break;
            }
            let received = self.conn.socket.receive(&mut buffer);
            self.arrived(received, &buffer);
        }
        self.desk.read = buffer;
        if self.conn.input == Input::Ending && self.may_handle() && !self.conn.left_over {
            self.conn.input = Input::Ended;
            self.ask(CloseReason::PeerEof, |h, cx| h.half_closed(cx));
        }
    }

    fn arrived(&mut self, received: io::Result<usize>, buffer: &[u8]) {
        match received {
            Ok(0) => {
                self.conn.input = Input::Ending;
                self.handle_unread();
            }
            Ok(bytes) => {
                self.received += bytes;
                // A short read has emptied the socket, unless its end is announced behind it.
                if bytes < buffer.len() && self.conn.input == Input::Ready {
                    self.conn.input = Input::Quiet;
                }
                self.handle_arrived(&buffer[..bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.conn.input = Input::Quiet;
            }
            Err(error) => self.end(broken(&error)),
        }
    }

    /// Handles new bytes: straight from the read buffer if nothing is older.
    fn handle_arrived(&mut self, bytes: &[u8]) {
        if !self.conn.unread.is_empty() {
            self.conn.unread.extend_from_slice(bytes);
            return self.handle_unread();
        }
        let used = self.handle_frames(bytes);
        self.conn.unread.extend_from_slice(&bytes[used..]);
        self.note_partial();
    }

    fn handle_unread(&mut self) {
        let mut unread = std::mem::take(&mut self.conn.unread);
        let used = self.handle_frames(&unread);
        if used < unread.len() {
            unread.drain(..used);
            // (Else it is dropped: a connection that waits owns no buffer.)
            self.conn.unread = unread;
        }
        self.note_partial();
    }

    /// Handles the whole messages in `bytes` and returns how many bytes they were.
    fn handle_frames(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        self.conn.left_over = false;
        loop {
            if !self.may_handle() {
                // What the budget, a pause or a slow peer leaves over comes first next time.
                self.conn.left_over = self.is_open() && used < bytes.len();
                return used;
            }
            let rest = &bytes[used..];
            let decoded = match self.conn.decode(rest) {
                Ok(decoded) => decoded,
                Err(reason) => {
                    self.step(Step::Close(reason));
                    return used;
                }
            };
            match decoded {
                Ok(Decoded::Frame { body, consumed }) => {
                    used += consumed;
                    self.messages += 1;
                    self.switches = 0;
                    self.conn.times.partial_since = None;
                    self.ask(CloseReason::Done, |h, cx| h.handle(&rest[body], cx));
                }
                Ok(Decoded::Skipped { consumed }) => {
                    used += consumed;
                    self.conn.skipping = self.conn.decoder.is_skipping();
                }
                Ok(Decoded::Incomplete) => return used,
                Err(why) => self.reject(&why),
            }
        }
    }

    fn reject(&mut self, why: &FrameError) {
        let reason = match why {
            FrameError::TooLong { .. } => CloseReason::FrameTooLarge,
            _ => CloseReason::BadFrame,
        };
        self.ask(reason.clone(), |h, cx| h.rejected(why, cx));
        if why.is_fatal() && self.is_open() {
            self.step(Step::Close(reason));
        }
    }

    fn note_partial(&mut self) {
        let begun = !self.conn.unread.is_empty() || self.conn.skipping;
        let partial = begun && !self.conn.left_over;
        let since = self.conn.times.partial_since;
        // The time that its own messages before took is not the peer's.
        let now = || self.core.clock.now();
        self.conn.times.partial_since = partial.then(|| since.unwrap_or_else(now));
    }

    /// Calls back, and does what was returned. `close` is the reason behind a plain `Close`.
    fn ask(
        &mut self,
        close: CloseReason,
        callback: impl FnOnce(&mut dyn Handler, &mut Context<'_>) -> io::Result<Next>,
    ) {
        self.call(close, callback, |_| ());
    }

    pub(super) fn call(
        &mut self,
        close: CloseReason,
        callback: impl FnOnce(&mut dyn Handler, &mut Context<'_>) -> io::Result<Next>,
        succeeded: impl FnOnce(&mut crate::handler::Actor<dyn Handler>),
    ) {
        let Self { conn, desk, core, host, .. } = self;
        let Service::Messages(actor) = &mut conn.service else { return };
        let Some(handler) = actor.handler() else { return };
        let Desk { out, draft, .. } = &mut **desk;
        let finished = conn.output != Output::Open;
        let mut sink = StreamSink {
            line: &conn.line,
            socket: &conn.socket,
            core,
            host: *host,
            out,
            finished,
            sent: 0,
            failure: None,
        };
        let mut cx = Context::new(&conn.line, &mut sink, *host, draft);
        let returned = isolated(|| {
            let next = callback(handler, &mut cx)?;
            cx.finish_draft();
            Ok(next)
        });
        let StreamSink { sent, failure, .. } = sink;
        if returned.is_ok() {
            succeeded(actor);
        }
        self.sent += sent;
        // What went wrong with the socket explains what the handler made of it.
        self.step(outcome(failure, returned, close));
    }

    /// Does what a callback's answer means on a stream.
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Go => {}
            Step::Close(reason) => self.conn.phase = Phase::Flushing(reason),
            Step::Abort(reason) => {
                // Without it the kernel would go on trying to deliver what nobody takes.
                drop(self.conn.socket.reset_on_close());
                self.desk.out.clear();
                self.end(reason);
            }
            Step::HalfClose => {
                self.conn.line.seal();
                self.conn.output = Output::Finishing;
            }
            Step::Pause(span) => {
                self.conn.times.paused_until = Some(self.core.clock.now().after(span));
            }
            Step::Switch(next) => self.switch(next),
            Step::StopServer => {
                self.host.stop_server();
                self.conn.phase = Phase::Flushing(CloseReason::Done);
            }
        }
    }

    /// Writes what is collected and queued, as much as the peer takes. Any progress in the turn counts.
    pub(super) fn flush(&mut self) {
        if matches!(self.conn.phase, Phase::Lingering { .. } | Phase::Ended(_)) {
            return self.desk.out.clear();
        }
        if self.desk.out.is_empty() && self.conn.line.waiting() == 0 {
            return;
        }
        match self.conn.line.flush(&mut self.desk.out) {
            Ok(flushed) => {
                self.sent += flushed.sent;
                let progress = self.sent > 0 || self.conn.times.stalled_since.is_none();
                if !flushed.pending {
                    self.conn.times.stalled_since = None;
                } else if progress {
                    self.conn.times.stalled_since = Some(self.core.clock.now());
                }
            }
            Err(error) => self.end(broken(&error)),
        }
    }
}
