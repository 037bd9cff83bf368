//! Events become lines of the `log` crate: one line each, rarely more than ten a second of a kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::log::{Level, log, log_enabled};

use crate::config::HandlerErrors;
use crate::event::{DropReason, Event, Observer};
use crate::reason::CloseReason;

/// Lines of one kind in one second at most; the rest is counted and said afterwards.
const LINES_PER_SECOND: u64 = 10;

const TARGET: &str = "switchboard";

/// Kinds of lines, each with a limit of its own.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
enum Kind {
    Server,
    Accept,
    Full,
    Opened,
    Left,
    Failed,
    Datagram,
    Reply,
    Worker,
    Late,
    Hook,
}

/// The limits; the lines themselves go to whatever logger the program has set.
#[derive(Debug)]
pub(super) struct Log {
    began: Instant,
    limits: [Limit; Kind::Hook as usize + 1],
    errors: HandlerErrors,
}

impl Log {
    pub(super) fn new(errors: HandlerErrors) -> Self {
        Self { began: Instant::now(), limits: Default::default(), errors }
    }
}

/// The log hears of events like everybody else.
impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        let (kind, level) = classify(event, self.errors);
        if !log_enabled!(target: TARGET, level) {
            return;
        }
        let Some(suppressed) = self.limits[kind as usize].admit(self.began.elapsed().as_secs())
        else {
            return;
        };
        if suppressed > 0 {
            log!(target: TARGET, level, "{event} ({suppressed} similar lines suppressed)");
        } else {
            log!(target: TARGET, level, "{event}");
        }
    }
}

/// How loud an event is, and with whom it shares a limit.
fn classify(event: &Event<'_>, errors: HandlerErrors) -> (Kind, Level) {
    match event {
        Event::DescriptorsRaised { .. }
        | Event::ListenerStarted { .. }
        | Event::Suspended
        | Event::Resumed
        | Event::Draining { .. }
        | Event::Drained { .. } => (Kind::Server, Level::Info),
        Event::ListenerStopped { .. } => (Kind::Server, Level::Debug),
        Event::DescriptorsShort { .. }
        | Event::SuspendFailed { .. }
        | Event::SmallReceiveBuffer { .. }
        | Event::Stuck { .. }
        | Event::TickStuck { .. } => (Kind::Server, Level::Warn),
        Event::AcceptFailed { rest: None, .. } => (Kind::Accept, Level::Debug),
        Event::AcceptFailed { .. } => (Kind::Accept, Level::Warn),
        Event::ListenerFailed { .. } => (Kind::Server, Level::Error),
        Event::Full { .. } => (Kind::Full, Level::Warn),
        Event::ConnectionOpened { .. } | Event::SessionBegun { .. } => (Kind::Opened, Level::Debug),
        Event::ConnectionClosed { reason, .. } | Event::SessionEnded { reason, .. } => {
            of_reason(reason, errors)
        }
        Event::DatagramFailed { reason, .. } => of_reason(reason, errors),
        Event::DatagramDropped { reason: DropReason::SessionEnded, .. } => {
            (Kind::Late, Level::Debug)
        }
        Event::DatagramDropped { .. } => (Kind::Datagram, Level::Warn),
        Event::ReceiveFailed { .. } => (Kind::Datagram, Level::Debug),
        Event::ReplyWithheld { .. } => (Kind::Reply, Level::Warn),
        Event::ReplyFailed { .. } => (Kind::Reply, Level::Debug),
        Event::WorkerReplaced { .. } | Event::SharingChanged { .. } => (Kind::Worker, Level::Debug),
        Event::ThreadFailed { .. } | Event::PollFailed { .. } => (Kind::Worker, Level::Error),
        Event::TickPanicked { .. } | Event::ObserverPanicked { .. } => (Kind::Hook, Level::Error),
    }
}

/// How loud an end is. Errors of handlers may be wanted quiet; a panic is always an error.
fn of_reason(reason: &CloseReason, errors: HandlerErrors) -> (Kind, Level) {
    match reason {
        CloseReason::HandlerPanic => (Kind::Failed, Level::Error),
        CloseReason::HandlerErr(_) if errors == HandlerErrors::Quiet => (Kind::Left, Level::Debug),
        CloseReason::HandlerErr(_) | CloseReason::Forced => (Kind::Failed, Level::Warn),
        // A peer that resets is its own affair, and there are many of them.
        CloseReason::PeerReset => (Kind::Left, Level::Debug),
        _ => (Kind::Left, Level::Info),
    }
}

/// How many lines of a kind this second has seen.
#[derive(Debug, Default)]
struct Limit {
    /// The second in the high half, its lines in the low half.
    window: AtomicU64,
}

impl Limit {
    /// Whether one more line may be written in this second, and how many were not in the one before.
    fn admit(&self, second: u64) -> Option<u64> {
        let second = second & 0xffff_ffff;
        let next = |window: u64| {
            if window >> 32 == second { window.saturating_add(1) } else { second << 32 | 1 }
        };
        let before =
            self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |w| Some(next(w)));
        let before = before.unwrap_or_else(|same| same);
        let lines = before & 0xffff_ffff;
        if before >> 32 != second {
            return Some(lines.saturating_sub(LINES_PER_SECOND));
        }
        (lines < LINES_PER_SECOND).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_and_then_how_many_were_suppressed() {
        let limit = Limit::default();
        let written = (0..25).filter(|_| limit.admit(7).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limit.admit(8), Some(15));
        assert_eq!(limit.admit(8), Some(0));
    }

    fn level(reason: &CloseReason, errors: HandlerErrors) -> Level {
        of_reason(reason, errors).1
    }

    #[test]
    fn a_reset_is_debug_and_a_panic_is_an_error() {
        let level = |reason: CloseReason| level(&reason, HandlerErrors::Logged);
        assert_eq!(level(CloseReason::PeerReset), Level::Debug);
        assert_eq!(level(CloseReason::HandlerPanic), Level::Error);
        assert_eq!(level(CloseReason::HandlerErr(String::new())), Level::Warn);
        assert_eq!(level(CloseReason::Done), Level::Info);
    }

    #[test]
    fn quiet_errors_are_debug_and_a_panic_is_an_error_all_the_same() {
        let level = |reason: CloseReason| level(&reason, HandlerErrors::Quiet);
        assert_eq!(level(CloseReason::HandlerErr(String::new())), Level::Debug);
        assert_eq!(level(CloseReason::HandlerPanic), Level::Error);
    }
}
