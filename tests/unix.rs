//! Unix sockets: their files, their names, who is at the other end, and peers that do not read.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Client, Journal, On, PATIENCE, Running, Script, eventually, matrix, socket_path};
use rustix::net::SocketAddrUnix;
use socket2::{Domain, SockAddr, Socket, Type};
use switchboard::{
    CloseReason, ErrorKind, Event, Framing, Listen, Next, SendError, Server, handler_fn,
};

matrix! {
    a_file_that_a_dead_server_left_is_replaced: [unix unixgram];
    a_live_servers_file_is_not_stolen: [unix unixgram];
    a_file_that_is_no_socket_is_left_alone: [unix unixgram];
    the_file_is_gone_once_the_server_has_stopped: [unix unixgram];
    another_ones_file_is_not_taken_away: [unix unixgram];
    the_file_is_open_to_nobody_else_if_told_so: [unix unixgram];
    an_abstract_name_needs_no_file: [unix unixgram];
    a_peer_of_a_stream_is_known_by_its_credentials: [unix];
    a_sender_without_a_name_has_a_session_for_each_datagram: [unixgram];
    a_peer_that_does_not_read_its_datagrams_delays_nobody: [unixgram];
    replies_beyond_a_peers_queue_arrive_once_it_reads: [unixgram];
    replies_that_nobody_reads_are_given_up_at_a_drains_deadline: [unixgram];
    a_peer_that_asks_and_never_reads_takes_no_room_from_others: [unixgram];
    a_peer_whose_own_queue_is_full_is_full_to_its_remote: [unixgram];
    a_long_reply_arrives_whole: [unix];
    a_path_that_fills_the_whole_address_is_refused: [unix unixgram];
    a_peer_whose_path_fills_the_whole_address_harms_nobody: [unix unixgram];
    whoever_sends_to_a_server_that_has_ended_learns_it: [unixgram];
    nobody_is_warned_of_a_receive_buffer_that_nothing_hangs_on: [unixgram];
    a_socket_that_is_taken_over_keeps_its_send_buffer: [unixgram];
}

fn upper() -> Server {
    Server::new(|_peer| {
        handler_fn(|message, cx| {
            cx.send(message.to_ascii_uppercase());
            Ok(Next::Continue)
        })
    })
}

/// A server of upper case, listening at this path.
fn at(on: On, path: &Path) -> Server {
    let listen = match on.is_datagram() {
        true => Listen::unixgram(path),
        false => Listen::unix(path).framing(Framing::lines()),
    };
    upper().concurrency(on.concurrency).listen(listen)
}

/// Leaves the file of a socket behind that nobody listens on any more.
fn leave_a_dead_file(on: On, path: &Path) {
    match on.is_datagram() {
        true => drop(UnixDatagram::bind(path).expect("bound")),
        false => drop(UnixListener::bind(path).expect("bound")),
    }
    assert!(path.exists());
}

fn a_file_that_a_dead_server_left_is_replaced(on: On) {
    let path = socket_path("stale");
    leave_a_dead_file(on, &path);
    let server = Running::of(at(on, &path));
    assert_eq!(server.client().ask("x"), "X");
    // Nothing that was moved aside is left.
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let beside = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let named = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&name);
    assert_eq!(beside.flatten().filter(|_| true).filter_map(|e| named(e).then_some(())).count(), 1);
}

fn a_live_servers_file_is_not_stolen(on: On) {
    let path = socket_path("live");
    let first = Running::of(at(on, &path));
    let inode = fs::metadata(&path).expect("its file").ino();
    let refused = at(on, &path).bind().expect_err("it is in use");
    assert_eq!(refused.kind(), ErrorKind::Listen);
    let said = refused.to_string();
    assert!(said.contains(&*path.to_string_lossy()) && said.contains("in use"), "{said}");
    // A socket of the other kind at this path is alive as well.
    let other = match on.is_datagram() {
        true => Listen::unix(&path),
        false => Listen::unixgram(&path),
    };
    upper().listen(other).bind().expect_err("it is in use");
    assert_eq!(fs::metadata(&path).expect("its file").ino(), inode, "untouched");
    assert_eq!(first.client().ask("still here"), "STILL HERE");
}

