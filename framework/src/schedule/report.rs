//! What a drain says in the end: what became of everybody.

use std::fmt;
use std::time::Duration;

use crate::peer::Peer;

/// What became of everybody who was there when a drain began, or came during it. The four numbers are
/// disjoint and add up. Sessions of datagrams count like connections.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)));
/// let server = MemoryServer::new(server);
/// let _waiting = server.connect();
/// let report = server.drain(Duration::from_secs(20));
/// assert_eq!((report.completed, report.told, report.forced, report.stuck), (0, 1, 0, 0));
/// assert!(report.is_clean());
/// assert!(report.to_string().starts_with("drained completed=0 told=1 forced=0 stuck=0"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Ended by themselves: their handler or their peer closed.
    pub completed: usize,
    /// Closed because they were told of the drain.
    pub told: usize,
    /// Ended at the deadline.
    pub forced: usize,
    /// Not ended: their handler had not returned when the report was made.
    pub stuck: usize,
    /// Who they are, as far as they are known.
    pub stuck_peers: Vec<Peer>,
    /// From the drain's beginning to its end.
    pub took: Duration,
}

impl DrainReport {
    /// Whether everybody left in time: nothing was forced and nothing is stuck.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.forced == 0 && self.stuck == 0
    }
}

/// One line: `drained completed=3 told=1 forced=0 stuck=0 took=12ms`.
impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, told, forced, stuck, took, .. } = self;
        let took = took.as_millis();
        write!(
            f,
            "drained completed={completed} told={told} forced={forced} stuck={stuck} took={took}ms"
        )
    }
}
