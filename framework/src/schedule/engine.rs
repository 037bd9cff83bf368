//! The engine of a server: it fetches events, says what is ready, and runs turns.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::close::CloseReason;
use crate::core::{Core, Stage};
use crate::datagram::{self, DatagramListener, Fetched, Session, SessionHost, Taken};
use crate::event::Event;
use crate::handler::Host;
use crate::outbox::{Line, Post};
use crate::peer::ConnectionId;
use crate::schedule::Concurrency;
use crate::schedule::crew::{Called, Crew, Shape};
use crate::schedule::drain::Drain;
use crate::schedule::ready::{Ready, Token};
use crate::schedule::worker;
use crate::slots::{SESSION_TAG, Slots};
use crate::stream::accept::{Round, accept_round, next_rest};
use crate::stream::admit::{Gate, Permit};
use crate::stream::listen::{Rest, StreamListener};
use crate::stream::{self, Connection};
use crate::sys::poll::{Event as PollEvent, Events, Poller};
use crate::sys::socket::Socket;
use crate::timer::{Alarm, Moment, Timers};
use crate::turn::{After, Desk, Why};

/// The listeners of a server.
pub(crate) struct Sources {
    pub(crate) streams: Vec<Arc<StreamListener>>,
    pub(crate) datagrams: Vec<Arc<DatagramListener>>,
}

/// Tokens below this generation are the server's own sources: datagram listeners from 0, stream
/// listeners from here.
const STREAM_LISTENERS: u64 = 1 << 16;

/// The timers' key of the drain; keys below are slots (with their tag) and stream listeners.
pub(super) const DRAIN_KEY: u64 = u64::MAX;
const LISTENER_KEYS: u64 = 1 << 40;

/// Datagrams that one turn of a datagram listener takes, before the next in the queue has its turn.
const TAKEN_PER_TURN: usize = 64;

/// How long a thread that polls may sleep when there is no event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doze {
    /// Until the next deadline; not at all if something is ready, which it will run itself.
    UnlessReady,
    /// Until the next deadline, and so long at most. It runs nothing itself.
    AtMost(Option<Duration>),
}

/// A server at work.
pub(crate) struct Engine {
    pub(crate) core: Arc<Core>,
    pub(crate) sources: Sources,
    pub(super) concurrency: Concurrency,
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: Slots<Connection>,
    pub(super) sessions: Slots<Session>,
    pub(super) ready: Ready,
    pub(super) crew: Crew,
    pub(super) drain: Drain,
    /// Threads that sleep in the poller, or are about to.
    asleep: AtomicUsize,
    /// One of them has been woken and has not stirred yet.
    stirring: AtomicBool,
    me: Weak<Self>,
}

impl Engine {
    pub(crate) fn new(
        core: Arc<Core>,
        concurrency: Concurrency,
        max_connections: usize,
        sources: impl FnOnce(Weak<dyn Post>) -> crate::error::Result<Sources>,
    ) -> crate::error::Result<Arc<Self>> {
        let failed = |error| crate::Error::system("cannot make a poller", error);
        let poller = Poller::new().map_err(failed)?;
        let (max, workers, allowance, shape) = match concurrency {
            Concurrency::Inline => (max_connections, 1, 1, Shape::Leader),
            Concurrency::Threads { max } => {
                (max_connections.min(max), max + 1, max + 1, Shape::Queue)
            }
            Concurrency::Pool { workers } => (max_connections, workers, 1, Shape::Leader),
        };
        let mut bound = Ok(());
        let engine = Arc::new_cyclic(|me: &Weak<Self>| {
            let made = sources(me.clone());
            let sources = made.unwrap_or_else(|error| {
                bound = Err(error);
                Sources { streams: Vec::new(), datagrams: Vec::new() }
            });
            let tables = sources.datagrams.len();
            Self {
                connections: Slots::new(max, 0),
                sessions: Slots::new((core.config.max_sessions + 64) * tables, SESSION_TAG),
                gate: Gate::new(max),
                timers: Timers::new(),
                ready: Ready::default(),
                crew: Crew::new(workers, allowance, shape),
                drain: Drain::new(),
                asleep: AtomicUsize::new(0),
                stirring: AtomicBool::new(false),
                core,
                sources,
                concurrency,
                poller,
                me: me.clone(),
            }
        });
        bound?;
        Ok(engine)
    }

