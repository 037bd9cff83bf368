//! No thread for a worker: told of, and tried again while work waits.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::event::Event;
use crate::schedule::crew::Called;
use crate::schedule::engine::Engine;
use crate::schedule::token::Token;
use crate::schedule::worker;
use crate::timer::Alarm;

/// How long no thread is asked for after the system had none. Those that there are go on meanwhile.
const REST: Duration = Duration::from_millis(100);

/// Whether there are threads to be had.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// Why there was none. Whoever polls tells of it: whoever needed the thread may hold a lock.
    untold: Mutex<Option<io::Error>>,
    /// None is asked for until the alarm.
    resting: AtomicBool,
    pub(super) alarm: Alarm,
    /// Tests have so many threads refused.
    #[cfg(test)]
    refusals: std::sync::atomic::AtomicUsize,
}

impl Default for Shortage {
    fn default() -> Self {
        Self {
            untold: Mutex::new(None),
            resting: AtomicBool::new(false),
            alarm: Alarm::new(),
            #[cfg(test)]
            refusals: std::sync::atomic::AtomicUsize::new(0),
        }
    }
}

impl Shortage {
    /// Why there was no thread, if nobody was told yet.
    pub(super) fn untold(&self) -> Option<io::Error> {
        self.untold.lock().take()
    }
}

impl Engine {
    /// Starts a thread, if the system has one left.
    pub(crate) fn start_thread<T: Send + 'static>(
        &self,
        name: String,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        #[cfg(test)]
        {
            let one_less = |left: usize| left.checked_sub(1);
            let refusals = &self.shortage.refusals;
            if refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        std::thread::Builder::new().name(name).spawn(run)
    }

    /// Has the next so many threads refused.
    #[cfg(test)]
    pub(crate) fn refuse_threads(&self, count: usize) {
        self.shortage.refusals.store(count, Ordering::SeqCst);
    }

    /// Starts the thread of a worker that was called in for the first time.
    pub(super) fn start(&self, called: &Called) {
        let Called::New(worker) = *called else { return };
        let Some(engine) = self.shared() else { return };
        if self.shortage.resting.load(Ordering::SeqCst) {
            return self.crew.not_started(worker);
        }
        let run = move || worker::run(&engine, worker);
        match self.start_thread(format!("switchboard-{worker}"), run) {
            Ok(thread) => self.crew.started(worker, thread),
            Err(error) => {
                self.shortage.resting.store(true, Ordering::SeqCst);
                self.crew.not_started(worker);
                *self.shortage.untold.lock() = Some(error);
                self.arm(Token::Crew, self.core.clock.now());
            }
        }
    }

    /// Whoever polls tells of a shortage, and asks again after the rest if work waits for somebody.
    pub(super) fn try_for_threads(&self) {
        if let Some(error) = self.shortage.untold() {
            self.core.events.emit(&Event::ThreadFailed { error: &error });
            return self.arm(Token::Crew, self.core.clock.now().after(REST));
        }
        self.shortage.resting.store(false, Ordering::SeqCst);
        for _ in 0..self.ready.len().min(self.crew.max()) {
            self.call_in();
        }
    }
}
