//! Groups: everybody gets every message once and in order, nobody is waited for, and whoever reads too slowly is told.

mod harness;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Client, Gate, Journal, On, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::codec::{Codec, Decode, Decoded, Decoder, EncodeError, FrameError};
use switchboard::{
    CloseReason, Concurrency, Context, FanOut, Framing, Group, GroupRules, Listen, Next, Overflow,
    Server,
};

matrix! {
    everybody_gets_every_message_once_in_order: [tcp unix udp unixgram];
    a_handler_sends_to_all_but_its_own_peer: [tcp unix udp unixgram];
    a_member_that_has_left_is_none_in_finish_whatever_ended_it: [tcp unix udp unixgram];
    a_drain_empties_a_group: [tcp unix udp unixgram];
    a_member_of_two_groups_hears_both_and_leaves_one: [tcp unix udp unixgram];
    a_member_that_reads_too_slowly_misses_the_oldest_and_hears_how_many_first: [tcp unix];
    a_member_that_reads_too_slowly_misses_the_newest_and_hears_how_many_first: [tcp unix];
    a_member_that_reads_too_slowly_is_disconnected_with_a_last_word: [tcp unix];
    a_member_without_a_notice_hears_what_is_left: [tcp unix];
    a_notice_that_panics_harms_nobody: [tcp unix];
    a_codec_that_panics_at_a_notice_or_refuses_it_harms_nobody: [tcp unix];
    a_last_word_that_a_codec_panics_at_or_refuses_is_left_out: [tcp unix];
    urgent_messages_go_before_those_that_wait: [tcp unix];
    what_is_heard_and_what_is_missed_add_up_under_pressure: [tcp unix];
    a_member_whose_handler_is_busy_misses_nothing: [tcp unix];
    a_sender_that_is_faster_than_the_workers_costs_nobody_a_message: [tcp];
    one_of_a_thousand_that_never_reads_is_told_how_many_it_missed: [tcp unix];
    one_of_a_thousand_that_never_reads_is_disconnected: [tcp unix];
    members_may_leave_while_a_handler_sends: [tcp unix udp unixgram];
    a_message_that_one_framing_cannot_carry_reaches_the_others: [tcp unix];
    a_group_outlives_its_server_and_forgets_its_members: [tcp unix udp unixgram];
    a_dropped_group_leaves_nothing_behind_in_its_members: [tcp unix udp unixgram];
}

/// Joins the group when the peer arrives; `handle` does what the message says.
fn joining(group: &Group, journal: &Journal) -> Script {
    let (room, noted) = (group.clone(), journal.clone());
    Script::new(journal).setup(move |cx| {
        assert!(room.join(&cx.remote()), "it is new");
        assert!(!room.join(&cx.remote()), "it counts once");
        noted.note("joined");
        Ok(Next::Continue)
    })
}

/// So many clients that have joined. (Over datagrams a session begins with something said.)
fn members(server: &Running, group: &Group, count: usize) -> Vec<Client> {
    let before = group.len();
    let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
    for client in &mut clients {
        if matches!(client, Client::Udp(_) | Client::UnixGram(_)) {
            assert_eq!(client.ask("here"), "HERE");
        }
    }
    eventually("everybody has joined", || group.len() == before + count);
    clients
}

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("message {number:04}"))
}

fn everybody_gets_every_message_once_in_order(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    let server = on.play(joining(&group, &journal));
    let mut clients = members(&server, &group, 20);
    for message in numbers(100) {
        let sent = group.send(&message);
        assert!(sent.is_complete() && sent.taken == 20, "{sent:?}");
    }
    for client in &mut clients {
        numbers(100).for_each(|message| assert_eq!(client.hear(), message));
        assert_eq!(client.ask("that was all"), "THAT WAS ALL");
    }
    assert_eq!((server.stats().fan_outs, server.stats().fan_out_copies), (100, 2_000));
}

