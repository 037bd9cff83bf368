//! What the load tester itself can do: one thread on one core against its own server on the other. It prints; nothing is timed against a limit.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard-load");
const LISTENERS: [&str; 2] = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];

/// The program on one core, if `taskset` is there to put it there.
fn pinned(core: &str) -> Command {
    let there = Command::new("taskset").arg("-V").stdout(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", core, PROGRAM]);
        command
    } else {
        println!("not pinned: no taskset here");
        Command::new(PROGRAM)
    }
}

fn serve() -> (Child, Vec<String>) {
    let mut child = pinned("0")
        .arg("serve")
        .args(LISTENERS)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let urls = LISTENERS.iter().map(|_| {
        let line = lines.next().expect("a line").expect("text");
        line.trim_start_matches("listening on ").to_owned()
    });
    let urls = urls.collect();
    (child, urls)
}

fn load(url: &str, options: &str) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let status = pinned("1")
        .args([url, "--quiet", "--duration", "3s", "--json"])
        .arg(file.path())
        .args(options.split_whitespace())
        .stdout(Stdio::null())
        .status()
        .expect("the load runs");
    assert!(status.success(), "{url} {options}: {status}");
    serde_json::from_str(&std::fs::read_to_string(file).expect("a report")).expect("JSON")
}

fn main() {
    let (mut server, urls) = serve();
    let number =
        |report: &Value, path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    println!("{:<34} {:>12} {:>12} {:>8}", "", "replies/s", "own CPU", "busy");
    for (what, url, options) in [
        ("tcp, 64 connections", &urls[0], ""),
        ("tcp, 64 connections, 16 open", &urls[0], "-s pipelined"),
        ("tcp, a connection per exchange", &urls[0], "-s short"),
        ("udp, 64 sockets", &urls[1], ""),
        ("udp, 64 sockets, 16 open", &urls[1], "--depth 16"),
    ] {
        let report = load(url, options);
        println!(
            "{what:<34} {:>12.0} {:>9.2} us {:>6.0} %",
            number(&report, "/rate"),
            number(&report, "/generator/cpu_us_per_message"),
            number(&report, "/generator/busy") * 100.0,
        );
    }
    let memory = |parked: &str| {
        let report = load(&urls[0], &format!("-c 1 -s {parked}"));
        (number(&report, "/generator/cpu/rss_kib"), number(&report, "/generator/sides_up"))
    };
    let ((none, _), (some, parked)) = (memory("pingpong"), memory("idle:9000"));
    println!("own memory per idle connection     {:>9.0} bytes", (some - none) * 1024.0 / parked);
    server.kill().expect("the server was there");
    server.wait().expect("the server ends");
}
