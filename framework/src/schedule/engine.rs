//! The engine of a server: it fetches events, says what is ready, and runs turns.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::config::MOST_SESSIONS;
use crate::datagram::{DatagramListener, Session};
use crate::desk::Why;
use crate::event::{Event, HeldBy};
use crate::handler::Factories;
use crate::outbox::{Post, Reach};
use crate::peer::ConnectionId;
use crate::schedule::Concurrency;
use crate::schedule::crew::{Called, Crew, Shape};
use crate::schedule::drain::Drain;
use crate::schedule::ready::Ready;
use crate::schedule::shortage::Shortage;
use crate::schedule::solo::Solo;
use crate::schedule::ticks::Ticks;
use crate::schedule::token::Token;
use crate::slots::{SESSION_TAG, Slots};
use crate::stage::{Core, Stage};
use crate::stream::Connection;
use crate::stream::admit::Gate;
use crate::stream::listen::StreamListener;
use crate::sys::poll::{Event as PollEvent, Events, Poller};
use crate::sys::wake::Wake;
use crate::timer::{Alarm, Moment, Timers};

/// The listeners of a server.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) streams: Vec<Arc<StreamListener>>,
    pub(crate) datagrams: Vec<Arc<DatagramListener>>,
    /// What makes the handlers of listeners that have no factory of their own.
    pub(crate) factories: Factories,
}

/// How long a thread that polls may sleep when there is no event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doze {
    /// Until the next deadline, and so long at most; not at all if something is ready, which it will run
    /// itself.
    UnlessReady(Option<Duration>),
    /// Until the next deadline, and so long at most. It runs nothing itself.
    AtMost(Option<Duration>),
}

/// A server at work.
pub(crate) struct Engine {
    pub(crate) core: Arc<Core>,
    pub(crate) sources: Sources,
    /// As the user has selected it; see [`Engine::concurrency`].
    pub(super) selected: Concurrency,
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: Slots<Connection>,
    pub(super) sessions: Slots<Session>,
    pub(super) ready: Ready,
    pub(super) crew: Crew,
    pub(super) drain: Drain,
    pub(super) ticks: Ticks,
    pub(super) shortage: Shortage,
    /// One connection or datagram at a time is served now.
    pub(super) solo: Solo,
    /// The poller knows the listeners.
    pub(super) registered: AtomicBool,
    /// Held while what several places know is changed: a limit, or whether the server is suspended. No
    /// code of the user runs meanwhile.
    pub(super) adjusting: Mutex<()>,
    /// Observers know of the listeners: they will hear of their end.
    pub(super) listeners_told: AtomicBool,
    /// A door was shut or opened: whoever waits for that looks at all of them.
    pub(super) doors: (Mutex<()>, Condvar),
    /// Threads that sleep in the poller, or are about to.
    asleep: AtomicUsize,
    /// One of them has been woken and has not stirred yet.
    stirring: AtomicBool,
    me: Weak<Self>,
}