    pub(super) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub(crate) fn stats(&self) -> crate::event::Stats {
        self.core.events.counters.snapshot(self.gate.open())
    }

    // ---- fetching ----

    /// Registers the listeners.
    pub(super) fn open_for_business(&self) -> std::io::Result<()> {
        for (index, listener) in (0..).zip(&self.sources.streams) {
            if let Some(socket) = listener.socket() {
                self.poller.add_listener(&*socket, STREAM_LISTENERS | index)?;
            }
        }
        for (index, listener) in (0..).zip(&self.sources.datagrams) {
            if let Some(socket) = listener.socket() {
                self.poller.add_datagrams(&*socket, index)?;
            }
        }
        Ok(())
    }

    /// Fetches events and deadlines, and puts what is ready into the queue.
    pub(super) fn poll(&self, events: &mut Events, doze: Doze) {
        self.asleep.fetch_add(1, Ordering::SeqCst);
        // From here on whoever makes something ready wakes us; what was made so before is seen here.
        self.go_on_draining();
        let timer = self.timers.sleep(self.core.clock.now());
        let timeout = match doze {
            _ if self.crew.is_leaving() => Some(Duration::ZERO),
            Doze::UnlessReady if self.ready.is_empty() => timer,
            Doze::UnlessReady => Some(Duration::ZERO),
            Doze::AtMost(most) => timer.into_iter().chain(most).min(),
        };
        let waited = self.poller.wait(events, timeout);
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        self.stirring.store(false, Ordering::SeqCst);
        if let Err(error) = waited {
            // The poller is ours alone; this cannot come from outside.
            debug_assert!(false, "epoll: {error}");
        }
        for event in events.iter() {
            self.announce(event);
        }
        self.fire_timers();
        self.go_on_draining();
    }

    fn fire_timers(&self) {
        let alarm_of = |key: u64| -> Option<&Alarm> {
            match key {
                DRAIN_KEY => Some(&self.drain.alarm),
                key if key >= LISTENER_KEYS => {
                    Some(&self.sources.streams.get((key - LISTENER_KEYS) as usize)?.alarm)
                }
                key if key & SESSION_TAG != 0 => {
                    Some(&self.sessions.slot(ConnectionId(key))?.alarm)
                }
                key => Some(&self.connections.slot(ConnectionId(key))?.alarm),
            }
        };
        self.timers.fire(self.core.clock.now(), alarm_of, |key| match key {
            DRAIN_KEY => self.drain_deadline(),
            key if key >= LISTENER_KEYS => self.arm_listener((key - LISTENER_KEYS) as usize),
            key => {
                let index = key & (SESSION_TAG - 1);
                let slots_say = if key & SESSION_TAG != 0 {
                    self.sessions.occupant(index)
                } else {
                    self.connections.occupant(index)
                };
                if let Some(id) = slots_say {
                    self.notify(id, Why::TIMER);
                }
            }
        });
    }

    fn announce(&self, event: PollEvent) {
        if event.token >> 32 == 0 {
            return self.announce_source(event);
        }
        let mut why = Why::NOTHING;
        for (is_so, reason) in [
            (event.readable, Why::READ),
            (event.writable, Why::WRITE),
            (event.hung_up, Why::HANGUP),
        ] {
            if is_so {
                why = why.and(reason);
            }
        }
        self.notify(ConnectionId(event.token), why);
    }

    fn announce_source(&self, event: PollEvent) {
        if event.token & STREAM_LISTENERS != 0 {
            return self.accept((event.token & !STREAM_LISTENERS) as usize);
        }
        let Some(listener) = self.sources.datagrams.get(event.token as usize) else { return };
        if event.writable {
            listener.unblocked();
        }
        if event.readable && listener.announce() {
            self.enqueue(event.token);
        }
    }

    /// Wakes a thread that sleeps in the poller, if one does.
    pub(super) fn wake_poller(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 && !self.stirring.swap(true, Ordering::SeqCst) {
            self.poller.wake();
        }
    }

    // ---- what is ready ----

    /// Gives a connection or session a reason for a turn.
    pub(super) fn notify(&self, id: ConnectionId, why: Why) {
        let is_session = id.0 & SESSION_TAG != 0;
        let queue = if is_session {
            self.sessions.notify(id, why)
        } else {
            self.connections.notify(id, why)
        };
        if queue {
            self.enqueue_connection(id);
        }
    }

