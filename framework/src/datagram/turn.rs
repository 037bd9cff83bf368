//! One turn of a session, or one call of a raw handler.

use std::io;
use std::sync::Arc;

use crate::codec::FrameError;
use crate::config::TURN_MESSAGES;
use crate::datagram::guard::Print;
use crate::datagram::listen::{DatagramListener, DatagramService};
use crate::datagram::receive::{Fetched, SessionHost};
use crate::datagram::sessions::{Phase, Session, Waiting};
use crate::datagram::start::lets_in;
use crate::desk::{After, Desk, Why};
use crate::event::{DropReason, Event};
use crate::handler::{
    Context, Datagram, Handler, Host, Next, Replies, Sink, Step, isolated, outcome,
};
use crate::outbox::Line;
use crate::peer::{ConnectionId, Peer};
use crate::reason::CloseReason;
use crate::stage::{Core, Stage};
use crate::sys::datagrams::SendBatch;
use crate::timer::Moment;

/// A turn under way.
pub(super) struct Turn<'a> {
    pub(super) session: &'a mut Session,
    pub(super) listener: &'a DatagramListener,
    pub(super) desk: &'a mut Desk,
    host: &'a dyn Host,
    id: ConnectionId,
    /// The print of the datagram that is being answered.
    heard: Option<Print>,
    /// Handlers that took over since the last datagram.
    pub(super) switches: usize,
    /// The peer was heard in this turn.
    heard_any: bool,
}

/// Runs one turn of a session, made for these reasons, with the datagram that was just received if there
/// is one.
pub(crate) fn run(
    (id, session): (ConnectionId, &mut Session),
    (why, datagram): (Why, Option<&Fetched>),
    listener: &DatagramListener,
    desk: &mut Desk,
    host: &dyn Host,
) -> After {
    let began = desk.now;
    let mut turn =
        Turn { session, listener, desk, host, id, heard: None, switches: 0, heard_any: false };
    let left_over = turn.go(why, datagram);
    let heard_any = turn.heard_any;
    desk.now = listener.core.clock.instant();
    if heard_any {
        // From the turn's end on: the handler's own time is not the peer's silence.
        session.quiet_since = listener.core.clock.moment(desk.now);
    }
    desk.tidy();
    let took = desk.now.saturating_duration_since(began);
    listener.core.events.counters.turn(0, 0, 0, took);
    if session.ended().is_some() {
        return After::Closed;
    }
    if left_over && session.paused_until.is_none() {
        return After::Again;
    }
    let idle = session.quiet_since.after(Core::span(listener.core.live.idle_timeout()));
    let deadline = session.paused_until.unwrap_or(idle);
    After::Park { read: session.paused_until.is_none(), write: false, deadline }
}

