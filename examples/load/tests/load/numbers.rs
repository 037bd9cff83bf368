//! The figures themselves: no omission under a constant rate, and a search that finds a known ceiling.
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{PROGRAM, load, serve};

#[test]
fn a_server_frozen_for_a_second_shows_in_max_and_in_p99_9() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let mut child = Command::new(PROGRAM)
        .args([server.url(), "--rate", "2k", "--duration", "4s", "-c", "16", "--json"])
        .arg(&json)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    lines.next().expect("a line a second").expect("text");
    server.signal(Signal::STOP);
    let second = crossbeam_channel::after(Duration::from_millis(1020));
    second.recv().expect("the time passes");
    server.signal(Signal::CONT);
    lines.map_while(Result::ok).for_each(drop);
    child.wait().expect("it ends");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(json).expect("a report")).expect("JSON");
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).expect("a number");
    assert!(number("/response/max_us") >= 1e6, "{report}");
    assert!(number("/response/p99_9_us") >= 0.9e6, "{report}");
    // A quarter of all requests were planned while the server stood still, and none of them is missing.
    assert!(number("/response/p90_us") >= 0.3e6, "{report}");
    assert_eq!(report["counters"]["ok"], report["counters"]["sent"], "{report}");
    assert!(number("/counters/sent") >= 7990.0, "the schedule did not shift: {report}");
    assert_eq!(report["books_balance"], true);
}

/// Within 5 %, which needs a machine that does nothing else: see `./check deep`.
#[cfg(feature = "deep")]
#[test]
fn the_search_finds_a_known_ceiling() {
    let server = serve(&["tcp://127.0.0.1:0"], "--max-rate 5k");
    let run = load(server.url(), "--find-max p50<5ms --trial 1s -c 16");
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    let (passes, fails) = (run.number("search.passes"), run.number("search.fails"));
    assert!(fails / passes <= 1.0301, "{passes} {fails}");
    assert!((4750.0..=5250.0).contains(&passes), "{}", run.out);
    assert!(run.json["search"]["path"].as_array().expect("a path").len() > 5);
}

#[test]
fn a_sweep_measures_every_step() {
    let server = serve(&["udp://127.0.0.1:0"], "");
    let run = load(server.url(), "--sweep 500..2k:3 --trial 300ms -c 4");
    let steps = run.json["sweep"].as_array().expect("steps");
    let rates: Vec<_> = steps.iter().map(|s| s["rate"].as_f64().expect("a rate").round()).collect();
    assert_eq!(rates, [500.0, 1000.0, 2000.0], "{}", run.out);
}

#[test]
fn the_server_s_process_is_measured() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let run = load(server.url(), &format!("--count 20k --pid {}", server.pid()));
    assert_eq!(run.status, 0, "{}", run.out);
    let cpu = run.number("server.cpu_us_per_message");
    assert!(cpu > 0.05 && cpu < 500.0, "{cpu}");
    assert!(run.number("server.rss_max_kib") > 500.0 && run.number("server.threads_max") >= 1.0);
    assert_eq!(run.number("server.pid") as u32, server.pid());
}
