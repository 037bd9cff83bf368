//! Scenarios and provocations against a server that does everything right, and some against one that does not.
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::support::{Run, load, serve};

/// Nothing wrong. On a busy machine an open loop may rightly call itself late.
fn fine(run: &Run) {
    let late = run.status == 5 && run.out.contains("generator saturated");
    assert!(run.status == 0 || late, "{}{}", run.out, run.err);
    assert_eq!(run.json["outcome"]["faults"], serde_json::json!([]), "{}", run.out);
    assert_eq!(run.json["books_balance"], true);
}

#[test]
fn every_provocation_leaves_a_good_server_fine() {
    let server = serve(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0"], "--delay 1us");
    let (tcp, udp) = (&server.urls[0], &server.urls[1]);
    for options in [
        "--chunk 1 --size 100",
        "--glue 4",
        "--glue 4 --rate 5k",
        "--split-utf8",
        "--half-close",
        "--reset",
        "--size 16",
        "--size 64..1k",
        "--size 200k -c 4 --count 50",
        "--depth 50",
        "--threads 2",
        "--rate 5k --arrival poisson --threads 2",
        "--slow-reader --duration 500ms",
        "--silent 20",
        "-s short",
        "-s short --half-close",
        "-s short --reset",
        "-s churn",
        "-s pipelined",
    ] {
        let count = if options.contains("--count") { "" } else { "--count 2000" };
        fine(&load(tcp, &format!("{count} {options}")));
    }
    for options in
        ["--empty", "--size 65507 -c 4", "--depth 20", "--size 16..900 --depth 5", "--rate 5k"]
    {
        fine(&load(udp, &format!("--count 1000 {options}")));
    }
}

#[test]
fn the_empty_datagram_is_counted_both_ways() {
    let server = serve(&["udp://127.0.0.1:0"], "");
    let run = load(server.url(), "--count 1000 --empty -c 4");
    fine(&run);
    assert!(run.count("empty_sent") >= 90, "{}", run.out);
    assert_eq!(run.count("empty_sent"), run.count("empty_answered"));
}

#[test]
fn short_connections_are_as_many_as_their_requests() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let run = load(server.url(), "--count 1000 -s short -c 10");
    fine(&run);
    assert!((1000..1050).contains(&run.count("connected")), "{}", run.out);
    assert_eq!(run.number("first_byte.count") as u64, 1000);
}

#[test]
fn parked_connections_are_held_and_compared_with() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let run = load(server.url(), &format!("-s idle:300 --duration 1s --pid {}", server.pid()));
    fine(&run);
    assert_eq!(run.number("generator.sides_up") as u64, 300);
    assert!(run.number("baseline.count") > 0.0 && run.number("response.count") > 0.0);
    let run = load(server.url(), "-s slowloris --duration 1s");
    fine(&run);
    assert_eq!(run.number("generator.sides_up") as u64, 256);
}

#[test]
fn texts_of_every_kind_are_proved() {
    for (expect, reply) in [
        ("echo", "echo"),
        ("upper-utf8", "upper-utf8"),
        ("upper-gbk", "upper-gbk"),
        ("fixed:thanks", "fixed:thanks"),
    ] {
        let server =
            serve(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0"], &format!("--reply {reply}"));
        for url in &server.urls {
            fine(&load(url, &format!("--count 500 --expect {expect} --size 64..300 --split-utf8")));
        }
    }
}

#[test]
fn the_wrong_kind_of_upper_casing_is_found() {
    // Bytes in upper case are not text in upper case.
    for (expect, reply) in [("upper-utf8", "upper"), ("upper-gbk", "upper"), ("upper", "echo")] {
        let server = serve(&["tcp://127.0.0.1:0"], &format!("--reply {reply}"));
        let run = load(server.url(), &format!("--count 500 --expect {expect} --size 100"));
        assert_eq!(run.status, 4, "{}", run.out);
        assert!(run.count("corrupt") > 250, "{}", run.out);
        let examples = run.json["counters"]["examples"].as_array().expect("examples");
        assert_eq!(examples.len(), 5, "{}", run.out);
    }
}

#[test]
fn nothing_is_expected_of_a_silent_server() {
    let server = serve(&["udp://127.0.0.1:0"], "--reply none");
    let run = load(server.url(), "--count 500 --expect none --rate 5k");
    fine(&run);
    assert_eq!(run.count("unproved"), 500);
}

#[test]
fn ids_that_come_back_where_none_are_expected_prove_nothing() {
    let server = serve(&["tcp://127.0.0.1:0"], "--reply echo");
    let run = load(server.url(), "--count 500 --expect fixed:OK");
    assert_eq!(run.status, 4, "{}", run.out);
    assert_eq!((run.count("corrupt"), run.count("ok")), (500, 0), "{}", run.out);
    let run = load(server.url(), "--count 500 --expect none --rate 5k");
    fine(&run);
    assert_eq!((run.count("unproved"), run.count("duplicate")), (500, 0), "{}", run.out);
}

#[test]
fn a_drain_that_answers_everything_is_fine_and_one_that_does_not_is_found() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let run = load(server.url(), &format!("-s drain --duration 2s -c 16 --pid {}", server.pid()));
    assert_eq!(run.json["books_balance"], true, "{}", run.out);
    assert!(run.number("server.drained_in_ms") < 5000.0, "{}", run.out);
    assert_eq!(run.count("lost") + run.count("early_close"), 0, "{}", run.out);
    assert!(run.count("ok") > 100);
    let server = serve(&["tcp://127.0.0.1:0"], "--delay 3s");
    let run = load(server.url(), &format!("-s drain --duration 2s -c 16 --pid {}", server.pid()));
    assert_eq!(run.status, 4, "{}", run.out);
    assert!(run.count("early_close") > 0, "{}", run.out);
}

