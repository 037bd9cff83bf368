//! Who runs ready work: the engine that all stages hang on, and the ways to wait for the next turn.
//!
//! `token` names whom something is for. `engine` fetches events and says what is `ready`; `arrivals`
//! accepts; `run` makes turns. `worker` is the loop of a worker; `crew` says which worker is awake and who
//! polls; `watchman` notices those that block; `threads` waits on one connection; `ticks` runs what the user
//! wants run now and then; `shortage` gets by without a thread; `adjust` changes limits, and `suspend` turns
//! newcomers away, while all that goes on; `status` says how it stands; `solo` serves one at a time; `drain` ends it all.
//! Under `Inline` the thread that serves is the only worker; in `memory` it is a test's.

mod token;

mod ready;

mod crew;

mod member;

mod engine;

mod arrivals;

mod run;

mod worker;

mod watchman;

mod threads;

mod ticks;

mod shortage;

mod drain;

mod report;

mod solo;

mod adjust;
mod herald;
mod memory;

mod suspend;

mod status;

pub use report::DrainReport;
pub use solo::Served;
pub use status::{ListenerState, ListenerStatus, ServerStage, Status, Workers};

pub(crate) use engine::{Engine, Sources};
pub(crate) use memory::Bench;
pub(crate) use ticks::Run;

/// How handlers are run. One value selects it; handlers are the same under each.
///
/// | | `Inline` | `Threads` | `Pool` (default) |
/// |---|---|---|---|
/// | a connection between messages | parked | holds its thread | parked: a slot and no thread |
/// | a handler that blocks | blocks the server | blocks its own thread | a sleeping worker takes over |
/// | good for | tests, tiny tools | odd protocols, debugging, a few hundred peers | everything else |
///
/// ```
/// use switchboard::{Concurrency, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
///     .concurrency(Concurrency::pool(16));
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// Everything on the thread that serves.
    Inline,
    /// A thread for each connection, kept and reused. At most `max` connections are open at a time; each
    /// takes a descriptor more than its own.
    Threads {
        /// Threads, and so connections, at most.
        max: usize,
    },
    /// As many handlers at a time as there are workers, blocked ones included; their threads start when
    /// they are first needed. Connections that wait are parked in one poller.
    Pool {
        /// Handlers that may run at a time.
        workers: usize,
    },
}

impl Concurrency {
    /// A pool of so many workers.
    #[must_use]
    pub const fn pool(workers: usize) -> Self {
        Self::Pool { workers }
    }

    /// Descriptors that each connection takes: under `Threads` its thread has a wake-up as well.
    pub(crate) const fn descriptors_each(self) -> u64 {
        match self {
            Self::Inline | Self::Pool { .. } => 1,
            Self::Threads { .. } => 2,
        }
    }

    /// A thread for each connection, at most so many.
    ///
    /// ```
    /// use switchboard::{Concurrency, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.tcp("127.0.0.1:0").concurrency(Concurrency::threads(200)).spawn()?;
    /// assert_eq!(server.status().max_connections, 200);
    /// # server.stop();
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    #[must_use]
    pub const fn threads(max: usize) -> Self {
        Self::Threads { max }
    }
}

/// A pool with four workers for each core, and at least 16.
impl Default for Concurrency {
    fn default() -> Self {
        Self::pool((4 * cores()).max(16))
    }
}

/// The processors that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
