//! A protocol of one's own, to be copied and changed: a key-value store that speaks lines.
//!
//! ```text
//! cargo run --example custom_protocol
//! printf 'SET colour sky blue\nGET colour\nQUIT\n' | nc -N 127.0.0.1 9996
//! ```
//! Three parts, one job each: `Command` knows the grammar and no socket, `Store` the state that all
//! peers share and no grammar, `Session` brings them together and decides how it goes on.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use clap::Parser;
use parking_lot::Mutex;
use switchboard::{Context, FrameError, Framing, Handler, Next, Outcome, Server};

use common::{Url, run};

/// A key-value store. Commands: SET KEY VALUE, GET KEY, DEL KEY, KEYS, QUIT
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unixgram:PATH
    #[arg(long, value_name = "URL", default_values = ["tcp://127.0.0.1:9996"])]
    listen: Vec<Url>,
}

/// What a peer may say, borrowed from its message.
enum Command<'a> {
    Set { key: &'a str, value: &'a str },
    Get { key: &'a str },
    Del { key: &'a str },
    Keys,
    Quit,
}

impl<'a> Command<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(message).map_err(|_| "this is not UTF-8")?;
        let mut words = text.trim().splitn(3, ' ');
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        match (verb.as_str(), words.next(), words.next()) {
            ("SET", Some(key), Some(value)) => Ok(Self::Set { key, value }),
            ("GET", Some(key), None) => Ok(Self::Get { key }),
            ("DEL", Some(key), None) => Ok(Self::Del { key }),
            ("KEYS", None, None) => Ok(Self::Keys),
            ("QUIT", None, None) => Ok(Self::Quit),
            _ => Err("say SET KEY VALUE, GET KEY, DEL KEY, KEYS or QUIT"),
        }
    }
}

/// What all peers share. It is locked for the length of one command, and never while one waits.
type Store = Mutex<BTreeMap<String, String>>;

/// Keys at most: with lines of 4 KiB the store stays under 40 MiB, whoever fills it.
const MOST_KEYS: usize = 10_000;

/// Returns whether there was room.
fn set(store: &mut BTreeMap<String, String>, key: &str, value: &str) -> bool {
    let room = store.len() < MOST_KEYS || store.contains_key(key);
    if room {
        store.insert(key.to_owned(), value.to_owned());
    }
    room
}

/// One peer.
struct Session {
    store: Arc<Store>,
}

impl Handler for Session {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        match Command::parse(message) {
            Ok(Command::Set { key, value }) => {
                let set = set(&mut self.store.lock(), key, value);
                cx.send(if set { "OK" } else { "ERR the store is full" });
            }
            Ok(Command::Get { key }) => {
                // Copied, so that a slow reader keeps nobody from the store.
                let value = self.store.lock().get(key).cloned();
                cx.send(value.map_or_else(|| "NONE".to_owned(), |value| format!("= {value}")));
            }
            Ok(Command::Del { key }) => {
                let known = self.store.lock().remove(key).is_some();
                cx.send(if known { "OK" } else { "NONE" });
            }
            Ok(Command::Keys) => {
                let keys: Vec<String> = self.store.lock().keys().cloned().collect();
                cx.send(format!("{} KEYS", keys.len()));
                keys.iter().for_each(|key| cx.send(key));
            }
            Ok(Command::Quit) => {
                cx.send("BYE");
                return Ok(Next::Close);
            }
            Err(why) => cx.send(format!("ERR {why}")),
        }
        Ok(Next::Continue)
    }

    /// An over-long line: it is skipped, and the conversation goes on.
    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send(format!("ERR {why}"));
        Ok(Next::Continue)
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send("BYE you have been silent for long");
        Ok(Next::Close)
    }

    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send("BYE the server is stopping");
        Ok(Next::Close)
    }
}

/// The server with an empty store, wherever it will listen: `main` serves it, and the tests drive it.
fn key_value_server() -> Server {
    let store = Arc::<Store>::default();
    Server::new(move |_peer| Session { store: store.clone() })
        .framing(Framing::lines().max_frame(4096).skip_overlong())
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    let server = key_value_server();
    run(cli.listen.iter().fold(server, |server, url| server.listen(url.listen())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchboard::CloseReason;
    use switchboard::testing::{Client, MemoryServer};

    use super::*;

    fn connect() -> Client {
        MemoryServer::new(key_value_server()).connect()
    }

    #[test]
    fn what_was_set_is_there_until_it_is_deleted() {
        let mut client = connect();
        assert_eq!(client.ask("SET colour sky blue"), "OK");
        assert_eq!(client.ask("GET colour"), "= sky blue");
        assert_eq!(client.ask("DEL colour"), "OK");
        assert_eq!(client.ask("GET colour"), "NONE");
        assert_eq!(client.ask("DEL colour"), "NONE");
    }

    #[test]
    fn commands_arrive_in_pieces_and_several_at_a_time() {
        let mut client = connect();
        client.send("SET a");
        assert!(client.replies().is_empty(), "half a command is none");
        client.send(" 1\nSET b 2\nKE");
        client.send("YS\n");
        assert_eq!(client.replies(), ["OK", "OK", "2 KEYS", "a", "b"]);
    }

    #[test]
    fn all_peers_share_one_store() {
        let server = MemoryServer::new(key_value_server().udp("127.0.0.1:0").tcp("127.0.0.1:0"));
        let (mut ada, mut bob, mut far) = (server.connect(), server.connect(), server.correspond());
        assert_eq!(ada.ask("SET colour blue"), "OK");
        assert_eq!(bob.ask("GET colour"), "= blue");
        assert_eq!(far.ask("GET colour"), "= blue", "over datagrams as well");
    }

    #[test]
    fn what_is_no_command_is_answered_and_the_conversation_goes_on() {
        let mut client = connect();
        assert_eq!(client.ask("HELLO"), "ERR say SET KEY VALUE, GET KEY, DEL KEY, KEYS or QUIT");
        client.send([b"SET ".as_slice(), &[0xff], b" x\n"].concat());
        assert_eq!(client.replies(), ["ERR this is not UTF-8"]);
        client.send(format!("SET long {}\nKEYS\n", "x".repeat(5000)));
        let replies = client.replies();
        assert_eq!(replies[0], "ERR line longer than the maximum of 4096 bytes, skipped");
        assert_eq!(replies[1], "0 KEYS");
    }

    #[test]
    fn whoever_quits_gets_a_last_word() {
        let mut client = connect();
        client.send("QUIT\nSET too late\n");
        assert_eq!(client.replies(), ["BYE"]);
        assert_eq!(client.close_reason(), Some(CloseReason::Done));
        assert_eq!(
            client.calls(),
            ["setup -> Continue", "handle \"QUIT\" -> Close", "finish done"]
        );
    }

    #[test]
    fn a_silent_peer_is_told_that_it_is_closed() {
        let mut client = connect();
        client.advance(Duration::from_secs(300));
        assert_eq!(client.replies(), ["BYE you have been silent for long"]);
        assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
    }

    #[test]
    fn everybody_is_told_when_the_server_stops() {
        let server = MemoryServer::new(key_value_server());
        let mut client = server.connect();
        assert!(server.drain(Duration::from_secs(5)).is_clean());
        assert_eq!(client.replies(), ["BYE the server is stopping"]);
        assert_eq!(client.close_reason(), Some(CloseReason::Draining));
    }
}
