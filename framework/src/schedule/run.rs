//! Running what is ready: one turn of whatever a token names, and what follows it.

use std::sync::atomic::Ordering;

use crate::datagram::{self, DatagramListener, Fetched, Session, SessionHost, Taken};
use crate::desk::{After, Desk, Why};
use crate::event::{Event, HeldBy};
use crate::handler::Host;
use crate::peer::ConnectionId;
use crate::reason::CloseReason;
use crate::schedule::Concurrency;
use crate::schedule::engine::Engine;
use crate::schedule::token::Token;
use crate::stream::{self, Connection};

/// Datagrams that one turn of a datagram listener takes, before the next in the queue has its turn.
const TAKEN_PER_TURN: usize = 64;

impl Engine {
    /// Runs one turn of whatever a token names.
    pub(super) fn run(&self, token: Token, worker: usize, desk: &mut Desk) {
        let member = self.crew.member(worker);
        member.turn_begins(token);
        // Behind the count: a watchman who falls asleep at this moment sees it, or is seen asleep here.
        self.crew.wake_watchman();
        let host = WorkerHost { engine: self, worker };
        match token {
            Token::Datagrams(index) => self.run_datagrams(index, desk, &host),
            Token::Connection(id) => self.run_connection(id, desk, &host),
            Token::Session(id) => {
                if let Some((why, session)) = self.sessions.claim(id) {
                    let listener = session.listener.clone();
                    self.run_session((id, session), (why, None), desk, &host);
                    // No batch follows that would take its replies along.
                    self.flush_replies(&listener);
                }
            }
            Token::Tick(index) => self.run_tick(index),
            // These are not put into the ready queue.
            Token::Arrivals(_) | Token::Drain | Token::Crew => {}
        }
        member.turn_ends();
        self.crew.reinstate(worker);
    }