fn a_file_that_is_no_socket_is_left_alone(on: On) {
    let path = socket_path("file");
    fs::write(&path, "precious").expect("a file");
    let refused = at(on, &path).bind().expect_err("it is no socket");
    assert!(refused.to_string().contains("no socket"), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    fs::remove_file(&path).expect("removed");
}

fn the_file_is_gone_once_the_server_has_stopped(on: On) {
    let path = socket_path("gone");
    for _ in 0..2 {
        let server = Running::of(at(on, &path));
        assert!(fs::metadata(&path).expect("its file").file_type().is_socket());
        assert_eq!(server.client().ask("x"), "X");
        assert!(server.drain(PATIENCE).is_clean());
        assert!(!path.exists());
    }
    drop(at(on, &path).bind().expect("bound"));
    assert!(!path.exists(), "not even if it never served");
}

fn another_ones_file_is_not_taken_away(on: On) {
    let path = socket_path("other");
    let server = Running::of(at(on, &path));
    fs::remove_file(&path).expect("somebody clears up");
    let other = UnixListener::bind(&path).expect("and binds there");
    drop(server);
    assert!(UnixStream::connect(&path).is_ok(), "the other one is untouched");
    drop(other);
    fs::remove_file(&path).expect("removed");
}

fn the_file_is_open_to_nobody_else_if_told_so(on: On) {
    for mode in [0o600, 0o666] {
        let path = socket_path("mode");
        let listen = match on.is_datagram() {
            true => Listen::unixgram(&path),
            false => Listen::unix(&path),
        };
        let server = upper().concurrency(on.concurrency).listen(listen.mode(mode));
        let _bound = server.bind().expect("bound");
        assert_eq!(fs::metadata(&path).expect("its file").permissions().mode() & 0o777, mode);
    }
}

fn an_abstract_name_needs_no_file(on: On) {
    let name = format!("@{}", socket_path("abstract").display());
    let server = Running::of(at(on, Path::new(&name)));
    let address = &server.addresses()[0];
    assert!(address.to_string().ends_with(&name), "{address}");
    assert_eq!(Client::of(address).ask("x"), "X");
    at(on, Path::new(&name)).bind().expect_err("it is in use");
    drop(server);
    drop(at(on, Path::new(&name)).bind().expect("free again"));
}

fn a_peer_of_a_stream_is_known_by_its_credentials(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        let who = cx.peer().credentials().expect("a Unix peer has them");
        cx.send(format!("{:?} {} {} {}", who.pid, who.uid, who.gid, cx.peer()));
        Ok(Next::Continue)
    }));
    let own = fs::metadata("/proc/self").expect("ourselves");
    let (pid, uid, gid) = (std::process::id(), own.uid(), own.gid());
    let expected = format!("Some({pid}) {uid} {gid} unix:(unnamed)[pid {pid}, uid {uid}]");
    assert_eq!(server.client().ask("who am I?"), expected);
}

fn a_sender_without_a_name_has_a_session_for_each_datagram(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let nobody = UnixDatagram::unbound().expect("a socket");
    let name =
        server.addresses()[0].unix_name().expect("a name").path().expect("a path").to_owned();
    nobody.send_to(b"one", &name).expect("sent");
    journal.wait_for_so_many(1, "finish done");
    nobody.send_to(b"two", &name).expect("sent");
    journal.wait_for_so_many(2, "finish done");
    assert_eq!(journal.count("setup"), 2);
    assert_eq!(server.client().ask("x"), "X", "others are served as ever");
    eventually("it is counted", || {
        let stats = server.stats();
        (stats.replies_failed, stats.datagrams_handled) == (2, 3)
    });
}

/// A client that has not connected its socket: only then does its own queue end at 10 datagrams.
struct Apart {
    socket: UnixDatagram,
    path: PathBuf,
    server: PathBuf,
}

impl Apart {
    fn from(server: &Running) -> Self {
        let path = socket_path("apart");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        socket.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        let name = server.addresses()[0].unix_name().expect("a name");
        Self { socket, path, server: name.path().expect("a path").to_owned() }
    }

    fn say(&self, message: &str) {
        self.socket.send_to(message.as_bytes(), &self.server).expect("sent");
    }

