//! Ticks: every interval under load and idle, never two at a time, nothing bunched; they harm nobody.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::after;
use harness::{Gate, Journal, On, PATIENCE, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{ErrorKind, Event, Fault, Next, Server, ServerHandle};

matrix! {
    a_tick_runs_every_interval_while_the_server_is_idle: [tcp unix udp unixgram];
    a_tick_runs_every_interval_under_load: [tcp unix udp unixgram];
    a_tick_counts_from_the_beginning_of_serving: [tcp unix udp unixgram];
    several_ticks_keep_their_own_intervals: [tcp unix udp unixgram];
    instants_that_a_run_outlasts_are_skipped_and_no_two_runs_overlap: [tcp unix udp unixgram];
    a_tick_that_panics_goes_on_and_is_told: [tcp unix udp unixgram];
    a_tick_may_stop_the_server: [tcp unix udp unixgram];
    a_tick_may_drain_and_join_without_waiting_for_itself: [tcp unix udp unixgram];
    a_tick_that_blocks_delays_nobody in [threads pool]: [tcp unix udp unixgram];
    a_drain_waits_for_the_run_under_way_and_begins_no_other in [threads pool]: [tcp unix udp unixgram];
    a_tick_that_does_not_return_is_stuck_and_named in [threads pool]: [tcp unix udp unixgram];
    a_server_that_serves_one_at_a_time_runs_none_until_it_serves_on: [tcp unix udp unixgram];
    what_a_tick_holds_is_given_up_at_the_end: [tcp unix udp unixgram];
}

const INTERVAL: Duration = Duration::from_millis(10);

fn upper(on: On) -> Server {
    on.listening(Script::new(&Journal::default()).server())
}

/// A server whose tick notes when it runs.
fn ticking(on: On, interval: Duration) -> (Server, Arc<Mutex<Vec<Instant>>>) {
    let runs: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = runs.clone();
    (upper(on).on_tick(interval, move |_| noted.lock().push(Instant::now())), runs)
}

/// Never more runs than instants have passed, and in a generous time as many as this.
#[track_caller]
fn keeps_pace(runs: &Mutex<Vec<Instant>>, began: Instant, interval: Duration, least: usize) {
    eventually("it has run often enough", || runs.lock().len() >= least);
    for (count, at) in (1..).zip(runs.lock().iter()) {
        let due = interval * count;
        assert!(*at - began >= due, "run {count} came before {due:?}: {:?}", *at - began);
    }
}

fn a_tick_runs_every_interval_while_the_server_is_idle(on: On) {
    let (server, runs) = ticking(on, INTERVAL);
    let began = Instant::now();
    let server = harness::Running::of(server);
    keeps_pace(&runs, began, INTERVAL, 50);
    // Half of the instants at the least: the machine may be busy.
    let passed = began.elapsed().as_millis() / INTERVAL.as_millis();
    assert!(runs.lock().len() as u128 * 2 >= passed, "{} of {passed}", runs.lock().len());
    assert!(server.stats().ticks >= 50);
}

fn a_tick_runs_every_interval_under_load(on: On) {
    let (server, runs) = ticking(on, INTERVAL);
    let began = Instant::now();
    let server = harness::Running::of(server);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.client();
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(client.ask("load"), "LOAD");
                }
            });
        }
        eventually("it runs", || runs.lock().len() >= 30 || began.elapsed() > PATIENCE);
        over.store(true, Ordering::Relaxed);
    });
    let passed = began.elapsed().as_millis() / INTERVAL.as_millis();
    keeps_pace(&runs, began, INTERVAL, 30);
    assert!(runs.lock().len() as u128 * 4 >= passed, "{} of {passed}", runs.lock().len());
    assert!(server.stats().messages > 0);
}

fn a_tick_counts_from_the_beginning_of_serving(on: On) {
    let (server, runs) = ticking(on, INTERVAL);
    let bound = server.bind().expect("bound");
    let _ = after(INTERVAL * 5).recv();
    assert!(runs.lock().is_empty(), "nobody serves yet");
    let began = Instant::now();
    let server = bound.spawn().expect("it starts");
    keeps_pace(&runs, began, INTERVAL, 3);
    server.stop();
}

