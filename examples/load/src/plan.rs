//! Everything that a run is told: what to send, how fast, to whom, for how long.
use std::{net::IpAddr, time::Duration};

use crate::framing::Framing;
use crate::proof::{Expect, Sizes};
use crate::schedule::Arrival;
use crate::target::Target;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// A reply lets the next request go: the server sets the pace.
    Closed,
    /// Requests are due at fixed instants, whatever the server does.
    Open { rate: f64, arrival: Arrival },
}

/// How the bytes of requests are handed to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// All that is ready in one write.
    Whole,
    /// At most this many bytes a write.
    Chunks(usize),
    /// Each message in two writes, cut inside a character where there is one of several bytes.
    SplitCharacter,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Closed after the last reply.
    Close,
    /// Our half is closed right after the last request; replies and the server's close must still come.
    HalfClose,
    /// Reset after the last reply.
    Reset,
}

/// Connections beside those that are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    /// Connect and say nothing.
    pub(crate) silent: usize,
    /// Send all they can, and hardly read.
    pub(crate) slow_readers: usize,
    /// Send a byte now and then, and never finish a message.
    pub(crate) dribblers: usize,
}

impl Sides {
    /// All of them.
    pub(crate) fn count(self) -> usize {
        self.silent + self.slow_readers + self.dribblers
    }
}

/// A run, fully decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    /// Requests that may be open on one connection.
    pub(crate) depth: u32,
    pub(crate) load: Load,
    pub(crate) duration: Duration,
    /// Requests to send in all; the run ends early when they are sent.
    pub(crate) count: Option<u64>,
    pub(crate) warmup: Duration,
    /// After this long a request is given up.
    pub(crate) timeout: Duration,
    pub(crate) framing: Framing,
    pub(crate) expect: Expect,
    pub(crate) sizes: Sizes,
    pub(crate) writes: Writes,
    /// Messages that must be ready before a write.
    pub(crate) glue: u32,
    /// An empty datagram goes before every tenth request.
    pub(crate) empty: bool,
    pub(crate) ending: Ending,
    /// Requests that a connection makes before it is ended and another begun.
    pub(crate) life: Option<u32>,
    /// With a life: every second connection lives on.
    pub(crate) half_live_on: bool,
    pub(crate) sides: Sides,
    pub(crate) sources: Vec<IpAddr>,
    /// The server's process, to be measured.
    pub(crate) pid: Option<u32>,
    /// When to tell that process to stop, counted from the start of the load.
    pub(crate) drain_at: Option<Duration>,
    pub(crate) seed: u64,
}

impl Plan {
    /// Whether the load does not wait for replies.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.load, Load::Open { .. }) || self.expect == Expect::Nothing
    }

    /// Descriptors that a run needs.
    pub(crate) fn descriptors(&self) -> u64 {
        (self.connections + self.sides.count() + self.threads * 3 + 32) as u64
    }
}
