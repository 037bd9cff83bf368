//! A handler that does in each callback what the test says, and notes that it was called.

use std::io;
use std::sync::Arc;

use switchboard::{CloseReason, Context, FrameError, Handler, Next, Peer, Server};

use super::Journal;

type Act = Arc<dyn Fn(&mut Context<'_>) -> io::Result<Next> + Send + Sync>;
type OnMessage = Arc<dyn Fn(&[u8], &mut Context<'_>) -> io::Result<Next> + Send + Sync>;
type OnReject = Arc<dyn Fn(&FrameError, &mut Context<'_>) -> io::Result<Next> + Send + Sync>;
type OnFinish = Arc<dyn Fn(&CloseReason) + Send + Sync>;

/// A handler by parts. What is not said is as in the contract; `handle` replies in upper case.
#[derive(Clone)]
pub(crate) struct Script {
    journal: Journal,
    setup: Act,
    handle: OnMessage,
    idle: Act,
    rejected: OnReject,
    half_closed: Act,
    draining: Act,
    finish: OnFinish,
}

impl Script {
    pub(crate) fn new(journal: &Journal) -> Self {
        let close: Act = Arc::new(|_| Ok(Next::Close));
        Self {
            journal: journal.clone(),
            setup: Arc::new(|_| Ok(Next::Continue)),
            handle: Arc::new(|message, cx| {
                cx.send(message.to_ascii_uppercase());
                Ok(Next::Continue)
            }),
            idle: close.clone(),
            rejected: Arc::new(|_, _| Ok(Next::Close)),
            half_closed: close.clone(),
            draining: close,
            finish: Arc::new(|_| ()),
        }
    }

    pub(crate) fn setup(
        mut self,
        act: impl Fn(&mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.setup = Arc::new(act);
        self
    }

    pub(crate) fn handle(
        mut self,
        act: impl Fn(&[u8], &mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.handle = Arc::new(act);
        self
    }

    pub(crate) fn idle(
        mut self,
        act: impl Fn(&mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.idle = Arc::new(act);
        self
    }

    pub(crate) fn rejected(
        mut self,
        act: impl Fn(&FrameError, &mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.rejected = Arc::new(act);
        self
    }

    pub(crate) fn half_closed(
        mut self,
        act: impl Fn(&mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.half_closed = Arc::new(act);
        self
    }

    pub(crate) fn draining(
        mut self,
        act: impl Fn(&mut Context<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.draining = Arc::new(act);
        self
    }

    pub(crate) fn finish(mut self, act: impl Fn(&CloseReason) + Send + Sync + 'static) -> Self {
        self.finish = Arc::new(act);
        self
    }

    /// A server that plays it for each peer.
    pub(crate) fn server(self) -> Server {
        Server::new(move |_: &Peer| self.clone())
    }
}

impl Handler for Script {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.journal.note("setup");
        (self.setup)(cx)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let shown = &message[..message.len().min(64)];
        self.journal.note(format!("handle {}", String::from_utf8_lossy(shown)));
        (self.handle)(message, cx)
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.journal.note("idle");
        (self.idle)(cx)
    }

    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        self.journal.note(format!("rejected {why}"));
        (self.rejected)(why, cx)
    }

    fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.journal.note("half_closed");
        (self.half_closed)(cx)
    }

    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.journal.note("draining");
        (self.draining)(cx)
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.journal.note(format!("finish {reason}"));
        (self.finish)(reason);
    }
}