fn a_handler_sends_to_all_but_its_own_peer(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    let room = group.clone();
    let script = joining(&group, &journal).handle(move |message, cx| {
        if message == b"here" {
            cx.send("HERE");
        } else {
            let sent = room.send_except([b"heard: ", message].concat(), cx.id());
            cx.send(format!("told {}", sent.taken));
        }
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let mut clients = members(&server, &group, 5);
    for speaker in 0..5 {
        assert_eq!(clients[speaker].ask(&format!("I am {speaker}")), "told 4");
        for (other, client) in clients.iter_mut().enumerate() {
            if other != speaker {
                assert_eq!(client.hear(), format!("heard: I am {speaker}"));
            }
        }
    }
}

/// Ends the connection in the way that the message names.
fn end_as_told(message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
    match message {
        b"here" => cx.send("HERE"),
        b"close" => return Ok(Next::Close),
        b"abort" => return Ok(Next::Abort),
        b"fail" => return Err(io::Error::other("as planned")),
        b"panic" => panic!("planned"),
        _ => {}
    }
    Ok(Next::Continue)
}

fn a_member_that_has_left_is_none_in_finish_whatever_ended_it(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    let (room, noted) = (group.clone(), journal.clone());
    let script = joining(&group, &journal).handle(end_as_told).finish(move |_| {
        let told = room.send_urgent("somebody left").taken;
        noted.note(format!("left {}, told {told}", room.len()));
    });
    let server = on.play(script);
    let others = members(&server, &group, 2);
    for (ways, way) in (1..).zip(["close", "abort", "fail", "panic", "reset", "drop"]) {
        let mut client = members(&server, &group, 1).remove(0);
        assert_eq!(group.len(), 3);
        match way {
            "reset" | "drop" if on.is_datagram() => client.say("close"),
            "reset" if on.is_inet() => client.reset(),
            "reset" | "drop" => drop(client),
            _ => client.say(way),
        }
        journal.wait_for_so_many(ways, "left 2, told 2");
        assert_eq!(group.len(), 2);
        assert!(group.send("still there?").taken == 2);
    }
    drop(others);
}

fn a_drain_empties_a_group(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    let server = on.play(joining(&group, &journal));
    let clients = members(&server, &group, 5);
    server.drain(Duration::from_secs(5));
    assert!(group.is_empty() && group.members().is_empty());
    drop(clients);
}

fn a_member_of_two_groups_hears_both_and_leaves_one(on: On) {
    let (red, blue) = (Group::new(), Group::new());
    let (both, journal) = ([red.clone(), blue.clone()], Journal::default());
    let script = Script::new(&journal).handle(move |message, cx| {
        match message {
            b"join" => both.iter().for_each(|group| assert!(group.join(&cx.remote()))),
            b"leave" => {
                assert!(both[0].leave(&cx.remote()), "it was a member");
                assert!(!both[0].leave(&cx.remote()), "and is no more");
                assert!(!both[0].contains(&cx.remote()) && both[1].contains(&cx.remote()));
            }
            _ => {}
        }
        cx.send("done");
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let mut clients = [server.client(), server.client()];
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("join"), "done"));
    assert_eq!((red.len(), blue.len()), (2, 2));
    assert_eq!((red.send("red 1").taken, blue.send("blue 1").taken), (2, 2));
    for client in &mut clients {
        assert_eq!((client.hear(), client.hear()), ("red 1".to_owned(), "blue 1".to_owned()));
    }
    assert_eq!(clients[0].ask("leave"), "done");
    assert_eq!((red.send("red 2").taken, blue.send("blue 2").taken), (1, 2));
    assert_eq!(clients[0].hear(), "blue 2");
    assert_eq!((clients[1].hear(), clients[1].hear()), ("red 2".to_owned(), "blue 2".to_owned()));
}

// ---- slow members ----

/// Twelve bytes and a line feed, and what each costs beside.
const EACH: usize = 13 + 64;

/// Rules under which ten messages may wait.
fn ten_may_wait(overflow: Overflow) -> GroupRules {
    GroupRules::new().overflow(overflow).limit(10 * EACH)
}

fn counted(missed: u64) -> Vec<u8> {
    format!("* {missed} missed").into_bytes()
}

/// More than the kernel takes for a peer that does not read.
const FILL: usize = 16 * 1024 * 1024;

fn long_lines() -> Framing {
    Framing::lines().max_frame(FILL)
}

fn listening_for_long_lines(on: On, server: Server) -> Running {
    Running::of(on.framed(server.outbox_limit(2 * FILL), long_lines()))
}

/// A member that reads nothing, and of whose first message a part has left.
fn stuck_member(server: &Running, group: &Group) -> Client {
    let mut stuck = members(server, group, 1).remove(0);
    let before = server.stats().bytes_sent;
    stuck.say("fill");
    eventually("a part has left", || server.stats().bytes_sent > before);
    stuck
}

/// Fills the peer's socket, if it says so.
fn fill(message: &[u8], cx: &mut Context<'_>) {
    match message {
        b"fill" => cx.remote().send(vec![b'f'; FILL]).expect("an empty outbox takes anything"),
        _ => cx.send(message.to_ascii_uppercase()),
    }
}

/// What had begun to leave is whole.
#[track_caller]
fn hears_the_filling(stuck: &mut Client) {
    assert!(stuck.hear_bytes(FILL).iter().all(|&byte| byte == b'f'), "a torn message");
    assert_eq!(stuck.hear(), "");
}

/// A member that reads nothing, for whom a hundred messages are sent; it has read up to these.
fn slow_member(on: On, rules: GroupRules) -> (Running, Client, Group) {
    slow_member_with(on, rules, long_lines())
}

fn slow_member_with(on: On, rules: GroupRules, framing: Framing) -> (Running, Client, Group) {
    let (group, journal) = (Group::with_rules(rules), Journal::default());
    let script = joining(&group, &journal).handle(|message, cx| {
        fill(message, cx);
        Ok(Next::Continue)
    });
    let server = script.server().outbox_limit(2 * FILL);
    let server = Running::of(on.framed(server, framing));
    let mut stuck = stuck_member(&server, &group);
    a_hundred(&group);
    hears_the_filling(&mut stuck);
    (server, stuck, group)
}

/// A member whose handler is busy while something is sent.
fn busy_member(
    on: On,
    rules: GroupRules,
    work: &str,
    send: impl Fn(&Group),
) -> (Running, Client, Group) {
    let (group, journal, gate) = (Group::with_rules(rules), Journal::default(), Gate::default());
    let (busy, room) = (gate.clone(), group.clone());
    let script = joining(&group, &journal).handle(move |message, cx| {
        match message {
            b"work" => drop(busy.pass()),
            b"reply and work" => {
                room.send("before");
                cx.send("a reply that waits behind it");
                busy.pass();
            }
            _ => cx.send(message.to_ascii_uppercase()),
        }
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let _opens = gate.open_at_the_end();
    let mut client = members(&server, &group, 1).remove(0);
    client.say(work);
    gate.wait_for_arrivals(1);
    send(&group);
    gate.open();
    (server, client, group)
}

fn a_hundred(group: &Group) {
    let mut skipped = 0;
    for (number, message) in numbers(100).enumerate() {
        let sent = group.send(message);
        assert_eq!(sent.skipped(), usize::from(number >= 10), "{sent:?}");
        skipped += sent.skipped();
    }
    assert_eq!(skipped, 90);
}

fn a_member_that_reads_too_slowly_misses_the_oldest_and_hears_how_many_first(on: On) {
    let rules = ten_may_wait(Overflow::DropOldest).notice(counted);
    let (server, mut client, group) = slow_member(on, rules);
    assert_eq!(client.hear(), "* 90 missed");
    numbers(100).skip(90).for_each(|message| assert_eq!(client.hear(), message));
    group.send("and on it goes");
    assert_eq!(client.hear(), "and on it goes");
    assert_eq!(client.ask("all"), "ALL");
    assert_eq!(server.stats().messages_skipped, 90);
}

fn a_member_that_reads_too_slowly_misses_the_newest_and_hears_how_many_first(on: On) {
    let rules = ten_may_wait(Overflow::DropNewest).notice(counted);
    let (server, mut client, group) = slow_member(on, rules);
    assert_eq!(client.hear(), "* 90 missed");
    numbers(10).for_each(|message| assert_eq!(client.hear(), message));
    group.send("and on it goes");
    assert_eq!(client.hear(), "and on it goes");
    assert_eq!(client.ask("all"), "ALL");
    assert_eq!(server.stats().messages_skipped, 90);
}

fn a_member_that_reads_too_slowly_is_disconnected_with_a_last_word(on: On) {
    let rules = ten_may_wait(Overflow::Disconnect).last_word("* you are too slow");
    let (server, mut client, _) = busy_member(on, rules, "reply and work", |group| {
        // The message before the reply makes room for one more.
        numbers(10).for_each(|message| assert_eq!(group.send(message).taken, 1));
        assert_eq!(group.send("one too many").ended, 1);
        assert!(group.is_empty(), "whoever is cut off is no member");
    });
    client.hears_only("before\n* you are too slow\n");
    eventually("the reason is named", || server.stats().closed_for(&CloseReason::Overflow) == 1);
}

fn a_member_without_a_notice_hears_what_is_left(on: On) {
    let (_server, mut client, _) = slow_member(on, ten_may_wait(Overflow::DropOldest));
    numbers(100).skip(90).for_each(|message| assert_eq!(client.hear(), message));
    assert_eq!(client.ask("all"), "ALL");
}

fn a_notice_that_panics_harms_nobody(on: On) {
    let rules = ten_may_wait(Overflow::DropOldest).notice(|_| panic!("planned"));
    let (_server, mut client, _) = slow_member(on, rules);
    numbers(100).skip(90).for_each(|message| assert_eq!(client.hear(), message));
    assert_eq!(client.ask("all"), "ALL");
}

/// Lines, but what to do with those that begin with a star.
#[derive(Clone, Copy)]
enum NoStars {
    Panic,
    Refuse,
}

impl Codec for NoStars {
    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(LongLines(long_lines().decoder()))
    }

    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            _ if !message.starts_with(b"*") => long_lines().encode(message, out),
            Self::Panic => panic!("planned: a star"),
            Self::Refuse => Err(EncodeError::custom("a star")),
        }
    }
}

struct LongLines(Decoder);

impl Decode for LongLines {
    fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        self.0.decode(bytes)
    }
}

