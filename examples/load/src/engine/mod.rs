//! One run: its threads from start to end, the signal in the middle, and everything they counted, added up.

mod connect;
mod datagram;
pub(crate) mod desk;
mod pace;
mod peer;
mod phases;
mod side;
mod stream;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hdrhistogram::Histogram;

use crate::books::Books;
use crate::chat::{self, Cast, ChatFigures};
use crate::engine::desk::{Clock, Orders};
use crate::engine::worker::{Finished, News, Wiring, Worker};
use crate::host::{OwnCpu, Process};
use crate::plan::Plan;
use crate::proof::Proof;
use crate::tally::{Histograms, Interval};

/// The load begins this long after all connections stand, so that every thread is there in time.
const RUN_UP: u64 = 2_000_000;

/// One second of a run, for progress and reports.
pub(crate) type Second = Interval;

/// Everything that a run has shown.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) books: Books,
    pub(crate) histograms: Histograms,
    pub(crate) seconds: Vec<SecondFigures>,
    /// Right replies in the measured time, and that time in seconds.
    pub(crate) measured: u64,
    pub(crate) measured_for: f64,
    /// How long requests were made, in seconds.
    pub(crate) sent_for: f64,
    /// The share of their time that the generator's threads worked.
    pub(crate) busy: f64,
    /// The share of the time in which a due request found every connection full.
    pub(crate) full: f64,
    pub(crate) own_cpu: OwnCpu,
    pub(crate) server: Option<crate::host::ServerUse>,
    /// Datagrams that kernels on this machine dropped for lack of buffer, all sockets together.
    pub(crate) kernel_drops: u64,
    pub(crate) server_gone: bool,
    pub(crate) connect_error: Option<String>,
    pub(crate) interrupted: bool,
    pub(crate) sides_up: usize,
    /// Milliseconds from SIGTERM until the server's process was gone.
    pub(crate) drained_in: Option<f64>,
}

/// What is kept of a second: a few numbers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SecondFigures {
    pub(crate) second: u64,
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) faults: u64,
    pub(crate) connected: u64,
    pub(crate) bytes_received: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) lag_max_us: f64,
}

impl SecondFigures {
    fn of(second: &Second) -> Self {
        let us = |q| Histogram::value_at_quantile(&second.response, q) as f64 / 1000.0;
        Self {
            second: second.second,
            sent: second.sent,
            ok: second.ok,
            faults: second.faults,
            connected: second.connected,
            bytes_received: second.bytes_received,
            p50_us: us(0.5),
            p99_us: us(0.99),
            max_us: second.response.max() as f64 / 1000.0,
            lag_max_us: second.lag_max as f64 / 1000.0,
        }
    }
}

/// Runs a plan. `interrupts` counts Ctrl-C; `show` sees every second as it passes.
///
/// # Errors
/// Says why the run could not start.
pub(crate) fn run(
    plan: &Plan,
    interrupts: &Arc<AtomicU8>,
    show: &mut dyn FnMut(&SecondFigures),
) -> Result<Ran, String> {
    let clock = Clock::new();
    let proof = Proof::new(plan.seed, plan.expect.clone(), plan.sizes);
    let orders = Orders { signalled_at: AtomicU64::new(0), interrupts: Arc::clone(interrupts) };
    let mut server = plan.pid.map(Process::watch).transpose()?;
    let drops = crate::host::datagram_drops();
    let own = OwnCpu::now();
    let (news_to, news) = bounded(1024);
    thread::scope(|scope| {
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for number in 0..plan.threads {
            let (go, at) = bounded(1);
            let worker = Worker::new(number, plan, &proof, (clock, &orders))
                .map_err(|error| format!("cannot set up a thread: {error}"))?;
            let wiring = Wiring { news: news_to.clone(), go: at };
            let thread = thread::Builder::new()
                .name(format!("load-{number}"))
                .spawn_scoped(scope, move || worker.run(&wiring))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            starts.push(go);
            threads.push(thread);
        }
        drop(news_to);
        let mut run = Run {
            plan,
            clock,
            orders: &orders,
            server: &mut server,
            gathered: BTreeMap::new(),
            seconds: Vec::new(),
            signalled: None,
            drained_in: None,
        };
        let start = run.start(&news, &starts)?;
        run.attend(&news, start, show);
        let ended: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        run.await_exit();
        // What such a thread had counted is lost with it; the others' books would balance all the same.
        let finished: Result<Vec<Option<Finished>>, _> = ended.into_iter().collect();
        let Ok(finished) = finished else {
            return Err(
                "a thread of the load tester itself failed in the middle of the run".to_owned()
            );
        };
        let finished = finished.into_iter().flatten().collect();
        let (seconds, drained_in) = (run.seconds, run.drained_in);
        let mut ran = add_up(plan, finished, seconds);
        ran.own_cpu = OwnCpu::now().since(&own);
        ran.kernel_drops = crate::host::datagram_drops().saturating_sub(drops);
        ran.server = server.map(Process::used);
        ran.interrupted = interrupts.load(Ordering::Relaxed) > 0;
        ran.drained_in = drained_in;
        Ok(ran)
    })
}

