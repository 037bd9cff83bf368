//! What a server program says: on stdout the lines that scripts read, on stderr the log.

use std::fmt::Display;
use std::io::{self, Write};

use env_logger::Env;
use switchboard::{Outcome, Server};

/// Serves until a signal or a handler ends it, and says where and how it ended.
pub(crate) fn run(server: Server) -> switchboard::Result<Outcome> {
    env_logger::init_from_env(Env::default().default_filter_or("info"));
    let bound = server.bind()?.watch_signals()?;
    let program = env!("CARGO_CRATE_NAME");
    log::info!(target: program, "Ctrl-C or SIGTERM drains the server; a second one ends it at once");
    for address in bound.addresses() {
        say(format_args!("listening on {address}"));
    }
    let outcome = bound.run_until_signal()?;
    say(outcome.report());
    Ok(outcome)
}

/// Writes a line to stdout, at once. Whoever reads it may be gone: that is no reason to stop serving.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
