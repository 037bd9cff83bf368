//! Clients that are not ours: those of Python's documentation, netcat, socat.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::support::{Program, connect, example, say};
use crate::unix::{in_a_file, on_both};

/// The TCP client in the documentation of Python's `socketserver`, word for word.
const PYTHON_TCP: &str = r#"
import socket
import sys

HOST, PORT = "localhost", 9999
data = " ".join(sys.argv[1:])

# Create a socket (SOCK_STREAM means a TCP socket)
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
    # Connect to server and send data
    sock.connect((HOST, PORT))
    sock.sendall(bytes(data + "\n", "utf-8"))

    # Receive data from the server and shut down
    received = str(sock.recv(1024), "utf-8")

print("Sent:    ", data)
print("Received:", received)
"#;

/// Its UDP client.
const PYTHON_UDP: &str = r#"
import socket
import sys

HOST, PORT = "localhost", 9999
data = " ".join(sys.argv[1:])

# SOCK_DGRAM is the socket type to use for UDP sockets
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

# As you can see, there is no connect() call; UDP has no connections.
# Instead, data is directly sent to the recipient via sendto().
sock.sendto(bytes(data + "\n", "utf-8"), (HOST, PORT))
received = str(sock.recv(1024), "utf-8")

print("Sent:    ", data)
print("Received:", received)
"#;

fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let there = command.status().is_ok();
    if !there {
        // Not println!, which the test runner keeps to itself.
        let skipped = format!("skipped: there is no {program} here\n");
        drop(io::stderr().write_all(skipped.as_bytes()));
    }
    there
}

#[test]
fn the_clients_of_pythons_documentation() {
    if !is_there("python3", "--version") {
        return;
    }
    let both = ["--listen", "tcp://127.0.0.1:0", "--listen", "udp://127.0.0.1:0"];
    let mut server = Program::example("echo_server", &both);
    let ports = [server.listening("tcp://").port(), server.listening("udp://").port()];
    for (client, port) in [PYTHON_TCP, PYTHON_UDP].into_iter().zip(ports) {
        let text = client.replace("9999", &port.to_string());
        let mut python = Command::new("python3");
        python.args(["-c", &text, "hello", "world", "with", "TCP"]).stderr(Stdio::piped());
        let ended = Program::start(&mut python).end();
        let expected = ["Sent:     hello world with TCP", "Received: HELLO WORLD WITH TCP", ""];
        assert_eq!(ended.stdout, expected, "{ended:?}");
    }
    server.drain();
}

/// Plays a person: runs a program at a terminal, types a line when `>>> ` is there, and prints what the
/// terminal was sent.
const PERSON: &str = r#"
import os, pty, sys

pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:3])
seen = b""
for line, answer in [("hello\n", "HELLO"), ("\n", ""), ("\x1b[31mred\n", "[31MRED"), ("\x04", "")]:
    while not seen.endswith(b">>> "):
        seen += os.read(terminal, 1000)
    os.write(terminal, line.encode())
    while answer.encode() not in seen:
        seen += os.read(terminal, 1000)
try:
    while True:
        piece = os.read(terminal, 1000)
        if not piece:
            break
        seen += piece
except OSError:
    pass
print(ascii(seen.decode()))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_person_at_a_terminal_has_a_prompt_and_a_terminal_that_obeys_no_server() {
    if !is_there("python3", "--version") {
        return;
    }
    let mut server = Program::example("echo_server", &["--listen", "tcp://127.0.0.1:0"]);
    let url = format!("tcp://{}", server.listening("tcp://"));
    let mut python = Command::new("python3");
    python.args(["-c", PERSON]).arg(example("client")).arg(&url).stderr(Stdio::piped());
    let ended = Program::start(python.stdin(Stdio::null())).end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let seen = &ended.stdout[0];
    // The answer takes the place of the prompt if that is there already, and a new prompt follows.
    assert!(seen.contains(r"\r\x1b[KHELLO\r\n>>> "), "{seen}");
    assert!(seen.contains(r"\r\x1b[K\ufffd[31MRED\r\n>>> "), "{seen}");
    server.drain();
}

