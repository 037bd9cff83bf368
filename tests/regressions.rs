//! Each of these went wrong once: what a client, or the owner of a server, saw of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never};
use switchboard::{
    CloseReason, Concurrency, Context, Framing, Handler, Next, Remote, Server, ServerHandle,
    Stream, StreamHandler, handler_fn,
};

/// No wait is longer: a client that is forgotten fails, it does not hang.
const PATIENCE: Duration = Duration::from_secs(5);

fn address(server: &ServerHandle) -> SocketAddr {
    server.addresses()[0].socket_addr().expect("an address")
}

fn client(server: &ServerHandle) -> TcpStream {
    let client = TcpStream::connect(address(server)).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    client
}

/// The next line, without its end; what went wrong, if it did not come.
fn line(client: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        client.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.extend_from_slice(&byte);
    }
}

fn ask(client: &mut TcpStream, question: &str) -> io::Result<String> {
    writeln!(client, "{question}")?;
    line(client)
}

/// Blocks this thread for so long: a handler's slow work, or a client's slow pace.
fn pass(span: Duration) {
    let _ = never::<()>().recv_timeout(span);
}

fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().spawn(run).expect("a thread")
}

/// Waits until `there` says so, or fails.
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn lines<H: Handler>(handler: impl Fn() -> H + Send + Sync + 'static) -> Server {
    Server::new(move |_peer| handler()).framing(Framing::lines()).tcp("127.0.0.1:0")
}

/// Answers a line with itself, after what it says: `sleep MS` without telling the pool, `block MS` and
/// telling it, `spin MS` on the processor.
fn obedient() -> impl Handler {
    handler_fn(|message, cx| {
        let text = String::from_utf8_lossy(message).into_owned();
        let span = text.split(' ').nth(1).and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        match (text.split(' ').next(), span) {
            (Some("sleep"), Some(span)) => pass(span),
            (Some("block"), Some(span)) => cx.block(|| pass(span)),
            (Some("spin"), Some(span)) => {
                let until = Instant::now() + span;
                while Instant::now() < until {}
            }
            _ => {}
        }
        cx.send(message);
        Ok(Next::Continue)
    })
}

/// Sends for as long as it may.
fn flood(server: &ServerHandle, over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let mut flooder = client(server);
    let over = over.clone();
    spawn(move || {
        let much = "x\n".repeat(16 * 1024);
        while !over.load(Ordering::Relaxed) && flooder.write_all(much.as_bytes()).is_ok() {}
    })
}

#[test]
fn newcomers_are_served_beside_a_flood_after_a_handler_has_blocked() {
    // Says nothing to the flood, and is slower than it.
    let handler = || {
        handler_fn(|message, cx| {
            if message == b"x" {
                let until = Instant::now() + Duration::from_micros(20);
                while Instant::now() < until {}
                return Ok(Next::Continue);
            }
            cx.block(|| pass(Duration::from_millis(30)));
            cx.send(message);
            Ok(Next::Continue)
        })
    };
    let server = lines(handler).spawn().expect("serves");
    let over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2).map(|_| flood(&server, &over)).collect();
    let mut slow = client(&server);
    for round in 0..20 {
        assert_eq!(ask(&mut slow, "block").expect("an answer"), "block", "round {round}");
        let mut new = client(&server);
        assert_eq!(ask(&mut new, "new").expect("an answer"), "new", "round {round}");
    }
    over.store(true, Ordering::Relaxed);
    let report = server.drain(Duration::from_secs(1));
    assert!(report.took < Duration::from_secs(5), "{report}");
    floods.into_iter().for_each(|flood| flood.join().expect("ended"));
}

#[test]
fn a_message_that_came_while_the_handler_was_slow_is_not_late() {
    let server =
        lines(obedient).message_timeout(Duration::from_millis(300)).spawn().expect("serves");
    let mut client = client(&server);
    client.write_all(b"block 800\nhel").expect("sent");
    pass(Duration::from_millis(50));
    client.write_all(b"lo\n").expect("sent");
    assert_eq!(line(&mut client).expect("an answer"), "block 800");
    assert_eq!(line(&mut client).expect("an answer"), "hello");
}

#[test]
fn whoever_waited_for_a_worker_was_not_idle() {
    let server = lines(obedient)
        .concurrency(Concurrency::pool(1))
        .idle_timeout(Duration::from_millis(300))
        .spawn()
        .expect("serves");
    let (mut slow, mut quick) = (client(&server), client(&server));
    assert_eq!(ask(&mut quick, "one").expect("an answer"), "one");
    writeln!(slow, "block 1000").expect("sent");
    until("it blocks", || server.stats().workers_replaced > 0);
    assert_eq!(ask(&mut quick, "two").expect("an answer"), "two");
}