    /// Queues what has its bit set: with the worker that waits on it itself, or for all.
    fn enqueue_connection(&self, id: ConnectionId) {
        let owner = if matches!(self.concurrency, Concurrency::Threads { .. }) {
            self.connections.slot(id).filter(|_| id.0 & SESSION_TAG == 0).and_then(|s| s.owner())
        } else {
            None
        };
        match owner.and_then(|worker| self.crew.member(worker).wake.get()) {
            Some(wake) => wake.raise(),
            None => self.enqueue(id.0),
        }
    }

    /// Puts a token into the ready queue, and sees to it that somebody comes for it.
    pub(super) fn enqueue(&self, token: Token) {
        self.ready.push(token);
        match self.crew.shape() {
            Shape::Leader => self.wake_poller(),
            Shape::Queue => self.call_in(),
        }
    }

    /// Calls in one more worker, if another one may be awake.
    pub(super) fn call_in(&self) {
        let called = self.crew.call_in();
        self.start(&called);
    }

    /// Starts the thread of a worker that was called in for the first time.
    pub(super) fn start(&self, called: &Called) {
        let Called::New(worker) = *called else { return };
        let Some(engine) = self.shared() else { return };
        let thread = std::thread::Builder::new().name(format!("switchboard-{worker}"));
        match thread.spawn(move || worker::run(&engine, worker)) {
            Ok(thread) => self.crew.started(worker, thread),
            Err(error) => {
                self.crew.not_started(worker);
                self.core.events.emit(&Event::ThreadFailed { error: &error });
            }
        }
    }

    // ---- running ----

    /// Runs one turn of whatever a token names.
    pub(super) fn run(&self, token: Token, worker: usize, desk: &mut Desk) {
        let member = self.crew.member(worker);
        member.turn_begins(token);
        let host = WorkerHost { engine: self, worker };
        if token >> 32 == 0 {
            self.run_datagrams(token, desk, &host);
        } else if token & SESSION_TAG != 0 {
            let id = ConnectionId(token);
            if let Some((why, session)) = self.sessions.claim(id) {
                self.run_session((id, session), (why, None), desk, &host);
            }
        } else {
            self.run_connection(ConnectionId(token), desk, &host);
        }
        member.turn_ends();
        self.crew.reinstate(worker);
    }

    fn run_connection(&self, id: ConnectionId, desk: &mut Desk, host: &WorkerHost<'_>) {
        let Some((why, mut conn)) = self.connections.claim(id) else { return };
        let own_thread = matches!(self.concurrency, Concurrency::Threads { .. });
        if own_thread && let Some(slot) = self.connections.slot(id) {
            slot.set_owner(host.worker);
        }
        match stream::run(&mut conn, why, desk, &self.core, host) {
            After::Closed => self.close_connection(id, conn),
            After::Again => {
                self.connections.requeue(id, conn, Why::MORE);
                self.enqueue_connection(id);
            }
            After::Park { read, write, deadline } => {
                if own_thread && write {
                    // Registered already: then it is announced as it is.
                    drop(self.poller.add_writer(&*conn.socket, id.0));
                }
                self.arm(id, deadline);
                if self.connections.park(id, conn, read, write) {
                    self.enqueue_connection(id);
                }
            }
        }
    }

    /// Arms a slot's timer. The slot is claimed by the caller.
    fn arm(&self, id: ConnectionId, deadline: Moment) {
        let key = id.0 & 0xffff_ffff;
        let alarm = if key & SESSION_TAG != 0 {
            self.sessions.slot(id).map(|slot| &slot.alarm)
        } else {
            self.connections.slot(id).map(|slot| &slot.alarm)
        };
        if let Some(alarm) = alarm
            && self.timers.arm(key, alarm, deadline)
        {
            self.wake_poller();
        }
    }

    fn run_session(
        &self,
        (id, mut session): (ConnectionId, Box<Session>),
        (why, datagram): (Why, Option<&Fetched>),
        desk: &mut Desk,
        host: &WorkerHost<'_>,
    ) {
        let listener = session.listener.clone();
        match datagram::run((id, &mut session), (why, datagram), &listener, desk, host) {
            After::Closed => self.close_session(id, session),
            After::Again => self.queue(id, session, Why::MORE),
            After::Park { read, write, deadline } => {
                self.arm(id, deadline);
                if self.sessions.park(id, session, read, write) {
                    self.enqueue(id.0);
                }
            }
        }
    }

