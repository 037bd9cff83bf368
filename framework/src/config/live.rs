//! The settings that may change while a server runs: each is one atomic, read without a lock.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::{Limits, Marks, Overflow, check_outbox, check_sessions, check_timeout};
use crate::error::Error;

/// The settings as they are now. (How many connections may be open is the gate's: it decides by one word.)
#[derive(Debug)]
pub(crate) struct Live {
    max_sessions: AtomicUsize,
    idle_timeout: Span,
    message_timeout: Span,
    write_timeout: Span,
    drain_timeout: Span,
    outbox_limit: AtomicUsize,
    overflow: AtomicU8,
}

impl Live {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max_sessions: AtomicUsize::new(limits.max_sessions),
            idle_timeout: Span::new(limits.idle_timeout),
            message_timeout: Span::new(limits.message_timeout),
            write_timeout: Span::new(limits.write_timeout),
            drain_timeout: Span::new(Some(limits.drain_timeout)),
            outbox_limit: AtomicUsize::new(limits.outbox_limit),
            overflow: AtomicU8::new(number_of(limits.overflow)),
        }
    }

    pub(crate) fn max_sessions(&self) -> usize {
        self.max_sessions.load(Ordering::Relaxed)
    }

    pub(crate) fn set_max_sessions(&self, sessions: usize) -> Result<(), Error> {
        check_sessions(sessions)?;
        self.max_sessions.store(sessions, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.read()
    }

    pub(crate) fn set_idle_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        check_timeout("idle_timeout", timeout)?;
        self.idle_timeout.write(timeout);
        Ok(())
    }

    pub(crate) fn message_timeout(&self) -> Option<Duration> {
        self.message_timeout.read()
    }

    pub(crate) fn set_message_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        check_timeout("message_timeout", timeout)?;
        self.message_timeout.write(timeout);
        Ok(())
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.read()
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        check_timeout("write_timeout", timeout)?;
        self.write_timeout.write(timeout);
        Ok(())
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout.read().unwrap_or(Duration::MAX)
    }

    pub(crate) fn set_drain_timeout(&self, timeout: Duration) {
        self.drain_timeout.write(Some(timeout));
    }

    pub(crate) fn marks(&self) -> Marks {
        Marks::of(self.outbox_limit.load(Ordering::Relaxed))
    }

    pub(crate) fn set_outbox_limit(&self, bytes: usize) -> Result<(), Error> {
        check_outbox(bytes)?;
        self.outbox_limit.store(bytes, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn overflow(&self) -> Overflow {
        match self.overflow.load(Ordering::Relaxed) {
            0 => Overflow::Disconnect,
            1 => Overflow::DropOldest,
            _ => Overflow::DropNewest,
        }
    }

    pub(crate) fn set_overflow(&self, overflow: Overflow) {
        self.overflow.store(number_of(overflow), Ordering::SeqCst);
    }
}

const fn number_of(overflow: Overflow) -> u8 {
    match overflow {
        Overflow::Disconnect => 0,
        Overflow::DropOldest => 1,
        Overflow::DropNewest => 2,
    }
}

/// A timeout in nanoseconds. The largest number is "never", and as good as any span beyond 500 years.
#[derive(Debug)]
struct Span(AtomicU64);

const NEVER: u64 = u64::MAX;

impl Span {
    fn new(span: Option<Duration>) -> Self {
        Self(AtomicU64::new(nanos(span)))
    }

    fn read(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn write(&self, span: Option<Duration>) {
        // Before whatever wakes those who wait by the old one.
        self.0.store(nanos(span), Ordering::SeqCst);
    }
}

fn nanos(span: Option<Duration>) -> u64 {
    span.map_or(NEVER, |span| u64::try_from(span.as_nanos()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_and_what_cannot_be_meant_changes_nothing() {
        let live = Live::new(&Limits::default());
        assert_eq!(live.idle_timeout(), Some(Duration::from_secs(300)));
        live.set_idle_timeout(None).expect("never");
        assert_eq!(live.idle_timeout(), None);
        live.set_idle_timeout(Some(Duration::from_nanos(1500))).expect("a span");
        assert!(live.set_idle_timeout(Some(Duration::ZERO)).is_err());
        assert_eq!(live.idle_timeout(), Some(Duration::from_nanos(1500)));
        live.set_drain_timeout(Duration::MAX);
        assert_eq!(live.drain_timeout(), Duration::MAX);
        assert!(live.set_outbox_limit(31).is_err());
        assert_eq!(live.marks().cap, 1024 * 1024);
        for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Disconnect] {
            live.set_overflow(overflow);
            assert_eq!(live.overflow(), overflow);
        }
    }
}