    fn run_connection(&self, id: ConnectionId, desk: &mut Desk, host: &WorkerHost<'_>) {
        let Some((why, mut conn)) = self.connections.claim(id) else { return };
        let own_thread = matches!(self.concurrency(), Concurrency::Threads { .. });
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
                if own_thread && (write || !read) {
                    // Its thread waits for its bytes. That it takes some again, or is gone altogether,
                    // is for the poller to say. (Registered already: then it is announced as it is.)
                    drop(self.poller.add_writer(&conn.socket, id.0));
                } else if write && conn.socket.announces_much_room() {
                    drop(self.poller.announce_room(&conn.socket, id.0));
                }
                self.arm(Token::Connection(id), deadline);
                if self.connections.park(id, conn, read, write) {
                    self.enqueue_connection(id);
                }
            }
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
                self.arm(Token::Session(id), deadline);
                if self.sessions.park(id, session, read, write) {
                    self.enqueue(Token::Session(id));
                }
            }
        }
    }

    /// Takes datagrams of a listener and runs their turns, up to a budget.
    fn run_datagrams(&self, index: usize, desk: &mut Desk, host: &WorkerHost<'_>) {
        let Some(listener) = self.sources.datagrams.get(index) else { return };
        let token = Token::Datagrams(index);
        listener.dequeued();
        for _ in 0..TAKEN_PER_TURN {
            let taken = listener.take(self);
            let runs = matches!(taken, Taken::Session { .. } | Taken::Raw { .. });
            if runs && listener.enqueue() {
                // Whoever takes over from us if this handler blocks goes on with the batch. In a pool
                // somebody is called in then; else there must be somebody before.
                match self.concurrency() {
                    Concurrency::Threads { .. } => self.enqueue(token),
                    Concurrency::Inline | Concurrency::Pool { .. } => self.ready.push(token),
                }
            }
            if matches!(taken, Taken::Nothing) {
                listener.flush_replies();
                return self.end_of_intake(listener);
            }
            self.run_taken(taken, (token, listener), desk, host);
            let member = self.crew.member(host.worker);
            member.turn_moves_on();
            if member.is_blocked() {
                // Somebody else has gone on meanwhile, and has the listener's turn.
                return self.flush_replies(listener);
            }
        }
        listener.flush_replies();
        if listener.enqueue() {
            self.enqueue(token);
        }
    }

    /// Does with a datagram what its taker has found: as a rule, runs a turn with it.
    pub(super) fn run_taken(
        &self,
        taken: Taken,
        (token, listener): (Token, &DatagramListener),
        desk: &mut Desk,
        host: &WorkerHost<'_>,
    ) {
        match taken {
            Taken::Nothing | Taken::Settled | Taken::Waits(_) => {}
            Taken::Dropped { peer, reason } => listener.drop_datagram(&peer, reason),
            Taken::Failed(error) => {
                let (address, error) = (&listener.address, &error);
                self.core.events.emit(&Event::ReceiveFailed { address, error });
            }
            Taken::Session { id, session, why, datagram } => {
                // A drain names whoever is stuck.
                let member = self.crew.member(host.worker);
                member.goes_on_with(Token::Session(id));
                self.run_session((id, session), (why, Some(&datagram)), desk, host);
                member.goes_on_with(token);
            }
            Taken::Raw { peer, datagram } => {
                datagram::run_raw(listener, &peer, &datagram, desk);
            }
        }
    }

    /// Sends what waits, behind the last of a listener's turns. A drain waits for it: whoever polls may have
    /// looked before it had left.
    fn flush_replies(&self, listener: &DatagramListener) {
        listener.flush_replies();
        if self.core.is_draining() {
            self.wake_poller();
        }
    }

    /// A drain ends the receiving once everything that had arrived was taken.
    fn end_of_intake(&self, listener: &DatagramListener) {
        if listener.is_closed() {
            self.wake_poller();
        }
    }

    // ---- leaving ----

    pub(super) fn close_connection(&self, id: ConnectionId, conn: Box<Connection>) {
        let reason = conn.ended();
        let traffic = conn.traffic(self.core.clock.now());
        let (line, listener) = (conn.line.clone(), conn.listener.clone());
        let permit = conn.close(&reason);
        let (peer, reason, listener) = (&line.peer, &reason, &listener.address);
        self.core.events.emit(&Event::ConnectionClosed { id, peer, listener, reason, traffic });
        self.solo.note_end(id, reason);
        self.connections.free(id);
        // Behind the slot: whoever gets the permit next finds a slot.
        drop(permit);
        self.somebody_left(reason);
    }

    fn close_session(&self, id: ConnectionId, mut session: Box<Session>) {
        let reason = session.ended().unwrap_or(CloseReason::Done);
        let line = session.line.clone();
        line.close();
        session.finish(&reason);
        session.listener.end_session(id, &line.peer, self);
        let traffic = session.traffic(self.core.clock.now());
        let (peer, reason, listener) = (&line.peer, &reason, &session.listener.address);
        self.core.events.emit(&Event::SessionEnded { id, peer, listener, reason, traffic });
        drop(session);
        self.sessions.free(id);
        self.core.events.counters.sessions_open.fetch_sub(1, Ordering::SeqCst);
        self.somebody_left(reason);
    }

    /// Ends whoever is still there and not in a turn, once the workers are home: there was no thread that
    /// could have told them.
    pub(super) fn close_who_is_left(&self) {
        for id in self.connections.occupants() {
            let claim = self.connections.claim(id).or_else(|| self.connections.claim_idle(id));
            if let Some((_, mut conn)) = claim {
                conn.force();
                self.close_connection(id, conn);
            }
        }
        for id in self.sessions.occupants() {
            let claim = self.sessions.claim(id).or_else(|| self.sessions.claim_idle(id));
            if let Some((why, mut session)) = claim {
                if why.has(Why::START) {
                    session.begins();
                }
                session.force();
                self.close_session(id, session);
            }
        }
    }

    fn somebody_left(&self, reason: &CloseReason) {
        if self.gate.left() {
            self.arm_listeners();
        }
        if self.core.is_draining() {
            self.drain.count(reason);
            self.wake_poller();
        }
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
        self.core.events.counters.sessions_open.fetch_add(1, Ordering::SeqCst);
        Some((id, session))
    }

    fn claim(&self, id: ConnectionId) -> Option<(Why, Box<Session>)> {
        self.sessions.claim_idle(id)
    }

    fn queue(&self, id: ConnectionId, session: Box<Session>, why: Why) {
        self.sessions.requeue(id, session, why);
        self.enqueue(Token::Session(id));
    }

    fn notify(&self, id: ConnectionId, why: Why) {
        Self::notify(self, id, why);
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
        if matches!(self.engine.concurrency(), Concurrency::Pool { .. }) {
            let turns = self.engine.crew.member(self.worker).turns();
            self.engine.replace(self.worker, turns, HeldBy::Blocking);
        }
    }

    fn block_ends(&self) {
        // The rest of the turn is run beside whoever took over; the crew is told when it is done.
    }

    fn stop_server(&self) {
        self.engine.begin_drain(self.engine.core.live.drain_timeout());
    }
}
