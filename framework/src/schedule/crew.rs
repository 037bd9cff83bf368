//! The crew: who of the workers is awake, who polls, and who takes over from one that blocks.
//!
//! At most `allowance` workers are awake and not blocked. One of them holds the poll: it alone waits on
//! the poller. A worker that blocks is struck off, gives the poll up, and a sleeping one is called in;
//! when it comes back it finishes its turn, and sleeps if others are enough.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::event::HeldBy;
use crate::schedule::member::Member;
use crate::schedule::token::Token;
use crate::sys::thread::ThreadId;

/// How the workers share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shape {
    /// The worker that polls runs what it finds. Few are awake: no thread switch per message.
    Leader = 0,
    /// A thread that runs no handlers polls and feeds all workers: nothing waits behind a handler that
    /// blocks, for a thread switch per message.
    Queue = 1,
}

/// Workers beyond the maximum that a drain may call in.
const RESERVES: usize = 2;

/// Who holds the poll.
const NOBODY: usize = usize::MAX;
/// The thread that serves, which runs no handlers.
const CONTROL: usize = usize::MAX - 1;

/// What an idle worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Run what is ready.
    Work,
    /// Hold the poll.
    Poll,
    /// Wait to be called in.
    Sleep,
    /// The server is over.
    Leave,
}

/// The workers of a server.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Box<[Member]>,
    /// Workers at most. The members' last places are in reserve for a drain.
    max: usize,
    state: Mutex<State>,
    /// A thread has ended.
    left: Condvar,
    poller: AtomicUsize,
    shape: AtomicU8,
    /// How often a worker was found or said to block.
    blocks: AtomicU64,
    /// The thread that serves sleeps as a watchman; this wakes it.
    watch: (Sender<()>, Receiver<()>),
    watch_sleeps: AtomicBool,
    leaving: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Who waits to be called in, the last one on top: it is the warmest.
    sleeping: Vec<usize>,
    /// Threads started so far.
    started: usize,
    /// Awake and not blocked.
    awake: usize,
    allowance: usize,
    threads: Vec<(usize, JoinHandle<()>)>,
}

/// Who was called in.
pub(crate) enum Called {
    /// Nobody may, or nobody is left.
    Nobody,
    /// A sleeping worker.
    Sleeper,
    /// A worker whose thread the caller must start.
    New(usize),
}

impl Crew {
    pub(crate) fn new(max: usize, allowance: usize, shape: Shape) -> Self {
        Self {
            members: (0..max + RESERVES).map(|_| Member::new()).collect(),
            max,
            state: Mutex::new(State {
                sleeping: Vec::new(),
                started: 0,
                awake: 0,
                allowance,
                threads: Vec::new(),
            }),
            left: Condvar::new(),
            poller: AtomicUsize::new(NOBODY),
            shape: AtomicU8::new(shape as u8),
            blocks: AtomicU64::new(0),
            watch: bounded(1),
            watch_sleeps: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn member(&self, worker: usize) -> &Member {
        &self.members[worker]
    }

    /// What the workers run at this moment.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Token> + '_ {
        self.members.iter().filter_map(|member| member.runs())
    }

    /// Workers at most.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn shape(&self) -> Shape {
        if self.shape.load(Ordering::Acquire) == Shape::Queue as u8 {
            Shape::Queue
        } else {
            Shape::Leader
        }
    }

    /// Changes how the work is shared. The poll is free afterwards.
    pub(crate) fn set_shape(&self, shape: Shape, allowance: usize) {
        let mut state = self.state.lock();
        state.allowance = allowance.max(1);
        self.shape.store(shape as u8, Ordering::Release);
        self.poller.store(NOBODY, Ordering::Release);
    }

    /// How often a worker blocked so far.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    // ---- the poll ----

    pub(crate) fn holds_poll(&self, worker: usize) -> bool {
        self.poller.load(Ordering::Acquire) == worker
    }

    /// Whether a worker should poll, and nobody does.
    pub(crate) fn poll_is_free(&self) -> bool {
        self.shape() == Shape::Leader && self.poller.load(Ordering::Acquire) == NOBODY
    }

    pub(crate) fn control_holds_poll(&self) -> bool {
        self.poller.load(Ordering::Acquire) == CONTROL
    }

