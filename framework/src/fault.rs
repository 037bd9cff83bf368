//! Whose fault it is when something fails or ends early.

use std::fmt;

/// Whose fault a failure is: who would have to change something for it not to happen again.
///
/// ```
/// use switchboard::{CloseReason, Fault, FrameError};
///
/// assert_eq!(CloseReason::SlowRead.fault(), Some(Fault::Peer));
/// assert_eq!(CloseReason::Done.fault(), None);
/// assert_eq!(FrameError::Unfinished { have: 3 }.fault(), Fault::Peer);
/// assert_eq!(Fault::Peer.name(), "peer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The other end: what it sent, what it did not take, or that it left.
    Peer,
    /// The program's handler: it returned an error, panicked, or ran too long.
    Handler,
    /// Whoever made the call: an address, a setting or a message that cannot be used. Another one would
    /// do.
    Caller,
    /// The operating system: it lacks something, or refused something that is in order.
    System,
    /// The server itself: one of its limits, or its end.
    Server,
}

impl Fault {
    /// One word, as counters and logs name it: `peer`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Handler => "handler",
            Self::Caller => "caller",
            Self::System => "system",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
