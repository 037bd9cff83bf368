//! Talks to any server: what is typed is sent, what comes back is printed, whoever speaks first.
//!
//! ```text
//! cargo run --example client -- tcp://127.0.0.1:9999
//! printf 'hello\n' | cargo run --example client -- udp://127.0.0.1:9999
//! cargo run --example client -- unix:/tmp/echo.sock
//! ```
//! At the end of the input it finishes sending, prints what still comes, and leaves when the server
//! closes; over datagrams, which have no end, after `--linger`.

#[path = "../common/mod.rs"]
mod common;
mod screen;
mod wire;

use std::io::{self, BufRead, Read};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use crossbeam_channel::{Receiver, Sender, bounded};
use switchboard::Framing;

use common::{Span, Url};
use screen::Screen;
use wire::Wire;

/// Sends what is typed to a server, and prints what comes back.
#[derive(Parser, Debug)]
struct Cli {
    /// The server: tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unixgram:PATH or unix:@NAME (abstract)
    url: Url,

    /// How messages are cut out of a stream: raw, lines, len-le32, len-be32, len-be16, len-varint,
    /// delimiter:HEX, fixed:N, …
    #[arg(long, default_value = "raw")]
    framing: Framing,

    /// The longest message of a framing [default: 8192 for lines and delimiters, else 1048576]
    #[arg(long, value_name = "BYTES")]
    max_frame: Option<NonZeroUsize>,

    /// How long answers are awaited after the end of the input, over datagrams: 500ms, 1s, 2m, none
    #[arg(long, value_name = "TIME", default_value = "1s")]
    linger: Span,
}

/// What can end.
enum End {
    /// The input, or the way to the server.
    Input(io::Result<()>),
    /// The server's side.
    Server(io::Result<()>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match talk(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read what we print has seen enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            Screen::complain(&format!("{}: {why}", cli.url));
            ExitCode::FAILURE
        }
    }
}

fn talk(cli: &Cli) -> io::Result<()> {
    let framing = match cli.max_frame {
        Some(bytes) => cli.framing.clone().max_frame(bytes.get()),
        None => cli.framing.clone(),
    };
    let wire = Arc::new(Wire::open(&cli.url, &framing)?);
    let screen = Screen::new();
    let (end, ends) = bounded(2);
    beside("input", &wire, &end, move |wire| End::Input(send_lines(wire, screen)))?;
    beside("output", &wire, &end, move |wire| {
        End::Server(wire.receive(|message| screen.show(message)))
    })?;
    await_the_end(&wire, &ends, cli.linger)
}

/// Does one direction on a thread of its own, so that neither waits for the other.
fn beside(
    name: &str,
    wire: &Arc<Wire>,
    end: &Sender<End>,
    direction: impl FnOnce(&Wire) -> End + Send + 'static,
) -> io::Result<()> {
    let (wire, end) = (wire.clone(), end.clone());
    let run = move || {
        drop(end.send(direction(&wire)));
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn await_the_end(wire: &Wire, ends: &Receiver<End>, linger: Span) -> io::Result<()> {
    match (ends.recv(), wire.is_datagrams()) {
        (Ok(End::Server(result)), _) => result,
        (Ok(End::Input(result)), true) => {
            result?;
            match ends.recv_timeout(linger.0) {
                Ok(End::Server(result)) => result,
                _ => Ok(()),
            }
        }
        // A server that has closed need not be told the rest: what it said last is what counts.
        (Ok(End::Input(_)), false) => match ends.recv() {
            Ok(End::Server(result)) => result,
            _ => Ok(()),
        },
        (Err(_), _) => Err(io::Error::other("both directions ended without a word")),
    }
}

/// A longer line is sent in pieces.
const LONGEST_LINE: u64 = 1 << 20;

fn send_lines(wire: &Wire, screen: Screen) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        screen.prompt()?;
        line.clear();
        if (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return wire.finish_sending();
        }
        screen.entered();
        let message = line.strip_suffix(b"\n").unwrap_or(&line);
        if message.is_empty() && !wire.is_datagrams() {
            continue;
        }
        match wire.send(message) {
            Err(why) if why.kind() == io::ErrorKind::InvalidInput => {
                Screen::complain(&why.to_string());
            }
            sent => sent?,
        }
    }
}
