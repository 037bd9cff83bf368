//! The limit on open descriptors: raised as far as this process may, and read.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit before and after it was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) before: u64,
    pub(crate) now: u64,
}

/// Raises the soft limit on open descriptors to the hard one. Where that fails the old one stays.
pub(crate) fn raise_descriptors() -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let raised = limit.current != limit.maximum && setrlimit(Resource::Nofile, wanted).is_ok();
    let now = if raised { limit.maximum.unwrap_or(u64::MAX) } else { before };
    Descriptors { before, now }
}
