//! `broadcast`: everybody hears everybody, over whatever they came by, and who reads slowly is told so.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;

use crate::support::{Program, connect, datagrams, expect, hear, say};
use crate::unix;

/// A server on TCP, UDP and a Unix socket, whose log says often how many are here.
fn broadcast() -> (Program, SocketAddr, SocketAddr, String) {
    let path = unix::in_a_file();
    let url = format!("unix:{path}");
    let three = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &url];
    let listen = three.iter().flat_map(|url| ["--listen", url]);
    let options: Vec<&str> = listen.chain(["--every", "50ms"]).collect();
    let server = Program::example("broadcast", &options);
    let (tcp, udp) = (server.listening("tcp://"), server.listening("udp://"));
    server.listens_on(&url);
    (server, tcp, udp, path)
}

#[test]
fn everybody_hears_what_anybody_says_over_three_transports() {
    let (mut server, tcp, udp, path) = broadcast();
    let mut ada = connect(tcp);
    server.log_line("1 here, 1 came so far");
    let ada_is = format!("tcp://{}", ada.local_addr().expect("an address"));

    let mut bob = unix::connect(&path);
    let bob_is = format!("unix:(unnamed)[pid {}, uid ", std::process::id());
    let mut heard = BufReader::new(ada.try_clone().expect("a handle")).lines();
    let mut ada_hears = || heard.next().expect("a line in time").expect("text");
    let line = ada_hears();
    assert!(line.starts_with(&format!("* {bob_is}")) && line.ends_with("] is here"), "{line}");

    // A datagram's sender is here from its first one on.
    let cleo = datagrams(udp);
    let cleo_is = format!("udp://{}", cleo.local_addr().expect("an address"));
    cleo.send(b"hello\n").expect("sent");
    let both = format!("* {cleo_is} is here\n{cleo_is}: hello\n");
    expect(&mut bob, both.as_bytes());
    assert_eq!([ada_hears(), ada_hears()].join("\n") + "\n", both);
    server.log_line("3 here, 3 came so far");

    say(&mut ada, b"good evening\n", b"");
    let said = format!("{ada_is}: good evening");
    expect(&mut bob, format!("{said}\n").as_bytes());
    assert_eq!(hear(&cleo), said.as_bytes());

    drop(bob);
    let line = ada_hears();
    assert!(line.starts_with(&format!("* {bob_is}")) && line.ends_with("] has left"), "{line}");
    assert!(hear(&cleo).ends_with(b"] has left"));
    server.log_line("2 here, 3 came so far");
    server.drain();
}

#[test]
fn whoever_reads_slowly_is_told_exactly_how_many_messages_it_missed() {
    const MESSAGES: usize = 3000;
    let (mut server, tcp, _, path) = broadcast();
    let slow = unix::connect(&path);
    server.log_line("1 here");
    let mut loud = connect(tcp);
    let lines: String = (0..MESSAGES).map(|n| format!("{n:04}{}\n", "x".repeat(1000))).collect();
    loud.write_all(lines.as_bytes()).expect("said, whoever reads it");
    let loud_is = format!("tcp://{} ", loud.local_addr().expect("an address"));
    drop(loud);
    assert!(server.log_line(&loud_is).contains(" left: "), "all of it was said");

    let (mut heard, mut missed, mut last) = (0, 0, None);
    for line in BufReader::new(slow).lines() {
        let line = line.expect("another line in time");
        if let Some(rest) = line.strip_prefix("* you have missed ") {
            let number = rest.strip_suffix(" messages").expect("a number of messages");
            missed += number.parse::<usize>().expect("a number");
        } else if let Some((_, said)) = line.split_once(": ") {
            let number: usize = said[..4].parse().expect("the message's number");
            assert!(last < Some(number), "in order, and once: {number} after {last:?}");
            last = Some(number);
            heard += 1;
        }
        // (Who has left is urgent news: it comes before the messages that wait.)
        if heard + missed == MESSAGES && last == Some(MESSAGES - 1) {
            break;
        }
    }
    assert!(missed > 0, "more was said than may wait for one who does not read");
    assert_eq!(heard + missed, MESSAGES);
    server.drain();
}