impl Engine {
    /// A server at work, once somebody serves it. At most `max_connections` are open at first, and never
    /// more than there is `room` for.
    pub(crate) fn new(
        core: Arc<Core>,
        concurrency: Concurrency,
        (max_connections, room): (usize, usize),
        sources: impl FnOnce(Weak<dyn Post>) -> crate::error::Result<Sources>,
    ) -> crate::error::Result<Arc<Self>> {
        let failed = |error| crate::Error::system("cannot make a poller", error);
        let poller = match core.is_in_memory() {
            true => Poller::in_memory(),
            false => Poller::new().map_err(failed)?,
        };
        let (workers, allowance, shape) = match concurrency {
            Concurrency::Inline => (1, 1, Shape::Leader),
            Concurrency::Threads { max } => {
                // One for datagrams and one for each tick, when all connections have theirs.
                let workers = max + 1 + core.config.ticks.len();
                (workers, workers, Shape::Queue)
            }
            Concurrency::Pool { workers } => (workers, 1, Shape::Leader),
        };
        let room = concurrency.connections_within(room.max(max_connections));
        let max = room.min(max_connections);
        let mut bound = Ok(());
        let engine = Arc::new_cyclic(|me: &Weak<Self>| {
            let made = sources(me.clone());
            let sources = made.unwrap_or_else(|error| {
                bound = Err(error);
                Sources::default()
            });
            let tables = sources.datagrams.len();
            Self {
                connections: Slots::new(room, 0),
                // Those who are evicted keep their place until they have finished.
                sessions: Slots::new((MOST_SESSIONS + 64) * tables, SESSION_TAG),
                gate: Gate::new(max),
                timers: Timers::new(),
                ready: Ready::default(),
                crew: Crew::new(workers, allowance, shape),
                drain: Drain::new(),
                ticks: Ticks::new(&core.config.ticks),
                shortage: Shortage::default(),
                adjusting: Mutex::new(()),
                listeners_told: AtomicBool::new(false),
                doors: Default::default(),
                asleep: AtomicUsize::new(0),
                stirring: AtomicBool::new(false),
                core,
                sources,
                selected: concurrency,
                solo: Solo::default(),
                registered: AtomicBool::new(false),
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

    /// Whether the caller is the one to tell of the listeners.
    pub(crate) fn is_first_to_tell_of_listeners(&self) -> bool {
        !self.listeners_told.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> crate::event::Stats {
        self.core.events.counters.snapshot(self.gate.open())
    }

    // ---- fetching ----

    /// How handlers are run now: one at a time is served on the caller's thread, whatever was selected.
    pub(super) fn concurrency(&self) -> Concurrency {
        if self.solo.is_on() { Concurrency::Inline } else { self.selected }
    }

    /// Registers the listeners, or announces them again after somebody served for a while.
    pub(super) fn open_for_business(&self) -> std::io::Result<()> {
        self.see_to_closing_doors();
        if self.registered.load(Ordering::SeqCst) {
            self.arm_listeners();
            for (index, listener) in (0..).zip(&self.sources.datagrams) {
                // What was announced then is announced no more.
                if listener.announce() {
                    self.ready.push(Token::Datagrams(index));
                }
            }
            return Ok(());
        }
        let _nobody_suspends = self.adjusting.lock();
        for (index, listener) in (0..).zip(&self.sources.streams) {
            if let Some(socket) = listener.socket() {
                let token = Token::Arrivals(index).pack();
                listener.door.announce(|| self.poller.add_listener(&*socket, token))?;
            }
        }
        for (index, listener) in (0..).zip(&self.sources.datagrams) {
            if let Some(socket) = listener.socket() {
                self.poller.add_datagrams(&socket, Token::Datagrams(index).pack())?;
            }
        }
        self.registered.store(true, Ordering::SeqCst);
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
            Doze::UnlessReady(_) if !self.ready.is_empty() => Some(Duration::ZERO),
            Doze::UnlessReady(most) | Doze::AtMost(most) => timer.into_iter().chain(most).min(),
        };
        let waited = self.poller.wait(events, timeout);
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        self.stirring.store(false, Ordering::SeqCst);
        if self.crew.is_leaving() {
            // One wake-up for all who may sleep here: each passes it on.
            self.poller.wake();
        }
        if let Err(error) = waited {
            // The poller is ours alone, so that this should not be; but without it nobody is heard.
            self.core.events.emit(&Event::PollFailed { error: &error });
            self.begin_drain(Duration::ZERO);
        }
        for event in events.iter() {
            self.announce(event);
        }
        self.fire_timers();
        self.go_on_draining();
    }

    fn fire_timers(&self) {
        let alarm_of = |key| self.alarm_of(Token::unpack(key));
        self.timers.fire(self.core.clock.now(), alarm_of, |key| {
            let occupant = match Token::unpack(key) {
                Token::Drain => return self.drain_deadline(),
                Token::Arrivals(index) => return self.listener_deadline(index),
                Token::Crew => return self.try_for_threads(),
                Token::Tick(_) => return self.enqueue(Token::unpack(key)),
                Token::Datagrams(index) => return self.flush_datagrams(index),
                Token::Connection(id) => self.connections.occupant(id),
                Token::Session(id) => self.sessions.occupant(id),
            };
            if let Some(id) = occupant {
                self.notify(id, Why::TIMER);
            }
        });
    }

    fn flush_datagrams(&self, index: usize) {
        if let Some(listener) = self.sources.datagrams.get(index) {
            listener.flush_replies();
        }
    }

    /// The alarm of whoever a deadline is for.
    fn alarm_of(&self, token: Token) -> Option<&Alarm> {
        Some(match token {
            Token::Drain => &self.drain.alarm,
            Token::Arrivals(index) => &self.sources.streams.get(index)?.alarm,
            Token::Crew => &self.shortage.alarm,
            Token::Tick(index) => self.ticks.alarm(index)?,
            Token::Datagrams(index) => &self.sources.datagrams.get(index)?.alarm,
            Token::Connection(id) => &self.connections.slot(id)?.alarm,
            Token::Session(id) => &self.sessions.slot(id)?.alarm,
        })
    }

    /// Makes sure that whoever it is for is woken at the deadline or before.
    pub(super) fn arm(&self, token: Token, deadline: Moment) {
        if let Some(alarm) = self.alarm_of(token)
            && self.timers.arm(token.timer_key(), alarm, deadline)
        {
            self.wake_poller();
        }
    }

    fn announce(&self, event: PollEvent) {
        match Token::unpack(event.token) {
            Token::Connection(id) | Token::Session(id) => {
                let reasons = [
                    (event.readable, Why::READ),
                    (event.writable, Why::WRITE),
                    (event.hung_up, Why::HANGUP),
                ];
                let named = reasons.into_iter().filter(|(is_so, _)| *is_so);
                self.notify(id, named.fold(Why::NOTHING, |all, (_, why)| all.and(why)));
            }
            Token::Arrivals(index) => self.accept(index),
            Token::Datagrams(index) => self.announce_datagrams(index, event),
            Token::Drain | Token::Crew | Token::Tick(_) => {}
        }
    }

    fn announce_datagrams(&self, index: usize, event: PollEvent) {
        let Some(listener) = self.sources.datagrams.get(index) else { return };
        if event.writable {
            listener.unblocked();
        }
        if event.readable && listener.announce() {
            self.enqueue(Token::Datagrams(index));
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
        match Token::of(id) {
            Token::Session(id) if self.sessions.notify(id, why) => {
                self.enqueue(Token::Session(id));
            }
            Token::Connection(id) if self.connections.notify(id, why) => {
                self.enqueue_connection(id);
            }
            _ => {}
        }
    }

    /// Queues a connection that has its bit set: with the worker that waits on it itself, or for all.
    pub(super) fn enqueue_connection(&self, id: ConnectionId) {
        match self.own_wake(id) {
            Some(wake) => wake.raise(),
            None => self.enqueue(Token::Connection(id)),
        }
    }

    /// What wakes the worker that waits on this connection itself. Under `Threads` only.
    fn own_wake(&self, id: ConnectionId) -> Option<&Wake> {
        let owner = self.connections.slot(id).and_then(|slot| slot.owner());
        owner.and_then(|worker| self.crew.member(worker).wake.get())
    }

    /// Puts a token into the ready queue, and sees to it that somebody comes for it.
    pub(super) fn enqueue(&self, token: Token) {
        self.ready.push(token);
        let alone = self.solo.is_on() || !self.is_served();
        if self.crew.shape() == Shape::Leader || alone {
            self.wake_poller();
        } else {
            self.call_in();
        }
    }

    /// Calls in one more worker, if another one may be awake.
    pub(super) fn call_in(&self) {
        let called = self.crew.call_in();
        self.start(&called);
    }

    /// A worker blocks, or computes long: strikes it off and calls another one in.
    pub(super) fn replace(&self, worker: usize, turns: u64, by: HeldBy) {
        if !self.crew.strike_off(worker, turns, by) {
            return;
        }
        self.core.events.emit(&Event::WorkerReplaced { worker, by });
        // Replies to its batch-mates do not wait for it, nor for a worker that may not come.
        self.sources.datagrams.iter().for_each(|listener| listener.flush_replies());
        if self.core.stage() < Stage::Stopped {
            self.call_in();
        }
        if self.crew.all_blocked() {
            // The control poller keeps everything else alive.
            self.crew.wake_watchman();
        }
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

    fn sent_aside(&self, bytes: usize) {
        self.core.events.counters.sent_aside(bytes);
    }

    fn try_again(&self, listener: usize, at: Moment) {
        self.arm(Token::Datagrams(listener), at);
    }

    fn skipped(&self, messages: usize) {
        self.core.events.counters.skipped(messages);
    }

    fn deliver_all(&self, ids: &mut dyn Iterator<Item = ConnectionId>) {
        let mut queued = 0;
        // (Connections alone have an outbox.)
        for id in ids.filter(|id| self.connections.notify(*id, Why::SEND)) {
            match self.own_wake(id) {
                Some(wake) => wake.raise(),
                None => {
                    self.ready.push(Token::Connection(id));
                    queued += 1;
                }
            }
        }
        match self.crew.shape() {
            Shape::Leader if queued > 0 => self.wake_poller(),
            Shape::Leader => {}
            Shape::Queue => {
                // Nobody who sleeps is left long before a large group is through.
                let mut called = Called::Sleeper;
                while queued > 0 && !matches!(called, Called::Nobody) {
                    called = self.crew.call_in();
                    self.start(&called);
                    queued -= 1;
                }
            }
        }
    }

    fn fanned_out(&self, taken: usize) {
        self.core.events.counters.fanned_out(taken);
    }

    fn reach(&self) -> Reach {
        match self.concurrency() {
            Concurrency::Threads { .. } => Reach::AtOnce,
            Concurrency::Inline | Concurrency::Pool { .. } => Reach::ByTurns,
        }
    }
}