/// Runs the chat scenario, with the same care for clocks, processes and seconds.
///
/// # Errors
/// Says why it could not start.
pub(crate) fn run_chat(
    plan: &Plan,
    cast: Cast,
    interrupts: &Arc<AtomicU8>,
    show: &mut dyn FnMut(&SecondFigures),
) -> Result<(Ran, ChatFigures), String> {
    let mut server = plan.pid.map(Process::watch).transpose()?;
    let own = OwnCpu::now();
    let mut seconds = Vec::new();
    let (tally, figures, lasted) = chat::run(plan, cast, interrupts, &mut |second| {
        if let Some(server) = &mut server {
            server.sample();
        }
        let figures = SecondFigures::of(&second);
        show(&figures);
        seconds.push(figures);
    })?;
    let finished = Finished {
        tally,
        sent_for: (lasted * 1e9) as u64,
        lasted: (lasted * 1e9) as u64,
        server_gone: false,
        connect_error: None,
        sides_up: 0,
    };
    let mut ran = add_up(plan, vec![finished], seconds);
    ran.own_cpu = OwnCpu::now().since(&own);
    // The one thread of this scenario also waits; how busy it was, its CPU time says.
    ran.busy = ran.own_cpu.seconds / lasted.max(1e-9);
    ran.server = server.map(Process::used);
    ran.interrupted = interrupts.load(Ordering::Relaxed) > 0;
    Ok((ran, figures))
}

/// The thread that watches over a run.
#[derive(Debug)]
struct Run<'r> {
    plan: &'r Plan,
    clock: Clock,
    orders: &'r Orders,
    server: &'r mut Option<Process>,
    /// Seconds that not all threads have told of yet, and how many have.
    gathered: BTreeMap<u64, (usize, Interval)>,
    seconds: Vec<SecondFigures>,
    signalled: Option<u64>,
    drained_in: Option<f64>,
}