/// Goes without a goodbye: the peer's next write fails.
fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(client);
}

#[test]
fn nobody_gets_the_reply_to_somebody_who_is_gone() {
    for concurrency in [Concurrency::Inline, Concurrency::threads(1), Concurrency::pool(1)] {
        let (here, asked) = bounded(1);
        let (go, wait) = bounded(1);
        let server = lines(move || {
            let (here, wait) = (here.clone(), wait.clone());
            handler_fn(move |message, cx| {
                if message == b"secret" {
                    here.send(()).expect("the test waits");
                    wait.recv_timeout(PATIENCE).expect("the test goes on");
                }
                cx.send(message);
                Ok(Next::Continue)
            })
        })
        .concurrency(concurrency)
        .spawn()
        .expect("serves");
        let mut first = client(&server);
        writeln!(first, "secret").expect("sent");
        asked.recv_timeout(PATIENCE).expect("asked");
        reset(first);
        go.send(()).expect("it waits");
        assert_eq!(ask(&mut client(&server), "hello").expect("an answer"), "hello");
        server.stop();
    }
}

struct Listens;

impl Handler for Listens {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send(message);
        Ok(Next::Continue)
    }

    fn half_closed(&mut self, _cx: &mut Context<'_>) -> io::Result<Next> {
        Ok(Next::Continue)
    }
}

#[test]
fn whoever_finished_sending_and_is_gone_leaves_in_every_mode() {
    for concurrency in [Concurrency::Inline, Concurrency::threads(1), Concurrency::pool(1)] {
        let server = lines(|| Listens).concurrency(concurrency).spawn().expect("serves");
        let mut client = client(&server);
        assert_eq!(ask(&mut client, "hello").expect("an answer"), "hello");
        client.shutdown(Shutdown::Write).expect("finished");
        // Seen, so that the reset comes as news of its own.
        until("seen", || server.stats().turns.count() >= 2);
        reset(client);
        until("it left", || server.stats().connections_open == 0);
        server.stop();
    }
}

#[test]
fn a_remote_that_sends_after_half_close_harms_nobody() {
    for concurrency in [Concurrency::Inline, Concurrency::threads(4), Concurrency::pool(4)] {
        let (told, remotes) = bounded::<Remote>(8);
        let (heard, messages) = bounded(64);
        let server = Server::new(move |_peer| {
            let (told, heard) = (told.clone(), heard.clone());
            handler_fn(move |message, cx| {
                drop(heard.send(message.to_vec()));
                if message == b"half" {
                    drop(told.send(cx.remote()));
                    return Ok(Next::HalfClose);
                }
                Ok(Next::Continue)
            })
        })
        .framing(Framing::lines())
        .tcp("127.0.0.1:0")
        .concurrency(concurrency)
        .spawn()
        .expect("serves");
        let mut client = client(&server);
        writeln!(client, "half").expect("sent");
        let remote = remotes.recv_timeout(PATIENCE).expect("its remote");
        assert_eq!(client.read(&mut [0; 8]).expect("the end"), 0);
        assert!(remote.send("too late").is_err(), "nothing can be sent any more");
        writeln!(client, "still heard").expect("sent");
        assert_eq!(messages.recv_timeout(PATIENCE).expect("a message"), b"half");
        assert_eq!(messages.recv_timeout(PATIENCE).expect("a message"), b"still heard");
        server.stop();
    }
}

#[test]
fn a_drain_ends_everybody_but_those_whose_handlers_are_stuck() {
    let (go, stuck) = bounded::<()>(0);
    let server = lines(move || {
        let stuck = stuck.clone();
        handler_fn(move |_message, cx| {
            // Ignores the drain until the test is over.
            let _ = stuck.recv_timeout(PATIENCE);
            cx.send("at last");
            Ok(Next::Continue)
        })
    })
    .concurrency(Concurrency::pool(1))
    .spawn()
    .expect("serves");
    let mut asking: Vec<_> = (0..3).map(|_| client(&server)).collect();
    asking.iter_mut().for_each(|client| writeln!(client, "a question").expect("sent"));
    let mut idle: Vec<_> = (0..10).map(|_| client(&server)).collect();
    until("all are here", || server.stats().connections_open == 13);
    let report = server.drain(Duration::from_millis(300));
    // One held the only worker, one the reserve.
    assert_eq!((report.stuck, report.stuck_peers.len()), (2, 2), "{report}");
    assert_eq!(report.told + report.forced, 11, "{report}");
    for client in &mut idle {
        assert_eq!(client.read(&mut [0; 8]).expect("its end"), 0);
    }
    drop(go);
}

