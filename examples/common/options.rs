//! The options that all server programs have.

use std::num::NonZeroUsize;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use switchboard::{Concurrency, Framing, Listen, Server};

use crate::common::{ListenUrl, Span, Timeout};

/// Threads at most, unless `--workers` says otherwise.
const THREADS: usize = 1024;

/// The heading of the timeouts in `--help`; it shows how they are written.
const TIMEOUTS: &str = "Timeouts (50us, 500ms, 30s, 2m, none)";

#[derive(Args, Debug)]
pub(crate) struct ServerOptions {
    /// How handlers are run
    #[arg(long, value_enum, value_name = "HOW", default_value = "pool")]
    concurrency: Mode,

    /// Handlers that run at once: the workers of the pool [default: 4 for each core, at least 16],
    /// or the most threads [default: 1024]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Connections that are open at once; the next ones wait [default: what the descriptor limit allows]
    #[arg(long, value_name = "N")]
    max_connections: Option<NonZeroUsize>,

    /// How messages are cut out of a stream: raw, lines, len-le32, len-be32, len-be16, len-varint,
    /// delimiter:HEX, fixed:N, …
    #[arg(long, default_value = "raw")]
    framing: Framing,

    /// The longest message of a framing [default: 8192 for lines and delimiters, else 1048576]
    #[arg(long, value_name = "BYTES")]
    max_frame: Option<NonZeroUsize>,

    /// Ends a conversation in which the peer says nothing for so long
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "5m")]
    idle_timeout: Timeout,

    /// Ends a conversation when one message takes longer to arrive
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "30s")]
    message_timeout: Timeout,

    /// Ends a conversation when the peer takes nothing of what is sent to it for so long
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "30s")]
    write_timeout: Timeout,

    /// What a drain waits for running conversations
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS, default_value = "20s")]
    drain_timeout: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Everything on one thread
    Inline,
    /// A thread for each connection
    Threads,
    /// A few workers for all connections
    Pool,
}

impl ServerOptions {
    /// Ends the program, with status 2, where options contradict each other.
    pub(crate) fn check<Cli: CommandFactory>(&self) {
        if self.concurrency == Mode::Inline && self.workers.is_some() {
            let why = "--workers has no meaning with --concurrency inline";
            Cli::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
    }

    /// Sets all of them, and listens there.
    pub(crate) fn apply(&self, server: Server, listeners: &[ListenUrl]) -> Server {
        let listen = |server: Server, url: &ListenUrl| server.listen(self.listener(url));
        let server = listeners.iter().fold(server, listen);
        let server = server
            .concurrency(self.concurrency())
            .idle_timeout(self.idle_timeout.0)
            .message_timeout(self.message_timeout.0)
            .write_timeout(self.write_timeout.0)
            .drain_timeout(self.drain_timeout.0);
        match self.max_connections {
            Some(connections) => server.max_connections(connections.get()),
            None => server,
        }
    }

    fn concurrency(&self) -> Concurrency {
        let workers = self.workers.map(NonZeroUsize::get);
        match self.concurrency {
            Mode::Inline => Concurrency::Inline,
            Mode::Threads => Concurrency::threads(workers.unwrap_or(THREADS)),
            Mode::Pool => workers.map_or_else(Concurrency::default, Concurrency::pool),
        }
    }

    /// What a listener's own settings do not say, the options do.
    fn listener(&self, url: &ListenUrl) -> Listen {
        let framing = url.framing.clone().unwrap_or_else(|| self.framing.clone());
        let listen = url.url.listen().framing(match url.max_frame.or(self.max_frame) {
            Some(bytes) => framing.max_frame(bytes.get()),
            None => framing,
        });
        match url.mode {
            Some(mode) => listen.mode(mode),
            None => listen,
        }
    }
}
