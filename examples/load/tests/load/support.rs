//! Servers and runs for the tests: everything is started here, has a deadline, and is ended by its own id.
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard-load");

/// A reference server in a process of its own; ended when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    pub(crate) urls: Vec<String>,
}

/// Starts the reference server on these URLs with these options.
pub(crate) fn serve(urls: &[&str], options: &str) -> Served {
    let mut child = Command::new(PROGRAM)
        .arg("serve")
        .args(urls)
        .args(options.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the reference server starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let listening = urls.iter().map(|_| {
        let mut line = String::new();
        out.read_line(&mut line).expect("a line from the server");
        line.trim().strip_prefix("listening on ").expect("the server listens").to_owned()
    });
    let urls = listening.collect();
    Served { child, out, urls }
}

impl Served {
    /// The URL of its first listener.
    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the server is there");
    }

    /// Ends it; how often it did what.
    pub(crate) fn end(mut self) -> HashMap<String, u64> {
        self.signal(rustix::process::Signal::TERM);
        let mut text = String::new();
        self.out.read_to_string(&mut text).expect("its last line");
        let words = text.split_whitespace().filter_map(|word| word.split_once('='));
        words.map(|(name, count)| (name.to_owned(), count.parse().expect("a count"))).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Killing what has ended already fails, and that is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) json: Value,
}

impl Run {
    /// A number in the report, by its path.
    pub(crate) fn number(&self, path: &str) -> f64 {
        let value = path.split('.').fold(&self.json, |value, key| &value[key]);
        value.as_f64().unwrap_or_else(|| panic!("no number {path} in {}", self.json))
    }

    /// A counter.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.json["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}: {}{}", self.out, self.err))
    }
}

/// Runs the program to its end.
pub(crate) fn program(words: &[&str]) -> Output {
    Command::new(PROGRAM).args(words).stdin(Stdio::null()).output().expect("the program runs")
}

/// Runs a load to its end and reads its report.
pub(crate) fn load(url: &str, options: &str) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let path = file.to_str().expect("a path").to_owned();
    let mut words = vec![url, "--quiet", "--json", &path];
    words.extend(options.split_whitespace());
    let output = program(&words);
    Run {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        json: std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null),
    }
}

/// A fresh path for a Unix socket, short enough to be one.
pub(crate) fn socket_path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("s")
}