#[test]
fn a_chat_delivers_everything_to_everybody_once() {
    let server = serve(&["tcp://127.0.0.1:0"], "--chat");
    let chat = "-s chat --members 60 --rooms 3 --publishers 2 --rate 200 --duration 1s";
    let run = load(server.url(), chat);
    fine(&run);
    assert_eq!(run.number("chat.complete_pairs"), 120.0, "{}", run.out);
    // (The last ones of the second may not be due any more on a busy machine.)
    let published = run.number("chat.published");
    assert!((190.0..=200.0).contains(&published), "{published}");
    assert_eq!(run.count("ok"), published as u64 * 20);
    let run = load(server.url(), &format!("{chat} --burst 10 --slow 1"));
    fine(&run);
    assert_eq!(run.count("ok"), run.number("chat.published") as u64 * 19);
}

#[test]
fn a_chat_that_drops_or_doubles_is_found() {
    for (fault, counter) in [("--drop 1%", "lost"), ("--duplicate 1%", "duplicate")] {
        let server = serve(&["tcp://127.0.0.1:0"], &format!("--chat {fault}"));
        let run =
            load(server.url(), "-s chat --members 40 --rate 500 --duration 1s --timeout 500ms");
        assert_eq!(run.status, 4, "{}", run.out);
        assert!(run.count(counter) > 0, "{}", run.out);
        assert!(run.number("chat.complete_pairs") < run.number("chat.pairs"));
    }
}

#[test]
fn a_server_that_floods_with_garbage_is_survived_and_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = crate::support::socket_path(&folder);
    let listener = UnixListener::bind(&path).expect("a listener");
    let flood = std::thread::Builder::new().spawn(move || {
        // Two connections, at most 64 MiB each; the other side ends them first.
        let mut streams: Vec<_> = listener.incoming().take(2).map_while(Result::ok).collect();
        for stream in &mut streams {
            stream.read_exact(&mut [0]).expect("something is asked");
            let garbage = [b'?'; 65_536];
            let _written = (0..1024).take_while(|_| stream.write_all(&garbage).is_ok()).count();
        }
    });
    let run = load(&format!("unix:{}", path.display()), "-c 2 --duration 1s --timeout 300ms");
    assert_eq!(run.status, 4, "{}{}", run.out, run.err);
    assert_eq!(run.json["books_balance"], true, "{}", run.out);
    assert!(run.count("unsolicited") > 0, "{}", run.out);
    assert!(run.number("generator.cpu.peak_kib") < 65_536.0, "{}", run.out);
    flood.expect("a thread").join().expect("the flood ends");
}

#[test]
fn servers_with_abstract_names_are_load_tested_as_well() {
    let name = format!("@switchboard-load-test-{}", std::process::id());
    for scheme in ["unix", "unixgram"] {
        let url = format!("{scheme}:{name}");
        let server = serve(&[&url], "");
        assert_eq!(server.url(), url);
        let run = load(&url, "--count 500 -c 4");
        assert_eq!((run.status, run.count("ok")), (0, 500), "{}{}", run.out, run.err);
        assert!(!std::path::Path::new(&name).exists(), "no file of that name was made");
        server.end();
    }
}
