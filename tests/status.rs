//! `status` tells the truth: the stage, each listener, who is there, and the workers, at any time.

mod harness;

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{
    Client, Gate, Journal, On, PATIENCE, Running, Script, eventually, listening_socket, matrix,
};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustix::process::{Resource, getrlimit, setrlimit};
use switchboard::{
    Listen, ListenerState, Next, Server, ServerHandle, ServerStage, Status, handler_fn,
};

matrix! {
    the_stage_goes_from_bound_to_stopped: [tcp unix udp unixgram];
    who_is_there_and_who_may_be_is_counted: [tcp unix udp unixgram];
    workers_are_counted_as_they_are: [tcp unix udp unixgram];
    a_full_listener_says_so: [tcp unix];
    a_listener_that_lacks_descriptors_rests_and_says_until_when: [tcp];
    a_listener_whose_socket_broke_has_failed: [tcp];
    sockets_that_share_a_port_are_one_listener_in_the_worst_state: [tcp udp];
    a_handler_may_ask_for_the_status: [tcp unix udp unixgram];
}

/// One test takes all descriptors of the process; the others run while it does not.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    DESCRIPTORS.read()
}

#[track_caller]
fn state(status: &Status) -> ListenerState {
    assert_eq!(status.listeners.len(), 1, "{status:?}");
    status.listeners[0].state.clone()
}

fn the_stage_goes_from_bound_to_stopped(on: On) {
    let _beside = beside_others();
    let journal = Journal::default();
    let script = Script::new(&journal).draining(|_| Ok(Next::Continue));
    let bound = on.listening(script.server()).bind().expect("bound");
    let handle = bound.handle();
    let is = |stage, state: ListenerState| {
        let status = handle.status();
        (status.stage, &status.listeners[0].state) == (stage, &state)
    };
    assert!(is(ServerStage::Bound, ListenerState::Waiting), "{}", handle.status());
    let served = bound.spawn().expect("it serves");
    assert!(is(ServerStage::Serving, ListenerState::Accepting), "{}", handle.status());
    let mut stays = Client::of(&served.addresses()[0]);
    assert_eq!(stays.ask("x"), "X");
    served.begin_drain(PATIENCE);
    journal.wait_for("draining");
    eventually("it drains", || {
        is(ServerStage::Draining, ListenerState::Draining)
            || on.is_datagram() && is(ServerStage::Draining, ListenerState::Closed)
    });
    served.stop();
    assert!(is(ServerStage::Stopped, ListenerState::Closed), "{}", handle.status());
    let line = handle.status().to_string();
    assert!(line.starts_with("stopped connections=0/"), "{line}");
    assert!(line.ends_with(" workers=0 running=0 blocked=0 accepting=0/1"), "{line}");
}

fn who_is_there_and_who_may_be_is_counted(on: On) {
    let _beside = beside_others();
    let journal = Journal::default();
    let server = Script::new(&journal).server().max_connections(7).max_sessions(9);
    let server = on.spawn(server);
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    let status = server.status();
    let open = (status.connections_open, status.sessions_open);
    assert_eq!(open, if on.is_datagram() { (0, 3) } else { (3, 0) });
    assert_eq!((status.max_connections, status.max_sessions), (7, 9));
    assert_eq!(status.listeners[0].address, server.addresses()[0]);
    let line = status.listeners[0].to_string();
    assert_eq!(line, format!("{} accepting", server.addresses()[0]));
    server.set_max_connections(4).expect("a limit");
    server.set_max_sessions(5).expect("a limit");
    let status = server.status();
    assert_eq!((status.max_connections, status.max_sessions), (4, 5));
}

fn workers_are_counted_as_they_are(on: On) {
    let _beside = beside_others();
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        assert!(at_gate.pass());
        cx.send(message);
        Ok(Next::Continue)
    }));
    eventually("nobody runs anything", || server.status().workers.running == 0);
    let mut client = server.client();
    client.say("x");
    gate.wait_for_arrivals(1);
    // Another one may look at the socket for a moment.
    eventually("it runs, and nobody else", || server.status().workers.running == 1);
    assert!(server.status().workers.started >= 1);
    if matches!(on.concurrency, switchboard::Concurrency::Pool { .. }) {
        eventually("it is found to block", || server.status().workers.blocked == 1);
    }
    gate.open();
    assert_eq!(client.hear(), "x");
    eventually("it has returned", || {
        let workers = server.status().workers;
        (workers.running, workers.blocked) == (0, 0)
    });
}

fn a_full_listener_says_so(on: On) {
    let _beside = beside_others();
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().max_connections(1));
    let mut first = server.client();
    assert_eq!(first.ask("x"), "X");
    assert_eq!(state(&server.status()), ListenerState::Full);
    let mut queued = server.client();
    queued.say("y");
    assert_eq!(state(&server.status()), ListenerState::Full);
    drop(first);
    assert_eq!(queued.hear(), "Y");
    server.set_max_connections(2).expect("a limit");
    assert_eq!(state(&server.status()), ListenerState::Accepting);
}

