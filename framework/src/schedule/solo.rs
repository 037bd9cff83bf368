//! One at a time: a single connection to its end, or a single datagram, on the caller's thread.
//!
//! The engine runs as under `Inline`, in a loop of its own, which lets one connection in and then nobody:
//! whoever comes next stays queued in the kernel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::datagram::Taken;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::peer::{ConnectionId, Peer};
use crate::reason::CloseReason;
use crate::schedule::DrainReport;
use crate::schedule::drain::InTurn;
use crate::schedule::engine::{Doze, Engine};
use crate::schedule::run::WorkerHost;
use crate::schedule::token::Token;
use crate::stream::accept::ACCEPTS_PER_ROUND;
use crate::sys::poll::Events;

/// The worker in whose place the caller's thread runs turns.
const CALLER: usize = 0;

/// What became of a call of [`BoundServer::serve_one`](crate::BoundServer::serve_one).
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Next, Served, UdpServer, handler_fn};
///
/// let mut server = UdpServer::bind("127.0.0.1:0", |_peer| {
///     handler_fn(|_message, _cx| Ok(Next::Continue))
/// })?;
/// let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.addresses()[0].socket_addr().unwrap())?;
/// let Served::Datagram { peer } = server.serve_one(Duration::from_secs(5))? else {
///     panic!("a datagram is there")
/// };
/// assert_eq!(peer.socket_addr(), client.local_addr().ok());
/// assert_eq!(server.serve_one(Duration::from_millis(1))?, Served::TimedOut);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// A connection was served to its end.
    Connection {
        /// Who it was.
        peer: Peer,
        /// Why it ended. One that was not let in at all ended for [`CloseReason::Filtered`].
        reason: CloseReason,
    },
    /// A datagram was handled, or dropped for a reason that is counted.
    Datagram {
        /// Who sent it.
        peer: Peer,
    },
    /// Nobody came within the timeout.
    TimedOut,
    /// The server was drained: it will serve nobody any more.
    Drained(DrainReport),
}

/// What the engine has to know of serving one at a time.
#[derive(Debug, Default)]
pub(super) struct Solo {
    on: AtomicBool,
    /// How often it was begun.
    calls: AtomicUsize,
    state: Mutex<State>,
    /// Tokens of connections that were let in while nobody served. As many as may be open, at most.
    let_in: Mutex<VecDeque<Token>>,
}

/// How far the one connection is.
#[derive(Debug, Default)]
enum State {
    /// It has not come.
    #[default]
    Awaited,
    /// Some thread is accepting it, or finds nobody.
    Sought,
    /// It is here.
    Here(ConnectionId, Peer),
    /// It has left.
    Gone(Peer, CloseReason),
}

impl Solo {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// A round of accepting begins: how many connections it may accept. `None`: nobody now.
    pub(super) fn begin_round(&self, draining: bool) -> Option<usize> {
        if !self.is_on() || draining {
            // A drain serves all who are queued.
            return Some(ACCEPTS_PER_ROUND);
        }
        let mut state = self.state.lock();
        matches!(*state, State::Awaited).then(|| {
            *state = State::Sought;
            1
        })
    }

    /// The round is over.
    pub(super) fn end_round(&self) {
        if self.is_on() {
            let mut state = self.state.lock();
            if matches!(*state, State::Sought) {
                *state = State::Awaited;
            }
        }
    }

    /// Whether listeners are to be announced.
    pub(super) fn listens(&self, draining: bool) -> bool {
        !self.is_on() || draining || !self.has_arrived()
    }

    /// Somebody was accepted, whatever becomes of it.
    pub(super) fn note_arrival(&self, id: ConnectionId, peer: &Peer) {
        if !self.is_on() {
            return;
        }
        let mut state = self.state.lock();
        if matches!(*state, State::Awaited | State::Sought) {
            *state = State::Here(id, peer.clone());
        }
    }

