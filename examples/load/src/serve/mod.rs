//! A reference server: it upper-cases or echoes, and commits the faults that it is told to, counting them.

mod answer;
mod chat;
mod faults;
mod listen;
mod net;
mod peer;
mod split;

use std::io::Write;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use clap::Args;

use crate::framing::Framing;
use crate::proof::Expect;
use crate::serve::faults::FaultArgs;
use crate::{host, units, verdict};

/// What to serve, and how badly.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen: tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or unixgram:PATH (@NAME: abstract); repeatable, port 0 for any
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// What to answer: upper, echo, upper-utf8, upper-gbk, fixed:TEXT or none
    #[arg(long, value_name = "WHAT", default_value = "upper", value_parser = units::expect)]
    pub(crate) reply: Expect,
    /// How messages are told apart in a stream: lines, len-le32, len-be32, len-be16, fixed:N or raw (a read is a message)
    #[arg(long, value_name = "FRAMING", default_value = "lines", value_parser = units::framing)]
    pub(crate) framing: Framing,
    /// Be a chat instead: the first line is a name, `/join ROOM` changes the room, the rest goes to all in it
    #[arg(long)]
    pub(crate) chat: bool,
    #[command(flatten)]
    pub(crate) faults: FaultArgs,
}

/// Serves until SIGINT or SIGTERM; the exit status.
pub(crate) fn main(args: &ServeArgs) -> u8 {
    match serve(args) {
        Ok(()) => verdict::FINE,
        Err(why) => {
            eprintln!("error: {why}");
            verdict::CANNOT_RUN
        }
    }
}

fn serve(args: &ServeArgs) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    ctrlc::set_handler(move || told.store(true, Ordering::Relaxed))
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    // As many peers as the system allows; if it does not, the limit shows when it is met.
    if let Err(why) = host::raise_descriptors(10_000) {
        eprintln!("{why}");
    }
    let mut server = net::Server::open(args)?;
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("cannot write to standard output: {error}"))
    };
    for url in server.urls() {
        say(format!("listening on {url}"))?;
    }
    while !stop.load(Ordering::Relaxed) {
        server.turn(net::PATIENCE);
    }
    server.drain();
    say(server.done().to_string())
}