    /// Takes datagrams of a listener and runs their turns, up to a budget.
    fn run_datagrams(&self, token: Token, desk: &mut Desk, host: &WorkerHost<'_>) {
        let Some(listener) = self.sources.datagrams.get(token as usize) else { return };
        listener.dequeued();
        for _ in 0..TAKEN_PER_TURN {
            let taken = listener.take(self);
            if !matches!(taken, Taken::Nothing | Taken::Settled) && listener.enqueue() {
                // Whoever takes over from us if this handler blocks goes on with the batch. A leader is
                // replaced then; under a queue somebody must be there before.
                match self.crew.shape() {
                    Shape::Leader => self.ready.push(token),
                    Shape::Queue => self.enqueue(token),
                }
            }
            match taken {
                Taken::Nothing => {
                    listener.flush_replies();
                    return self.end_of_intake(listener);
                }
                Taken::Settled => {}
                Taken::Session { id, session, why, datagram } => {
                    self.run_session((id, session), (why, Some(&datagram)), desk, host);
                }
                Taken::Raw { peer, datagram } => {
                    datagram::run_raw(listener, &peer, &datagram, desk);
                }
            }
            if self.crew.member(host.worker).is_blocked() {
                // Somebody else has gone on meanwhile, and has the listener's turn.
                return listener.flush_replies();
            }
        }
        listener.flush_replies();
        if listener.enqueue() {
            self.enqueue(token);
        }
    }

    /// A drain ends the receiving once everything that had arrived was taken.
    fn end_of_intake(&self, listener: &DatagramListener) {
        if self.core.is_draining() {
            listener.close_intake();
            self.wake_poller();
        }
    }

    // ---- leaving ----

    fn close_connection(&self, id: ConnectionId, conn: Box<Connection>) {
        let reason = conn.ended();
        let traffic = conn.traffic(self.core.clock.now());
        let line = conn.line.clone();
        conn.close(&reason);
        self.core.events.emit(&Event::Closed { id, peer: &line.peer, reason: &reason, traffic });
        self.connections.free(id);
        self.somebody_left(&reason);
    }

    fn close_session(&self, id: ConnectionId, mut session: Box<Session>) {
        let reason = session.ended().unwrap_or(CloseReason::Done);
        let line = session.line.clone();
        line.close();
        session.finish(&reason);
        session.listener.end_session(id, &line.peer, self);
        let traffic = session.traffic(self.core.clock.now());
        self.core.events.emit(&Event::Closed { id, peer: &line.peer, reason: &reason, traffic });
        drop(session);
        self.sessions.free(id);
        self.somebody_left(&reason);
    }

    fn somebody_left(&self, reason: &CloseReason) {
        if self.gate.left() {
            (0..self.sources.streams.len()).for_each(|index| self.arm_listener(index));
        }
        if self.core.is_draining() {
            self.drain.count(reason);
            self.wake_poller();
        }
    }

    // ---- accepting ----

