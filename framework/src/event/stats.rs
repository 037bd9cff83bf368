//! Counters, gauges and histograms: what a server has done, in numbers that add up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::event::{DropReason, Event};
use crate::reason::CloseReason;

/// A snapshot of what a server has counted since it was bound; see
/// [`ServerHandle::stats`](crate::ServerHandle::stats).
///
/// When nothing happens at the moment, the numbers add up: `connections_accepted` is
/// `connections_open` and the sum of [`connections_closed`](Stats::connections_closed);
/// `datagrams_received` is `datagrams_handled` and the sum of
/// [`datagrams_dropped`](Stats::datagrams_dropped).
///
/// ```
/// use switchboard::testing::MemoryServer;
/// use switchboard::{CloseReason, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)));
/// let server = MemoryServer::new(server.tcp("127.0.0.1:0").udp("127.0.0.1:0").max_datagram(3));
/// server.connect().send("hello");
/// server.correspond().send("too long");
/// let waiting = server.connect();
///
/// let stats = server.stats();
/// assert_eq!((stats.connections_accepted, stats.connections_open), (2, 1));
/// assert_eq!(stats.closed_for(&CloseReason::Done), 1);
/// assert_eq!(stats.connections_closed().map(|(_reason, count)| count).sum::<u64>(), 1);
/// let truncated = stats.datagrams_dropped().find(|(reason, _)| *reason == "truncated");
/// assert_eq!(truncated, Some(("truncated", 1)));
/// let session = stats.sessions_closed().find(|(_reason, count)| *count > 0);
/// assert_eq!(session, Some(("frame-too-large", 1)), "what `rejected` does by default");
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted.
    pub connections_accepted: u64,
    /// Connections that are open now.
    pub connections_open: usize,
    /// Sessions of datagrams that were begun.
    pub sessions_begun: u64,
    /// Sessions of datagrams that are held now.
    pub sessions_open: usize,
    /// Messages that handlers were given, datagrams among them.
    pub messages: u64,
    /// Bytes received on connections.
    pub bytes_received: u64,
    /// Bytes sent on connections.
    pub bytes_sent: u64,
    /// Datagrams that were received.
    pub datagrams_received: u64,
    /// Datagrams that a handler was given.
    pub datagrams_handled: u64,
    /// Datagrams that the kernel dropped because its receive buffer was full, as far as it has said so.
    pub datagrams_dropped_by_kernel: u64,
    /// Datagrams that were sent.
    pub datagrams_sent: u64,
    /// Replies that the loop guard withheld.
    pub replies_withheld: u64,
    /// Replies that could not be sent, or were dropped because as much waits as may: 256 replies and 1 MiB
    /// for a Unix peer that does not read, 4,096 and 16 MiB for all of these at a listener.
    pub replies_failed: u64,
    /// Messages that were dropped because as much waited for their peer as may.
    pub messages_skipped: u64,
    /// Messages that were sent to a [`Group`](crate::Group) with members here.
    pub fan_outs: u64,
    /// What members here took of these, each for itself.
    pub fan_out_copies: u64,
    /// Failures of accept(2).
    pub accept_errors: u64,
    /// Workers that blocked in a handler and were replaced.
    pub workers_replaced: u64,
    /// Panics of observers.
    pub observer_panics: u64,
    /// Calls of what was given to [`Server::on_tick`](crate::Server::on_tick), those that panicked among
    /// them.
    pub ticks: u64,
    /// Calls of it that panicked.
    pub tick_panics: u64,
    /// How long turns took: a turn handles up to 16 messages of one connection.
    pub turns: Histogram,
    /// How long connections lasted.
    pub lifetimes: Histogram,
    closed: Vec<u64>,
    sessions_closed: Vec<u64>,
    dropped: Vec<u64>,
}

