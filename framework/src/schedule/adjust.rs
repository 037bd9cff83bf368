//! Limits changed while the server runs: what is in force from now on, and who has to hear of it.

use std::time::Duration;

use crate::config::check_connections;
use crate::desk::Why;
use crate::error::{Error, Result};
use crate::schedule::Concurrency;
use crate::schedule::engine::Engine;

impl Engine {
    /// Changes how many connections may be open. Those that are stay; who is queued gets in at once, if
    /// there is room now.
    pub(crate) fn set_max_connections(&self, connections: usize) -> Result<()> {
        check_connections(connections)?;
        let wanted = self.selected.connections_within(connections);
        let room = self.connections.capacity();
        if wanted > room {
            let text = format!("max_connections is {connections}, but there is room for {room}");
            return Err(Error::config(text));
        }
        self.gate.set_max(wanted);
        let (open, max) = self.gate.occupancy();
        if open < max && self.gate.left() {
            self.arm_listeners();
        }
        Ok(())
    }

    /// Changes how many sessions each datagram listener holds. As many as are too many make room at once,
    /// those used longest ago first.
    pub(crate) fn set_max_sessions(&self, sessions: usize) -> Result<()> {
        let _one_at_a_time = self.adjusting.lock();
        self.core.live.set_max_sessions(sessions)?;
        for listener in &self.sources.datagrams {
            for evicted in listener.set_max_sessions(sessions) {
                self.notify(evicted, Why::EVICT);
            }
        }
        Ok(())
    }

    pub(crate) fn set_idle_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.live.set_idle_timeout(timeout)?;
        self.look_again();
        Ok(())
    }

    pub(crate) fn set_message_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.live.set_message_timeout(timeout)?;
        self.look_again();
        Ok(())
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.live.set_write_timeout(timeout)?;
        self.look_again();
        Ok(())
    }

    pub(crate) fn set_outbox_limit(&self, bytes: usize) -> Result<()> {
        self.core.live.set_outbox_limit(bytes)?;
        self.look_again();
        Ok(())
    }

    /// Lets everybody look at the deadlines and marks anew: the timers of those who are parked are armed
    /// for what was in force when they parked. It costs a turn for each, and no turn waits for it.
    fn look_again(&self) {
        self.tell_everybody(Why::TIMER);
    }
}

impl Concurrency {
    /// How many connections there may be where the server has room for so many.
    pub(super) fn connections_within(self, room: usize) -> usize {
        match self {
            Self::Inline | Self::Pool { .. } => room,
            Self::Threads { max } => room.min(max),
        }
    }
}
