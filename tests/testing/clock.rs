//! Deadlines in memory: the clock moves when the test says so, and everything falls due in order.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use switchboard::testing::{self, Client, End, MemoryServer, Step};
use switchboard::{CloseReason, Framing, Next, Server, Stream, StreamHandler, handler_fn};

use crate::harness::{Journal, Script};

const MINUTE: Duration = Duration::from_secs(60);

fn echo() -> Server {
    Server::new(|_peer| {
        handler_fn(|message, cx| {
            cx.send(message);
            Ok(Next::Continue)
        })
    })
    .framing(Framing::lines())
}

#[test]
fn an_idle_client_is_asked_for_at_the_timeout_and_not_before() {
    let mut client = MemoryServer::new(echo().idle_timeout(5 * MINUTE)).connect();
    client.advance(5 * MINUTE - Duration::from_millis(1));
    assert_eq!(client.close_reason(), None);
    client.say("I am here");
    client.advance(5 * MINUTE - Duration::from_millis(1));
    assert_eq!(client.close_reason(), None);
    client.advance(Duration::from_millis(1));
    assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
    assert_eq!(client.end(), End::Closed);
}

#[test]
fn a_handler_that_goes_on_when_it_is_idle_is_asked_each_time() {
    let journal = Journal::default();
    let script = Script::new(&journal).idle(|cx| {
        cx.send("are you there?");
        Ok(Next::Continue)
    });
    let server = script.server().framing(Framing::lines()).idle_timeout(MINUTE);
    let mut client = MemoryServer::new(server).connect();
    client.advance(10 * MINUTE);
    // A little more than a minute each: a deadline is never met early.
    assert_eq!(journal.count("idle"), 9);
    assert_eq!(client.replies().len(), 9);
}

#[test]
fn a_message_that_takes_too_long_is_cut_off_however_often_a_byte_comes() {
    let server = echo().message_timeout(Duration::from_secs(30));
    let mut client = MemoryServer::new(server).connect();
    for _ in 0..29 {
        client.send("x");
        client.advance(Duration::from_secs(1));
        assert_eq!(client.close_reason(), None);
    }
    client.advance(Duration::from_secs(1));
    assert_eq!(client.close_reason(), Some(CloseReason::SlowRead));
}

#[test]
fn a_pause_is_over_when_it_is_and_what_came_meanwhile_is_handled_then() {
    let mut paused = false;
    let mut client = testing::connect(handler_fn(move |message, cx| {
        cx.send(message);
        let first = !std::mem::replace(&mut paused, true);
        Ok(if first { Next::Pause(Duration::from_secs(10)) } else { Next::Continue })
    }));
    client.send("one");
    client.send("two");
    assert_eq!(client.received(), "one");
    client.advance(Duration::from_secs(9));
    assert_eq!(client.received(), "");
    client.advance(Duration::from_secs(1));
    assert_eq!(client.received(), "two");
}

/// The last of its callbacks.
fn last(client: &Client) -> String {
    client.calls().last().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn in_a_pause_silence_and_the_peers_end_are_not_heard_and_a_drain_is() {
    const PAUSE: Duration = Duration::from_secs(600);
    let paused = "handle \"x\" -> Pause(600s)";
    let script = Script::new(&Journal::default()).handle(|_, _| Ok(Next::Pause(PAUSE)));
    let script = script.idle(|_| Ok(Next::Continue)).draining(|_| Ok(Next::Continue));
    let server = MemoryServer::new(script.server());
    let mut clients = [(); 4].map(|()| server.connect());
    clients.iter_mut().for_each(|client| client.say("x"));
    let [silent, finished, gone, told] = &mut clients;
    finished.half_close();
    gone.reset();
    server.advance(PAUSE - Duration::from_secs(1));
    assert_eq!([last(silent), last(finished), last(gone)], [paused; 3]);
    server.advance(Duration::from_secs(2));
    assert_eq!([last(finished), last(gone)], ["finish peer-eof", "finish peer-reset"]);
    // The silence counts from there.
    server.advance(4 * MINUTE);
    assert_eq!(last(silent), paused);
    server.advance(MINUTE);
    assert_eq!(last(silent), "idle -> Continue");

    told.say("x");
    assert_eq!(last(told), paused);
    server.begin_drain(Duration::from_secs(20));
    assert_eq!(last(told), "draining -> Continue");
    told.say("y");
    server.advance(Duration::from_secs(10));
    assert_eq!(last(told), "draining -> Continue", "the pause goes on");
    server.advance(Duration::from_secs(10));
    assert_eq!(last(told), "finish forced");
}

#[test]
fn a_drain_that_somebody_outlasts_forces_it_at_the_deadline() {
    let journal = Journal::default();
    let script = Script::new(&journal).draining(|_| Ok(Next::Continue));
    let server = MemoryServer::new(script.server());
    let clients = [server.connect(), server.connect()];
    server.begin_drain(Duration::from_secs(20));
    server.advance(Duration::from_secs(19));
    assert_eq!(clients[0].close_reason(), None);
    let report = server.drain(Duration::from_secs(20));
    assert_eq!((report.forced, report.is_clean()), (2, false));
    assert!((Duration::from_secs(20)..Duration::from_secs(21)).contains(&report.took), "{report}");
    assert_eq!(clients[1].close_reason(), Some(CloseReason::Forced));
    assert_eq!(server.connect().calls(), [""; 0], "nobody is let in any more");
}

/// Reads four bytes at a time, and says how it went.
struct Quartets;

impl StreamHandler for Quartets {
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let mut quartet = [0; 4];
        stream.read_exact(&mut quartet)?;
        Ok(Next::Continue)
    }
}

#[test]
fn a_conversation_that_waits_in_vain_times_out_without_waiting() {
    let began = Instant::now();
    let mut client = testing::converse(Quartets);
    client.send("on");
    assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
    assert_eq!(client.calls()[1], "handle -> Error: timed out");
    assert!(began.elapsed() < MINUTE, "five minutes passed, but for nobody");
}

#[test]
fn a_conversation_waits_for_what_is_planned_as_long_as_it_may() {
    let mut client = testing::converse(Quartets);
    let almost = 5 * MINUTE - Duration::from_secs(1);
    client.play([Step::send("on"), Step::Wait(almost), Step::send("ce")]);
    assert_eq!(client.close_reason(), None);
    client.play([Step::send("tw"), Step::Wait(6 * MINUTE), Step::send("ice")]);
    assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
}

#[test]
#[should_panic(expected = "waits to be sent something, without a timeout")]
fn a_wait_without_an_end_fails_the_test_instead_of_hanging() {
    let server = Server::streams(|_peer| Quartets).idle_timeout(None);
    MemoryServer::new(server).connect().send("on");
}

#[test]
#[should_panic(expected = "deadlines were due while")]
fn a_span_in_which_there_is_no_end_of_deadlines_fails_the_test_instead_of_hanging() {
    let server = echo().idle_timeout(None).on_tick(Duration::from_millis(1), |_server| ());
    MemoryServer::new(server).advance(Duration::MAX);
}
