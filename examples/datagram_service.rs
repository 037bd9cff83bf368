//! A service for single datagrams: it counts words, tells the time, and keeps nothing about anybody.
//!
//! ```text
//! cargo run --example datagram_service
//! printf 'count to be or not to be' | nc -u -w1 127.0.0.1 9994
//! ```
//! One `Service` answers everybody, several datagrams at a time: what it keeps is shared, so it is
//! atomic. Answers are shorter than questions may be long, so nobody can aim them at others.

mod common;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use clap::Parser;
use switchboard::{Datagram, DatagramHandler, Outcome, Replies, Server};

use common::{Url, run};

/// Counts words and tells the time, a datagram each.
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: udp://HOST:PORT, unixgram:PATH
    #[arg(long, value_name = "URL", default_values = ["udp://127.0.0.1:9994"])]
    listen: Vec<Url>,
}

#[derive(Default)]
struct Service {
    answered: AtomicU64,
}

impl DatagramHandler for Service {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        let text = String::from_utf8_lossy(datagram.bytes());
        let (verb, rest) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        let answer = match verb {
            _ if datagram.is_truncated() => "error: too long".to_owned(),
            "count" => count(rest),
            "time" => unix_time()?.to_string(),
            "answered" => self.answered.load(Ordering::Relaxed).to_string(),
            _ => "error: say count TEXT, time or answered".to_owned(),
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        replies.send(answer);
        Ok(())
    }
}

fn count(text: &str) -> String {
    let (words, characters) = (text.split_whitespace().count(), text.chars().count());
    format!("words={words} characters={characters} bytes={}", text.len())
}

/// Seconds since 1970. (An error drops the answer, is counted and logged, and ends nothing.)
fn unix_time() -> io::Result<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map(|span| span.as_secs()).map_err(io::Error::other)
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    let server = Server::datagrams(Service::default());
    run(cli.listen.iter().fold(server, |server, url| server.listen(url.listen())))
}
