//! Events as a person reads them: a name in one word, and a line that stays one line.

use std::fmt::{self, Write};

use crate::event::{DropReason, Event, HeldBy, Sharing, Traffic};
use crate::peer::{ConnectionId, Peer};

impl<'a> Event<'a> {
    /// What kind of event it is, in one word: `connection-opened`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::DescriptorsRaised { .. } => "descriptors-raised",
            Self::DescriptorsShort { .. } => "descriptors-short",
            Self::ListenerStarted { .. } => "listener-started",
            Self::ListenerStopped { .. } => "listener-stopped",
            Self::SmallReceiveBuffer { .. } => "small-receive-buffer",
            Self::AcceptFailed { .. } => "accept-failed",
            Self::ListenerFailed { .. } => "listener-failed",
            Self::SuspendFailed { .. } => "suspend-failed",
            Self::Full { .. } => "full",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::ConnectionOpened { .. } => "connection-opened",
            Self::ConnectionClosed { .. } => "connection-closed",
            Self::SessionBegun { .. } => "session-begun",
            Self::SessionEnded { .. } => "session-ended",
            Self::DatagramDropped { .. } => "datagram-dropped",
            Self::DatagramFailed { .. } => "datagram-failed",
            Self::ReplyWithheld { .. } => "reply-withheld",
            Self::ReplyFailed { .. } => "reply-failed",
            Self::ReceiveFailed { .. } => "receive-failed",
            Self::WorkerReplaced { .. } => "worker-replaced",
            Self::SharingChanged { .. } => "sharing-changed",
            Self::ThreadFailed { .. } => "thread-failed",
            Self::PollFailed { .. } => "poll-failed",
            Self::TickPanicked { .. } => "tick-panicked",
            Self::ObserverPanicked { .. } => "observer-panicked",
            Self::Draining { .. } => "draining",
            Self::Stuck { .. } => "stuck",
            Self::TickStuck { .. } => "tick-stuck",
            Self::Drained { .. } => "drained",
        }
    }

    /// The number of the connection or session that it is about, if it is about one.
    ///
    /// ```
    /// use switchboard::Event;
    ///
    /// assert_eq!(Event::Suspended.id(), None);
    /// ```
    #[must_use]
    pub const fn id(&self) -> Option<ConnectionId> {
        match self {
            Self::ConnectionOpened { id, .. }
            | Self::ConnectionClosed { id, .. }
            | Self::SessionBegun { id, .. }
            | Self::SessionEnded { id, .. }
            | Self::Stuck { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The peer that it is about, if it is about one that was let in or sent a datagram.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Event, Next, Server, handler_fn};
    ///
    /// let (told, seen) = mpsc::sync_channel(100);
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.observer(move |event: &Event<'_>| {
    ///     if let (Some(id), Some(peer)) = (event.id(), event.peer()) {
    ///         let _ = told.try_send((event.name(), id, peer.address().clone()));
    ///     }
    /// });
    /// let client = MemoryServer::new(server).connect();
    /// let (name, _id, address) = seen.try_recv()?;
    /// assert_eq!((name, &address), ("connection-opened", client.address()));
    /// # Ok::<(), mpsc::TryRecvError>(())
    /// ```
    #[must_use]
    pub const fn peer(&self) -> Option<&'a Peer> {
        match self {
            Self::ConnectionOpened { peer, .. }
            | Self::ConnectionClosed { peer, .. }
            | Self::SessionBegun { peer, .. }
            | Self::SessionEnded { peer, .. }
            | Self::DatagramDropped { peer, .. }
            | Self::DatagramFailed { peer, .. }
            | Self::Stuck { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(OneLine(f), "{}", Line(self))
    }
}

/// Writes control characters as escapes: an error's text is the user's, and may repeat what a peer sent.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(char::is_control) {
            return self.0.write_str(text);
        }
        for c in text.chars() {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

struct Line<'a>(&'a Event<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::ConnectionOpened { id, peer, .. } | Event::SessionBegun { id, peer, .. } => {
                write!(f, "{peer} {id} is here")
            }
            Event::ConnectionClosed { id, peer, reason, traffic, .. }
            | Event::SessionEnded { id, peer, reason, traffic, .. } => {
                write!(f, "{peer} {id} left: {reason} ({traffic})")
            }
            Event::DatagramDropped { peer, reason, .. } => {
                write!(f, "{peer}: datagram dropped: {reason}")
            }
            Event::DatagramFailed { peer, reason, .. } => write!(f, "{peer}: datagram: {reason}"),
            Event::ReplyWithheld { peer, .. } => {
                write!(f, "{peer}: sends back what it is sent; one reply withheld")
            }
            Event::ReplyFailed { peer, error, .. } => write!(f, "{peer}: not sent: {error}"),
            Event::Stuck { id, peer } => {
                write!(f, "{peer} {id} is stuck: its handler has not returned")
            }
            of_the_server => of_the_server.write_of_the_server(f),
        }
    }
}

