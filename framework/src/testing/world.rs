//! The world around a server in memory: its clients, their plans, and the clock that a test moves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::event::Event;
use crate::peer::Address;
use crate::schedule::{Bench, Engine};
use crate::server::Server;
use crate::stream::admit::Refused;
use crate::sys::datagrams::DatagramSocket;
use crate::sys::memory::{Meanwhile, Pipe, ServerSide};
use crate::sys::poll::{Interest, Waited};
use crate::sys::socket::Socket;
use crate::testing::recorder::{Journal, Journals};
use crate::testing::step::Step;
use crate::timer::Moment;

/// A server in memory and everybody around it.
pub(super) struct World {
    pub(super) engine: Arc<Engine>,
    pub(super) journals: Journals,
    /// Taken for as long as the server runs something.
    bench: Mutex<Bench>,
    everybody: Mutex<Vec<Arc<Other>>>,
    /// What a handler waited for although it could never come.
    hopeless: Mutex<Option<String>>,
    me: Weak<Self>,
}

/// A client, as the world sees it.
pub(super) struct Other {
    pub(super) address: Address,
    pub(super) journal: Arc<Journal>,
    pub(super) way: Way,
    /// What it does next, each step when the server has nothing left to do but wait.
    plan: Mutex<VecDeque<Step>>,
    /// It stands in the queue of those who are not let in yet.
    queued: Mutex<Option<(usize, Socket)>>,
}

/// How a client reaches the server.
pub(super) enum Way {
    Stream(Arc<Pipe>),
    /// Through the server's socket.
    Datagrams(Arc<DatagramSocket>),
}

/// Deadlines that may be due in one go: a thousand a second for a quarter of an hour. Whoever is idle, and
/// stays, is so again and again: a test that lets all time pass would never end.
const MOST_DEADLINES: usize = 1_000_000;

