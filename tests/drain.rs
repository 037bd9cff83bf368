//! A drain under load: nobody is reset, every request is answered once or refused in order, nothing is lost.

mod harness;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Client, Journal, On, PATIENCE, Pipe, Script, eventually, matrix, system_name};
use switchboard::{Address, Next};

matrix! {
    nobody_is_reset_by_a_drain_under_load: [tcp unix];
    clients_that_wait_in_the_queue_are_served: [tcp unix];
    requests_sent_before_the_drain_are_all_answered: [tcp unix];
    a_drain_under_datagram_load_answers_all_it_has_taken: [udp unixgram];
}

/// What became of everybody's requests.
#[derive(Debug, Default)]
struct Ledger {
    answered: AtomicUsize,
    refused: AtomicUsize,
    reset: AtomicUsize,
    wrong: AtomicUsize,
}

impl Ledger {
    fn count(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
    }

    /// One request on a connection. Returns whether the connection goes on.
    fn request(&self, stream: &mut Pipe, number: usize) -> bool {
        let request = format!("request {number:0>6}\n");
        let mut reply = vec![0; request.len()];
        let exchanged =
            stream.write_all(request.as_bytes()).and_then(|()| read_all(stream, &mut reply));
        match exchanged {
            Ok(0) => Self::count(&self.refused),
            Ok(bytes) if reply[..bytes] == *request.to_ascii_uppercase().as_bytes() => {
                Self::count(&self.answered);
                return true;
            }
            Ok(_) => Self::count(&self.wrong),
            Err(_) => Self::count(&self.reset),
        }
        false
    }
}

/// Reads until the buffer is full or the stream ends.
fn read_all(stream: &mut Pipe, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..])? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}

/// Whoever is not let in any more waits until the end, and is refused then: no connection, no loss.
fn connect(address: &Address) -> io::Result<Pipe> {
    match address {
        Address::Unix(name) => Ok(Pipe::Unix(UnixStream::connect_addr(&system_name(name))?)),
        _ => {
            let addr = address.socket_addr().expect("an internet address");
            Ok(Pipe::Tcp(TcpStream::connect_timeout(&addr, Duration::from_millis(500))?))
        }
    }
}

/// Connects and asks, over and over, until nobody can be connected to any more.
fn load(address: &Address, ledger: &Ledger, over: &AtomicBool, each: usize) {
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        let Ok(mut stream) = connect(address) else { return };
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        for _ in 0..each {
            number += 1;
            if !ledger.request(&mut stream, number) {
                break;
            }
        }
    }
}

fn nobody_is_reset_by_a_drain_under_load(on: On) {
    for round in 0..3 {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal));
        let (ledger, over) = (Ledger::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for client in 0..16 {
                let (address, ledger, over) = (server.address(), &ledger, &over);
                // Some stay, some come and go.
                let each = if client % 2 == 0 { usize::MAX } else { 3 };
                scope.spawn(move || load(address, ledger, over, each));
            }
            let enough = 300 + 200 * round;
            eventually("the load runs", || ledger.answered.load(Ordering::SeqCst) > enough);
            let report = server.drain(PATIENCE);
            over.store(true, Ordering::SeqCst);
            assert_eq!((report.forced, report.stuck), (0, 0), "{report}");
        });
        assert_eq!(ledger.reset.load(Ordering::SeqCst), 0, "nobody is reset: {ledger:?}");
        assert_eq!(ledger.wrong.load(Ordering::SeqCst), 0, "no reply is torn: {ledger:?}");
    }
}

fn clients_that_wait_in_the_queue_are_served(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    // Connected, and their requests sent, before anybody accepts.
    let mut clients: Vec<Client> = (0..40).map(|_| Client::of(&bound.addresses()[0])).collect();
    clients.iter_mut().for_each(|client| client.say("early"));
    handle.begin_drain(PATIENCE);
    let report = bound.serve().expect("it serves");
    for client in &mut clients {
        client.hears_only("EARLY\n");
    }
    assert_eq!((report.told, report.forced, report.stuck), (40, 0, 0), "{report}");
}

fn requests_sent_before_the_drain_are_all_answered(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "HELLO"));
    for client in &mut clients {
        client.send_bytes("request\n".repeat(100).as_bytes());
    }
    let report = server.drain(PATIENCE);
    for client in &mut clients {
        client.hears_only(&"REQUEST\n".repeat(100));
    }
    assert_eq!((report.forced, report.stuck), (0, 0), "{report}");
}

fn a_drain_under_datagram_load_answers_all_it_has_taken(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    }));
    let over = AtomicBool::new(false);
    let heard = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (over, heard) = (&over, &heard);
            // (Made here: a thread may begin when the others have had all the answers already.)
            let mut client = server.client();
            client.set_patience(Duration::from_millis(300));
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let asked = client.try_send(b"question").is_ok();
                    if asked && client.try_hear().is_ok() {
                        heard.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        eventually("the load runs", || heard.load(Ordering::SeqCst) > 500);
        let report = server.drain(PATIENCE);
        over.store(true, Ordering::SeqCst);
        assert!(report.is_clean(), "{report}");
    });
    let stats = server.stats();
    assert_eq!(stats.datagrams_sent, stats.datagrams_handled, "each one taken was answered");
    assert_eq!(heard.load(Ordering::SeqCst) as u64, stats.datagrams_sent, "and the answer arrived");
}