impl Event<'_> {
    /// The line of an event that is about no single peer.
    fn write_of_the_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DescriptorsRaised { before, now, max_connections } => write!(
                f,
                "descriptor limit raised from {before} to {now}; at most {max_connections} connections"
            ),
            Self::DescriptorsShort { descriptors, max_connections } => write!(
                f,
                "max_connections is {max_connections}, but this process may open only \
                 {descriptors} descriptors"
            ),
            Self::ListenerStarted { address } => write!(f, "listening on {address}"),
            Self::ListenerStopped { address } => write!(f, "no longer listening on {address}"),
            Self::SmallReceiveBuffer { address, asked, granted } => write!(
                f,
                "{address}: receive buffer of {granted} bytes instead of {asked}; bursts may be lost \
                 (see net.core.rmem_max)"
            ),
            Self::AcceptFailed { address, error, rest: None } => {
                write!(f, "{address}: accept: {error}")
            }
            Self::AcceptFailed { address, error, rest: Some(rest) } => {
                write!(f, "{address}: accept: {error}; resting for {rest:?}")
            }
            Self::ListenerFailed { address, error } => {
                write!(f, "{address}: the listener is broken: {error}; nobody is accepted there")
            }
            Self::SuspendFailed { address, error } => {
                write!(f, "{address}: not suspended: {error}; newcomers are let in")
            }
            Self::Suspended => f.write_str("suspended: newcomers are turned away"),
            Self::Resumed => f.write_str("resumed: newcomers are let in again"),
            Self::Full { max_connections } => {
                write!(f, "{max_connections} connections are open: the next ones wait")
            }
            Self::ReceiveFailed { address, error } => write!(f, "{address}: receive: {error}"),
            Self::WorkerReplaced { worker, by: HeldBy::Blocking } => {
                write!(f, "worker {worker} blocks")
            }
            Self::WorkerReplaced { worker, by: HeldBy::Computing } => {
                write!(f, "worker {worker} computes long")
            }
            Self::SharingChanged { to: Sharing::Queue } => {
                f.write_str("handlers block often: feeding all workers")
            }
            Self::SharingChanged { to: Sharing::Leader } => {
                f.write_str("handlers block rarely again")
            }
            Self::ThreadFailed { error } => write!(f, "no thread for a worker: {error}"),
            Self::PollFailed { error } => write!(f, "cannot wait for events: {error}"),
            Self::TickPanicked { tick } => write!(f, "tick {tick} panicked"),
            Self::TickStuck { tick } => write!(f, "tick {tick} is stuck: it has not returned"),
            Self::ObserverPanicked { observer } => {
                write!(f, "observer {observer} panicked; further panics of it are only counted")
            }
            Self::Draining { within, open } => {
                write!(f, "draining {open} connections within {within:?}")
            }
            Self::Drained { completed, told, forced, stuck, took } => write!(
                f,
                "drained: {completed} completed, {told} told, {forced} forced, {stuck} stuck, in {took:.1?}"
            ),
            // Those about a peer, which have their line already.
            other => f.write_str(other.name()),
        }
    }
}

/// `5 bytes in, 3 out, 20 ms`.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, sent, lasted } = self;
        write!(f, "{received} bytes in, {sent} out, {} ms", lasted.as_millis())
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Address;
    use crate::reason::CloseReason;
    use std::time::Duration;

    #[test]
    fn an_event_is_one_line_whatever_an_error_says() {
        let udp = |port| Address::Udp(([127, 0, 0, 1], port).into());
        let peer = Peer::new(udp(1), udp(2));
        let reason = CloseReason::HandlerErr("a\nb\u{1b}[2J\r".to_owned());
        let traffic = Traffic { received: 5, sent: 3, lasted: Duration::from_millis(20) };
        let listener = peer.address();
        let id = ConnectionId(1 << 32 | 1 << 31);
        let event = Event::SessionEnded { id, peer: &peer, listener, reason: &reason, traffic };
        let line = event.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(
            line,
            "udp://127.0.0.1:1 s0.1 left: handler-err: a\\nb\\u{1b}[2J\\r (5 bytes in, 3 out, 20 ms)"
        );
    }
}