    /// A connection has ended. (Its number says which: Unix peers without a name are all alike.)
    pub(super) fn note_end(&self, id: ConnectionId, reason: &CloseReason) {
        if !self.is_on() {
            return;
        }
        let mut state = self.state.lock();
        let gone = match &*state {
            State::Here(here, peer) if *here == id => State::Gone(peer.clone(), reason.clone()),
            State::Awaited | State::Sought | State::Here(..) | State::Gone(..) => return,
        };
        *state = gone;
    }

    fn has_arrived(&self) -> bool {
        matches!(*self.state.lock(), State::Here(..) | State::Gone(..))
    }
}

/// Lets the engine run on the caller's thread for as long as it lives.
struct Alone<'a> {
    engine: &'a Engine,
    _in_turn: InTurn,
    desk: Desk,
    events: Events,
}

impl<'a> Alone<'a> {
    fn begin(engine: &'a Engine) -> Self {
        *engine.solo.state.lock() = State::Awaited;
        engine.solo.on.store(true, Ordering::SeqCst);
        engine.crew.stand_in(CALLER, true);
        engine.will_serve();
        let _in_turn = InTurn::begin(engine);
        engine.set_those_let_in_aside();
        Self { engine, _in_turn, desk: Desk::new(), events: Events::new() }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.engine.let_next_ones_in(usize::MAX);
        self.engine.crew.stand_in(CALLER, false);
        self.engine.solo.on.store(false, Ordering::SeqCst);
        self.engine.pauses_serving();
    }
}

impl Engine {
    /// Serves the next connection to its end, or the next datagram, if one comes within the timeout.
    pub(crate) fn serve_one(&self, timeout: Option<Duration>) -> Result<Served> {
        if let Some(report) = self.report_made() {
            return Ok(Served::Drained(report));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut alone = Alone::begin(self);
        let failed = |error| Error::system("cannot watch the listeners", error);
        self.open_for_business().map_err(failed)?;
        if self.solo.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            // Neither datagrams nor connections are served first for ever.
            self.poll(&mut alone.events, Doze::UnlessReady(Some(Duration::ZERO)));
        }
        self.let_next_ones_in(1);
        let mut looked = false;
        loop {
            if self.core.is_draining() {
                return Ok(Served::Drained(alone.serve_until_drained()));
            }
            if let Some(peer) = alone.run_ready(true) {
                return Ok(Served::Datagram { peer });
            }
            if self.solo.has_arrived() {
                return Ok(alone.see_off());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if looked && left == Some(Duration::ZERO) {
                return Ok(Served::TimedOut);
            }
            self.poll(&mut alone.events, Doze::UnlessReady(left));
            looked = true;
        }
    }
}

impl Engine {
    /// Sets aside whoever was let in while nobody served, as when the server was suspended: they are served
    /// one by one as well.
    fn set_those_let_in_aside(&self) {
        let mut let_in = self.solo.let_in.lock();
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop() else { break };
            let Token::Connection(id) = token else {
                self.ready.push(token);
                continue;
            };
            if let Some(socket) = self.connections.line(id).and_then(|line| line.socket()) {
                // Under `Threads` nobody has done so; else it is done already, and this fails.
                drop(self.poller.add_stream(&socket, id.0));
            }
            let_in.push_back(token);
        }
    }

    /// Makes so many of them ready again.
    fn let_next_ones_in(&self, most: usize) {
        for _ in 0..most {
            let Some(token) = self.solo.let_in.lock().pop_front() else { return };
            if let Token::Connection(id) = token
                && let Some(line) = self.connections.line(id)
            {
                self.solo.note_arrival(id, &line.peer);
            }
            self.ready.push(token);
        }
    }

    /// Nobody will serve any more: ends everybody who is here, on this thread.
    pub(super) fn wind_up(&self) {
        let mut alone = Alone::begin(self);
        // Who is queued is not let in for this.
        self.gate.stop();
        self.begin_drain(Duration::ZERO);
        let _ = self.force();
        drop(alone.serve_until_drained());
    }
}

