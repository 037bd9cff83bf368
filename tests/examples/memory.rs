//! What an idle connection costs a server, looked at from outside.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::{Program, connect, example, say};

/// What the system says a process has in memory, in KiB.
fn resident(pid: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn an_idle_connection_costs_a_kibibyte_at_most() {
    const CONNECTIONS: usize = 2_000;
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ && exec \"$0\" \"$@\""]).arg(example("echo_server"));
    command.args(["--listen", "tcp://127.0.0.1:0", "--concurrency", "pool"]);
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut server = Program::start(&mut command);
    let pid = server.line();
    let tcp = server.listening("tcp://");
    let greeted = |_| -> TcpStream {
        let mut client = connect(tcp);
        say(&mut client, b"hello", b"HELLO");
        client
    };
    // Its threads have started and its buffers have been used.
    let first: Vec<TcpStream> = (0..100).map(greeted).collect();
    let before = resident(&pid);
    let idle: Vec<TcpStream> = (0..CONNECTIONS).map(greeted).collect();
    let after = resident(&pid);
    let grown = after.saturating_sub(before);
    assert!(grown <= CONNECTIONS, "{CONNECTIONS} connections cost {grown} KiB");
    drop((first, idle));
    server.drain();
}
