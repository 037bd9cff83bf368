//! Events become lines of the `log` crate: one line each, rarely more than ten a second of a kind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::log::{Level, log, log_enabled};

use crate::event::Event;
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
}

/// The limits; the lines themselves go to whatever logger the program has set.
#[derive(Debug)]
pub(crate) struct Log {
    began: Instant,
    limits: [Limit; Kind::Worker as usize + 1],
}

impl Default for Log {
    fn default() -> Self {
        Self { began: Instant::now(), limits: Default::default() }
    }
}

impl Log {
    pub(crate) fn write(&self, event: &Event<'_>) {
        let (kind, level) = classify(event);
        if !log_enabled!(target: TARGET, level) {
            return;
        }
        let Some(suppressed) = self.limits[kind as usize].admit(self.began.elapsed().as_secs())
        else {
            return;
        };
        let line = Line(event);
        if suppressed > 0 {
            log!(target: TARGET, level, "{line} ({suppressed} similar lines suppressed)");
        } else {
            log!(target: TARGET, level, "{line}");
        }
    }
}

/// How loud an event is, and with whom it shares a limit.
fn classify(event: &Event<'_>) -> (Kind, Level) {
    match event {
        Event::DescriptorsRaised { .. }
        | Event::Listening { .. }
        | Event::Suspended
        | Event::Resumed
        | Event::Draining { .. }
        | Event::Drained { .. } => (Kind::Server, Level::Info),
        Event::DescriptorsShort { .. } | Event::SmallReceiveBuffer { .. } | Event::Stuck { .. } => {
            (Kind::Server, Level::Warn)
        }
        Event::AcceptFailed { rest: None, .. } => (Kind::Accept, Level::Debug),
        Event::AcceptFailed { .. } => (Kind::Accept, Level::Warn),
        Event::ListenerFailed { .. } => (Kind::Server, Level::Error),
        Event::Full { .. } => (Kind::Full, Level::Warn),
        Event::Opened { .. } => (Kind::Opened, Level::Debug),
        Event::Closed { reason, .. } => match reason {
            CloseReason::HandlerPanic => (Kind::Failed, Level::Error),
            CloseReason::HandlerErr(_) | CloseReason::Forced => (Kind::Failed, Level::Warn),
            // A peer that resets is its own affair, and there are many of them.
            CloseReason::PeerReset => (Kind::Left, Level::Debug),
            _ => (Kind::Left, Level::Info),
        },
        Event::DatagramFailed { .. } => (Kind::Failed, Level::Warn),
        Event::DatagramDropped { .. } => (Kind::Datagram, Level::Warn),
        Event::ReceiveFailed { .. } => (Kind::Datagram, Level::Debug),
        Event::ReplyWithheld { .. } => (Kind::Reply, Level::Warn),
        Event::ReplyFailed { .. } => (Kind::Reply, Level::Debug),
        Event::WorkerReplaced { .. } | Event::BlockingCommon { .. } => (Kind::Worker, Level::Debug),
        Event::ThreadFailed { .. } | Event::PollFailed { .. } => (Kind::Worker, Level::Error),
    }
}

struct Line<'a>(&'a Event<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::DescriptorsRaised { before, now, max_connections } => write!(
                f,
                "descriptor limit raised from {before} to {now}; at most {max_connections} connections"
            ),
            Event::DescriptorsShort { descriptors, max_connections } => write!(
                f,
                "max_connections is {max_connections}, but this process may open only \
                 {descriptors} descriptors"
            ),
            Event::Listening { address } => write!(f, "listening on {address}"),
            Event::SmallReceiveBuffer { address, asked, granted } => write!(
                f,
                "{address}: receive buffer of {granted} bytes instead of {asked}; bursts may be lost \
                 (see net.core.rmem_max)"
            ),
            Event::AcceptFailed { address, error, rest: None } => {
                write!(f, "{address}: accept: {error}")
            }
            Event::AcceptFailed { address, error, rest: Some(rest) } => {
                write!(f, "{address}: accept: {error}; resting for {rest:?}")
            }
            Event::ListenerFailed { address, error } => write!(f, "{address}: broken: {error}"),
            Event::Full { max_connections } => {
                write!(f, "{max_connections} connections are open: the next ones wait")
            }
            Event::Opened { id, peer } => write!(f, "{peer} {id} is here"),
            Event::Closed { id, peer, reason, traffic } => write!(
                f,
                "{peer} {id} left: {reason} ({} bytes in, {} out, {} ms)",
                traffic.received,
                traffic.sent,
                traffic.lasted.as_millis()
            ),
            Event::DatagramDropped { peer, reason } => {
                write!(f, "{peer}: datagram dropped: {}", reason.name())
            }
            Event::DatagramFailed { peer, reason } => write!(f, "{peer}: datagram: {reason}"),
            Event::ReplyWithheld { peer } => {
                write!(f, "udp://{peer}: sends back what it is sent; one reply withheld")
            }
            Event::ReplyFailed { peer, error } => write!(f, "udp://{peer}: not sent: {error}"),
            Event::ReceiveFailed { address, error } => write!(f, "{address}: receive: {error}"),
            Event::WorkerReplaced { worker, hog: false } => write!(f, "worker {worker} blocks"),
            Event::WorkerReplaced { worker, hog: true } => {
                write!(f, "worker {worker} computes long")
            }
            Event::BlockingCommon { common: true } => {
                f.write_str("handlers block often: feeding all workers")
            }
            Event::BlockingCommon { common: false } => f.write_str("handlers block rarely again"),
            Event::PollFailed { error } => write!(f, "cannot wait for events: {error}"),
            Event::ThreadFailed { error } => write!(f, "no thread for a worker: {error}"),
            Event::Suspended => f.write_str("suspended: newcomers are turned away"),
            Event::Resumed => f.write_str("resumed"),
            Event::Draining { within, open } => {
                write!(f, "draining {open} connections within {within:?}")
            }
            Event::Stuck { id, peer } => {
                write!(f, "{peer} {id} is stuck: its handler has not returned")
            }
            Event::Drained { completed, told, forced, stuck, took } => write!(
                f,
                "drained: {completed} completed, {told} told, {forced} forced, {stuck} stuck, in {took:.1?}"
            ),
        }
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

    #[test]
    fn a_reset_is_debug_and_a_panic_is_an_error() {
        let peer = crate::peer::Peer::tcp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let id = crate::peer::ConnectionId(1);
        let level = |reason| {
            let traffic = crate::event::Traffic::default();
            classify(&Event::Closed { id, peer: &peer, reason: &reason, traffic }).1
        };
        assert_eq!(level(CloseReason::PeerReset), Level::Debug);
        assert_eq!(level(CloseReason::HandlerPanic), Level::Error);
        assert_eq!(level(CloseReason::Done), Level::Info);
    }
}
