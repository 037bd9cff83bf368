//! The end of a server: nobody new, everybody told, everything flushed, and a report.
//!
//! 1. New connections are stopped without resetting those that are queued; these are still served.
//! 2. Everybody is told. What is closed half-closes first.
//! 3. When the last one has left, the queue is looked at once more, and the sockets are closed.
//! 4. At the deadline what is left is ended. Handlers that do not return even then are named.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::config::FORCE_GRACE;
use crate::desk::Why;
use crate::event::Event;
use crate::outbox::Line;
use crate::reason::CloseReason;
use crate::schedule::engine::Engine;
use crate::schedule::report::DrainReport;
use crate::schedule::token::Token;
use crate::stage::Stage;
use crate::timer::{Alarm, Moment};

/// A drain, from before it is asked for until its report.
#[derive(Debug)]
pub(crate) struct Drain {
    asked: Mutex<Option<Instant>>,
    /// The steps that follow the asking have been taken.
    begun: AtomicBool,
    pub(super) alarm: Alarm,
    /// When everybody was told to end at once.
    forced_at: Mutex<Option<Moment>>,
    completed: AtomicUsize,
    told: AtomicUsize,
    forced: AtomicUsize,
    /// Somebody serves, or is about to.
    serving: AtomicBool,
    report: Mutex<Option<DrainReport>>,
    reported: Condvar,
}

thread_local! {
    /// The engine whose turns this thread runs, or whom it serves: it cannot wait for the end of that one.
    static RUNS_TURNS_OF: Cell<usize> = const { Cell::new(0) };
}

/// Marks a thread that cannot wait for a server's end, since that waits for it, for as long as the value lives.
pub(super) struct InTurn(usize);

