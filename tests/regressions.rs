//! Each of these went wrong once: what a client, or the owner of a server, saw of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::never;
use switchboard::{Framing, Handler, Next, Server, ServerHandle, handler_fn};

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

fn lines<H: Handler>(handler: impl Fn() -> H + Send + Sync + 'static) -> Server {
    Server::new(move |_peer| handler()).framing(Framing::lines()).tcp("127.0.0.1:0")
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
    assert!(report.took < Duration::from_millis(1600), "{report}");
    floods.into_iter().for_each(|flood| flood.join().expect("ended"));
}
