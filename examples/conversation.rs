//! A conversation in plain blocking code, in the shape that people know from Python's `socketserver`.
//!
//! ```text
//! cargo run --example conversation
//! nc -N 127.0.0.1 9995
//! ```
//! The handler asks, waits, answers and waits again, and keeps what it knows in local variables. It
//! owns a thread for as long as it waits: hence `Concurrency::threads`. Where messages can be cut out
//! of the stream, a `Handler` (see `custom_protocol`) serves thousands of peers with a few threads.

mod common;

use std::io::{self, BufRead, Read, Write};

use clap::Parser;
use switchboard::{Concurrency, Next, Outcome, Server, Stream, StreamHandler};

use common::{Url, run};

/// Asks for a name, and then repeats what it is told.
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: tcp://HOST:PORT, unix:PATH
    #[arg(long, value_name = "URL", default_values = ["tcp://127.0.0.1:9995"])]
    listen: Vec<Url>,
}

struct Conversation;

impl StreamHandler for Conversation {
    /// The server speaks first: nothing of the peer has to be there for that.
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        writeln!(stream, "what is your name?")?;
        Ok(Next::Continue)
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let Some(name) = next_line(stream)? else { return Ok(Next::Close) };
        writeln!(stream, "hello, {name}; say bye when you have to go")?;
        let mut lines = 0;
        while let Some(line) = next_line(stream)? {
            if line == "bye" {
                break;
            }
            lines += 1;
            writeln!(stream, "{lines}: {name} says {line}")?;
        }
        // Also after the peer has finished sending, and when the server is drained: it still hears this.
        writeln!(stream, "goodbye, {name}")?;
        Ok(Next::Close)
    }
}

/// The longest line to be read, so that a peer which never ends one costs no memory.
const LONGEST_LINE: u64 = 1024;

/// One line without its end; `None` when there is no other. A longer one comes in pieces.
fn next_line(stream: &mut Stream<'_>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    Ok((!line.is_empty()).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    let server = Server::streams(|_peer| Conversation).concurrency(Concurrency::threads(256));
    run(cli.listen.iter().fold(server, |server, url| server.listen(url.listen())))
}
