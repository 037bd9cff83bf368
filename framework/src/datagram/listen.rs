//! A datagram socket, who serves it, and the intake and replies that its workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::datagram::receive::Intake;
use crate::datagram::reply::ReplyQueue;
use crate::handler::{DatagramHandler, Factory, Handler};
use crate::outbox::LineSettings;
use crate::peer::{Address, ConnectionId};
use crate::stage::Core;
use crate::sys::datagrams::DatagramSocket;
use crate::sys::listener::Shared;
use crate::timer::Alarm;

/// Who serves the datagrams of a listener.
pub(crate) enum DatagramService {
    /// A handler for each peer.
    Sessions(Factory<dyn Handler>),
    /// One handler for all, without sessions.
    Raw(Arc<dyn DatagramHandler>),
}

/// A datagram listener of a server.
pub(crate) struct DatagramListener {
    pub(crate) address: Address,
    pub(crate) service: DatagramService,
    pub(crate) settings: Arc<LineSettings>,
    pub(crate) core: Arc<Core>,
    /// Its place among the server's datagram listeners.
    pub(super) index: usize,
    shared: Shared,
    /// Repeats a try to send replies that wait for their peers.
    pub(crate) alarm: Alarm,
    /// Gone once the server has stopped, although a stuck handler may keep the rest alive.
    socket: Mutex<Option<Arc<DatagramSocket>>>,
    pub(super) intake: Mutex<Intake>,
    pub(super) replies: Mutex<ReplyQueue>,
    /// The socket may hold datagrams.
    readable: AtomicBool,
    /// Nothing arrives any more: once the socket is empty, everything was received.
    last_call: AtomicBool,
    /// A drain has received all it will.
    closed: AtomicBool,
    /// It stands in the ready queue, once.
    queued: AtomicBool,
    /// Raw handlers that run now.
    running: AtomicUsize,
    /// What the kernel had dropped for want of buffer when it last said so.
    kernel_drops: AtomicU32,
}

impl DatagramListener {
    /// Serves an open socket; it is the server's datagram listener number `index`.
    pub(crate) fn new(
        index: usize,
        socket: DatagramSocket,
        service: DatagramService,
        settings: Arc<LineSettings>,
        core: Arc<Core>,
    ) -> Self {
        settings.socket_opened();
        let (max_datagram, max_sessions) = (core.config.max_datagram, core.live.max_sessions());
        Self {
            address: socket.local(),
            service,
            settings,
            core,
            index,
            shared: Shared::default(),
            alarm: Alarm::new(),
            socket: Mutex::new(Some(Arc::new(socket))),
            intake: Mutex::new(Intake::new(max_datagram, max_sessions)),
            replies: Mutex::new(ReplyQueue::new()),
            readable: AtomicBool::new(true),
            last_call: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            kernel_drops: AtomicU32::new(0),
        }
    }

    /// Another process has the socket as well.
    pub(crate) fn shared(self, shared: Shared) -> Self {
        Self { shared, ..self }
    }

    /// Whether what is queued is as much somebody else's.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared == Shared::WithOthers
    }

    pub(crate) fn socket(&self) -> Option<Arc<DatagramSocket>> {
        self.socket.lock().clone()
    }

    /// Closes the socket: its port is free, unless another socket of this listener has it. Returns whether
    /// this call did it, and no other one is open.
    pub(crate) fn close(&self) -> bool {
        let open = self.socket.lock().take();
        open.is_some() && self.settings.socket_closed()
    }

    /// The poller announces datagrams. Returns whether the caller must queue the listener.
    pub(crate) fn announce(&self) -> bool {
        self.readable.store(true, Ordering::SeqCst);
        self.enqueue()
    }

    /// As [`DatagramListener::announce`], for the last time: the socket takes nothing any more. Whoever
    /// finds it empty after this closes the intake.
    pub(crate) fn announce_last(&self) -> bool {
        // In this order: whoever sees the last call sees that there may be something to receive.
        self.readable.store(true, Ordering::SeqCst);
        self.last_call.store(true, Ordering::SeqCst);
        self.enqueue()
    }

    /// Nothing is left of what was received. To be called under the intake's lock, under which alone
    /// anything is received: so nobody else is about to find more.
    pub(super) fn found_empty(&self) {
        if self.last_call.load(Ordering::SeqCst) && !self.readable.load(Ordering::SeqCst) {
            self.closed.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a drain has received all it will.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns whether the caller must put the listener into the ready queue: it is not there yet.
    pub(crate) fn enqueue(&self) -> bool {
        !self.queued.swap(true, Ordering::SeqCst)
    }

    /// It was taken out of the ready queue.
    pub(crate) fn dequeued(&self) {
        self.queued.store(false, Ordering::SeqCst);
    }

    /// Receives no more: what arrives from now on is left to whoever binds the port next.
    pub(crate) fn close_intake(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.readable.store(false, Ordering::SeqCst);
    }

    /// Whether a receive is worth its system call. The answer is used up.
    pub(super) fn take_readable(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
            && self.readable.load(Ordering::Relaxed)
            && self.readable.swap(false, Ordering::SeqCst)
    }

    pub(super) fn set_readable(&self) {
        self.readable.store(true, Ordering::SeqCst);
    }

    /// How many datagrams the kernel has dropped since it last said so. Its counter only rises.
    pub(super) fn dropped_since(&self, drops: u32) -> u32 {
        drops.wrapping_sub(self.kernel_drops.swap(drops, Ordering::Relaxed))
    }

    /// Counts a raw handler's call for as long as the value lives.
    pub(super) fn begin_raw(&self) -> RunningRaw<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        RunningRaw(self)
    }

    /// Changes how many sessions there may be, and says who makes room for it.
    pub(crate) fn set_max_sessions(&self, sessions: usize) -> Vec<ConnectionId> {
        self.intake.lock().sessions.set_max(sessions)
    }

    /// Whether nothing is under way: everything received was handled, and its replies have left.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
            && self.is_closed()
            && !self.queued.load(Ordering::SeqCst)
            && self.intake.lock().is_empty()
            && self.replies.lock().is_empty()
    }

    /// How many raw handlers run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// A raw handler that runs.
pub(super) struct RunningRaw<'a>(&'a DatagramListener);

impl Drop for RunningRaw<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