/// An error that cannot even be written down.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("an error that panics when it is written")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn an_error_that_panics_when_it_is_written_ends_one_connection() {
    for concurrency in [Concurrency::Inline, Concurrency::threads(4), Concurrency::pool(1)] {
        let server = lines(|| {
            handler_fn(|message, cx| {
                if message == b"fail" {
                    return Err(io::Error::other(Unspeakable));
                }
                cx.send(message);
                Ok(Next::Continue)
            })
        })
        .concurrency(concurrency)
        .spawn()
        .expect("serves");
        for _ in 0..3 {
            let mut failing = client(&server);
            writeln!(failing, "fail").expect("sent");
            assert_eq!(failing.read(&mut [0; 8]).expect("its end"), 0, "{concurrency:?}");
        }
        assert_eq!(ask(&mut client(&server), "hello").expect("an answer"), "hello");
        until("all are counted", || server.stats().closed_for(&CloseReason::HandlerPanic) == 3);
        server.stop();
    }
}

/// A handler that nobody can get rid of quietly.
struct Bomb;

impl Handler for Bomb {
    fn handle(&mut self, _message: &[u8], _cx: &mut Context<'_>) -> io::Result<Next> {
        Ok(Next::Continue)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor that panics")
    }
}

struct Switches;

impl StreamHandler for Switches {
    fn handle(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
        Ok(Next::Switch(Box::new(Bomb)))
    }
}

#[test]
fn a_handler_that_is_thrown_away_ends_one_connection_however_it_takes_it() {
    for concurrency in [Concurrency::Inline, Concurrency::threads(4), Concurrency::pool(1)] {
        let server = Server::streams(|_peer| Switches)
            .tcp("127.0.0.1:0")
            .concurrency(concurrency)
            .spawn()
            .expect("serves");
        for _ in 0..3 {
            let mut client = client(&server);
            client.write_all(b"x").expect("sent");
            client.shutdown(Shutdown::Write).expect("finished");
            assert_eq!(client.read(&mut [0; 8]).expect("its end"), 0, "{concurrency:?}");
        }
        server.stop();
    }
}

#[test]
fn a_drain_ends_although_datagrams_come_faster_than_they_are_handled() {
    let handler = || {
        handler_fn(|_message, _cx| {
            pass(Duration::from_millis(2));
            Ok(Next::Continue)
        })
    };
    for concurrency in [Concurrency::Inline, Concurrency::threads(1), Concurrency::pool(1)] {
        let server = Server::new(move |_peer| handler())
            .udp("127.0.0.1:0")
            .concurrency(concurrency)
            .spawn()
            .expect("serves");
        let (to, over) = (address(&server), Arc::new(AtomicBool::new(false)));
        let flood = spawn({
            let over = over.clone();
            move || {
                let sockets: Vec<_> = (0..4)
                    .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
                    .collect();
                while !over.load(Ordering::Relaxed) {
                    sockets.iter().for_each(|socket| drop(socket.send_to(b"more", to)));
                    pass(Duration::from_millis(1));
                }
            }
        });
        until("it is at work", || server.stats().datagrams_handled > 20);
        let report = server.drain(Duration::from_secs(5));
        over.store(true, Ordering::Relaxed);
        flood.join().expect("it ends");
        assert!(report.took < Duration::from_secs(3), "{concurrency:?}: {report}");
    }
}

#[test]
fn replies_of_a_batch_leave_before_a_handler_that_blocks() {
    let server = Server::new(|_peer| obedient())
        .udp("127.0.0.1:0")
        .concurrency(Concurrency::pool(1))
        .spawn()
        .expect("serves");
    let to = address(&server);
    let socket = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    };
    let (hold, early, slow) = (socket(), socket(), socket());
    hold.send_to(b"block 100", to).expect("sent");
    until("it blocks", || server.stats().workers_replaced > 0);
    early.send_to(b"early", to).expect("sent");
    early.send_to(b"early", to).expect("sent");
    slow.send_to(b"sleep 3000", to).expect("sent");
    let sent = Instant::now();
    early.recv_from(&mut [0; 64]).expect("an answer");
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
}
