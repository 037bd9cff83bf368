//! Example programs under test: started, listened to, and never waited for without a deadline.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use socket2::SockRef;

/// Longer than anything here takes on a busy machine, and shorter than a person's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Lines that may wait to be looked at.
const LINES: usize = 4096;

/// A program that was started here, and that ends with this value at the latest.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// How a program ended, and what it said that nobody had asked for before.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// The built example of this name.
///
/// `cargo test` builds all examples; `cargo test --test examples` builds none, and leaves old ones.
pub(crate) fn example(name: &str) -> PathBuf {
    built(&["--example", name], &Path::new("examples").join(name))
}

/// The built load tester.
pub(crate) fn load_tester() -> PathBuf {
    built(&["--package", "switchboard-load"], Path::new("switchboard-load"))
}

/// A program in the folder of the profile that this test was built with; built now if it is not fresh.
fn built(what: &[&str], path: &Path) -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    // target/<profile>/deps/<this test>
    let profile = exe.ancestors().nth(2).expect("a profile's folder");
    let path = profile.join(path);
    if !is_fresh(&path) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("build").args(what).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "{what:?} is built");
    }
    path
}

/// Whether it is there and no older than its sources, which cargo lists beside it.
fn is_fresh(example: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Ok(sources) = fs::read_to_string(example.with_extension("d")) else { return false };
    let mut sources = sources.split_whitespace().skip(1);
    changed(example).is_some_and(|built| {
        sources.all(|source| changed(Path::new(source)).is_some_and(|changed| changed <= built))
    })
}

impl Program {
    /// Starts an example. Its log is as loud as it is by default.
    pub(crate) fn example(name: &str, args: &[&str]) -> Self {
        let mut command = Command::new(example(name));
        command.args(args).env_remove("RUST_LOG").stderr(Stdio::piped());
        Self::start(command.stdin(Stdio::null()))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_and_hear(command, usize::MAX)
    }

    /// Starts a program, and closes the reading end of its stdout after so many lines.
    pub(crate) fn start_and_hear(command: &mut Command, lines: usize) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = lines_of(child.stdout.take(), lines);
        let stderr = lines_of(child.stderr.take(), usize::MAX);
        Self { child, stdout, stderr }
    }

    /// Its stdin, if it was piped; dropping it ends the input.
    pub(crate) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The next line on stdout.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("another line on stdout in time")
    }

    /// Waits until nothing more of stdout is read here.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.stdout.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Disconnected)
    }

    /// The next line on stderr that contains this.
    pub(crate) fn log_line(&self, part: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("a line with {part:?} on stderr in time"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Where it says it listens, for the next listener.
    pub(crate) fn listening(&self, scheme: &str) -> SocketAddr {
        let line = self.line();
        let addr = line.strip_prefix("listening on ").and_then(|url| url.strip_prefix(scheme));
        let addr = addr.unwrap_or_else(|| panic!("{line:?} names a {scheme} listener"));
        addr.parse().expect("an address with its port")
    }

    /// Expects it to say that it listens there, for the next listener.
    pub(crate) fn listens_on(&self, url: &str) {
        assert_eq!(self.line(), format!("listening on {url}"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal to our own child");
    }

    /// Whether it ends within so long.
    pub(crate) fn ends_within(&self, span: Duration) -> bool {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).expect("a pidfd");
        let span = Timespec::try_from(span).expect("a timeout");
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&span)) == Ok(1)
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> Ended {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).expect("a pidfd");
        let deadline = Timespec::try_from(DEADLINE).expect("a timeout");
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline));
        assert_eq!(ended, Ok(1), "the program ends in time");
        let status = self.child.wait().expect("its exit status");
        Ended { status, stdout: self.stdout.iter().collect(), stderr: self.stderr.iter().collect() }
    }

    /// Sends SIGTERM and waits. The program drains: nobody is forced, and it says so.
    pub(crate) fn drain(&mut self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.end();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let last = ended.stdout.last().expect("a last line");
        assert!(last.starts_with("drained completed="), "{last}");
        let (_, took) = last.split_once(" forced=0 stuck=0 took=").expect("nobody forced or stuck");
        let took = took.strip_suffix("ms").and_then(|took| took.parse::<u64>().ok());
        assert!(took.is_some_and(|took| took < 5000), "it waited for nobody: {last}");
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The lines of a program's output, as they come.
fn lines_of(output: Option<impl Read + Send + 'static>, most: usize) -> Receiver<String> {
    let (found, lines) = sync_channel(LINES);
    if let Some(output) = output {
        let read = move || {
            // The pipe is closed before the channel: who sees the end of this one knows of that one.
            for line in BufReader::new(output).lines().map_while(Result::ok).take(most) {
                if found.send(line).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("lines".to_owned()).spawn(read).expect("a thread");
    }
    lines
}

/// A connection whose every wait has a deadline.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
    stream
}

/// Sends this, finishes sending, and returns all that comes until the server closes.
pub(crate) fn exchange(addr: SocketAddr, sent: &[u8]) -> String {
    let mut stream = connect(addr);
    stream.write_all(sent).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    rest(&mut stream)
}

/// What comes until the server closes.
pub(crate) fn rest(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text, and then the end");
    text
}

/// Sends this and expects exactly that.
pub(crate) fn say(stream: &mut (impl Read + Write), sent: &[u8], expected: &[u8]) {
    stream.write_all(sent).expect("sent");
    expect(stream, expected);
}

/// Expects exactly this next.
pub(crate) fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("an answer in time");
    let (answer, expected) = (String::from_utf8_lossy(&answer), String::from_utf8_lossy(expected));
    assert_eq!(answer, expected);
}

/// A UDP socket that talks to this server alone.
pub(crate) fn datagrams(addr: SocketAddr) -> UdpSocket {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    socket.connect(addr).expect("a destination");
    socket
}

/// Sends one datagram and returns the next one.
pub(crate) fn ask(socket: &impl AsFd, question: &[u8]) -> Vec<u8> {
    SockRef::from(socket).send(question).expect("sent");
    hear(socket)
}

/// The next datagram.
pub(crate) fn hear(socket: &impl AsFd) -> Vec<u8> {
    let mut answer = vec![0; 65_535];
    let length = (&*SockRef::from(socket)).read(&mut answer).expect("an answer in time");
    answer.truncate(length);
    answer
}