fn a_codec_that_panics_at_a_notice_or_refuses_it_harms_nobody(on: On) {
    for codec in [NoStars::Panic, NoStars::Refuse] {
        let rules = ten_may_wait(Overflow::DropOldest).notice(counted);
        let framing = Framing::custom(codec).max_frame(FILL + 1);
        let (server, mut client, group) = slow_member_with(on, rules, framing);
        numbers(100).skip(90).for_each(|message| assert_eq!(client.hear(), message));
        assert_eq!(client.ask("all"), "ALL");
        assert_eq!((group.len(), server.stats().messages_skipped), (1, 90));
    }
}

fn a_last_word_that_a_codec_panics_at_or_refuses_is_left_out(on: On) {
    for codec in [NoStars::Panic, NoStars::Refuse] {
        let rules = ten_may_wait(Overflow::Disconnect).last_word("* you are too slow");
        let (group, journal) = (Group::with_rules(rules), Journal::default());
        let script = joining(&group, &journal).handle(|message, cx| {
            fill(message, cx);
            Ok(Next::Continue)
        });
        let framing = Framing::custom(codec).max_frame(FILL + 1);
        let server = Running::of(on.framed(script.server().outbox_limit(2 * FILL), framing));
        let stuck = stuck_member(&server, &group);
        // The word is framed at the one overflow, and for no message before.
        assert!(numbers(10).all(|message| group.send(message).is_complete()));
        assert_eq!(group.send("one too many").ended, 1);
        eventually("it is cut off", || server.stats().closed_for(&CloseReason::Overflow) == 1);
        drop(stuck);
    }
}