    fn hear(&self) -> String {
        let mut room = [0; 100];
        let len = self.socket.recv(&mut room).expect("a reply");
        String::from_utf8_lossy(&room[..len]).into_owned()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("its own file");
    }
}

fn a_peer_that_does_not_read_its_datagrams_delays_nobody(on: On) {
    let server = on.spawn(upper());
    let lazy = Apart::from(&server);
    // More than fit into its queue.
    (0..40).for_each(|n| lazy.say(&format!("lazy {n}")));
    let mut busy = server.client();
    for n in 0..100 {
        assert_eq!(busy.ask(&format!("busy {n}")), format!("BUSY {n}"));
    }
    assert!(server.stats().datagrams_sent < 140, "some wait");
    // What waited for the lazy one is there once it reads, all of it and in order.
    for n in 0..40 {
        assert_eq!(lazy.hear(), format!("LAZY {n}"));
    }
}

fn replies_beyond_a_peers_queue_arrive_once_it_reads(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        (0..250).for_each(|n| cx.send(n.to_string()));
        Ok(Next::Continue)
    }));
    let client = Apart::from(&server);
    for _ in 0..2 {
        client.say("many");
        for n in 0..250 {
            assert_eq!(client.hear(), n.to_string());
        }
    }
    assert_eq!(server.stats().replies_failed, 0);
}

fn replies_that_nobody_reads_are_given_up_at_a_drains_deadline(on: On) {
    let server = on.spawn(upper());
    let lazy = Apart::from(&server);
    (0..40).for_each(|n| lazy.say(&format!("lazy {n}")));
    eventually("all were handled", || server.stats().datagrams_handled == 40);
    assert!(server.drain(Duration::from_millis(50)).is_clean());
    // Each is accounted for.
    let stats = server.stats();
    assert!(stats.datagrams_sent < 40, "more than fit into its queue");
    assert_eq!(stats.datagrams_sent + stats.replies_failed, 40);
}

/// For a peer that does not read 256 replies wait, beside those in its own queue.
fn a_peer_that_asks_and_never_reads_takes_no_room_from_others(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        (0..100).for_each(|n| cx.send(format!("{} {n}", message.escape_ascii())));
        Ok(Next::Continue)
    }));
    let deaf = Apart::from(&server);
    for number in 0..20 {
        deaf.say(&format!("deaf {number}"));
    }
    eventually("its replies are refused", || server.stats().replies_failed > 1_500);
    let busy = Apart::from(&server);
    for round in 0..10 {
        let said = format!("busy {round}");
        busy.say(&said);
        for n in 0..100 {
            assert_eq!(busy.hear(), format!("{said} {n}"));
        }
    }
    let stats = server.stats();
    let left_unread = 2_000 - stats.replies_failed;
    assert!((256..=300).contains(&left_unread), "{left_unread} wait, or lie in its queue");
    // What was kept for it is there, in order, once it reads.
    assert_eq!(deaf.hear(), "deaf 0 0");
    assert_eq!(deaf.hear(), "deaf 0 1");
}

