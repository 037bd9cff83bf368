//! Framings over sockets: however the bytes come, the same messages; what is no message costs its sender.

mod harness;

use std::time::Duration;

use harness::{Client, Journal, On, Running, Script, eventually, matrix};
use switchboard::codec::Width;
use switchboard::{Framing, Next};

matrix! {
    lines_are_the_same_byte_by_byte_and_glued: [tcp unix];
    crlf_and_lf_end_a_line_and_a_last_line_needs_neither: [tcp unix];
    prefixed_messages_are_the_same_byte_by_byte_and_glued: [tcp unix];
    delimited_messages_are_the_same_byte_by_byte_and_glued: [tcp unix];
    messages_of_fixed_length_are_the_same_byte_by_byte_and_glued: [tcp unix];
    an_answer_of_another_length_than_the_fixed_one_ends_the_connection: [tcp unix];
    a_length_that_is_no_integer_is_a_bad_frame: [tcp unix];
    a_message_of_the_greatest_length_passes_and_one_more_does_not: [tcp unix];
    an_over_long_line_ends_the_connection_before_its_end_arrives: [tcp unix];
    an_over_long_line_may_be_skipped: [tcp unix];
    an_over_long_delimited_message_may_be_skipped: [tcp unix];
    a_message_skipped_for_ever_falls_under_the_message_timeout: [tcp];
    what_was_skipped_to_its_end_does_not_count_for_the_message_timeout: [tcp unix];
    a_negative_length_is_a_bad_frame: [tcp unix];
    a_gibibyte_announced_and_never_sent_is_refused_at_once: [tcp unix];
    a_large_message_announced_and_never_sent_takes_no_memory: [tcp unix];
    fin_in_the_middle_of_a_frame_is_a_bad_frame: [tcp unix];
    nothing_is_handled_behind_a_bad_frame: [tcp unix];
    bytes_that_are_no_text_are_echoed_as_they_are: [tcp unix];
}

/// A server whose messages are cut out like this; replies say how long each one was.
fn measuring(on: On, journal: &Journal, framing: Framing) -> Running {
    let script = Script::new(journal).handle(|message, cx| {
        cx.send_raw(format!("{}\n", message.len()));
        Ok(Next::Continue)
    });
    let script = script.rejected(|why, cx| {
        cx.send_raw(format!("{why}\n"));
        Ok(Next::Close)
    });
    Running::of(on.framed(script.server(), framing))
}

/// Sends this byte by byte, then glued, then cut at every place; the answer is always the same.
fn however_it_comes(server: &Running, sent: &[u8], expected: &str) {
    let mut client = server.client();
    for byte in sent {
        client.send_bytes(&[*byte]);
    }
    client.finish_sending();
    client.hears_only(expected);
    for cut in 0..=sent.len() {
        let mut client = server.client();
        client.send_bytes(&sent[..cut]);
        client.send_bytes(&sent[cut..]);
        client.finish_sending();
        client.hears_only(expected);
    }
}

fn lines_are_the_same_byte_by_byte_and_glued(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::lines());
    however_it_comes(&server, b"one\n\nthree3\nlast\n", "3\n0\n6\n4\n");
}

fn crlf_and_lf_end_a_line_and_a_last_line_needs_neither(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::lines());
    however_it_comes(&server, b"a\r\nb\nc\rd\r\nend", "1\n1\n3\n3\n");
}

fn prefixed_messages_are_the_same_byte_by_byte_and_glued(on: On) {
    for (width, prefix) in [
        (Width::U8, &b"\x03"[..]),
        (Width::U16Be, b"\0\x03"),
        (Width::U16Le, b"\x03\0"),
        (Width::U32Be, b"\0\0\0\x03"),
        (Width::U32Le, b"\x03\0\0\0"),
        (Width::I32Le, b"\x03\0\0\0"),
        (Width::Varint, b"\x03"),
    ] {
        let journal = Journal::default();
        let server = measuring(on, &journal, Framing::length_prefix(width));
        let empty = vec![0; prefix.len()];
        however_it_comes(&server, &[prefix, b"abc", &empty, prefix, b"xyz"].concat(), "3\n0\n3\n");
    }
}

fn delimited_messages_are_the_same_byte_by_byte_and_glued(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::delimiter(b"aab"));
    however_it_comes(&server, b"oneaabaabaaabaathreeaab", "3\n0\n1\n7\n");
    let server = measuring(on, &journal, Framing::delimiter(b"\0"));
    however_it_comes(&server, b"one\0\0three3\0last", "3\n0\n6\n4\n");
}