impl Turn<'_> {
    /// Returns whether datagrams still wait.
    fn go(&mut self, why: Why, datagram: Option<&Fetched>) -> bool {
        if why.has(Why::START) {
            self.session.begins();
        }
        if why.has(Why::FORCE) {
            self.end(CloseReason::Forced);
            return false;
        }
        if why.has(Why::START) {
            self.start();
        }
        if why.has(Why::TIMER) {
            self.end_of_pause();
        }
        if let Some(datagram) = datagram {
            self.take_up(datagram);
        }
        if self.session.line.peer.address().is_nobodys() {
            // Another datagram may be anybody's: it begins a session of its own.
            self.end(CloseReason::Done);
        }
        let left_over = self.handle_waiting();
        if why.has(Why::TIMER) && !left_over {
            // Whoever waited for a worker was not silent.
            self.expire();
        }
        if why.has(Why::EVICT) {
            self.end(CloseReason::Evicted);
        }
        if self.listener.core.stage() >= Stage::Forcing {
            // The handler returned after the drain's deadline: nobody comes to end it any more.
            self.end(CloseReason::Forced);
            return false;
        }
        if !left_over && self.listener.core.is_draining() && self.is_open() && !self.session.told {
            self.session.told = true;
            self.ask(CloseReason::Draining, |h, cx| h.draining(cx));
        }
        left_over
    }

    fn is_open(&self) -> bool {
        self.session.phase == Phase::Open
    }

    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.is_open() {
            self.session.phase = Phase::Ended(reason);
        }
    }

    fn now(&self) -> Moment {
        self.listener.core.clock.now()
    }

    fn end_of_pause(&mut self) {
        let now = self.now();
        if self.session.paused_until.is_some_and(|until| until <= now) {
            self.session.paused_until = None;
            self.session.quiet_since = now;
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        let idle = Core::span(self.listener.core.live.idle_timeout());
        let listens = self.is_open() && self.session.paused_until.is_none() && !self.heard_any;
        if listens && self.session.quiet_since.after(idle) <= now {
            self.session.quiet_since = now;
            self.ask(CloseReason::IdleTimeout, |h, cx| h.idle(cx));
        }
    }

    /// Handles the datagram that was just received, unless the handler wants to hear nothing now.
    fn take_up(&mut self, datagram: &Fetched) {
        let (bytes, truncated) = (datagram.bytes(), datagram.is_truncated());
        if self.session.paused_until.is_none() {
            return self.handle(bytes, truncated);
        }
        let waiting = Waiting { bytes: bytes.into(), truncated };
        let mut intake = self.listener.intake.lock();
        let entry = intake.sessions.find(self.session.line.peer.address());
        // What waits there already came while this one was on its way here.
        if !entry.is_some_and(|entry| entry.inbox.push_first(waiting)) {
            drop(intake);
            self.listener.drop_datagram(&self.session.line.peer, DropReason::InboxFull);
        }
    }

    fn handle(&mut self, bytes: &[u8], truncated: bool) {
        let counters = &self.listener.core.events.counters;
        let peer = &self.session.line.peer;
        match &self.session.phase {
            Phase::Open => {}
            Phase::Ended(CloseReason::Filtered) => {
                return self.listener.drop_datagram(peer, DropReason::Filtered);
            }
            Phase::Ended(_) => return self.listener.drop_datagram(peer, DropReason::SessionEnded),
        }
        self.session.received += bytes.len() as u64;
        self.heard_any = true;
        if truncated {
            let peer = &self.session.line.peer;
            self.listener.drop_datagram(peer, DropReason::Truncated);
            let why = FrameError::Truncated { limit: self.listener.core.config.max_datagram };
            return self.ask(CloseReason::FrameTooLarge, |h, cx| h.rejected(&why, cx));
        }
        counters.datagram_handled();
        self.heard = Some(Print::of(bytes));
        self.switches = 0;
        self.ask(CloseReason::Done, |h, cx| h.handle(bytes, cx));
    }

    /// Handles what waits in the inbox, up to the budget. Returns whether more does.
    fn handle_waiting(&mut self) -> bool {
        for _ in 0..TURN_MESSAGES {
            if !self.is_open() || self.session.paused_until.is_some() {
                return false;
            }
            let mut intake = self.listener.intake.lock();
            let next = intake.sessions.next_for(self.session.line.peer.address(), self.id);
            drop(intake);
            let Some(waiting) = next else { return false };
            self.handle(&waiting.bytes, waiting.truncated);
        }
        true
    }

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
        succeeded: impl FnOnce(&mut Session),
    ) {
        let Desk { draft, replies, .. } = &mut *self.desk;
        let line = self.session.line.clone();
        let Some(handler) = self.session.actor.handler() else { return };
        let heard = self.heard.take();
        let listener = self.listener;
        let failure = None;
        let mut sink = SessionSink { line: &line, listener, replies, heard, sent: 0, failure };
        let mut cx = Context::new(&line, &mut sink, self.host, draft);
        let returned = isolated(|| {
            let next = callback(handler, &mut cx)?;
            cx.finish_draft();
            Ok(next)
        });
        if matches!(returned, Ok(Next::Abort)) {
            sink.replies.clear();
        }
        sink.commit();
        self.session.sent += sink.sent;
        let failure = sink.failure.take();
        if returned.is_ok() {
            succeeded(self.session);
        }
        self.step(outcome(failure.map(Step::Close), returned, close));
    }

    /// Does what a callback's answer means over datagrams.
    fn step(&mut self, step: Step) {
        match step {
            Step::Go => {}
            Step::Close(reason) | Step::Abort(reason) => self.end(reason),
            Step::HalfClose => self.end(CloseReason::Done),
            Step::Pause(span) => self.session.paused_until = Some(self.now().after(span)),
            Step::Switch(next) => self.switch(next),
            Step::StopServer => {
                self.host.stop_server();
                self.end(CloseReason::Done);
            }
        }
    }
}