impl World {
    pub(super) fn around(server: Server) -> Arc<Self> {
        let journals = Journals::default();
        let server = server.listening_anywhere();
        let server = server.map_services(|services| journals.around(services));
        let heard = journals.clone();
        let server = server.observer(move |event: &Event<'_>| match event {
            Event::ConnectionOpened { peer, .. } | Event::SessionBegun { peer, .. } => {
                heard.of(peer.address()).begins();
            }
            Event::ConnectionClosed { peer, reason, .. }
            | Event::SessionEnded { peer, reason, .. } => heard.of(peer.address()).ends(reason),
            _ => {}
        });
        let engine = server.open_in_memory().unwrap_or_else(|error| panic!("{error}"));
        engine.begin_in_memory();
        Arc::new_cyclic(|me| Self {
            engine,
            journals,
            bench: Mutex::new(Bench::new()),
            everybody: Mutex::default(),
            hopeless: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Somebody connects to the listener with this index.
    pub(super) fn connect(&self, listener: usize, address: Address) -> Arc<Other> {
        let meanwhile: Weak<dyn Meanwhile> = self.me.clone();
        let (pipe, socket) = Pipe::open(self.everybody.lock().len(), meanwhile);
        let queued = Mutex::new(Some((listener, socket.into())));
        self.join(Other {
            journal: self.journals.of(&address),
            address,
            way: Way::Stream(pipe),
            plan: Mutex::default(),
            queued,
        })
    }

    /// Somebody is going to send datagrams to this socket.
    pub(super) fn correspond(&self, socket: Arc<DatagramSocket>, address: Address) -> Arc<Other> {
        self.join(Other {
            journal: self.journals.of(&address),
            address,
            way: Way::Datagrams(socket),
            plan: Mutex::default(),
            queued: Mutex::new(None),
        })
    }

    fn join(&self, other: Other) -> Arc<Other> {
        let other = Arc::new(other);
        self.everybody.lock().push(other.clone());
        self.settle();
        other
    }

    /// An address that nobody had yet.
    pub(super) fn free_addr(&self) -> SocketAddr {
        let number = self.everybody.lock().len();
        // From the ports that systems give to clients.
        SocketAddr::from(([127, 0, 0, 1], 49_152 + (number % 16_384) as u16))
    }

    /// A name that nobody had yet.
    pub(super) fn free_name(&self) -> String {
        format!("@client-{}", self.everybody.lock().len())
    }

    /// Plays these steps, each when the server has nothing left to do but wait.
    pub(super) fn play(&self, other: &Other, steps: impl IntoIterator<Item = Step>) {
        other.plan.lock().extend(steps);
        self.settle();
    }

    /// Lets the server do all that it can do now, and everybody all that they have planned.
    pub(super) fn settle(&self) {
        self.with_bench(|bench| self.settle_with(bench));
    }

    /// Moves the clock on, and fires what falls due on the way, in order.
    pub(super) fn advance(&self, span: Duration) {
        self.with_bench(|bench| {
            self.settle_with(bench);
            self.advance_with(bench, span);
            self.settle_with(bench);
        });
    }

    /// Moves the clock to the next deadline of all. Returns whether there is one.
    pub(super) fn advance_to_the_next_deadline(&self) -> bool {
        let next = self.engine.next_deadline();
        if next != Moment::NEVER {
            self.engine.core.clock.set(next);
            self.settle();
        }
        next != Moment::NEVER
    }

    fn with_bench(&self, act: impl FnOnce(&mut Bench)) {
        let bench = self.bench.try_lock();
        act(&mut bench.expect("a handler cannot drive the server in memory that runs it"));
        if let Some(text) = self.hopeless.lock().take() {
            panic!("{text}");
        }
    }

    fn settle_with(&self, bench: &mut Bench) {
        loop {
            self.engine.run_until_quiet(bench);
            let everybody = self.everybody.lock().clone();
            let let_in = everybody.iter().any(|other| self.let_in(other));
            let closed = everybody.iter().any(|other| other.close_behind_the_server());
            if !let_in && !closed && !self.next_step(bench, &everybody) {
                return;
            }
        }
    }

    /// Lets somebody in who is queued, if there is room. Returns whether it was.
    fn let_in(&self, other: &Other) -> bool {
        let mut queued = other.queued.lock();
        let Some((listener, socket)) = queued.take() else { return false };
        match self.engine.connect_in_memory(listener, socket, other.address.clone()) {
            Ok(()) => true,
            Err((Refused::Full, socket)) => {
                *queued = Some((listener, socket));
                false
            }
            // The listener is closed, and with it everybody who was queued.
            Err((Refused::Stopped, _)) => false,
        }
    }

    /// Plays the next step of whoever has one. Returns whether somebody had.
    fn next_step(&self, bench: &mut Bench, everybody: &[Arc<Other>]) -> bool {
        let planned = everybody.iter().find_map(|other| {
            let step = other.plan.lock().pop_front()?;
            Some((other, step))
        });
        match planned {
            Some((_, Step::Wait(span))) => self.advance_with(bench, span),
            Some((other, step)) => self.take(other, step),
            None => return false,
        }
        true
    }

    fn advance_with(&self, bench: &mut Bench, span: Duration) {
        let clock = &self.engine.core.clock;
        let until = clock.now().after(span);
        let mut fired = 0;
        while self.engine.next_deadline() <= until {
            fired += 1;
            if fired > MOST_DEADLINES {
                let text = format!(
                    "{MOST_DEADLINES} deadlines were due while {span:?} passed, and there are more: \
                     let less time pass, or make the ticks and timeouts longer"
                );
                *self.hopeless.lock() = Some(text);
                break;
            }
            clock.set(self.engine.next_deadline());
            self.engine.run_until_quiet(bench);
            let everybody = self.everybody.lock().clone();
            if everybody.iter().filter(|other| other.close_behind_the_server()).count() > 0 {
                self.engine.run_until_quiet(bench);
            }
        }
        clock.set(until);
        self.engine.run_until_quiet(bench);
    }

    /// Takes a step that takes no time.
    fn take(&self, other: &Other, step: Step) {
        match (step, &other.way) {
            (Step::Wait(_), _) => {}
            (Step::Drain(within), _) => self.engine.begin_drain(within),
            (step, Way::Stream(pipe)) => take_on_a_stream(pipe, step),
            (Step::Send(bytes), Way::Datagrams(socket)) => {
                if let Some(socket) = socket.memory() {
                    socket.arrive(&other.address, bytes);
                }
            }
            (step, Way::Datagrams(_)) => {
                *self.hopeless.lock() = Some(format!("{step:?} is for streams, not for datagrams"));
            }
        }
    }
}

fn take_on_a_stream(pipe: &Pipe, step: Step) {
    match step {
        Step::Send(bytes) => {
            // A peer that sends to a server that has closed loses it, here as anywhere.
            let _ = pipe.arrive(&bytes);
        }
        Step::HalfClose => pipe.finish(),
        Step::Close => pipe.close(),
        Step::Reset => pipe.reset(),
        Step::ReadOnly(bytes) => pipe.read_only(bytes),
        Step::ReadOn => pipe.read_on(),
        Step::Wait(_) | Step::Drain(_) => {}
    }
}

impl Other {
    /// As most clients do, this one closes when it has read the end of what the server sends; not if the
    /// handler only half-closed, and means to go on reading. Returns whether it closed.
    fn close_behind_the_server(&self) -> bool {
        let Way::Stream(pipe) = &self.way else { return false };
        let ended = pipe.server() == ServerSide::Finished && pipe.sees_the_end();
        if ended && !self.journal.has_half_closed() {
            pipe.close();
            return true;
        }
        false
    }

    fn is_ready(&self, interest: Interest) -> bool {
        matches!(&self.way, Way::Stream(pipe) if pipe.is_ready(interest))
    }
}

impl Meanwhile for World {
    /// A handler waits for its peer in the middle of a call: the peer's plan goes on, and when there is
    /// none the time passes.
    fn pass(&self, peer: usize, interest: Interest, timeout: Option<Duration>) -> Waited {
        let Some(other) = self.everybody.lock().get(peer).cloned() else { return Waited::Timeout };
        let clock = &self.engine.core.clock;
        let deadline = timeout.map(|timeout| clock.now().after(timeout));
        loop {
            let step = other.plan.lock().pop_front();
            match (step, deadline) {
                (Some(Step::Wait(span)), Some(deadline)) if clock.now().after(span) >= deadline => {
                    // The wait ends first; the rest of the step is still to come.
                    let rest = clock.now().after(span).since(deadline);
                    other.plan.lock().push_front(Step::Wait(rest));
                    clock.set(deadline);
                    return Waited::Timeout;
                }
                (Some(Step::Wait(span)), _) => clock.set(clock.now().after(span)),
                (Some(Step::Drain(within)), _) => {
                    self.engine.begin_drain(within);
                    return Waited::Woken;
                }
                (Some(step), _) => {
                    self.take(&other, step);
                    if other.is_ready(interest) {
                        return Waited::Socket;
                    }
                }
                (None, Some(deadline)) => {
                    clock.set(deadline);
                    return Waited::Timeout;
                }
                (None, None) => {
                    let what = match interest {
                        Interest::Read => "to be sent something",
                        Interest::Write => "to be read",
                    };
                    let text = format!(
                        "the handler of {} waits {what}, without a timeout, and nothing is planned: \
                         say in advance what comes, by Client::play",
                        other.address
                    );
                    *self.hopeless.lock() = Some(text);
                    return Waited::Timeout;
                }
            }
        }
    }
}
