//! What every stage of one server shares: its settings, its clock, its events, and how far it is on its
//! way to the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{Config, Live};
use crate::event::{Events, Observer};
use crate::sys::wake::Wake;
use crate::timer::{Clock, Moment};

/// How far a server is on its way to the end. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Serving, or not yet.
    Running = 0,
    /// Nobody new is let in beside those who are queued already; everybody is told.
    Draining = 1,
    /// The deadline has passed: what still runs is ended.
    Forcing = 2,
    /// Over.
    Stopped = 3,
}

/// The part of a server that the stages see.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    /// The settings that may change meanwhile, as they are now.
    pub(crate) live: Arc<Live>,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    stage: AtomicU8,
    /// Newcomers are turned away until somebody says otherwise.
    suspended: AtomicBool,
    /// When the drain's patience ends; never, as long as there is no drain.
    deadline: Mutex<Moment>,
    /// What ends waits of ours. In memory there is none: nothing waits there.
    signals: Option<Signals>,
}

#[derive(Debug)]
struct Signals {
    /// Readable from the drain's beginning on: it ends waits at the boundary of a message.
    draining: Wake,
    /// Readable from the drain's deadline on: it ends every wait of ours.
    forcing: Wake,
}

impl Core {
    pub(crate) fn new(config: Config, observers: &[Arc<dyn Observer>]) -> io::Result<Self> {
        let signals = Signals { draining: Wake::new()?, forcing: Wake::new()? };
        Ok(Self::with(config, observers, Clock::start(), Some(signals)))
    }

    /// For a server in memory: its clock is moved by hand, and it takes nothing of the system's.
    pub(crate) fn in_memory(config: Config, observers: &[Arc<dyn Observer>]) -> Self {
        Self::with(config, observers, Clock::by_hand(), None)
    }

    fn with(
        config: Config,
        observers: &[Arc<dyn Observer>],
        clock: Clock,
        signals: Option<Signals>,
    ) -> Self {
        Self {
            events: Events::new(config.handler_errors, observers),
            live: Arc::new(Live::new(&config.initial)),
            config,
            clock,
            stage: AtomicU8::new(Stage::Running as u8),
            suspended: AtomicBool::new(false),
            deadline: Mutex::new(Moment::NEVER),
            signals,
        }
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.signals.is_none()
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Running,
            1 => Stage::Draining,
            2 => Stage::Forcing,
            _ => Stage::Stopped,
        }
    }

    /// Whether newcomers are turned away. Nobody is told: those who are there go on.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// Whether newcomers are turned away from now on. Returns whether that was otherwise before.
    pub(crate) fn set_suspended(&self, suspended: bool) -> bool {
        self.suspended.swap(suspended, Ordering::SeqCst) != suspended
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.stage() >= Stage::Draining
    }

    /// Goes on to `stage`. Returns whether this call did it.
    pub(crate) fn advance(&self, stage: Stage) -> bool {
        let before = self.stage.fetch_max(stage as u8, Ordering::SeqCst);
        if let Some(signals) = &self.signals {
            if stage >= Stage::Draining {
                signals.draining.raise();
            }
            if stage >= Stage::Forcing {
                signals.forcing.raise();
            }
        }
        before < stage as u8
    }

    /// Sets the drain's deadline, or brings it forward, and returns it.
    pub(crate) fn drain_by(&self, deadline: Moment) -> Moment {
        let mut by = self.deadline.lock();
        *by = (*by).min(deadline);
        *by
    }

    /// Whether the drain's deadline has passed. A wait of ours finds out by itself: under `Inline` it
    /// holds the only thread that could tell it.
    pub(crate) fn is_overdue(&self) -> bool {
        self.stage() >= Stage::Forcing || *self.deadline.lock() <= self.clock.now()
    }

    /// What ends a wait of ours early: the drain's beginning, and if that was seen its deadline. What was
    /// seen is an argument: asking once more here would miss a drain that began in between.
    pub(crate) fn signal(&self, draining_seen: bool) -> Option<&Wake> {
        let signals = self.signals.as_ref()?;
        Some(if draining_seen { &signals.forcing } else { &signals.draining })
    }

    /// How long a wait of ours may take that must not outlast `timeout`, nor the drain.
    pub(crate) fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        let deadline = *self.deadline.lock();
        let drain = (deadline != Moment::NEVER).then(|| deadline.since(self.clock.now()));
        timeout.into_iter().chain(drain).min()
    }

    /// A timeout's span, so far away for "never" that no clock reaches it.
    pub(crate) fn span(timeout: Option<Duration>) -> Duration {
        timeout.unwrap_or(Duration::MAX)
    }
}