fn a_peer_whose_own_queue_is_full_is_full_to_its_remote(on: On) {
    let (give, take) = crossbeam_channel::bounded(1);
    let script = Script::new(&Journal::default()).handle(move |_, cx| {
        give.send(cx.remote()).map_err(std::io::Error::other)?;
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let name = server.addresses()[0].unix_name().expect("a name").path().expect("a path");
    // (Of a socket that is connected to the server's the peer's own queue has no end.)
    let stuck = ["stuck", "stuck too"].map(|name| UnixDatagram::bind(socket_path(name)));
    for stuck in stuck.iter().map(|stuck| stuck.as_ref().expect("bound")) {
        stuck.send_to(b"x", name).expect("sent");
        let remote = take.recv_timeout(PATIENCE).expect("a remote");
        let mut sent = (0..5_000).map(|number| remote.send(format!("message {number}")));
        assert_eq!(sent.find_map(Result::err), Some(SendError::Full));
    }
}

fn a_long_reply_arrives_whole(on: On) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        cx.send_raw(vec![b'z'; 3_000_000]);
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("much");
    assert_eq!(client.rest().expect("an orderly end").len(), 3_000_000);
    eventually("it has ended", || server.stats().closed_for(&CloseReason::Done) == 1);
}

#[test]
fn a_path_that_is_too_long_is_said_to_be() {
    let path = format!("/tmp/{}", "x".repeat(120));
    let refused = upper().unix(&path).bind().expect_err("too long");
    assert!(refused.to_string().contains("too long"), "{refused}");
}

#[test]
fn a_client_of_the_shell_is_served() {
    let path = socket_path("shell");
    let server = Running::of(upper().framing(Framing::lines()).unix(&path));
    let mut client = UnixStream::connect(&path).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    client.write_all(b"one\ntwo").expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("half-closed");
    let mut all = String::new();
    client.read_to_string(&mut all).expect("an orderly end");
    assert_eq!(all, "ONE\nTWO\n");
    drop(server);
}

/// A path of 108 bytes: one that the system takes, but has no room to end with a NUL.
fn longest_path() -> PathBuf {
    let beginning = socket_path("long").into_os_string();
    let rest = 108 - beginning.len();
    let path = [beginning.as_encoded_bytes(), &vec![b'x'; rest]].concat();
    PathBuf::from(String::from_utf8(path).expect("text"))
}

fn a_path_that_fills_the_whole_address_is_refused(on: On) {
    let path = longest_path();
    let refused = at(on, &path).bind().expect_err("others could not read it");
    assert!(refused.to_string().ends_with("too long for a Unix socket, which takes 107 bytes"));
    assert!(!path.exists());
}

fn a_peer_whose_path_fills_the_whole_address_harms_nobody(on: On) {
    let server = on.spawn(upper());
    let path = longest_path();
    let kind = if on.is_datagram() { Type::DGRAM } else { Type::STREAM };
    let peer = Socket::new(Domain::UNIX, kind, None).expect("a socket");
    rustix::net::bind(&peer, &SocketAddrUnix::new(&path).expect("it fits")).expect("bound");
    let name = server.addresses()[0].unix_name().expect("a name").path().expect("a path");
    peer.connect(&SockAddr::unix(name).expect("a name")).expect("connected");
    peer.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    peer.send(b"hello\n").expect("sent");
    if !on.is_datagram() {
        let mut answer = [0; 6];
        (&peer).read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HELLO\n");
    }
    // (A datagram of a peer without a name is not answered, but it is handled.)
    eventually("it was heard", || server.stats().messages == 1);
    assert_eq!(server.client().ask("others are served"), "OTHERS ARE SERVED");
    fs::remove_file(path).expect("its own file");
}

fn whoever_sends_to_a_server_that_has_ended_learns_it(on: On) {
    let path = socket_path("ended");
    let server = Running::of(at(on, &path));
    let client = server.client();
    let Client::UnixGram(client) = &client else { panic!("a datagram client") };
    let ask = || client.socket.send(b"x");
    client.socket.connect(&path).expect("connected");
    ask().expect("somebody is there");
    server.drain(PATIENCE);
    let refused = ask().expect_err("nobody is there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn nobody_is_warned_of_a_receive_buffer_that_nothing_hangs_on(on: On) {
    let warned = Arc::new(AtomicUsize::new(0));
    let count = warned.clone();
    let server = on.spawn(upper().observer(move |event: &Event<'_>| {
        let warns = matches!(event, Event::SmallReceiveBuffer { .. });
        count.fetch_add(usize::from(warns), Ordering::SeqCst);
    }));
    assert_eq!(server.client().ask("x"), "X");
    assert_eq!(warned.load(Ordering::SeqCst), 0);
}

fn a_socket_that_is_taken_over_keeps_its_send_buffer(on: On) {
    let path = socket_path("buffer");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let same = Socket::from(socket.try_clone().expect("a descriptor"));
    same.set_send_buffer_size(50_000).expect("an option");
    let chosen = same.send_buffer_size().expect("an option");
    let server = Running::of(upper().concurrency(on.concurrency).listen(socket));
    assert_eq!(server.client().ask("x"), "X");
    assert_eq!(same.send_buffer_size().expect("an option"), chosen);
    fs::remove_file(path).expect("its own file");
}
