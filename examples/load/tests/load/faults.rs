//! Every fault of the reference server × every transport × every framing: found, counted exactly, and nothing else.
use std::thread;

use crate::support::{load, program, serve, socket_path};

/// A fault to commit, how to look at it, and how the books must show it.
struct Fault {
    name: &'static str,
    serve: &'static str,
    load: &'static str,
    /// Counters of the run, and the counters of the server that they must equal.
    same: &'static [(&'static str, &'static str)],
    streams_only: bool,
    status: i32,
}

const fn fault(
    name: &'static str,
    serve: &'static str,
    same: &'static [(&'static str, &'static str)],
) -> Fault {
    Fault { name, serve, load: "--count 400", same, streams_only: false, status: 4 }
}

const FAULTS: [Fault; 12] = [
    Fault { status: 0, ..fault("none", "--delay 1us", &[]) },
    fault("drop", "--drop 3%", &[("lost", "dropped")]),
    fault("duplicate", "--duplicate 5%", &[("duplicate", "duplicated")]),
    Fault {
        load: "--count 1200 --depth 4",
        ..fault("reorder", "--reorder 5%", &[("reordered", "reordered")])
    },
    fault("corrupt", "--corrupt 3%", &[("corrupt", "corrupted")]),
    fault("cross", "--cross 3%", &[("crossed", "crossed"), ("lost", "crossed")]),
    fault("truncate", "--truncate 3%", &[("truncated", "truncated")]),
    Fault {
        streams_only: true,
        ..fault("close", "--close-early 5%", &[("early_close", "closed_early")])
    },
    Fault { streams_only: true, ..fault("reset", "--reset 5%", &[("reset", "reset")]) },
    Fault { load: "--count 300", ..fault("stall", "--stall 1%", &[("lost", "stalled")]) },
    fault("unsolicited", "--unsolicited 5%", &[("unsolicited", "unsolicited")]),
    fault("late", "--delay 900ms --delay-share 3%", &[("late", "delayed")]),
];

const COUNTERS: [&str; 15] = [
    "late",
    "lost",
    "corrupt",
    "truncated",
    "early_close",
    "reset",
    "refused",
    "declined",
    "unproved",
    "abandoned",
    "duplicate",
    "crossed",
    "reordered",
    "unsolicited",
    "connect_refused",
];

/// The whole table for one transport and framing, side by side: nearly all of the time is waiting for time-outs.
fn table(url: &str, framing: &str) {
    let stream = !url.starts_with("udp") && !url.starts_with("unixgram");
    thread::scope(|scope| {
        for fault in FAULTS.iter().filter(|fault| stream || !fault.streams_only) {
            if fault.name == "reset" && url.starts_with("unix") {
                // Unix sockets know no reset: a close is all that the other side sees.
                continue;
            }
            let row = move || row(url, framing, fault);
            thread::Builder::new()
                .name(fault.name.into())
                .spawn_scoped(scope, row)
                .expect("a thread");
        }
    });
}

fn row(url: &str, framing: &str, fault: &Fault) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = match url.split_once(':') {
        Some((scheme @ ("unix" | "unixgram"), _)) => {
            format!("{scheme}:{}", socket_path(&folder).display())
        }
        _ => url.to_owned(),
    };
    // Without a frame the server cannot know where messages end; it is told their size.
    let theirs = if framing == "raw" { "fixed:64" } else { framing };
    let server = serve(&[&url], &format!("--framing {theirs} {}", fault.serve));
    let common = "--connections 16 --timeout 600ms --size 64 --duration 20s";
    let run = load(server.url(), &format!("--framing {framing} {common} {}", fault.load));
    let done = server.end();
    let place = format!("{} over {url} {framing}: {}{}", fault.name, run.out, run.err);
    // Out of order is a fault on a stream only.
    let harmless =
        fault.name == "reorder" && (url.starts_with("udp") || url.starts_with("unixgram"));
    assert_eq!(run.status, if harmless { 0 } else { fault.status }, "{place}");
    assert_eq!(run.json["books_balance"], true, "{place}");
    assert_eq!(run.count("sent"), done["received"], "{place}");
    for counter in COUNTERS {
        let expected = fault.same.iter().find(|(ours, _)| *ours == counter);
        let expected = expected.map_or(0, |(_, theirs)| done[*theirs]);
        // Out of order is no fault of datagrams: a late one is also an overtaken one, and so on.
        if counter == "reordered" && fault.name != "reorder" {
            continue;
        }
        assert_eq!(run.count(counter), expected, "{counter}: {place}");
    }
    for (ours, _) in fault.same {
        assert!(run.count(ours) > 0, "the fault was committed: {place}");
    }
}

#[test]
fn every_fault_is_found_on_tcp_lines() {
    table("tcp://127.0.0.1:0", "lines");
}

#[test]
fn every_fault_is_found_on_tcp_with_little_endian_lengths() {
    table("tcp://127.0.0.1:0", "len-le32");
}

#[test]
fn every_fault_is_found_on_tcp_with_big_endian_lengths() {
    table("tcp://127.0.0.1:0", "len-be32");
}

#[test]
fn every_fault_is_found_on_tcp_with_short_lengths() {
    table("tcp://127.0.0.1:0", "len-be16");
}

#[test]
fn every_fault_is_found_on_tcp_with_fixed_sizes() {
    table("tcp://127.0.0.1:0", "fixed:64");
}

#[test]
fn every_fault_is_found_on_tcp_without_frames() {
    table("tcp://127.0.0.1:0", "raw");
}

#[test]
fn every_fault_is_found_on_udp() {
    table("udp://127.0.0.1:0", "lines");
}

#[test]
fn every_fault_is_found_on_unix_streams() {
    table("unix:x", "lines");
}

#[test]
fn every_fault_is_found_on_unix_datagrams() {
    table("unixgram:x", "lines");
}

#[test]
fn nobody_there_is_said_so() {
    // A port that was free a moment ago.
    for scheme in ["tcp", "udp"] {
        let server = serve(&[&format!("{scheme}://127.0.0.1:0")], "");
        let url = server.url().to_owned();
        server.end();
        let output = program(&[&url, "--duration", "300ms", "-q"]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("refused"), "{said}");
    }
}