impl Run<'_> {
    /// Waits until every thread's connections stand, then gives the start.
    fn start(&mut self, news: &Receiver<News>, starts: &[Sender<u64>]) -> Result<u64, String> {
        let (mut up, mut why) = (0, None);
        for _ in 0..starts.len() {
            // Every thread's connecting has a deadline of its own.
            match news.recv() {
                Ok(News::Ready { up: n, error }) => {
                    up += n;
                    why = why.or(error);
                }
                Ok(News::Second(_)) => {}
                Err(_) => return Err("a thread ended before the start".to_owned()),
            }
        }
        if up == 0 && self.plan.connections > 0 {
            let why = why.unwrap_or_else(|| "no connection was established in time".to_owned());
            return Err(format!("cannot connect to {}: {why}", self.plan.target));
        }
        if let Some(server) = self.server {
            server.mark();
        }
        let start = self.clock.now() + RUN_UP;
        for go in starts {
            // A thread that is gone is noticed when it is joined.
            let _: Result<(), _> = go.send(start);
        }
        Ok(start)
    }

    /// Gathers the seconds until all threads are through; signals the server when it is time.
    fn attend(&mut self, news: &Receiver<News>, start: u64, show: &mut dyn FnMut(&SecondFigures)) {
        loop {
            match news.recv_timeout(Duration::from_millis(20)) {
                Ok(News::Second(second)) => self.gather(&second, show),
                Ok(News::Ready { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(server) = self.server {
                server.sample();
            }
            self.signal_in_time(start);
            self.note_exit();
        }
        for (_, second) in std::mem::take(&mut self.gathered).into_values() {
            self.keep(&second, show);
        }
    }

    fn gather(&mut self, second: &Interval, show: &mut dyn FnMut(&SecondFigures)) {
        let threads = self.plan.threads;
        let slot =
            self.gathered.entry(second.second).or_insert_with(|| (0, Interval::new(second.second)));
        slot.0 += 1;
        slot.1.add(second);
        // A thread that lags two seconds behind is not waited for: the display goes on without it.
        while let Some((&number, (told, _))) = self.gathered.first_key_value() {
            if *told < threads && self.gathered.len() < 3 {
                break;
            }
            let Some((_, second)) = self.gathered.remove(&number) else { break };
            self.keep(&second, show);
        }
    }

    fn keep(&mut self, second: &Interval, show: &mut dyn FnMut(&SecondFigures)) {
        let figures = SecondFigures::of(second);
        if second.sent == 0 && second.second as f64 >= self.plan.duration.as_secs_f64() {
            // The moment of waiting for the last replies is no second of the load.
            return;
        }
        show(&figures);
        self.seconds.push(figures);
    }

    fn signal_in_time(&mut self, start: u64) {
        let (Some(at), Some(server), None) = (self.plan.drain_at, &*self.server, self.signalled)
        else {
            return;
        };
        let now = self.clock.now();
        if now < start + at.as_nanos() as u64 {
            return;
        }
        // The time is taken first: whatever was written before it has reached the server before the signal.
        self.orders.signalled_at.store(now, Ordering::SeqCst);
        self.signalled = Some(now);
        server.terminate();
    }

    fn note_exit(&mut self) {
        if let (Some(at), Some(server), None) = (self.signalled, &*self.server, self.drained_in)
            && server.is_gone()
        {
            self.drained_in = Some((self.clock.now() - at) as f64 / 1e6);
        }
    }

    /// After a drain, waits for the process to be gone, at most as long as a request may take.
    fn await_exit(&mut self) {
        let Some(at) = self.signalled else { return };
        let never = crossbeam_channel::never::<()>();
        let deadline = at + (self.plan.timeout + self.plan.duration).as_nanos() as u64;
        while self.drained_in.is_none() && self.clock.now() < deadline {
            let _: Result<(), RecvTimeoutError> = never.recv_timeout(Duration::from_millis(5));
            self.note_exit();
        }
    }
}

fn add_up(plan: &Plan, finished: Vec<Finished>, seconds: Vec<SecondFigures>) -> Ran {
    let mut ran = Ran {
        books: Books::default(),
        histograms: Histograms::new(),
        seconds,
        measured: 0,
        measured_for: 0.0,
        sent_for: 0.0,
        busy: 0.0,
        full: 0.0,
        own_cpu: OwnCpu::default(),
        server: None,
        kernel_drops: 0,
        server_gone: false,
        connect_error: None,
        interrupted: false,
        sides_up: 0,
        drained_in: None,
    };
    let threads = finished.len().max(1) as f64;
    for one in finished {
        ran.books.add(&one.tally.books);
        ran.histograms.add(&one.tally.histograms);
        ran.measured += one.tally.measured;
        ran.sent_for = ran.sent_for.max(one.sent_for as f64 / 1e9);
        let lasted = one.lasted.max(1) as f64;
        // The busiest thread is the one that limits; the share of waiting is taken over its whole time.
        ran.busy = ran.busy.max(1.0 - one.tally.waited as f64 / lasted);
        ran.full += one.tally.full as f64 / one.sent_for.max(1) as f64 / threads;
        ran.server_gone |= one.server_gone;
        ran.connect_error = ran.connect_error.or(one.connect_error);
        ran.sides_up += one.sides_up;
    }
    ran.measured_for = (ran.sent_for - plan.warmup.as_secs_f64()).max(0.0);
    ran
}
