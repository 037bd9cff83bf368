//! What all of this is for: one handler, unchanged, on every transport and under every concurrency.

use std::io;

use switchboard::{CloseReason, Context, Handler, Next, Server};

use crate::harness::{Journal, On};
use crate::row::{ALL, EVERY, Row, python};

pub(crate) const ROWS: &[Row] = &[python(
    "0",
    "The same handler, unchanged, passes the same transcript on four transports in three modes",
    (EVERY, ALL),
    the_same_handler_passes_the_same_transcript,
)];

/// Knows neither how it is run nor over what.
struct Desk {
    heard: Vec<String>,
    journal: Journal,
}

impl Handler for Desk {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send("what is it?");
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let text = String::from_utf8_lossy(message).into_owned();
        match text.as_str() {
            "recite" => self.heard.iter().for_each(|line| cx.send(line)),
            "nothing" => {}
            "bye" => {
                cx.send(format!("{} said", self.heard.len()));
                return Ok(Next::Close);
            }
            "fail" => return Err(io::Error::other("as told")),
            other => cx.send(other.to_uppercase()),
        }
        self.heard.push(text);
        Ok(Next::Continue)
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.journal.note(format!("{reason}"));
    }
}

/// What is said, and all that is heard of it.
const TRANSCRIPT: &[(&str, &[&str])] = &[
    ("good morning", &["what is it?", "GOOD MORNING"]),
    ("", &[""]),
    ("nothing", &[]),
    ("grüße", &["GRÜSSE"]),
    ("recite", &["good morning", "", "nothing", "grüße"]),
    ("bye", &["5 said"]),
];

fn the_same_handler_passes_the_same_transcript(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(Server::new(move |_| Desk { heard: Vec::new(), journal: noted.clone() }));
    let mut clients = [server.client(), server.client(), server.client()];
    // In turn, so that one's state cannot be another's.
    for (said, expected) in TRANSCRIPT {
        for client in &mut clients {
            client.say(said);
            for expected in *expected {
                assert_eq!(client.hear(), *expected, "after {said:?}");
            }
        }
    }
    journal.wait_for_so_many(3, "done");
    let mut failing = server.client();
    failing.say("fail");
    assert_eq!(failing.hear(), "what is it?");
    journal.wait_for("handler-err: as told");
    assert_eq!(journal.all(), ["done", "done", "done", "handler-err: as told"]);
}