fn several_ticks_keep_their_own_intervals(on: On) {
    let (server, quick) = ticking(on, INTERVAL);
    let slow: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = slow.clone();
    let server = server.on_tick(INTERVAL * 4, move |_| noted.lock().push(Instant::now()));
    let never = Arc::new(AtomicUsize::new(0));
    let counted = never.clone();
    let server = server.on_tick(Duration::from_secs(3600), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let began = Instant::now();
    let _server = harness::Running::of(server);
    keeps_pace(&slow, began, INTERVAL * 4, 5);
    keeps_pace(&quick, began, INTERVAL, 15);
    assert_eq!(never.load(Ordering::Relaxed), 0);
}

fn instants_that_a_run_outlasts_are_skipped_and_no_two_runs_overlap(on: On) {
    let (runs, inside) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (noted, alone) = (runs.clone(), inside.clone());
    let server = upper(on).on_tick(INTERVAL, move |_| {
        assert!(!alone.swap(true, Ordering::SeqCst), "two runs at a time");
        let first = noted.lock().is_empty();
        noted.lock().push(Instant::now());
        if first {
            let _ = after(INTERVAL * 12).recv();
        }
        alone.store(false, Ordering::SeqCst);
    });
    let began = Instant::now();
    let server = harness::Running::of(server);
    eventually("it goes on", || runs.lock().len() >= 6);
    let runs = runs.lock().clone();
    // The second run came after the first one had ended, and those after it at their own instants.
    assert!(runs[1] - runs[0] >= INTERVAL * 12);
    for (count, at) in (0..).zip(&runs[1..]) {
        assert!(*at - began >= INTERVAL * (13 + count), "bunched: {runs:?}");
    }
    assert_eq!(server.stats().tick_panics, 0);
}

fn a_tick_that_panics_goes_on_and_is_told(on: On) {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let (server, sound) = ticking(on, INTERVAL);
    let server = server.on_tick(INTERVAL, |_| panic!("planned: a tick"));
    let server = server.observer(move |event: &Event<'_>| {
        if let Event::TickPanicked { tick } = event {
            assert_eq!(*tick, 1, "the second that was given");
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = harness::Running::of(server);
    assert_eq!(server.client().ask("x"), "X");
    eventually("it panics again and again", || told.load(Ordering::SeqCst) >= 10);
    eventually("the other one goes on", || sound.lock().len() >= 10);
    assert_eq!(server.client().ask("y"), "Y");
    let stats = server.stats();
    assert!(stats.tick_panics >= 10 && stats.ticks >= 20, "{stats:?}");
    assert_eq!(stats.observer_panics, 0);
}

fn a_tick_may_stop_the_server(on: On) {
    let server = upper(on).on_tick(INTERVAL, |server| {
        server.stop();
    });
    let report = server.serve().expect("it serves");
    assert!(report.is_clean(), "{report}");
}

fn a_tick_may_drain_and_join_without_waiting_for_itself(on: On) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = upper(on).on_tick(INTERVAL, move |server| {
        server.begin_drain(PATIENCE);
        // What is known by now: this tick itself runs.
        assert_eq!(server.drain(PATIENCE).stuck, 1);
        assert_eq!(server.join().stuck, 1);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let server = server.spawn().expect("it starts");
    let report = server.join();
    assert!(report.is_clean(), "{report}");
    assert_eq!((calls.load(Ordering::SeqCst), server.stats().tick_panics), (1, 0));
}

fn a_tick_that_blocks_delays_nobody(on: On) {
    let gate = Gate::default();
    let _open = gate.open_at_the_end();
    let blocked = gate.clone();
    let (server, other) = ticking(on, INTERVAL);
    let server = server.on_tick(INTERVAL, move |_| {
        assert!(blocked.pass(), "it is let go");
    });
    let server = harness::Running::of(server);
    gate.wait_for_arrivals(1);
    let before = other.lock().len();
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    eventually("the other tick goes on", || other.lock().len() > before + 5);
    gate.open();
}

fn a_drain_waits_for_the_run_under_way_and_begins_no_other(on: On) {
    let gate = Gate::default();
    let _open = gate.open_at_the_end();
    let (blocked, runs) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = runs.clone();
    let server = upper(on).on_tick(INTERVAL, move |_| {
        blocked.pass();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let server = harness::Running::of(server);
    gate.wait_for_arrivals(1);
    server.begin_drain(PATIENCE);
    let _ = after(INTERVAL * 5).recv();
    assert_eq!(runs.load(Ordering::SeqCst), 0, "it still runs");
    gate.open();
    let report = server.join();
    assert!(report.is_clean(), "{report}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

fn a_tick_that_does_not_return_is_stuck_and_named(on: On) {
    let gate = Gate::default();
    let _open = gate.open_at_the_end();
    let (blocked, journal) = (gate.clone(), Journal::default());
    let noted = journal.clone();
    let server = upper(on).on_tick(INTERVAL, move |_| {
        blocked.pass();
    });
    let server = server.observer(move |event: &Event<'_>| noted.note(event.to_string()));
    let server = harness::Running::of(server);
    gate.wait_for_arrivals(1);
    let report = server.drain(INTERVAL);
    assert_eq!((report.stuck, report.stuck_peers.len()), (1, 0), "{report}");
    assert_eq!(journal.count("tick 0 is stuck"), 1, "{:?}", journal.all());
}

fn what_a_tick_holds_is_given_up_at_the_end(on: On) {
    let held = Arc::new(Mutex::new(None::<ServerHandle>));
    let kept = held.clone();
    let with_tick = || {
        let kept = kept.clone();
        upper(on).on_tick(INTERVAL, move |server| {
            // A server that held this for good would hold itself.
            *kept.lock() = Some(server.clone());
        })
    };
    drop(with_tick());
    drop(with_tick().bind().expect("bound"));
    eventually("nothing is held", || Arc::strong_count(&held) == 2);
    let server = with_tick().spawn().expect("it starts");
    eventually("it has run", || held.lock().is_some());
    server.stop();
    eventually("nothing is held", || Arc::strong_count(&held) == 2);
}

#[test]
fn an_interval_that_cannot_be_meant_is_refused() {
    for interval in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let server = Script::new(&Journal::default()).server().tcp("127.0.0.1:0");
        let refused = server.on_tick(interval, |_| ()).bind().expect_err("refused");
        assert_eq!((refused.kind(), refused.fault()), (ErrorKind::Config, Fault::Caller));
        assert!(refused.to_string().contains("interval"), "{refused}");
    }
}

#[test]
fn a_tick_runs_in_a_pool_that_handlers_keep_busy() {
    let gate = Gate::default();
    let _open = gate.open_at_the_end();
    let blocked = gate.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        blocked.pass();
        cx.send(message);
        Ok(Next::Continue)
    });
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let server = script.server().tcp("127.0.0.1:0").on_tick(INTERVAL, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let server = harness::Running::of(server.concurrency(switchboard::Concurrency::pool(4)));
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("x"));
    gate.wait_for_arrivals(3);
    let before = runs.load(Ordering::SeqCst);
    eventually("the last worker ticks", || runs.load(Ordering::SeqCst) > before + 5);
    gate.open();
}

fn a_server_that_serves_one_at_a_time_runs_none_until_it_serves_on(on: On) {
    let (server, runs) = ticking(on, INTERVAL);
    let mut bound = server.bind().expect("bound");
    let waited = bound.serve_one(INTERVAL * 10).expect("nothing is refused");
    assert_eq!(waited, switchboard::Served::TimedOut);
    assert!(runs.lock().is_empty());
    let served = bound.spawn().expect("it serves");
    eventually("it ticks", || !runs.lock().is_empty());
    served.stop();
}