/// Where the replies of a session's handler go: each is one datagram.
struct SessionSink<'a> {
    line: &'a Arc<Line>,
    listener: &'a DatagramListener,
    replies: &'a mut SendBatch,
    heard: Option<Print>,
    sent: u64,
    failure: Option<CloseReason>,
}

/// The most that a datagram carries over IPv4.
const MOST_BYTES: usize = 65_507;

impl SessionSink<'_> {
    fn commit(&mut self) {
        let heard = self.heard.take().map(|print| (self.line.peer.address(), print));
        self.sent += self.listener.commit(self.replies, heard) as u64;
    }
}

impl Sink for SessionSink<'_> {
    fn send(&mut self, message: &[u8]) {
        if message.len() > MOST_BYTES {
            let len = message.len();
            let text =
                format!("{len} bytes do not fit into a datagram, which carries {MOST_BYTES}");
            self.failure.get_or_insert(CloseReason::HandlerErr(text));
            return;
        }
        let peer = &self.line.peer;
        self.replies.push(message, peer.address(), peer.reached());
        if self.replies.is_full() {
            self.commit();
        }
    }

    fn send_raw(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    fn send_shared(&mut self, message: &Arc<[u8]>) {
        self.send(message);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.commit();
        self.listener.flush_replies();
        Ok(())
    }

    fn peer_gone(&self) -> bool {
        false
    }
}

/// Gives one datagram to the raw handler of a listener.
pub(crate) fn run_raw(
    listener: &DatagramListener,
    peer: &Peer,
    datagram: &Fetched,
    desk: &mut Desk,
) {
    let DatagramService::Raw(handler) = &listener.service else { return };
    let _running = listener.begin_raw();
    if !lets_in(listener, peer, desk) {
        return listener.drop_datagram(peer, DropReason::Filtered);
    }
    let (bytes, truncated) = (datagram.bytes(), datagram.is_truncated());
    let whole = Datagram::new(bytes, peer, truncated);
    let send = |collected: &mut SendBatch| {
        listener.commit(collected, None);
    };
    let mut replies = Replies::new(peer, &mut desk.replies, &send);
    let handled = isolated(|| handler.handle(&whole, &mut replies));
    let events = &listener.core.events;
    match handled {
        Ok(()) if truncated => listener.drop_datagram(peer, DropReason::Truncated),
        Ok(()) => events.counters.datagram_handled(),
        Err(reason) => {
            desk.replies.clear();
            let (listener, reason) = (&listener.address, &reason);
            events.emit(&Event::DatagramFailed { peer, listener, reason });
        }
    }
    listener.commit(&mut desk.replies, Some((peer.address(), Print::of(bytes))));
    desk.now = listener.core.clock.instant();
}

impl DatagramListener {
    /// Takes an ended session out of the table. What still waited for it begins a new one.
    pub(crate) fn end_session(
        self: &Arc<Self>,
        id: ConnectionId,
        peer: &Peer,
        host: &dyn SessionHost,
    ) {
        let mut intake = self.intake.lock();
        let mut left = intake.sessions.remove(peer.address(), id);
        if left.is_empty() {
            return;
        }
        let over = self.core.stage() >= Stage::Forcing || self.core.is_suspended();
        let begun = if over { None } else { self.begin(&mut intake.sessions, host, peer) };
        let entry = intake.sessions.find(peer.address());
        if let (Some((next, session)), Some(entry)) = (begun, entry) {
            entry.inbox = left;
            host.queue(next, session, Why::START.and(Why::READ));
            return;
        }
        drop(intake);
        let suspended = self.core.is_suspended();
        let reason = if suspended { DropReason::Suspended } else { DropReason::NoRoom };
        while left.pop().is_some() {
            self.drop_datagram(peer, reason);
        }
    }
}
