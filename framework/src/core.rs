//! What every stage of one server shares: its settings, its clock, its events, and how far it is on its
//! way to the end.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::event::Events;
use crate::sys::wake::Wake;
use crate::timer::Clock;

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
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    stage: AtomicU8,
    /// Readable from the drain's beginning on: it ends waits at the boundary of a message.
    draining: Wake,
    /// Readable from the drain's deadline on: it ends every wait of ours.
    forcing: Wake,
}

impl Core {
    pub(crate) fn new(config: Config) -> io::Result<Self> {
        Ok(Self {
            config,
            clock: Clock::start(),
            events: Events::default(),
            stage: AtomicU8::new(Stage::Running as u8),
            draining: Wake::new()?,
            forcing: Wake::new()?,
        })
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Running,
            1 => Stage::Draining,
            2 => Stage::Forcing,
            _ => Stage::Stopped,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.stage() >= Stage::Draining
    }

    /// Goes on to `stage`. Returns whether this call did it.
    pub(crate) fn advance(&self, stage: Stage) -> bool {
        let before = self.stage.fetch_max(stage as u8, Ordering::SeqCst);
        if stage >= Stage::Draining {
            self.draining.raise();
        }
        if stage >= Stage::Forcing {
            self.forcing.raise();
        }
        before < stage as u8
    }

    /// What ends a wait of a conversation: the drain if it stands between two messages, else only the
    /// drain's deadline.
    pub(crate) fn signal(&self, between_messages: bool) -> &Wake {
        if between_messages { &self.draining } else { &self.forcing }
    }

    /// A timeout's span, so far away for "never" that no clock reaches it.
    pub(crate) fn span(timeout: Option<Duration>) -> Duration {
        timeout.unwrap_or(Duration::MAX)
    }
}
