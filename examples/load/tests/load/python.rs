//! Against Python's own servers: plausible figures, and the datagrams that they cut are noticed.
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::load;

/// A Python server; killed when dropped.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn python(kind: &str) -> Option<(Python, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/upper.py");
    let started = Command::new("python3")
        .args([script, kind])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        println!("SKIPPED: no python3 here, so its servers were not tried");
        return None;
    };
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
    Some((Python(child), format!("{kind}://127.0.0.1:{}", port.trim())))
}

#[test]
fn python_s_stream_server_is_fine() {
    let Some((_server, url)) = python("tcp") else { return };
    let run = load(&url, "--duration 1s -c 16");
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    assert!(run.number("rate") > 500.0, "{}", run.out);
}

#[test]
fn python_s_datagram_server_cuts_at_8192_bytes_and_is_caught() {
    let Some((_server, url)) = python("udp") else { return };
    let run = load(&url, "--count 500 -c 4 --size 8192 --timeout 3s");
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    let run = load(&url, "--count 500 -c 4 --size 8193 --timeout 3s");
    assert_eq!(run.status, 4, "{}{}", run.out, run.err);
    assert_eq!(run.count("truncated"), 500, "{}", run.out);
    let example = &run.json["counters"]["examples"][0];
    assert_eq!((&example["got_bytes"], &example["expected_bytes"]), (&8192.into(), &8193.into()));
}