fn a_listener_that_lacks_descriptors_rests_and_says_until_when(on: On) {
    let _alone = DESCRIPTORS.write();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    assert_eq!(server.client().ask("x"), "X");
    let before = getrlimit(Resource::Nofile);
    let few = rustix::process::Rlimit { current: Some(256), maximum: before.maximum };
    setrlimit(Resource::Nofile, few).expect("a lower limit");
    let mut taken: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    // One is left for the client, and none for the server.
    taken.pop();
    let client = TcpStream::connect(server.addr());
    let rests = |status: &Status| matches!(state(status), ListenerState::Resting { .. });
    let deadline = Instant::now() + PATIENCE;
    let mut seen = server.status();
    while !rests(&seen) && Instant::now() < deadline {
        std::thread::yield_now();
        seen = server.status();
    }
    drop(taken);
    setrlimit(Resource::Nofile, before).expect("the limit as it was");
    let ListenerState::Resting { error, until } = state(&seen) else { panic!("{seen:?}") };
    assert!(error.starts_with("Too many open files"), "{error}");
    assert!(until <= Instant::now() + Duration::from_secs(1));
    assert!(seen.listeners[0].to_string().contains(" resting "), "{}", seen.listeners[0]);
    let mut client = Client::over(client.expect("it is queued"));
    assert_eq!(client.ask("y"), "Y");
    eventually("it accepts again", || state(&server.status()) == ListenerState::Accepting);
}

fn a_listener_whose_socket_broke_has_failed(on: On) {
    let _beside = beside_others();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    let broken = listening_socket(server.addr());
    // Somebody else in this process makes it deaf.
    socket2::SockRef::from(&broken).shutdown(std::net::Shutdown::Both).expect("it listened");
    let failed = || matches!(state(&server.status()), ListenerState::Failed(_));
    eventually("it has failed", failed);
    let line = server.status().listeners[0].to_string();
    assert!(line.contains(" failed: Invalid argument"), "{line}");
    assert_eq!(client.ask("still here"), "STILL HERE");
    assert!(TcpStream::connect(server.addr()).is_err());
    server.drain(PATIENCE);
    assert!(failed(), "it is not forgotten: {}", server.status().listeners[0]);
}

fn sockets_that_share_a_port_are_one_listener_in_the_worst_state(on: On) {
    let _beside = beside_others();
    let listen = if on.is_datagram() { Listen::udp } else { Listen::tcp };
    let sockets: Arc<Mutex<Vec<OwnedFd>>> = Arc::default();
    let noted = sockets.clone();
    let listen = listen("127.0.0.1:0").reuse_port(3).configure(move |socket| {
        noted.lock().push(socket.try_clone_to_owned()?);
        Ok(())
    });
    let server = Script::new(&Journal::default()).server().concurrency(on.concurrency);
    // Another listener follows, which is none of theirs.
    let server = if on.is_datagram() { server.udp("[::1]:0") } else { server.tcp("[::1]:0") };
    let server = Running::of(server.listen(listen));
    let states = || server.status().listeners.into_iter().map(|listener| listener.state);
    let both = |state: ListenerState| [state.clone(), state];
    assert!(states().eq(both(ListenerState::Accepting)), "{}", server.status());
    let last = sockets.lock().pop().expect("three were bound");
    sockets.lock().clear();
    if !on.is_datagram() {
        // Somebody else in this process makes it deaf.
        socket2::SockRef::from(&last).shutdown(std::net::Shutdown::Both).expect("it listened");
        eventually("one of the three has failed", || {
            matches!(states().last(), Some(ListenerState::Failed(_)))
        });
        assert_eq!(states().next(), Some(ListenerState::Accepting));
    } else {
        server.drain(PATIENCE);
        assert!(states().eq(both(ListenerState::Closed)), "{}", server.status());
    }
}

fn a_handler_may_ask_for_the_status(on: On) {
    let _beside = beside_others();
    let journal = Journal::default();
    let own: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let known = own.clone();
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        let status = handle.status();
        cx.send(format!("{} running={}", status.stage, status.workers.running > 0));
        Ok(Next::Continue)
    }));
    *own.lock() = Some((*server).clone());
    assert_eq!(server.client().ask("x"), "serving running=true");
    own.lock().take();
}

#[test]
fn listeners_are_named_in_the_order_in_which_they_were_given() {
    let _beside = beside_others();
    let at = "127.0.0.1:0";
    let server = Server::new(|_| handler_fn(|_, _| Ok(Next::Close)));
    let server = harness::Running::of(server.udp(at).tcp(at).udp(at).tcp(at));
    let named: Vec<_> =
        server.status().listeners.into_iter().map(|listener| listener.address).collect();
    assert_eq!(named, server.addresses());
    assert!(server.status().to_string().ends_with(" accepting=4/4"), "{}", server.status());
}
