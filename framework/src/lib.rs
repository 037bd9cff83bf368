//! switchboard: write one handler; it serves TCP and UDP with the concurrency that you select.
#![forbid(unsafe_code)]

mod close;
mod config;
mod error;
mod peer;

mod sys;

pub mod codec;
mod timer;

mod event;

mod core;

mod outbox;

mod handler;

mod turn;

mod slots;

mod stream;

mod datagram;

mod schedule;

mod server;

pub use close::CloseReason;
pub use codec::{FrameError, Framing};
pub use config::Overflow;
pub use error::{Error, ErrorKind, Result};
pub use event::{Histogram, Stats};
pub use handler::{
    Context, Datagram, DatagramHandler, Handler, HandlerFn, Next, Replies, Stream, StreamHandler,
    handler_fn,
};
pub use outbox::{Remote, SendError};
pub use peer::{Address, ConnectionId, Peer};
pub use schedule::{Concurrency, DrainReport};
pub use server::{BoundServer, Listen, Outcome, Server, ServerHandle, TcpServer, UdpServer};