fn messages_of_fixed_length_are_the_same_byte_by_byte_and_glued(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::fixed(4));
    however_it_comes(&server, b"one.two.four", "4\n4\n4\n");
    let unfinished = "stream ended in the middle of a frame, after 2 bytes of it\n";
    however_it_comes(&server, b"one.tw", &format!("4\n{unfinished}"));
}

fn an_answer_of_another_length_than_the_fixed_one_ends_the_connection(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(if message == b"good" { "fine" } else { "too long" });
        Ok(Next::Continue)
    });
    let server = Running::of(on.framed(script.server(), Framing::fixed(4)));
    let mut client = server.client();
    client.send_bytes(b"goodbad.good");
    client.hears_only("fine");
    drop(client);
    journal.wait_for("finish handler-err: message of 8 bytes where every message has 4");
}

fn a_length_that_is_no_integer_is_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::length_prefix(Width::Varint));
    let mut client = server.client();
    client.send_bytes(&[b"\x01a\x82\x00bc", &[0xff; 20][..]].concat());
    client.hears_only("1\n2\nframe length of more than 10 bytes or 64 bits\n");
    drop(client);
    journal.wait_for("finish bad-frame");
}

fn a_message_of_the_greatest_length_passes_and_one_more_does_not(on: On) {
    let journal = Journal::default();
    let framing = Framing::length_prefix(Width::U32Be).max_frame(70_000);
    let server = measuring(on, &journal, framing);
    let mut client = server.client();
    client.send_bytes(&[&70_000_u32.to_be_bytes()[..], &vec![1; 70_000]].concat());
    assert_eq!(client.hear(), "70000");
    client.send_bytes(&70_001_u32.to_be_bytes());
    client.hears_only("frame longer than the maximum of 70000 bytes\n");
    drop(client);
    journal.wait_for("finish frame-too-large");
    let server = measuring(on, &journal, Framing::lines().max_frame(10));
    let mut client = server.client();
    client.send_bytes(b"0123456789\r\n");
    assert_eq!(client.hear(), "10");
    client.send_bytes(b"0123456789x\n");
    client.hears_only("frame longer than the maximum of 10 bytes\n");
}

fn an_over_long_line_ends_the_connection_before_its_end_arrives(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::lines());
    let mut client = server.client();
    client.send_bytes(&[b'x'; 9_000]);
    client.hears_only("frame longer than the maximum of 8192 bytes\n");
    drop(client);
    journal.wait_for("finish frame-too-large");
}

fn an_over_long_line_may_be_skipped(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|why, cx| {
        cx.send(why.to_string());
        Ok(Next::Continue)
    });
    let framing = Framing::lines().max_frame(10).skip_overlong();
    let server = Running::of(on.framed(script.server(), framing.clone().max_frame(60)));
    let mut client = server.client();
    let skipped = "line longer than the maximum of 60 bytes, skipped";
    for length in [61, 200, 100_000] {
        assert_eq!(client.ask(&"x".repeat(length)), skipped);
        assert_eq!(client.ask("ok"), "OK");
    }
    client.send_bytes(&[b"a\n", &[b'y'; 300][..], b"\nb\n"].concat());
    assert_eq!([client.hear(), client.hear(), client.hear()], ["A", skipped, "B"]);
    assert_eq!(journal.count("rejected"), 4);
}

fn an_over_long_delimited_message_may_be_skipped(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|_, cx| {
        cx.send("skipped");
        Ok(Next::Continue)
    });
    let framing = Framing::delimiter(b"--").max_frame(10).skip_overlong();
    let server = Running::of(on.framed(script.server(), framing));
    let sent = [b"a--", &[b'-', b'y'].repeat(5_000)[..], b"----b--"].concat();
    however_it_comes_in_pieces(&server, &sent, "A--skipped----B--");
}

/// As [`however_it_comes`], for much: in pieces of several sizes.
fn however_it_comes_in_pieces(server: &Running, sent: &[u8], expected: &str) {
    for size in [97, 1024, sent.len() - 6, sent.len()] {
        let mut client = server.client();
        sent.chunks(size).for_each(|piece| client.send_bytes(piece));
        client.finish_sending();
        client.hears_only(expected);
    }
}

fn a_message_skipped_for_ever_falls_under_the_message_timeout(on: On) {
    skipped_for_ever(on, Framing::lines());
    skipped_for_ever(on, Framing::delimiter(b"xy"));
}