    pub(super) fn accept(&self, index: usize) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        let Some(socket) = listener.socket() else { return };
        let events = &self.core.events;
        let address = &listener.address;
        let round = accept_round(
            &socket,
            &self.gate,
            |accepted, addr, permit| self.admit(listener, accepted, addr, permit),
            |error| events.emit(&Event::AcceptFailed { address, error, rest: None }),
        );
        match round {
            Round::Empty | Round::More => listener.set_rest(Rest::Armed),
            Round::Over => {}
            Round::Full => {
                events.emit(&Event::Full { max_connections: self.gate.max() });
                self.rest_listener(index, Rest::Full);
            }
            Round::Rest(error) => {
                let before = match listener.rest() {
                    Rest::Failed(before) => Some(before),
                    Rest::Armed | Rest::Full => None,
                };
                let rest = next_rest(before);
                events.emit(&Event::AcceptFailed { address, error: &error, rest: Some(rest) });
                self.rest_listener(index, Rest::Failed(rest));
                let until = self.core.clock.now().after(rest);
                self.timers.arm(LISTENER_KEYS + index as u64, &listener.alarm, until);
            }
            Round::Stop(error) => {
                events.emit(&Event::AcceptFailed { address, error: &error, rest: None });
                listener.close();
            }
        }
    }

    /// Stops announcing a listener until somebody leaves (or its timer fires).
    fn rest_listener(&self, index: usize, rest: Rest) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        let Some(socket) = listener.socket() else { return };
        listener.set_rest(rest);
        self.gate.await_leave();
        drop(self.poller.rest_listener(&*socket, STREAM_LISTENERS | index as u64));
        // Somebody may have left before we could be seen to wait.
        if rest == Rest::Full && self.gate.open() < self.gate.max() {
            self.arm_listener(index);
        }
    }

    fn arm_listener(&self, index: usize) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        if let Some(socket) = listener.socket() {
            drop(self.poller.arm_listener(&*socket, STREAM_LISTENERS | index as u64));
        }
    }

    fn admit(
        &self,
        listener: &StreamListener,
        socket: Socket,
        addr: Option<SocketAddr>,
        permit: Permit,
    ) {
        // A peer that has reset the connection already may have no address any more.
        let addr = addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let peer = listener.peer_of(addr, &socket);
        // There is a slot for every permit.
        let Some(id) = self.connections.reserve() else { return };
        let socket = Arc::new(socket);
        let line = Line::stream(id, peer, socket.clone(), listener.settings.clone());
        self.connections.set_line(id, line.clone());
        self.core.events.emit(&Event::Opened { id, peer: &line.peer });
        let registered = match self.concurrency {
            // Its own thread waits for its bytes.
            Concurrency::Threads { .. } => Ok(()),
            Concurrency::Inline | Concurrency::Pool { .. } => {
                self.poller.add_stream(&*socket, id.0)
            }
        };
        let now = self.core.clock.now();
        let mut conn = Connection::new(line, socket, &listener.factory, permit, now);
        if let Err(error) = registered {
            conn.break_off(error.raw_os_error().unwrap_or(0));
            return self.close_connection(id, Box::new(conn));
        }
        self.connections.requeue(id, Box::new(conn), Why::START);
        self.enqueue(id.0);
    }
}

impl SessionHost for Engine {
    fn open(
        &self,
        make: &mut dyn FnMut(ConnectionId) -> Session,
    ) -> Option<(ConnectionId, Box<Session>)> {
        let id = self.sessions.reserve()?;
        let session = Box::new(make(id));
        self.sessions.set_line(id, session.line.clone());
        self.core.events.emit(&Event::Opened { id, peer: &session.line.peer });
        Some((id, session))
    }

    fn claim(&self, id: ConnectionId) -> Option<(Why, Box<Session>)> {
        self.sessions.claim_idle(id)
    }

    fn queue(&self, id: ConnectionId, session: Box<Session>, why: Why) {
        self.sessions.requeue(id, session, why);
        self.enqueue(id.0);
    }

    fn notify(&self, id: ConnectionId, why: Why) {
        Self::notify(self, id, why);
    }
}

impl Post for Engine {
    fn is_running(&self, id: ConnectionId) -> bool {
        self.connections.is_running(id)
    }

    fn deliver(&self, id: ConnectionId) {
        self.notify(id, Why::SEND);
    }

    fn overflowed(&self, id: ConnectionId) {
        self.notify(id, Why::OVERFLOW);
    }

    fn skipped(&self, messages: usize) {
        self.core.events.counters.skipped(messages);
    }
}

/// What a callback reaches through its worker.
pub(super) struct WorkerHost<'a> {
    pub(super) engine: &'a Engine,
    pub(super) worker: usize,
}

impl Host for WorkerHost<'_> {
    fn is_draining(&self) -> bool {
        self.engine.core.is_draining()
    }

    fn block_begins(&self) {
        if matches!(self.engine.concurrency, Concurrency::Pool { .. }) {
            self.engine.replace(self.worker, false);
        }
    }

    fn block_ends(&self) {
        // The rest of the turn is run beside whoever took over; the crew is told when it is done.
    }

    fn stop_server(&self) {
        self.engine.begin_drain(self.engine.core.config.drain_timeout);
    }
}

impl Engine {
    /// A worker blocks, or computes long: strikes it off and calls another one in.
    pub(super) fn replace(&self, worker: usize, hog: bool) {
        if !self.crew.strike_off(worker) {
            return;
        }
        self.core.events.emit(&Event::WorkerReplaced { worker, hog });
        if self.core.stage() < Stage::Stopped {
            self.call_in();
        }
        if self.crew.all_blocked() {
            // The control poller keeps everything else alive.
            self.crew.wake_watchman();
        }
    }
}