fn urgent_messages_go_before_those_that_wait(on: On) {
    let (_server, mut client, _) = busy_member(on, GroupRules::new(), "work", |group| {
        group.send("first");
        group.send_urgent("somebody came");
        group.send("second");
        group.send_urgent("somebody left");
    });
    for expected in ["somebody came", "somebody left", "first", "second"] {
        assert_eq!(client.hear(), expected);
    }
}

/// Two senders are faster than the peer reads, in fits and starts; nobody waits for anybody.
fn what_is_heard_and_what_is_missed_add_up_under_pressure(on: On) {
    const MESSAGES: u64 = 15_000;
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let rules = GroupRules::new().overflow(overflow).limit(40_000).notice(counted);
        let (group, journal) = (Group::with_rules(rules), Journal::default());
        let server = on.play(joining(&group, &journal));
        let mut client = members(&server, &group, 1).remove(0);
        let (mut heard, mut missed, mut notices) = ([0_u64; 2], 0_u64, 0_u64);
        std::thread::scope(|scope| {
            for sender in 0..2 {
                let group = &group;
                scope.spawn(move || {
                    let filling = "x".repeat(1_000);
                    for number in 1..=MESSAGES {
                        group.send(format!("{sender} {number} {filling}"));
                    }
                });
            }
            eventually("more is sent than it takes", || server.stats().messages_skipped > 0);
            let mut last = [0_u64; 2];
            while heard.iter().sum::<u64>() + missed < 2 * MESSAGES {
                let line = client.hear();
                let words: Vec<&str> = line.split(' ').collect();
                if words[0] == "*" {
                    missed += words[1].parse::<u64>().expect("a number");
                    notices += 1;
                    continue;
                }
                let sender: usize = words[0].parse().expect("a sender");
                let number: u64 = words[1].parse().expect("a number");
                assert!(words[2].len() == 1_000 && number > last[sender], "torn, or out of order");
                last[sender] = number;
                heard[sender] += 1;
            }
        });
        assert_eq!(client.ask("all"), "ALL");
        assert_eq!(server.stats().messages_skipped, missed, "in {notices} notices");
    }
}