impl Stats {
    /// How many connections ended for each reason, by its [`name`](CloseReason::name).
    pub fn connections_closed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        by_reason(&self.closed)
    }

    /// How many sessions ended for each reason, by its [`name`](CloseReason::name).
    pub fn sessions_closed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        by_reason(&self.sessions_closed)
    }

    /// How many connections ended for this kind of reason.
    #[must_use]
    pub fn closed_for(&self, reason: &CloseReason) -> u64 {
        self.closed.get(reason.kind()).copied().unwrap_or(0)
    }

    /// How many datagrams were dropped for each reason: `truncated`, `service-port`, `inbox-full`,
    /// `session-ended`, `no-room`, `failed`, `filtered`, `suspended`.
    pub fn datagrams_dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = DropReason::ALL.iter().zip(&self.dropped);
        counts.map(|(reason, count)| (reason.name(), *count))
    }
}

fn by_reason(counts: &[u64]) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let named = counts.iter().enumerate();
    named.map(|(kind, count)| (CloseReason::name_of_kind(kind), *count))
}

/// How often something took how long, in buckets that double: below 1 µs, 2 µs, 4 µs, … about an hour.
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Next, handler_fn, testing};
///
/// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Close)));
/// client.advance(Duration::from_secs(60));
/// client.send("goodbye");
///
/// let lifetimes = client.stats().lifetimes;
/// assert_eq!(lifetimes.count(), 1);
/// let median = lifetimes.quantile(0.5);
/// assert!(median >= Duration::from_secs(60) && median < Duration::from_secs(120));
/// assert_eq!(lifetimes.buckets().find(|(_, count)| *count > 0), Some((median, 1)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
}

impl Histogram {
    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of the bucket in which the `quantile` (0 to 1) lies; zero if nothing was counted.
    /// It is at most twice the true value.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let total = self.count();
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= quantile.clamp(0.0, 1.0) * total as f64 {
                return Duration::from_micros(1 << index);
            }
        }
        Duration::ZERO
    }

    /// The upper bounds of the buckets and their counts, smallest first.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let bounds = (0..).map(|index| Duration::from_micros(1 << index));
        bounds.zip(self.buckets.iter().copied())
    }
}

const BUCKETS: usize = 32;

