//! Wrappers around a handler that tells everything: they pass on what is not theirs, and stay around.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use switchboard::{CloseReason, Context, FrameError, Framing, Handler, Next, Server, ServerHandle};
use switchboard_handlers::{Inspect, Once, Over, QuitWords, Upper};

const DEADLINE: Duration = Duration::from_secs(30);

/// Tells which of its callbacks ran, and answers in a way of its own.
struct Probe(SyncSender<String>);

impl Probe {
    fn tell(&self, what: impl Into<String>) {
        // The test may have heard enough.
        drop(self.0.send(what.into()));
    }
}

impl Handler for Probe {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.tell("setup");
        cx.send("welcome");
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let text = String::from_utf8_lossy(message).into_owned();
        self.tell(format!("handle {text}"));
        match text.as_str() {
            "switch" => return Ok(Next::Switch(Box::new(Upper))),
            "abort" => return Ok(Next::Abort),
            "error" => return Err(io::Error::other("asked for")),
            _ => cx.send(format!("heard {text}")),
        }
        Ok(Next::Continue)
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.tell("idle");
        cx.send("still there?");
        Ok(Next::Close)
    }

    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        self.tell(format!("rejected {}", why.is_fatal()));
        cx.send("too long");
        Ok(Next::Continue)
    }

    fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.tell("half_closed");
        cx.send("as you like");
        Ok(Next::Close)
    }

    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.tell("draining");
        cx.send("we are closing");
        Ok(Next::Close)
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.tell(format!("finish {}", reason.name()));
    }
}

/// A server of lines, what its handlers tell, and a client of it.
struct Stage {
    server: ServerHandle,
    told: Receiver<String>,
    client: TcpStream,
}

impl Stage {
    /// Serves a wrapped probe for each peer.
    fn set<H: Handler>(
        wrap: impl Fn(Probe) -> H + Send + Sync + 'static,
        settings: impl FnOnce(Server) -> Server,
    ) -> Self {
        let (tell, told) = sync_channel(64);
        let server = Server::new(move |_peer| wrap(Probe(tell.clone())))
            .framing(Framing::lines().max_frame(16).skip_overlong())
            .tcp("127.0.0.1:0");
        let server = settings(server).spawn().expect("a server");
        let addr = server.addresses()[0].socket_addr().expect("its address");
        let client = TcpStream::connect(addr).expect("a connection");
        client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self { server, told, client }
    }

    fn says(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).expect("sent");
    }

    fn hears(&mut self, expected: &str) {
        let mut heard = vec![0; expected.len()];
        self.client.read_exact(&mut heard).expect("an answer in time");
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    fn hears_the_end(&mut self) {
        assert_eq!(self.client.read(&mut [0; 64]).expect("the end in time"), 0);
        // The server need not wait for what we might still send.
        self.client.shutdown(Shutdown::Both).ok();
    }

    fn tells(&self, expected: &[&str]) {
        for expected in expected {
            let told = self.told.recv_timeout(DEADLINE).expect("told in time");
            assert_eq!(&told, expected);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// All of them, one in the other.
fn all(probe: Probe) -> impl Handler {
    Inspect::new(Over::new(Inspect::new(probe, |_, _| ())), |_, _| ())
}

#[test]
fn every_callback_reaches_the_handler_inside() {
    let mut stage = Stage::set(all, |server| server);
    stage.hears("welcome\n");
    stage.says("hello\nthis line is too long for it\nworld\n");
    stage.hears("heard hello\ntoo long\nheard world\n");
    stage.client.shutdown(Shutdown::Write).expect("half-closed");
    stage.hears("as you like\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle hello", "rejected false", "handle world", "half_closed"]);
    stage.tells(&["finish peer-eof"]);
}

#[test]
fn an_idle_peer_and_a_drain_reach_it_too() {
    let mut stage = Stage::set(all, |server| server.idle_timeout(Duration::from_millis(20)));
    stage.hears("welcome\nstill there?\n");
    stage.hears_the_end();
    stage.tells(&["setup", "idle", "finish idle-timeout"]);

    let mut stage = Stage::set(|probe| Once::new(all(probe)), |server| server);
    stage.hears("welcome\n");
    stage.server.begin_drain(DEADLINE);
    stage.hears("we are closing\n");
    stage.hears_the_end();
    stage.tells(&["setup", "draining", "finish draining"]);
}

#[test]
fn errors_and_resets_pass_through() {
    let mut stage = Stage::set(all, |server| server);
    stage.hears("welcome\n");
    stage.says("error\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle error", "finish handler-err"]);

    let mut stage = Stage::set(|probe| Once::new(all(probe)), |server| server);
    stage.hears("welcome\n");
    stage.says("abort\n");
    let reset = stage.client.read(&mut [0; 64]).expect_err("a reset");
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    stage.tells(&["setup", "handle abort", "finish aborted"]);
}

#[test]
fn a_quit_word_does_not_reach_it_and_ends_the_conversation() {
    let mut stage = Stage::set(all, |server| server);
    stage.says("one\nover\ntwo\n");
    stage.hears("welcome\nheard one\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle one", "finish done"]);
}

#[test]
fn a_quit_word_may_drain_the_server() {
    let quit = QuitWords::new(["stop"]).stop_server();
    let wrap = move |probe| Over::with_words(probe, quit.clone());
    let mut stage = Stage::set(wrap, |server| server.drain_timeout(DEADLINE));
    stage.says("stop\n");
    stage.hears("welcome\n");
    stage.hears_the_end();
    stage.tells(&["setup", "finish done"]);
    assert!(stage.server.join().is_clean());
}

#[test]
fn whoever_takes_over_is_wrapped_as_well() {
    let (show, seen) = sync_channel(16);
    let wrap = move |probe| {
        let show = show.clone();
        Over::new(Inspect::new(probe, move |_peer, message: &[u8]| {
            drop(show.send(String::from_utf8_lossy(message).into_owned()));
        }))
    };
    let mut stage = Stage::set(wrap, |server| server);
    stage.says("switch\nlouder\nover\nnot heard\n");
    stage.hears("welcome\nLOUDER\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle switch", "finish switched"]);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["switch", "louder"]);
}

#[test]
fn once_ends_after_the_first_message_and_lets_nobody_take_over() {
    let mut stage = Stage::set(Once::new, |server| server);
    stage.says("one\ntwo\n");
    stage.hears("welcome\nheard one\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle one", "finish done"]);

    let mut stage = Stage::set(Once::new, |server| server);
    stage.says("switch\ntwo\n");
    stage.hears("welcome\n");
    stage.hears_the_end();
    stage.tells(&["setup", "handle switch", "finish done"]);
}
