//! An accepted connection: what is remembered of it between two turns.

use std::sync::Arc;

use crate::codec::{Decoded, Decoder, FrameError};
use crate::desk::After;
use crate::event::Traffic;
use crate::handler::{Actor, Factory, Handler, StreamHandler, discard, isolated};
use crate::outbox::Line;
use crate::reason::CloseReason;
use crate::stage::Core;
use crate::stream::admit::Permit;
use crate::stream::listen::StreamListener;
use crate::sys::socket::Socket;
use crate::timer::Moment;

/// The two kinds of handlers that a stream may have.
pub(crate) enum Service {
    /// Gets the messages that the framing cuts out.
    Messages(Actor<dyn Handler>),
    /// Reads and writes as it likes.
    Bytes(Actor<dyn StreamHandler>),
}

/// What makes the handlers of a listener.
#[derive(Clone)]
pub(crate) enum ServiceFactory {
    Messages(Factory<dyn Handler>),
    Bytes(Factory<dyn StreamHandler>),
}

impl ServiceFactory {
    fn promise(&self) -> Service {
        match self {
            Self::Messages(factory) => Service::Messages(Actor::Promised(factory.clone())),
            Self::Bytes(factory) => Service::Bytes(Actor::Promised(factory.clone())),
        }
    }
}

/// How far a connection is on its way to the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages are read and handled.
    Open,
    /// What was sent leaves; then it closes, for this reason. Nothing is handled any more.
    Flushing(CloseReason),
    /// FIN was sent. Input is read and thrown away, so that it draws no reset, until the peer's FIN,
    /// this instant, or so many bytes.
    Lingering { reason: CloseReason, until: Moment, bytes_left: usize },
    /// It is over; the socket only has to be closed.
    Ended(CloseReason),
}

/// The direction from the peer to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing is there: the poller says when that changes.
    Quiet,
    /// Something is there, or may be.
    Ready,
    /// Something is there, and then the end: read until it.
    ReadyToEnd,
    /// The peer has sent FIN; the handler has not heard of it yet.
    Ending,
    /// The peer has sent FIN, and the handler knows.
    Ended,
}

/// The direction from us to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Open,
    /// FIN follows what was sent.
    Finishing,
    /// FIN was sent.
    Finished,
}

/// The instants from which the deadlines count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) opened: Moment,
    /// No byte of the peer since.
    pub(crate) quiet_since: Moment,
    /// A message has begun to arrive and is not whole.
    pub(crate) partial_since: Option<Moment>,
    /// The peer takes nothing of what waits for it.
    pub(crate) stalled_since: Option<Moment>,
    /// The handler wants to hear nothing.
    pub(crate) paused_until: Option<Moment>,
}

/// A connection between two turns. A slot's cell holds it; a turn has it to itself.
pub(crate) struct Connection {
    pub(crate) line: Arc<Line>,
    /// Where it came in.
    pub(crate) listener: Arc<StreamListener>,
    pub(crate) socket: Arc<Socket>,
    pub(crate) service: Service,
    pub(crate) decoder: Decoder,
    /// Bytes that are not handled yet: a part of a message, or what a turn's budget left over.
    pub(crate) unread: Vec<u8>,
    /// `unread` may hold whole messages.
    pub(crate) left_over: bool,
    /// An over-long line is being thrown away, and its end has not come yet.
    pub(crate) skipping: bool,
    pub(crate) phase: Phase,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) times: Times,
    /// More waits for the peer than the high mark allows: it is not read until the low mark.
    pub(crate) held: bool,
    /// The handler knows of the drain.
    pub(crate) told: bool,
    pub(crate) received: u64,
    /// The place among `max_connections`.
    permit: Permit,
}

impl Connection {
    pub(crate) fn new(
        line: Arc<Line>,
        socket: Arc<Socket>,
        listener: &Arc<StreamListener>,
        permit: Permit,
        now: Moment,
    ) -> Self {
        let times = Times {
            opened: now,
            quiet_since: now,
            partial_since: None,
            stalled_since: None,
            paused_until: None,
        };
        Self {
            decoder: line.settings.framing.decoder(),
            line,
            socket,
            listener: listener.clone(),
            service: listener.factory.promise(),
            unread: Vec::new(),
            left_over: false,
            skipping: false,
            phase: Phase::Open,
            // A client that speaks first has often done so by the time it is accepted.
            input: Input::Ready,
            output: Output::Open,
            times,
            held: false,
            told: false,
            received: 0,
            permit,
        }
    }

