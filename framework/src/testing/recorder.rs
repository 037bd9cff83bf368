//! Wraps handlers so that a test can read what they were called with and what they returned.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::codec::FrameError;
use crate::handler::{
    Context, Datagram, DatagramHandler, Handler, Next, Replies, Stream, StreamHandler,
};
use crate::peer::{Address, Peer};
use crate::reason::CloseReason;
use crate::server::Services;
use crate::testing::call::{Call, Callback, Message, Returned};

/// What became of the handlers of one peer.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    calls: Vec<Call>,
    /// Why its connection, or its last session, ended.
    ended: Option<CloseReason>,
    /// The handler has finished writing and goes on reading: the peer need not close.
    half_closed: bool,
}

impl Journal {
    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    pub(super) fn ended(&self) -> Option<CloseReason> {
        self.0.lock().ended.clone()
    }

    pub(super) fn begins(&self) {
        self.0.lock().ended = None;
    }

    pub(super) fn ends(&self, reason: &CloseReason) {
        self.0.lock().ended = Some(reason.clone());
    }

    pub(super) fn has_half_closed(&self) -> bool {
        self.0.lock().half_closed
    }

    fn note(&self, callback: Callback, returned: Returned) {
        let mut entries = self.0.lock();
        entries.half_closed |= returned == Returned::HalfClose;
        entries.calls.push(Call { callback, returned });
    }
}

/// The journals of all peers of a server, by their addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Journals(Arc<Mutex<HashMap<Address, Arc<Journal>>>>);

impl Journals {
    pub(super) fn of(&self, peer: &Address) -> Arc<Journal> {
        self.0.lock().entry(peer.clone()).or_default().clone()
    }

    /// Puts a recorder around every handler that these services make.
    pub(super) fn around(&self, services: Services) -> Services {
        let journals = self.clone();
        match services {
            Services::Messages(factory) => Services::Messages(Arc::new(move |peer: &Peer| {
                let journal = journals.of(peer.address());
                Box::new(Recorded { handler: factory(peer), journal })
            })),
            Services::Bytes(factory) => Services::Bytes(Arc::new(move |peer: &Peer| {
                let journal = journals.of(peer.address());
                Box::new(RecordedStream { handler: factory(peer), journal })
            })),
            Services::Datagrams(handler) => {
                Services::Datagrams(Arc::new(RecordedDatagrams { handler, journals }))
            }
        }
    }
}

/// A call under way. If it is never told what came of it, it panicked.
struct Entry<'a> {
    journal: &'a Journal,
    callback: Option<Callback>,
}

impl<'a> Entry<'a> {
    fn begin(journal: &'a Journal, callback: Callback) -> Self {
        Self { journal, callback: Some(callback) }
    }

    fn end(mut self, returned: Returned) {
        if let Some(callback) = self.callback.take() {
            self.journal.note(callback, returned);
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(callback) = self.callback.take() {
            self.journal.note(callback, Returned::Panic);
        }
    }
}

/// A handler and its journal.
struct Recorded {
    handler: Box<dyn Handler>,
    journal: Arc<Journal>,
}

impl Recorded {
    fn record(
        &mut self,
        callback: Callback,
        call: impl FnOnce(&mut dyn Handler) -> io::Result<Next>,
    ) -> io::Result<Next> {
        let entry = Entry::begin(&self.journal, callback);
        let returned = call(&mut *self.handler);
        entry.end(Returned::of(&returned));
        Ok(match returned? {
            Next::Switch(handler) => {
                Next::Switch(Box::new(Self { handler, journal: self.journal.clone() }))
            }
            other => other,
        })
    }
}

impl Handler for Recorded {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.record(Callback::Setup, |handler| handler.setup(cx))
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let callback = Callback::Handle(Message::from(message.to_vec()));
        self.record(callback, |handler| handler.handle(message, cx))
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.record(Callback::Idle, |handler| handler.idle(cx))
    }

    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        self.record(Callback::Rejected(why.clone()), |handler| handler.rejected(why, cx))
    }

    fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.record(Callback::HalfClosed, |handler| handler.half_closed(cx))
    }

    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.record(Callback::Draining, |handler| handler.draining(cx))
    }

    fn finish(&mut self, reason: &CloseReason) {
        let entry = Entry::begin(&self.journal, Callback::Finish(reason.clone()));
        self.handler.finish(reason);
        entry.end(Returned::Nothing);
    }
}

/// A conversation and its journal.
struct RecordedStream {
    handler: Box<dyn StreamHandler>,
    journal: Arc<Journal>,
}

impl StreamHandler for RecordedStream {
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let entry = Entry::begin(&self.journal, Callback::Setup);
        let returned = self.handler.setup(stream);
        entry.end(Returned::of(&returned));
        returned
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let entry = Entry::begin(&self.journal, Callback::Converse);
        let returned = self.handler.handle(stream);
        entry.end(Returned::of(&returned));
        returned
    }

    fn finish(&mut self, reason: &CloseReason) {
        let entry = Entry::begin(&self.journal, Callback::Finish(reason.clone()));
        self.handler.finish(reason);
        entry.end(Returned::Nothing);
    }
}

/// A handler of everybody's datagrams, and everybody's journal.
struct RecordedDatagrams {
    handler: Arc<dyn DatagramHandler>,
    journals: Journals,
}

impl DatagramHandler for RecordedDatagrams {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        let journal = self.journals.of(datagram.peer().address());
        let message = Message::from(datagram.bytes().to_vec());
        let entry = Entry::begin(&journal, Callback::Handle(message));
        let returned = self.handler.handle(datagram, replies);
        entry.end(match &returned {
            Ok(()) => Returned::Nothing,
            Err(error) => Returned::Error(error.to_string()),
        });
        returned
    }
}
