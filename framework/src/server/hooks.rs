//! What the owner of a server hangs on it beside handlers: observers, ticks, and how loud errors are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::HandlerErrors;
use crate::event::Observer;
use crate::peer::Address;
use crate::schedule::{Engine, Run};
use crate::server::{Server, ServerHandle};

/// What a tick calls.
pub(super) type OnTick = Box<dyn FnMut(&ServerHandle) + Send>;

/// What was given to a server to be.
#[derive(Default)]
pub(super) struct Hooks {
    observers: Vec<Arc<dyn Observer>>,
    ticks: Vec<OnTick>,
}

impl Hooks {
    pub(super) fn observers(&self) -> &[Arc<dyn Observer>] {
        &self.observers
    }

    pub(super) fn take_ticks(&mut self) -> Vec<OnTick> {
        std::mem::take(&mut self.ticks)
    }
}

/// Hands a tick the server that it belongs to. It does not keep that alive: the server holds the tick.
pub(super) fn tick_of(mut on_tick: OnTick, engine: Weak<Engine>, addresses: Arc<[Address]>) -> Run {
    Box::new(move || {
        if let Some(engine) = engine.upgrade() {
            on_tick(&ServerHandle::new(engine, addresses.clone()));
        }
    })
}

impl Server {
    /// Tells `observer` of everything that happens: see [`Observer`] and [`Event`](crate::Event). May be
    /// called several times; all are told, in this order, after the log.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use switchboard::{Context, Event, Handler, Next, Server};
    ///
    /// struct Greeter;
    ///
    /// impl Handler for Greeter {
    ///     fn setup(&mut self, cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         cx.send_raw("hello");
    ///         Ok(Next::Close)
    ///     }
    ///     fn handle(&mut self, _message: &[u8], _cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         Ok(Next::Close)
    ///     }
    /// }
    ///
    /// let (told, ends) = mpsc::sync_channel(100);
    /// let server = Server::new(|_peer| Greeter)
    ///     .tcp("127.0.0.1:0")
    ///     .observer(move |event: &Event<'_>| {
    ///         if let Event::ConnectionClosed { reason, traffic, .. } = event {
    ///             let _ = told.try_send((reason.name(), traffic.received, traffic.sent));
    ///         }
    ///     })
    ///     .spawn()?;
    /// let mut client = std::net::TcpStream::connect(server.addresses()[0].socket_addr().unwrap())?;
    /// client.read_to_string(&mut String::new())?;
    /// assert_eq!(ends.recv_timeout(Duration::from_secs(5))?, ("done", 0, 5));
    /// server.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.hooks.observers.push(Arc::new(observer));
        self
    }

    /// An error that a handler returns is no warning in the log any more, but a line at the level
    /// `debug`: for protocols whose handlers end conversations by `?`. The handler's `finish`, the
    /// observers and the counters are told of it as before, and a panic is logged as an error in any
    /// case.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     handler_fn(|message, cx| {
    ///         let text = std::str::from_utf8(message).map_err(std::io::Error::other)?;
    ///         cx.send(text.to_uppercase());
    ///         Ok(Next::Continue)
    ///     })
    /// })
    /// .quiet_errors();
    /// # let _ = server;
    /// ```
    pub fn quiet_errors(mut self) -> Self {
        self.config.handler_errors = HandlerErrors::Quiet;
        self
    }

    /// Calls `on_tick` every `interval` while the server serves: the n-th time n intervals after it has
    /// begun to, under load as well as idle. May be called several times, for several ticks. A server that
    /// serves [one at a time](crate::BoundServer::serve_one) runs none: there the caller's own loop is the
    /// place for them.
    ///
    /// It is called where handlers are: on any worker, on the thread that serves under `Inline`. It may
    /// block like a handler. Two calls of the same tick never overlap; instants that pass meanwhile are
    /// skipped, not made up for, and the others stay where they were: nothing drifts. If it panics, that
    /// is an event ([`Event::TickPanicked`](crate::Event::TickPanicked)), and the next instant comes all
    /// the same.
    ///
    /// No call begins once a drain has begun. One that runs then is waited for like a handler, and counts
    /// as stuck if it has not returned in the end. The handle that it gets may be used for everything; what
    /// waits for the server's end does not wait here (as in a handler).
    ///
    /// `interval` is between 1 ms and 365 days, in steps of a millisecond: [`bind`](Server::bind) refuses
    /// others. There may be 1,024 ticks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let mut before = 0;
    /// let report = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .tcp("127.0.0.1:0")
    ///     .on_tick(Duration::from_millis(10), move |server| {
    ///         let messages = server.stats().messages;
    ///         println!("{} messages since the last look", messages - before);
    ///         before = messages;
    ///         if server.stats().ticks == 3 {
    ///             server.begin_drain(Duration::from_secs(1));
    ///         }
    ///     })
    ///     .serve()?;
    /// assert!(report.is_clean());
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    pub fn on_tick(
        mut self,
        interval: Duration,
        on_tick: impl FnMut(&ServerHandle) + Send + 'static,
    ) -> Self {
        self.config.ticks.push(interval);
        self.hooks.ticks.push(Box::new(on_tick));
        self
    }
}