fn a_member_whose_handler_is_busy_misses_nothing(on: On) {
    let rules = ten_may_wait(Overflow::Disconnect);
    let (server, mut client, _) = busy_member(on, rules, "work", |group| {
        assert!(numbers(100).all(|message| group.send(message).is_complete()));
    });
    numbers(100).for_each(|message| assert_eq!(client.hear(), message));
    assert_eq!(client.ask("all"), "ALL");
    assert_eq!(server.stats().messages_skipped, 0);
}

fn a_sender_that_is_faster_than_the_workers_costs_nobody_a_message(on: On) {
    let (group, journal) =
        (Group::with_rules(ten_may_wait(Overflow::Disconnect)), Journal::default());
    let server = on.play(joining(&group, &journal));
    let mut clients = members(&server, &group, 20);
    assert!(numbers(2_000).all(|message| group.send(message).is_complete()));
    for client in &mut clients {
        numbers(2_000).for_each(|message| assert_eq!(client.hear(), message));
    }
}

// ---- a thousand members ----

const THOUSAND: usize = 1_000;
const SENT: usize = 50;

/// Whoever waits for a peer that never reads waits for longer.
const A_WAIT: Duration = Duration::from_millis(100);

/// That a send did not wait for the one that never reads, while it queued for it and when there was no
/// more room. The fastest of several counts: anything may slow one down, and a wait slows all of them.
fn nobody_was_waited_for(spans: &[Duration]) {
    let (queued, full) = spans.split_at(10);
    for sends in [queued, full] {
        assert!(sends.iter().min() < Some(&A_WAIT), "the publisher waited: {spans:?}");
    }
    assert!(spans.iter().sum::<Duration>() < Duration::from_secs(5), "it waited once: {spans:?}");
}

/// A thousand members, one of which never reads. One of the others has its handler send: what it says
/// of each message is returned, with those that read and the one that does not.
fn thousand(on: On, rules: GroupRules) -> (Running, Group, Vec<FanOut>, Client) {
    let on = match on.concurrency {
        Concurrency::Threads { .. } => on.under(Concurrency::threads(THOUSAND + 10)),
        other => on.under(other),
    };
    let (group, journal) = (Group::with_rules(rules), Journal::default());
    let results: Arc<Mutex<Vec<FanOut>>> = Arc::default();
    let (room, noted, all) = (group.clone(), journal.clone(), results.clone());
    let script = joining(&group, &journal).handle(move |message, cx| {
        match message {
            b"publish" => {
                let mut spans = Vec::with_capacity(SENT);
                all.lock().extend(numbers(SENT).map(|message| {
                    let began = Instant::now();
                    let sent = room.send(message);
                    spans.push(began.elapsed());
                    sent
                }));
                nobody_was_waited_for(&spans);
                noted.note("published");
            }
            _ => fill(message, cx),
        }
        Ok(Next::Continue)
    });
    let server = listening_for_long_lines(on, script.server());
    let stuck = stuck_member(&server, &group);
    let mut readers = members(&server, &group, THOUSAND - 1);
    readers[500].say("publish");
    journal.wait_for("published");
    let expected: String = numbers(SENT).map(|message| message + "\n").collect();
    for reader in &mut readers {
        assert_eq!(reader.hear_bytes(expected.len()), expected.as_bytes());
    }
    let results = std::mem::take(&mut *results.lock());
    (server, group, results, stuck)
}

fn one_of_a_thousand_that_never_reads_is_told_how_many_it_missed(on: On) {
    let rules = ten_may_wait(Overflow::DropOldest).notice(counted);
    let (_server, _group, results, mut stuck) = thousand(on, rules);
    assert!(results.iter().all(|sent| sent.taken == THOUSAND));
    assert_eq!(results.iter().map(FanOut::skipped).sum::<usize>(), SENT - 10);
    hears_the_filling(&mut stuck);
    assert_eq!(stuck.hear(), format!("* {} missed", SENT - 10));
    numbers(SENT).skip(SENT - 10).for_each(|message| assert_eq!(stuck.hear(), message));
}