    /// The thread that serves takes the poll if nobody has it, and nobody is there to take it.
    pub(crate) fn control_takes_poll(&self) -> bool {
        let state = self.state.lock();
        let needed = self.shape() == Shape::Queue || state.awake == 0;
        needed && self.swap_poller(NOBODY, CONTROL) || self.control_holds_poll()
    }

    fn swap_poller(&self, from: usize, to: usize) -> bool {
        self.poller.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    // ---- waking and sleeping ----

    /// Calls in one more worker, if another one may be awake.
    pub(crate) fn call_in(&self) -> Called {
        let state = self.state.lock();
        let allowance = state.allowance;
        self.call(state, allowance, false)
    }

    /// Calls in one more worker for what has waited, if fewer than `most` are awake.
    pub(crate) fn call_in_beside(&self, most: usize) -> Called {
        self.call(self.state.lock(), most, true)
    }

    fn call(&self, mut state: MutexGuard<'_, State>, most: usize, helping: bool) -> Called {
        if state.awake >= most || self.is_leaving() {
            return Called::Nobody;
        }
        if let Some(worker) = state.sleeping.pop() {
            state.awake += 1;
            self.members[worker].helping.store(helping, Ordering::Relaxed);
            // The place in the channel is free: a sleeper has been called once at most.
            let _ = self.members[worker].call.try_send(());
            return Called::Sleeper;
        }
        if state.started < self.max {
            let worker = state.started;
            state.started += 1;
            state.awake += 1;
            self.members[worker].helping.store(helping, Ordering::Relaxed);
            self.members[worker].gone.store(false, Ordering::Release);
            return Called::New(worker);
        }
        Called::Nobody
    }

    /// Lets one worker in beyond the maximum: every other one is blocked, and a drain has people to tell.
    /// It may block as well, in the first handler that it meets; once everybody is forced to end another
    /// one is let in, which meets no handler any more.
    pub(crate) fn call_reserve(&self, forcing: bool) -> Called {
        let mut state = self.state.lock();
        let most = self.max + if forcing { RESERVES } else { 1 };
        if !(self.max..most).contains(&state.started) || state.awake > 0 {
            return Called::Nobody;
        }
        let worker = state.started;
        state.started += 1;
        state.awake += 1;
        self.members[worker].gone.store(false, Ordering::Release);
        Called::New(worker)
    }

    /// The thread of a new worker runs.
    pub(crate) fn started(&self, worker: usize, thread: JoinHandle<()>) {
        self.state.lock().threads.push((worker, thread));
    }

    /// The thread of a new worker could not be started.
    pub(crate) fn not_started(&self, worker: usize) {
        let mut state = self.state.lock();
        self.members[worker].gone.store(true, Ordering::Release);
        state.awake -= 1;
        // The places are taken in order, so that only the last one can be given back.
        if state.started == worker + 1 {
            state.started = worker;
        }
    }

    /// Somebody who is no worker runs turns in a worker's place, or does so no more.
    pub(crate) fn stand_in(&self, worker: usize, here: bool) {
        self.members[worker].gone.store(!here, Ordering::Release);
    }

    /// A worker's thread begins.
    pub(crate) fn enter(&self, worker: usize) {
        self.members[worker].thread.store(ThreadId::current().number(), Ordering::Release);
    }

    /// A worker has nothing to run: what now? `ready` says whether something has come up meanwhile.
    pub(crate) fn idle(&self, worker: usize, ready: impl Fn() -> bool) -> Duty {
        let mut state = self.state.lock();
        if self.is_leaving() {
            return Duty::Leave;
        }
        self.members[worker].helping.store(false, Ordering::Relaxed);
        let enough = state.awake > state.allowance;
        if self.shape() == Shape::Leader {
            // However many are awake: somebody has to poll.
            let free = self.swap_poller(NOBODY, worker);
            if free || !enough && self.swap_poller(CONTROL, worker) || self.holds_poll(worker) {
                return Duty::Poll;
            }
        }
        if !enough && ready() {
            return Duty::Work;
        }
        state.awake -= 1;
        state.sleeping.push(worker);
        Duty::Sleep
    }

    /// Waits to be called in. (It ends when the server does; only work can end it before.)
    pub(crate) fn sleep(&self, worker: usize) {
        // The sender lives in the same place, so that this cannot fail.
        let _ = self.members[worker].called.recv();
    }

    /// Whether a worker that does not hold the poll may run something. It may not if it is one too many:
    /// others were called in while it blocked.
    pub(crate) fn may_work(&self, worker: usize) -> bool {
        let state = self.state.lock();
        state.awake <= state.allowance || self.members[worker].helping.load(Ordering::Relaxed)
    }

    /// A worker is going to block, or was found to, or computes for long: it is struck off, unless the
    /// turn at which it was found is over. Returns whether this call did it.
    pub(crate) fn strike_off(&self, worker: usize, turns: u64, by: HeldBy) -> bool {
        let member = &self.members[worker];
        if member.blocked.swap(true, Ordering::SeqCst) {
            return false;
        }
        // The turn's end counts first and looks for the mark then, and so one of the two sees the other.
        if member.turns() != turns && member.blocked.swap(false, Ordering::SeqCst) {
            return false;
        }
        // More workers do not help against handlers that compute.
        self.blocks.fetch_add(u64::from(by == HeldBy::Blocking), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.awake -= 1;
        self.swap_poller(worker, NOBODY);
        true
    }

    /// A worker is back from a turn in which it was struck off.
    pub(crate) fn reinstate(&self, worker: usize) {
        if self.members[worker].blocked.swap(false, Ordering::SeqCst) {
            self.state.lock().awake += 1;
        }
    }

    /// Nobody is awake: all have blocked.
    pub(crate) fn all_blocked(&self) -> bool {
        self.state.lock().awake == 0
    }

    /// How many workers there are by now, how many of them are in a turn, and how many of these block.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Member) -> bool| self.members.iter().filter(|m| is(m)).count();
        let here = count(|member| !member.gone.load(Ordering::Acquire));
        (here, count(|member| member.runs().is_some()), count(Member::is_blocked))
    }

    /// Whether a worker's thread was ever started. (It may have blocked in a handler already.)
    pub(crate) fn has_started(&self) -> bool {
        self.state.lock().started > 0
    }

    // ---- the watchman ----

    /// Work has begun: the watchman has something to watch.
    pub(crate) fn wake_watchman(&self) {
        if self.watch_sleeps.load(Ordering::SeqCst)
            && self.watch_sleeps.swap(false, Ordering::AcqRel)
        {
            let _ = self.watch.0.try_send(());
        }
    }

    /// The watchman naps for a while, or until somebody calls.
    pub(crate) fn watchman_naps(&self, nap: Duration) {
        let _ = self.watch.1.recv_timeout(nap);
    }

    /// The watchman sleeps until there is something to watch. `quiet` is asked once more after callers
    /// can see that it sleeps.
    pub(crate) fn watchman_sleeps(&self, quiet: impl Fn() -> bool) {
        self.watch_sleeps.store(true, Ordering::SeqCst);
        if quiet() {
            let _ = self.watch.1.recv();
        }
        self.watch_sleeps.store(false, Ordering::SeqCst);
    }

    // ---- the end ----

    /// Sends everybody home: sleepers at once, the others when their turn is over.
    pub(crate) fn dismiss(&self) {
        let mut state = self.state.lock();
        self.leaving.store(true, Ordering::SeqCst);
        for worker in std::mem::take(&mut state.sleeping) {
            let _ = self.members[worker].call.try_send(());
        }
        drop(state);
        for member in &self.members {
            if let Some(wake) = member.wake.get() {
                wake.raise();
            }
        }
        let _ = self.watch.0.try_send(());
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// A worker's thread ends.
    pub(crate) fn leave(&self, worker: usize) {
        let _state = self.state.lock();
        self.members[worker].gone.store(true, Ordering::Release);
        self.left.notify_all();
    }

    /// Waits until everybody has left, within so long, and ends their threads.
    pub(crate) fn join(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock();
        while self.members.iter().any(|member| !member.gone.load(Ordering::Acquire)) {
            if self.left.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        for (worker, thread) in threads {
            // A thread that is stuck in a handler cannot be ended; it is left to the process.
            if self.members[worker].gone.load(Ordering::Acquire) {
                drop(thread.join());
            }
        }
    }
}