#[test]
fn netcat() {
    if !is_there("nc", "-h") {
        return;
    }
    let both = ["--listen", "tcp://127.0.0.1:0", "--listen", "udp://127.0.0.1:0"];
    let mut server = Program::example("echo_server", &both);
    let ports = [server.listening("tcp://").port(), server.listening("udp://").port()];
    let calls: [(&[&str], &str); 2] = [(&["-N"], "hello\n"), (&["-u", "-w1"], "hello")];
    for ((options, text), port) in calls.into_iter().zip(ports) {
        let mut nc = Command::new("nc");
        nc.args(options).args(["127.0.0.1", &port.to_string()]).stdin(Stdio::piped());
        let mut nc = Program::start(nc.stderr(Stdio::piped()));
        nc.input().expect("its input").write_all(text.as_bytes()).expect("written");
        let ended = nc.end();
        assert_eq!((ended.status.code(), ended.stdout), (Some(0), vec!["HELLO".to_owned()]));
    }
    server.drain();
}

/// Both kinds of Unix sockets, as Python's documentation of `socket` has them. Whoever sends datagrams needs
/// a name of its own to be answered: here one that the system chooses.
const PYTHON_UNIX: &str = r#"
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b"hello")
    print(sock.recv(1024).decode())

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.bind("")
    sock.sendto(b"world", sys.argv[2])
    print(sock.recv(1024).decode())
"#;

#[test]
fn pythons_unix_sockets() {
    if !is_there("python3", "--version") {
        return;
    }
    let (stream, gram) = (in_a_file(), in_a_file());
    let mut server = on_both("echo_server", &stream, &gram, &[]);
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_UNIX, &stream, &gram]).stderr(Stdio::piped());
    let ended = Program::start(&mut python).end();
    assert_eq!(ended.stdout, ["HELLO", "WORLD"], "{ended:?}");
    server.drain();
}

/// Runs a program that sends a line and prints what comes back.
fn hello(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    let mut caller =
        Program::start(command.args(args).stdin(Stdio::piped()).stderr(Stdio::piped()));
    caller.input().expect("its input").write_all(b"hello\n").expect("written");
    let ended = caller.end();
    let expected = (Some(0), vec!["HELLO".to_owned()]);
    assert_eq!((ended.status.code(), ended.stdout), expected, "{program} {args:?}");
}

#[test]
fn netcat_over_unix_sockets() {
    if !is_there("nc", "-h") {
        return;
    }
    let (stream, gram) = (in_a_file(), in_a_file());
    let mut server = on_both("echo_server", &stream, &gram, &[]);
    hello("nc", &["-N", "-U", &stream]);
    hello("nc", &["-u", "-w1", "-U", &gram]);
    server.drain();
}

#[test]
fn socat_over_unix_sockets() {
    if !is_there("socat", "-V") {
        return;
    }
    let (stream, gram, own) = (in_a_file(), in_a_file(), in_a_file());
    let mut server = on_both("echo_server", &stream, &gram, &[]);
    hello("socat", &["-", &format!("UNIX-CONNECT:{stream}")]);
    hello("socat", &["-t1", "-", &format!("UNIX-SENDTO:{gram},bind={own}")]);
    server.drain();
}

/// The tutorials' client of a length prefix: `struct.pack('i', len(message))`, then the message.
#[test]
fn the_length_prefix_of_the_tutorials() {
    let options = ["--listen", "tcp://127.0.0.1:0", "--framing", "len-le32"];
    let mut server = Program::example("echo_server", &options);
    let mut stream = connect(server.listening("tcp://"));
    let message = "你好, switchboard".as_bytes();
    let length = i32::try_from(message.len()).expect("short").to_ne_bytes();
    if cfg!(target_endian = "little") {
        let answer = "你好, SWITCHBOARD".as_bytes();
        say(&mut stream, &[&length, message].concat(), &[&length, answer].concat());
    }
    server.drain();
}