fn one_of_a_thousand_that_never_reads_is_disconnected(on: On) {
    let rules = ten_may_wait(Overflow::Disconnect).last_word("* you are too slow");
    let (server, group, results, mut stuck) = thousand(on, rules);
    assert_eq!(results.iter().map(|sent| sent.ended).sum::<usize>(), 1);
    assert_eq!(results.last().map(|sent| sent.taken), Some(THOUSAND - 1));
    eventually("it is closed", || server.stats().closed_for(&CloseReason::Overflow) == 1);
    eventually("the others have left", || group.is_empty());
    assert!(stuck.is_cut_off());
}

// ---- comings and goings ----

fn members_may_leave_while_a_handler_sends(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    let (room, noted) = (group.clone(), journal.clone());
    let script = joining(&group, &journal).handle(move |message, cx| {
        match message {
            b"publish" => {
                // Nobody is counted twice, and nobody who has left for long.
                for message in numbers(200) {
                    let sent = room.send_except(message, cx.id());
                    assert!(sent.taken + sent.gone + sent.refused < 40, "{sent:?}");
                }
                noted.note("published");
            }
            _ => return end_as_told(message, cx),
        }
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let mut clients = members(&server, &group, 40);
    clients[0].say("publish");
    for client in &mut clients[20..] {
        client.say("close");
    }
    journal.wait_for("published");
    eventually("half have left", || group.len() == 20);
    if !on.is_datagram() {
        for client in &mut clients[1..20] {
            numbers(200).for_each(|message| assert_eq!(client.hear(), message));
        }
    }
}

fn a_message_that_one_framing_cannot_carry_reaches_the_others(on: On) {
    use switchboard::codec::Width;
    let (group, journal) = (Group::new(), Journal::default());
    let server = on.listening(joining(&group, &journal).server());
    let short = Framing::length_prefix(Width::U8);
    let server = server
        .listen(Listen::tcp("127.0.0.1:0").framing(short))
        .listen(Listen::tcp("127.0.0.1:0").framing(Framing::length_prefix(Width::U16Be)))
        .udp("127.0.0.1:0");
    let server = Running::of(server);
    let mut clients: Vec<Client> = server.addresses().iter().map(Client::of).collect();
    clients[3].say("here");
    assert_eq!(clients[3].hear(), "HERE");
    eventually("all have joined", || group.len() == 4);

    let long = "l".repeat(300);
    let sent = group.send(&long);
    assert_eq!((sent.taken, sent.unframed, sent.errors.len()), (3, 1, 1), "{sent:?}");
    assert_eq!(clients[0].hear(), long);
    assert_eq!(clients[2].hear_bytes(302), [&[1, 44], long.as_bytes()].concat());
    assert_eq!(clients[3].hear(), long);

    let sent = group.send("l".repeat(70_000));
    assert_eq!((sent.taken, sent.unframed, sent.errors.len()), (0, 4, 4), "{sent:?}");

    assert!(group.send("short").is_complete());
    assert_eq!(clients[1].hear_bytes(6), b"\x05short");
    assert_eq!((clients[0].hear(), clients[3].hear()), ("short".into(), "short".into()));
}

fn a_group_outlives_its_server_and_forgets_its_members(on: On) {
    let (group, journal) = (Group::new(), Journal::default());
    assert_eq!(group.send("nobody is there yet"), FanOut::default());
    let server = on.play(joining(&group, &journal));
    let clients = members(&server, &group, 3);
    let remotes = group.members();
    let ids: HashSet<_> = remotes.iter().map(|remote| remote.id()).collect();
    assert_eq!(ids.len(), 3);
    server.stop();
    drop(server);
    assert_eq!(group.send("nobody is there any more"), FanOut::default());
    assert!(!group.join(&remotes[0]), "whoever is gone joins nothing");
    assert_eq!(group.len(), 0);
    drop(clients);
}

fn a_dropped_group_leaves_nothing_behind_in_its_members(on: On) {
    let (lasting, journal) = (Group::new(), Journal::default());
    let room = lasting.clone();
    let alive = Arc::new(());
    let witness = alive.clone();
    let script = joining(&lasting, &journal).handle(move |_, cx| {
        let kept = witness.clone();
        let passing = Group::with_rules(GroupRules::new().notice(move |_| {
            let _kept = &kept;
            Vec::new()
        }));
        room.members().iter().for_each(|member| assert!(passing.join(member)));
        drop(passing);
        cx.send("HERE");
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let mut clients = members(&server, &lasting, 3);
    for client in &mut clients {
        assert_eq!(client.ask("here"), "HERE");
    }
    // One is this test's, one the script's; each peer's handler shares the script's.
    assert_eq!(Arc::strong_count(&alive), 2);
    assert_eq!(lasting.send("still there").taken, 3);
}