impl InTurn {
    pub(super) fn begin(engine: &Engine) -> Self {
        Self(RUNS_TURNS_OF.replace(engine.address()))
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        RUNS_TURNS_OF.set(self.0);
    }
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            asked: Mutex::new(None),
            begun: AtomicBool::new(false),
            alarm: Alarm::new(),
            forced_at: Mutex::new(None),
            completed: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            forced: AtomicUsize::new(0),
            serving: AtomicBool::new(false),
            report: Mutex::new(None),
            reported: Condvar::new(),
        }
    }

    /// Somebody has left during the drain, for this reason.
    pub(super) fn count(&self, reason: &CloseReason) {
        let counter = match reason {
            CloseReason::Draining => &self.told,
            CloseReason::Forced => &self.forced,
            _ => &self.completed,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn so_far(&self, now: Instant) -> DrainReport {
        let took = self.asked.lock().map_or(Duration::ZERO, |asked| now - asked);
        DrainReport {
            completed: self.completed.load(Ordering::SeqCst),
            told: self.told.load(Ordering::SeqCst),
            forced: self.forced.load(Ordering::SeqCst),
            stuck: 0,
            stuck_peers: Vec::new(),
            took,
        }
    }
}

impl Engine {
    /// What tells this engine from others in the process.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Marks this thread, for as long as the value lives, as one that the server's end waits for.
    pub(crate) fn in_turn(&self) -> impl Sized + use<> {
        InTurn::begin(self)
    }

    /// Begins a drain, or brings the deadline of one forward. Returns at once; may be called from
    /// anywhere, at any time, any number of times.
    pub(crate) fn begin_drain(&self, within: Duration) {
        let deadline = self.core.drain_by(self.core.clock.now().after(within));
        self.drain.asked.lock().get_or_insert_with(|| self.core.clock.instant());
        if self.core.is_draining() {
            self.arm(Token::Drain, deadline);
            self.wake_poller();
        } else {
            // Told before it can end. If somebody else tells just now, that one goes on with it.
            self.tell_of_the_drain(within);
        }
    }

    /// Everybody who listens was told that a drain begins: so it does.
    pub(super) fn drain_is_told(&self) {
        self.core.advance(Stage::Draining);
        // Whoever has brought it forward meanwhile has left the rest to this thread.
        self.arm(Token::Drain, self.core.drain_by(Moment::NEVER));
        self.wake_poller();
    }

    /// Connections and sessions that are held now, and raw handlers and ticks that run.
    pub(super) fn open(&self) -> usize {
        let raw: usize = self.sources.datagrams.iter().map(|listener| listener.running()).sum();
        let sessions = self.core.events.counters.sessions_open.load(Ordering::SeqCst);
        self.gate.open() + sessions + raw + self.ticks.running()
    }

    /// Whoever polls takes the next step of a drain, if there is one.
    pub(super) fn go_on_draining(&self) {
        if !self.core.is_draining() || self.core.stage() == Stage::Stopped {
            return;
        }
        if !self.drain.begun.swap(true, Ordering::SeqCst) {
            self.stop_arrivals();
            self.tell_everybody(Why::DRAIN);
        }
        if self.crew.all_blocked() && !self.ready.is_empty() {
            let forcing = self.core.stage() >= Stage::Forcing;
            let called = self.crew.call_reserve(forcing);
            self.start(&called);
        }
        if self.is_empty() {
            self.end();
        }
    }

    fn stop_arrivals(&self) {
        self.turn_newcomers_away();
        for (index, listener) in (0..).zip(&self.sources.datagrams) {
            match listener.socket() {
                Some(socket) if listener.is_shared() => {
                    self.poller.remove_datagrams(&socket);
                    listener.close_intake();
                }
                // Without it a drain lasts for as long as datagrams come faster than they are handled.
                Some(socket) => drop(socket.refuse_new()),
                None => {}
            }
            // Everything that has arrived is taken once more; then the intake is closed.
            if listener.announce_last() {
                self.enqueue(Token::Datagrams(index));
            }
        }
    }

    /// Whether this thread runs a turn of this server: then it cannot wait for one.
    pub(super) fn is_own_turn(&self) -> bool {
        RUNS_TURNS_OF.get() == self.address()
    }

    /// Gives everybody a reason for a turn.
    pub(super) fn tell_everybody(&self, why: Why) {
        let connections = self.connections.occupants();
        for id in connections.chain(self.sessions.occupants()) {
            self.notify(id, why);
        }
    }

    /// Whether everybody has left, also those who were still queued in the kernel.
    fn is_empty(&self) -> bool {
        if self.open() > 0 || !self.sources.datagrams.iter().all(|listener| listener.is_at_rest()) {
            return false;
        }
        (0..self.sources.streams.len()).for_each(|index| self.accept(index));
        self.open() == 0 && self.ready.is_empty() && self.gate.stop_if_empty()
    }

    /// The drain's deadline has passed: everything that is left ends. And when that has not helped,
    /// those who are stuck are left behind.
    pub(super) fn drain_deadline(&self) {
        if !self.core.is_overdue() || self.force() {
            return;
        }
        let now = self.core.clock.now();
        let grace = self.drain.forced_at.lock().map(|at| at.after(FORCE_GRACE));
        match grace {
            Some(over) if over <= now => self.end(),
            // Asked once more meanwhile.
            Some(over) => self.arm(Token::Drain, over),
            None => {}
        }
    }

    /// Tells everybody to end now. Returns whether it is this call that does.
    pub(super) fn force(&self) -> bool {
        if !self.core.advance(Stage::Forcing) {
            return false;
        }
        let now = self.core.clock.now();
        *self.drain.forced_at.lock() = Some(now);
        self.drain.begun.store(true, Ordering::SeqCst);
        for listener in &self.sources.datagrams {
            listener.close_intake();
            listener.give_up_replies();
        }
        self.tell_everybody(Why::FORCE);
        self.arm(Token::Drain, now.after(FORCE_GRACE));
        self.wake_poller();
        true
    }

    /// It is over: closes the listeners, sends the workers home.
    fn end(&self) {
        self.gate.stop();
        if self.core.advance(Stage::Stopped) {
            self.sources.streams.iter().for_each(|listener| self.close_arrivals(listener));
            self.crew.dismiss();
            self.wake_poller();
        }
    }

    /// What is known by now: whoever is still there counts as stuck, and those who run are named.
    fn report_so_far(&self) -> DrainReport {
        let stuck_peers = self.running().map(|line| line.peer.clone()).collect();
        DrainReport {
            stuck: self.open(),
            stuck_peers,
            ..self.drain.so_far(self.core.clock.instant())
        }
    }

    /// Everybody whose handler runs at this moment.
    fn running(&self) -> impl Iterator<Item = Arc<Line>> + '_ {
        self.crew.runs().filter_map(|token| match token {
            Token::Connection(id) => self.connections.line(id),
            Token::Session(id) => self.sessions.line(id),
            _ => None,
        })
    }

    /// Makes the report, once the workers are home, and hands it to everybody who waits for it.
    fn report(&self) -> DrainReport {
        let report = self.report_so_far();
        for line in self.running() {
            self.core.events.emit(&Event::Stuck { id: line.id, peer: &line.peer });
        }
        for token in self.crew.runs() {
            if let Token::Tick(tick) = token {
                self.core.events.emit(&Event::TickStuck { tick });
            }
        }
        self.conclude(&report);
        report
    }

    /// The drain is over, if there was one.
    fn conclude(&self, report: &DrainReport) {
        self.tell_of_the_report(report);
        self.publish(report.clone());
    }

    /// Somebody is about to serve: whoever drains waits for the report.
    pub(crate) fn will_serve(&self) {
        self.drain.serving.store(true, Ordering::SeqCst);
    }

    /// Nobody serves for the time being.
    pub(super) fn pauses_serving(&self) {
        self.drain.serving.store(false, Ordering::SeqCst);
    }

    /// Whether somebody serves, or is about to.
    pub(super) fn is_served(&self) -> bool {
        self.drain.serving.load(Ordering::SeqCst)
    }

    /// Nobody will serve any more: there is nothing to wait for.
    pub(crate) fn abandon(&self) {
        if self.has_ended() {
            return;
        }
        let _in_turn = InTurn::begin(self);
        if self.open() > 0 {
            // Some were let in, or served one by one: they are told.
            self.wind_up();
            return;
        }
        self.end();
        self.end_ticks();
        self.close_datagrams();
        self.conclude(&self.drain.so_far(self.core.clock.instant()));
    }

    /// Whether the report is made.
    pub(crate) fn has_ended(&self) -> bool {
        self.drain.report.lock().is_some()
    }

    pub(super) fn report_made(&self) -> Option<DrainReport> {
        self.drain.report.lock().clone()
    }

    pub(super) fn close_datagrams(&self) {
        for listener in &self.sources.datagrams {
            if listener.close() {
                self.tell_of_the_end(&listener.address);
            }
        }
    }

    fn publish(&self, report: DrainReport) {
        *self.drain.report.lock() = Some(report);
        self.drain.reported.notify_all();
    }

    /// Waits for the report, until `deadline` if there is one. On a thread that runs this server's turns
    /// it does not wait, nor with a deadline for a server that nobody serves: there the report is what is
    /// known by now.
    pub(crate) fn await_report(&self, deadline: Option<Instant>) -> DrainReport {
        let mut report = self.drain.report.lock();
        let nobody_serves = || !self.drain.serving.load(Ordering::SeqCst);
        let in_turn = self.is_own_turn();
        while report.is_none() && !in_turn && !(deadline.is_some() && nobody_serves()) {
            match deadline {
                None => self.drain.reported.wait(&mut report),
                Some(deadline) => {
                    if self.drain.reported.wait_until(&mut report, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        report.clone().unwrap_or_else(|| self.report_so_far())
    }
}

impl Engine {
    /// Serves until the server was drained, on this thread and those it starts.
    pub(crate) fn serve(&self) -> crate::error::Result<DrainReport> {
        if let Some(report) = self.report_made() {
            return Ok(report);
        }
        self.will_serve();
        // It accepts and makes the report: observers and destructors that it calls cannot wait for that.
        let _in_turn = InTurn::begin(self);
        let served = self.work();
        if served.is_err() {
            self.end();
        }
        // Whoever is stuck in a handler does not come; everybody else is on the way.
        self.crew.join(if self.open() == 0 { FORCE_GRACE * 10 } else { FORCE_GRACE / 3 });
        let report = self.finish();
        served.map(|()| report)
    }

    /// Closes what is still open once the workers are home, and says how it went.
    pub(super) fn finish(&self) -> DrainReport {
        self.close_who_is_left();
        self.end_ticks();
        self.close_datagrams();
        self.report()
    }

    /// Works until the drain's end.
    fn work(&self) -> crate::error::Result<()> {
        use crate::schedule::{Concurrency, watchman, worker};
        let failed = |error| crate::Error::system("cannot watch the listeners", error);
        self.open_for_business().map_err(failed)?;
        self.begin_ticks();
        match self.concurrency() {
            Concurrency::Inline => {
                let _ = self.crew.call_in();
                worker::run(self, 0);
            }
            Concurrency::Pool { .. } => {
                self.call_in();
                if !self.crew.has_started() {
                    let nobody_came = || std::io::ErrorKind::WouldBlock.into();
                    let error = self.shortage.untold().unwrap_or_else(nobody_came);
                    return Err(crate::Error::system("cannot start a worker", error));
                }
                watchman::run(self);
            }
            Concurrency::Threads { .. } => {
                // What is ready already, somebody has to be called in for.
                (0..self.ready.len()).for_each(|_| self.call_in());
                watchman::run(self);
            }
        }
        Ok(())
    }
}
