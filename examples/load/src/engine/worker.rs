//! One thread of the generator: an epoll loop over its share of the connections, from the first connect to the last reply.
use std::{collections::VecDeque, os::fd::OwnedFd, time::Duration};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::{TimerfdClockId, TimerfdFlags};

use crate::engine::connect;
use crate::engine::desk::{Clock, Desk, Orders};
use crate::engine::peer::{Line, Peer};
use crate::engine::side::{self, Side};
use crate::plan::{Load, Plan};
use crate::proof::Proof;
use crate::schedule::Schedule;
use crate::tally::{Interval, Tally};
use crate::target::Sources;

pub(super) const SECOND: u64 = 1_000_000_000;
/// Time-outs, reconnects and orders are looked after this often.
pub(super) const TICK: u64 = 10_000_000;
/// The token of the thread's own timer.
pub(super) const TIMER_TOKEN: u64 = 1 << 33;

/// What a thread tells the run.
#[derive(Debug)]
pub(crate) enum News {
    /// Its connections stand, as many as would; why others did not.
    Ready { up: usize, error: Option<String> },
    /// A second has passed.
    Second(Box<Interval>),
}

/// What a thread hands over at the end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) tally: Tally,
    /// How long requests were made.
    pub(crate) sent_for: u64,
    /// The whole time, first request to last reply.
    pub(crate) lasted: u64,
    pub(crate) server_gone: bool,
    pub(crate) connect_error: Option<String>,
    pub(crate) sides_up: usize,
}

/// What the thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// No more requests; open ones may still be answered.
    Draining {
        since: u64,
    },
    /// All are settled; strays may still come.
    Lingering {
        since: u64,
    },
    Done,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Worker<'r> {
    pub(super) desk: Desk<'r>,
    pub(super) peers: Vec<Peer>,
    pub(super) sides: Vec<Side>,
    /// Which of the threads this is.
    pub(super) number: usize,
    pub(super) phase: Phase,
    pub(super) started_at: u64,
    pub(super) stop_at: u64,
    pub(super) next_tick: u64,
    pub(super) next_expiry: u64,
    /// An open loop: requests wait for their instants, connections for requests.
    pub(super) paced: bool,
    pub(super) schedule: Option<Schedule>,
    /// Connections that can take a request, in an open loop.
    pub(super) ready: VecDeque<u32>,
    /// Since when such a connection has been there, and since when there has been none for a due request.
    pub(super) freed_at: u64,
    pub(super) full_since: Option<u64>,
    /// Instants of requests that are due but wait for company (`--glue`).
    pub(super) due: Vec<u64>,
    /// Connections to look after without an event.
    pub(super) again: VecDeque<u32>,
    pub(super) timer: OwnedFd,
    pub(super) timer_due: u64,
    pub(super) connect_error: Option<String>,
    pub(super) no_server_since: Option<u64>,
    pub(super) server_gone: bool,
    pub(super) sent_for: u64,
}

/// How a thread is wired to the run.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) news: Sender<News>,
    /// When the load begins, on the run's clock; closed without a word if it does not.
    pub(crate) go: Receiver<u64>,
}

impl<'r> Worker<'r> {
    /// Thread `number` of a run.
    ///
    /// # Errors
    /// If the system has no epoll or timer to give.
    pub(crate) fn new(
        number: usize,
        plan: &'r Plan,
        proof: &'r Proof,
        (clock, orders): (Clock, &'r Orders),
    ) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(TIMER_TOKEN);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let ids = (number..plan.connections).step_by(plan.threads);
        let share = |total: u64| {
            let (each, rest) = (total / plan.threads as u64, total % plan.threads as u64);
            each + u64::from((number as u64) < rest)
        };
        // A batch of datagrams, or twice the longest partial message, whichever is more.
        let input = (proof.reply_max() + 70_000) * if plan.target.is_stream() { 2 } else { 33 };
        let desk = Desk {
            plan,
            proof,
            clock,
            orders,
            epoll,
            tally: Tally::new(plan.is_open()),
            input: vec![0; input.max(256 << 10)],
            output: Vec::with_capacity(64 << 10),
            ends: Vec::new(),
            scratch: Vec::new(),
            remaining: share(plan.count.unwrap_or(u64::MAX)),
            sending: false,
            sources: Sources::new(&plan.sources, &plan.target, plan.life.is_some()),
            connecting: 0,
            arrived_at: 0,
            fresh_reading: None,
        };
        Ok(Self {
            desk,
            peers: ids
                .enumerate()
                .map(|(n, id)| Peer::new(id as u32, n as u32, plan, proof))
                .collect(),
            sides: side::share(plan.sides, number, plan.threads),
            number,
            phase: Phase::Running,
            started_at: 0,
            stop_at: u64::MAX,
            next_tick: 0,
            next_expiry: 0,
            paced: matches!(plan.load, Load::Open { .. }),
            schedule: None,
            ready: VecDeque::with_capacity(plan.connections / plan.threads + 1),
            freed_at: 0,
            full_since: None,
            due: Vec::new(),
            again: VecDeque::new(),
            timer,
            timer_due: u64::MAX,
            connect_error: None,
            no_server_since: None,
            server_gone: false,
            sent_for: 0,
        })
    }