    /// Looks for the next message in bytes that are not handled yet. A codec of one's own is the user's
    /// code: its panic becomes the reason to end this connection.
    #[inline]
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
    ) -> Result<Result<Decoded, FrameError>, CloseReason> {
        let (decoder, ending) = (&mut self.decoder, self.input == Input::Ending);
        let is_users = decoder.is_custom();
        let mut decode = || if ending { decoder.decode_end(bytes) } else { decoder.decode(bytes) };
        if is_users { isolated(|| Ok(decode())) } else { Ok(decode()) }
    }

    /// Whether as much waits for the peer that it is not read: from the high mark on, down to the low
    /// one.
    pub(crate) fn is_held(&mut self) -> bool {
        let (waiting, marks) = (self.line.waiting(), &self.line.settings.marks);
        self.held = waiting > if self.held { marks.low } else { marks.high };
        self.held
    }

    /// The next instant at which something is due. Pure.
    pub(crate) fn deadline(&self, core: &Core) -> Moment {
        let config = &core.config;
        let times = &self.times;
        let after = |since: Option<Moment>, timeout| {
            since.map_or(Moment::NEVER, |since| since.after(Core::span(timeout)))
        };
        let write = after(times.stalled_since, config.write_timeout);
        match &self.phase {
            Phase::Open => {
                let idle = after(Some(times.quiet_since), config.idle_timeout);
                let message = after(times.partial_since, config.message_timeout);
                let paused = times.paused_until.unwrap_or(Moment::NEVER);
                // Whoever is paused cannot be late.
                let reading = if times.paused_until.is_some() { paused } else { idle.min(message) };
                reading.min(write)
            }
            Phase::Flushing(_) => write,
            Phase::Lingering { until, .. } => *until,
            Phase::Ended(_) => Moment::NEVER,
        }
    }

    /// What follows a turn.
    pub(crate) fn settle(&mut self, core: &Core) -> After {
        let held = self.is_held();
        let paused = self.times.paused_until.is_some();
        let read = match self.phase {
            Phase::Ended(_) => return After::Closed,
            // Behind the peer's FIN there is nothing to wait for but its end, which is always announced.
            Phase::Open => !paused && !held && self.input != Input::Ended,
            Phase::Flushing(_) => false,
            Phase::Lingering { .. } => true,
        };
        let waits_for_nothing = self.left_over
            || matches!(self.input, Input::Ready | Input::ReadyToEnd | Input::Ending);
        if read && waits_for_nothing {
            return After::Again;
        }
        After::Park { read, write: self.line.waiting() > 0, deadline: self.deadline(core) }
    }

    pub(crate) fn traffic(&self, now: Moment) -> Traffic {
        let lasted = now.since(self.times.opened);
        Traffic { received: self.received, sent: self.line.sent(), lasted }
    }
}

impl Connection {
    /// Why it has ended.
    pub(crate) fn ended(&self) -> CloseReason {
        match &self.phase {
            Phase::Ended(reason) | Phase::Flushing(reason) | Phase::Lingering { reason, .. } => {
                reason.clone()
            }
            Phase::Open => CloseReason::Done,
        }
    }

    /// Ends it before its first turn: the system refused something that it needs.
    pub(crate) fn break_off(&mut self, errno: i32) {
        self.phase = Phase::Ended(CloseReason::Io(errno));
    }

    /// Ends it now: the drain's deadline has passed. Whoever only lingers was answered and closed already.
    pub(crate) fn force(&mut self) {
        self.phase = Phase::Ended(match &self.phase {
            Phase::Lingering { reason, .. } | Phase::Ended(reason) => reason.clone(),
            Phase::Open | Phase::Flushing(_) => CloseReason::Forced,
        });
    }

    /// Closes the socket; then tells the handler the reason, however long it takes. The permit is the
    /// caller's to give back, once the slot is free as well.
    pub(crate) fn close(self, reason: &CloseReason) -> Permit {
        let Self { line, socket, service, permit, decoder, .. } = self;
        line.close();
        drop(socket);
        // What a codec of one's own remembers is the user's, and so is its destructor.
        discard(decoder);
        match service {
            Service::Messages(mut actor) => actor.finish(reason),
            Service::Bytes(mut actor) => actor.finish(reason),
        }
        permit
    }
}
