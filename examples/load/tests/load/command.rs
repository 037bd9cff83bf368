//! The command line: exit statuses, and what is said when something cannot be.
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{PROGRAM, load, program, serve};

fn status(words: &str) -> (Option<i32>, String) {
    let words: Vec<_> = words.split_whitespace().collect();
    let output = program(&words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_good_run_ends_with_zero_and_a_missed_limit_with_three() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    assert_eq!(load(server.url(), "--count 1000").status, 0);
    let missed = load(server.url(), "--count 1000 --slo rate>=900M --slo lost==0");
    assert_eq!(missed.status, 3, "{}", missed.out);
    assert!(missed.out.contains("MISSED  rate>=900M") && missed.out.contains("kept    lost==0"));
}

#[test]
fn what_cannot_be_meant_ends_with_two_and_one_line() {
    for words in [
        "",
        "http://127.0.0.1:80",
        "tcp://127.0.0.1:9 --nonsense",
        "tcp://192.0.2.1:9",
        "tcp://127.0.0.1:9 --slo nonsense<1",
        "tcp://127.0.0.1:9 --size 5",
        "tcp://127.0.0.1:9 --scenario drain",
        "compare one.json",
    ] {
        let (code, said) = status(words);
        assert_eq!(code, Some(2), "{words}: {said}");
        assert!(said.contains("error: "), "{words}: {said}");
    }
}

#[test]
fn what_cannot_run_ends_with_one_and_says_why() {
    for (words, why) in [
        ("unix:/nonexistent/socket --count 1", "cannot connect to unix:/nonexistent/socket"),
        ("tcp://127.0.0.1:9 --pid 4194303", "no such process"),
        ("tcp://127.0.0.1:9 -c 200000", "descriptors are needed"),
        ("compare /nonexistent/a /nonexistent/b", "cannot read"),
        ("serve tcp://127.0.0.1:0 tcp://127.0.0.1:nonsense", "error"),
    ] {
        let (code, said) = status(words);
        assert_eq!(code, Some(1), "{words}: {said}");
        assert!(said.contains(why), "{words}: {said}");
    }
}

#[test]
fn help_shows_examples_and_is_no_error() {
    let (code, said) = status("--help");
    assert_eq!(code, Some(0));
    assert!(said.contains("Examples:") && said.contains("Exit status:"));
}

#[test]
fn a_saturated_generator_says_so_and_the_run_is_invalid() {
    let server = serve(&["udp://127.0.0.1:0"], "--reply none");
    let run = load(server.url(), "--rate 40M --duration 500ms --expect none");
    assert_eq!(run.status, 5, "{}", run.out);
    assert!(run.out.contains("generator saturated"), "{}", run.out);
    assert_eq!(run.json["books_balance"], true);
}

#[test]
fn the_first_interrupt_ends_the_run_and_reports_it() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let mut child = Command::new(PROGRAM)
        .args([server.url(), "--duration", "60s", "--json"])
        .arg(&json)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // A line is a second: the run is on.
    lines.next().expect("a line").expect("text");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let report = std::fs::read_to_string(json).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["books_balance"], true);
    assert_eq!(report["outcome"]["status"], 130);
}

#[test]
fn a_server_that_dies_in_the_middle_is_reported() {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let mut child = Command::new(PROGRAM)
        .args([server.url(), "--duration", "20s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    lines.next().expect("a line").expect("text");
    server.signal(rustix::process::Signal::KILL);
    let rest = std::thread::Builder::new()
        .spawn(move || lines.map_while(Result::ok).count())
        .expect("a thread");
    let output = child.wait_with_output().expect("it ends");
    rest.join().expect("the lines end");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("the server is gone"), "{said}");
}