#[derive(Debug)]
struct Buckets([AtomicU64; BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Buckets {
    fn record(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let index = (u64::BITS - micros.leading_zeros()) as usize;
        add(&self.0[index.min(BUCKETS - 1)], 1);
    }

    fn snapshot(&self) -> Histogram {
        Histogram { buckets: self.0.iter().map(read).collect() }
    }
}

/// The live counters behind [`Stats`]. Relaxed atomics: a snapshot under load is not one instant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    sessions: AtomicU64,
    pub(crate) sessions_open: AtomicUsize,
    messages: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    datagrams_received: AtomicU64,
    datagrams_handled: AtomicU64,
    kernel_drops: AtomicU64,
    datagrams_sent: AtomicU64,
    replies_withheld: AtomicU64,
    replies_failed: AtomicU64,
    skipped: AtomicU64,
    fan_outs: AtomicU64,
    fan_out_copies: AtomicU64,
    accept_errors: AtomicU64,
    workers_replaced: AtomicU64,
    observer_panics: AtomicU64,
    ticks: AtomicU64,
    tick_panics: AtomicU64,
    turns: Buckets,
    lifetimes: Buckets,
    closed: [AtomicU64; CloseReason::KINDS],
    sessions_closed: [AtomicU64; CloseReason::KINDS],
    dropped: [AtomicU64; DropReason::KINDS],
}

impl Counters {
    pub(crate) fn count(&self, event: &Event<'_>) {
        match event {
            Event::AcceptFailed { .. } | Event::ListenerFailed { .. } => {
                add(&self.accept_errors, 1);
            }
            Event::SessionBegun { .. } => add(&self.sessions, 1),
            Event::ConnectionOpened { .. } => add(&self.accepted, 1),
            Event::SessionEnded { reason, .. } => add(&self.sessions_closed[reason.kind()], 1),
            Event::ConnectionClosed { reason, traffic, .. } => {
                add(&self.closed[reason.kind()], 1);
                self.lifetimes.record(traffic.lasted);
            }
            Event::DatagramDropped { reason, .. } => self.datagram_dropped(*reason),
            Event::DatagramFailed { .. } => self.datagram_dropped(DropReason::Failed),
            Event::ReplyWithheld { .. } => add(&self.replies_withheld, 1),
            Event::ReplyFailed { .. } => add(&self.replies_failed, 1),
            Event::WorkerReplaced { .. } => add(&self.workers_replaced, 1),
            Event::TickPanicked { .. } => add(&self.tick_panics, 1),
            _ => {}
        }
    }

    pub(super) fn observer_panicked(&self) {
        add(&self.observer_panics, 1);
    }

    pub(crate) fn ticked(&self) {
        add(&self.ticks, 1);
    }

    /// Bytes that a remote sent itself, outside of any turn.
    pub(crate) fn sent_aside(&self, bytes: usize) {
        add(&self.bytes_sent, bytes as u64);
    }

    /// One turn of a connection: how many messages and bytes it moved, and how long it took.
    pub(crate) fn turn(&self, messages: u64, received: usize, sent: usize, took: Duration) {
        // Most turns move something in each direction; those that do not save an atomic.
        for (counter, more) in [
            (&self.messages, messages),
            (&self.bytes_received, received as u64),
            (&self.bytes_sent, sent as u64),
        ] {
            if more > 0 {
                add(counter, more);
            }
        }
        self.turns.record(took);
    }

    pub(crate) fn datagrams_received(&self, count: usize, dropped_by_kernel: u32) {
        add(&self.datagrams_received, count as u64);
        add(&self.kernel_drops, u64::from(dropped_by_kernel));
    }

    pub(crate) fn datagram_handled(&self) {
        add(&self.datagrams_handled, 1);
        add(&self.messages, 1);
    }

    fn datagram_dropped(&self, reason: DropReason) {
        add(&self.dropped[reason as usize], 1);
    }

    pub(crate) fn datagrams_sent(&self, count: usize) {
        add(&self.datagrams_sent, count as u64);
    }

    pub(crate) fn skipped(&self, messages: usize) {
        add(&self.skipped, messages as u64);
    }

    pub(crate) fn fanned_out(&self, taken: usize) {
        add(&self.fan_outs, 1);
        add(&self.fan_out_copies, taken as u64);
    }

    pub(crate) fn snapshot(&self, connections_open: usize) -> Stats {
        Stats {
            connections_accepted: read(&self.accepted),
            connections_open,
            sessions_begun: read(&self.sessions),
            sessions_open: self.sessions_open.load(Ordering::Relaxed),
            messages: read(&self.messages),
            bytes_received: read(&self.bytes_received),
            bytes_sent: read(&self.bytes_sent),
            datagrams_received: read(&self.datagrams_received),
            datagrams_handled: read(&self.datagrams_handled),
            datagrams_dropped_by_kernel: read(&self.kernel_drops),
            datagrams_sent: read(&self.datagrams_sent),
            replies_withheld: read(&self.replies_withheld),
            replies_failed: read(&self.replies_failed),
            messages_skipped: read(&self.skipped),
            fan_outs: read(&self.fan_outs),
            fan_out_copies: read(&self.fan_out_copies),
            accept_errors: read(&self.accept_errors),
            workers_replaced: read(&self.workers_replaced),
            observer_panics: read(&self.observer_panics),
            ticks: read(&self.ticks),
            tick_panics: read(&self.tick_panics),
            turns: self.turns.snapshot(),
            lifetimes: self.lifetimes.snapshot(),
            closed: self.closed.iter().map(read).collect(),
            sessions_closed: self.sessions_closed.iter().map(read).collect(),
            dropped: self.dropped.iter().map(read).collect(),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_names_the_bucket_of_a_quantile() {
        let buckets = Buckets::default();
        for micros in [0, 1, 3, 900] {
            buckets.record(Duration::from_micros(micros));
        }
        let histogram = buckets.snapshot();
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.quantile(0.25), Duration::from_micros(1));
        assert_eq!(histogram.quantile(0.5), Duration::from_micros(2));
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(1024));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