    /// Connects, waits for the start, and runs to the end. Nothing if the run never started.
    pub(crate) fn run(mut self, wiring: &Wiring) -> Option<Finished> {
        let mut events = Vec::with_capacity(512);
        self.connect_all(&mut events);
        let up = self.peers.iter().filter(|peer| peer.is_up()).count();
        let error = self.connect_error.clone();
        wiring.news.send(News::Ready { up, error }).ok()?;
        let start = wiring.go.recv().ok()?;
        self.next_tick = start;
        while self.desk.clock.now() < start {
            let now = self.desk.clock.now();
            self.wait(&mut events, now);
        }
        self.begin(start);
        while self.phase != Phase::Done {
            let now = self.desk.clock.now();
            self.dispatch(now);
            if now >= self.next_tick {
                self.tick(now, wiring);
            }
            self.look_again();
            self.wait(&mut events, now);
        }
        let now = self.desk.clock.now();
        Some(self.finish(now, wiring))
    }

    /// Opens every connection, a few at a time, until all stand or have failed.
    fn connect_all(&mut self, events: &mut Vec<epoll::Event>) {
        let begun = self.desk.clock.now();
        let deadline = begun + self.desk.plan.timeout.max(Duration::from_secs(2)).as_nanos() as u64;
        loop {
            self.open_due(self.desk.clock.now());
            let now = self.desk.clock.now();
            let waiting = self.peers.iter().any(|peer| connect::is_waiting(peer, now))
                || self.sides.iter().any(|side| side.fd.is_some() != side.up);
            let idle = self.sides.iter().all(|side| side.up) || self.connect_error.is_some();
            if (!waiting && idle) || now > deadline || self.interrupted() > 0 {
                return;
            }
            self.next_tick = now + TICK / 5;
            self.wait(events, now);
        }
    }

    /// Opens connections that are due, as many as may be under way at once.
    pub(super) fn open_due(&mut self, now: u64) {
        for index in 0..self.peers.len() {
            if let Line::Down { retry_at } = self.peers[index].line
                && retry_at <= now
            {
                self.open(index);
            }
        }
        for index in 0..self.sides.len() {
            if self.connect_error.is_some() || self.sides[index].tried {
                continue;
            }
            let global = self.number + index * self.desk.plan.threads;
            let token = side::TOKEN | index as u64;
            if let Err(error) =
                connect::open_side(&mut self.desk, &mut self.sides[index], token, global)
            {
                self.connect_error.get_or_insert(error);
            }
        }
    }

    pub(super) fn open(&mut self, index: usize) {
        match connect::open(&mut self.desk, &mut self.peers[index]) {
            Ok(true) => self.stands(index),
            Ok(false) => {}
            Err(error) => {
                self.connect_error.get_or_insert(error);
            }
        }
    }

    /// The load begins at `start`.
    fn begin(&mut self, start: u64) {
        let plan = self.desk.plan;
        let tally = &mut self.desk.tally;
        self.started_at = start;
        self.stop_at = start + plan.duration.as_nanos() as u64;
        tally.measure_from = start + plan.warmup.as_nanos() as u64;
        tally.measure_until = self.stop_at;
        tally.waited = 0;
        self.desk.sending = true;
        self.next_tick = start;
        self.freed_at = start;
        if let Load::Open { rate, arrival } = plan.load {
            let place = (self.number, plan.threads);
            self.schedule = Some(Schedule::new(start, rate, place, arrival, plan.seed));
        }
        for index in 0..self.peers.len() {
            self.attend(index);
        }
    }
}