fn skipped_for_ever(on: On, framing: Framing) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|_, _| Ok(Next::Continue));
    let framing = framing.max_frame(10).skip_overlong();
    let server = script.server().message_timeout(Duration::from_millis(150));
    let server = Running::of(on.framed(server, framing));
    let mut client = server.client();
    let mut pieces = 0;
    let ticks = crossbeam_channel::tick(Duration::from_millis(5));
    while client.try_send(&[b'x'; 50]).is_ok() {
        pieces += 1;
        assert!(pieces < 2_000, "it goes on for ever");
        let _ = ticks.recv();
    }
    journal.wait_for("finish slow-read");
}

fn what_was_skipped_to_its_end_does_not_count_for_the_message_timeout(on: On) {
    // (The last byte of the delimiter is not a line feed.)
    for (framing, end) in [(Framing::lines(), "\r\n"), (Framing::delimiter(b"\n;"), "\n;")] {
        let journal = Journal::default();
        let script = Script::new(&journal).rejected(|_, _| Ok(Next::Continue));
        let framing = framing.max_frame(10).skip_overlong();
        let timeouts = script.server().message_timeout(Duration::from_millis(100));
        let server = timeouts.idle_timeout(Duration::from_millis(400));
        let server = Running::of(on.framed(server, framing));
        let mut client = server.client();
        client.send_bytes(format!("{}{end}", "x".repeat(1000)).as_bytes());
        journal.wait_for("idle");
        drop(client);
    }
}

fn a_negative_length_is_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::length_prefix(Width::I32Le));
    for length in [-1, -7, i32::MIN] {
        let mut client = server.client();
        client.send_bytes(&length.to_le_bytes());
        client.hears_only(&format!("negative frame length {length}\n"));
    }
    journal.wait_for_so_many(3, "finish bad-frame");
}

fn a_gibibyte_announced_and_never_sent_is_refused_at_once(on: On) {
    for width in [Width::U32Be, Width::U32Le, Width::I32Le] {
        let journal = Journal::default();
        let server = measuring(on, &journal, Framing::length_prefix(width));
        let announced = match width {
            Width::U32Be => (1_u32 << 30).to_be_bytes(),
            _ => (1_u32 << 30).to_le_bytes(),
        };
        let mut client = server.client();
        client.send_bytes(&announced);
        client.hears_only("frame longer than the maximum of 1048576 bytes\n");
        drop(client);
        journal.wait_for("finish frame-too-large");
    }
}

/// What this process holds in memory, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn a_large_message_announced_and_never_sent_takes_no_memory(on: On) {
    const ALLOWED: u32 = 1 << 30;
    let journal = Journal::default();
    let framing = Framing::length_prefix(Width::U32Be).max_frame(ALLOWED as usize);
    let server = measuring(on, &journal, framing);
    let before = resident_kib();
    let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_bytes(&[&ALLOWED.to_be_bytes()[..], b"only the beginning"].concat());
    }
    eventually("all have arrived", || server.stats().bytes_received == 50 * 22);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for 50 announcements of a GiB");
}

fn fin_in_the_middle_of_a_frame_is_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::length_prefix(Width::U32Be));
    for (cut, have) in [(1, 1), (4, 4), (6, 6)] {
        let mut client = server.client();
        client.send_bytes(&b"\0\0\0\x05hello"[..cut]);
        client.finish_sending();
        let expected = "stream ended in the middle of a frame, after";
        client.hears_only(&format!("{expected} {have} bytes of it\n"));
    }
    journal.wait_for_so_many(3, "finish bad-frame");
    assert_eq!(journal.count("handle"), 0);
}

fn nothing_is_handled_behind_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = measuring(on, &journal, Framing::length_prefix(Width::I32Le));
    let mut client = server.client();
    client.send_bytes(b"\x01\0\0\0a\xff\xff\xff\xff\x01\0\0\0b\x01\0\0\0c");
    client.hears_only("1\nnegative frame length -1\n");
    drop(client);
    journal.wait_for("finish bad-frame");
    assert_eq!(journal.count("handle"), 1);
}

fn bytes_that_are_no_text_are_echoed_as_they_are(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Continue)
    });
    let server = Running::of(on.framed(script.server(), Framing::length_prefix(Width::U16Be)));
    let mut client = server.client();
    let body: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
    let frame = [&(body.len() as u16).to_be_bytes()[..], &body].concat();
    client.send_bytes(&frame);
    assert_eq!(client.hear_bytes(frame.len()), frame);
}