impl Alone<'_> {
    /// Runs what is ready. Of the datagrams one is handled at most, if one is `wanted` at all; its sender
    /// is returned. The others stay where they are.
    fn run_ready(&mut self, wanted: bool) -> Option<Peer> {
        let engine = self.engine;
        self.desk.now = Instant::now();
        let mut sender = None;
        for _ in 0..engine.ready.len() {
            let token = engine.ready.pop()?;
            match token {
                Token::Datagrams(index) if !engine.core.is_draining() => {
                    // Whoever serves next announces it again.
                    let Some(listener) = engine.sources.datagrams.get(index) else { continue };
                    listener.dequeued();
                    if wanted && sender.is_none() && !engine.solo.has_arrived() {
                        sender = self.run_one_datagram(index);
                    }
                }
                token => engine.run(token, CALLER, &mut self.desk),
            }
        }
        sender
    }

    fn run_one_datagram(&mut self, index: usize) -> Option<Peer> {
        let engine = self.engine;
        let listener = engine.sources.datagrams.get(index)?;
        let token = Token::Datagrams(index);
        let host = WorkerHost { engine, worker: CALLER };
        let member = engine.crew.member(CALLER);
        loop {
            let taken = listener.take(engine);
            let sender = match &taken {
                Taken::Nothing => return None,
                Taken::Settled | Taken::Failed(_) => None,
                Taken::Waits(peer) | Taken::Dropped { peer, .. } | Taken::Raw { peer, .. } => {
                    Some(peer.clone())
                }
                Taken::Session { session, .. } => Some(session.line.peer.clone()),
            };
            let ends = sender.is_some() || matches!(taken, Taken::Failed(_));
            member.turn_begins(token);
            engine.run_taken(taken, (token, listener), &mut self.desk, &host);
            listener.flush_replies();
            member.turn_ends();
            if ends {
                return sender;
            }
        }
    }

    /// Serves the one connection that is here to its end.
    fn see_off(&mut self) -> Served {
        let engine = self.engine;
        engine.hush_listeners();
        loop {
            self.run_ready(false);
            match &*engine.solo.state.lock() {
                State::Gone(peer, reason) => {
                    return Served::Connection { peer: peer.clone(), reason: reason.clone() };
                }
                State::Here(_, peer) if engine.gate.open() == 0 => {
                    let (peer, reason) = (peer.clone(), CloseReason::Filtered);
                    return Served::Connection { peer, reason };
                }
                State::Awaited | State::Sought | State::Here(..) => {}
            }
            engine.poll(&mut self.events, Doze::UnlessReady(None));
        }
    }

    /// The server is drained: serves whoever is queued or here until nobody is, and reports.
    fn serve_until_drained(&mut self) -> DrainReport {
        let engine = self.engine;
        engine.let_next_ones_in(usize::MAX);
        engine.arm_listeners();
        while !engine.crew.is_leaving() {
            self.run_ready(false);
            engine.poll(&mut self.events, Doze::UnlessReady(None));
        }
        engine.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Address, UnixName};

    #[test]
    fn the_end_of_another_connection_of_the_same_peer_is_not_the_end_of_this_one() {
        let unnamed = || Address::Unix(UnixName::unnamed());
        let peer = Peer::new(unnamed(), unnamed());
        let (this, other) = (ConnectionId(1), ConnectionId(2));
        let solo = Solo::default();
        solo.on.store(true, Ordering::SeqCst);
        solo.note_arrival(this, &peer);
        solo.note_arrival(other, &peer);
        solo.note_end(other, &CloseReason::Done);
        assert!(matches!(*solo.state.lock(), State::Here(id, _) if id == this));
        solo.note_end(this, &CloseReason::IdleTimeout);
        assert!(matches!(*solo.state.lock(), State::Gone(_, CloseReason::IdleTimeout)));
    }
}
