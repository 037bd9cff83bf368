//! Codecs of one's own in a server: they frame both directions, and their faults cost one connection.

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Journal, On, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError};
use switchboard::{Framing, Next, Remote, SendError};

matrix! {
    messages_of_a_codec_are_the_same_byte_by_byte_and_glued: [tcp];
    what_a_codec_skips_is_no_message_and_what_it_reports_is_heard: [tcp];
    a_codecs_own_reason_is_a_bad_frame: [tcp];
    fin_in_the_middle_of_a_codecs_frame_is_a_bad_frame: [tcp];
    a_codec_that_waits_for_ever_is_stopped_at_the_maximum: [tcp];
    a_codec_that_breaks_its_rules_costs_one_connection: [tcp];
    a_panic_wherever_a_codec_decodes_costs_one_connection: [tcp];
    a_panic_in_encode_is_one_of_the_handler: [tcp];
    a_message_that_a_codec_refuses_ends_the_connection: [tcp];
    a_remote_sends_through_the_codec: [tcp];
    a_panic_in_encode_on_another_thread_is_that_threads_own: [tcp];
    a_connection_that_has_never_spoken_has_no_state_of_its_codec: [tcp];
}

/// A message ends at `;`. Beside that it does what certain messages say.
#[derive(Clone, Default)]
struct Semicolons {
    /// States that are there now.
    states: Arc<AtomicUsize>,
}

struct State {
    states: Arc<AtomicUsize>,
    panics_when_dropped: bool,
}

impl Codec for Semicolons {
    fn decoder(&self) -> Box<dyn Decode> {
        self.states.fetch_add(1, Ordering::SeqCst);
        Box::new(State { states: self.states.clone(), panics_when_dropped: false })
    }

    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(message);
        match message {
            b"REFUSE" => return Err(EncodeError::custom("planned")),
            b"PANIC" => panic!("planned: encode"),
            _ => {}
        }
        out.push(b';');
        Ok(())
    }
}

impl Decode for State {
    fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let heartbeats = bytes.iter().take_while(|byte| **byte == b'.').count();
        if heartbeats > 0 {
            return Ok(Decoded::Skipped { consumed: heartbeats });
        }
        let Some(end) = bytes.iter().position(|byte| *byte == b';') else {
            return Ok(Decoded::Incomplete);
        };
        let frame = |body, consumed| Ok(Decoded::Frame { body, consumed });
        match &bytes[..end] {
            b"bad" => Err(FrameError::custom("this is bad")),
            b"pity" if !self.panics_when_dropped => {
                // Once; then it is skipped.
                self.panics_when_dropped = true;
                Err(FrameError::Custom { why: "a pity".into(), skipping: true })
            }
            b"pity" => {
                self.panics_when_dropped = false;
                Ok(Decoded::Skipped { consumed: end + 1 })
            }
            b"nothing" => frame(0..0, 0),
            b"outside" => frame(0..end + 100, end + 1),
            b"beyond" => frame(0..end, end + 100),
            b"backwards" => frame(end..0, end + 1),
            b"skip nothing" => Ok(Decoded::Skipped { consumed: 0 }),
            b"panic" => panic!("planned: decode"),
            b"drop" => {
                self.panics_when_dropped = true;
                frame(0..end, end + 1)
            }
            _ => frame(0..end, end + 1),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.states.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics_when_dropped, "planned: drop");
    }
}

/// A codec whose decoders cannot be made.
struct Stillborn;

impl Codec for Stillborn {
    fn decoder(&self) -> Box<dyn Decode> {
        panic!("planned: decoder")
    }

    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(message);
        Ok(())
    }
}

/// Answers in upper case, and says why something was no message.
fn shouting(on: On, journal: &Journal, codec: impl Codec) -> Running {
    let script = Script::new(journal).rejected(|why, cx| {
        cx.send(why.to_string());
        Ok(Next::Close)
    });
    Running::of(on.framed(script.server(), Framing::custom(codec).max_frame(100)))
}

/// One client's bytes, and all that it hears until it is closed.
fn exchange(server: &Running, sent: &[u8], expected: &str) {
    let mut client = server.client();
    client.send_bytes(sent);
    client.finish_sending();
    client.hears_only(expected);
}

fn messages_of_a_codec_are_the_same_byte_by_byte_and_glued(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    let sent = b"one;;three;";
    let mut client = server.client();
    sent.iter().for_each(|byte| client.send_bytes(&[*byte]));
    client.finish_sending();
    client.hears_only("ONE;;THREE;");
    exchange(&server, sent, "ONE;;THREE;");
    // More than a turn's messages.
    exchange(&server, &b"abc;".repeat(100), &"ABC;".repeat(100));
}

fn what_a_codec_skips_is_no_message_and_what_it_reports_is_heard(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|why, cx| {
        cx.send(why.to_string());
        Ok(Next::Continue)
    });
    let framing = Framing::custom(Semicolons::default());
    let server = Running::of(on.framed(script.server(), framing));
    exchange(&server, b"..one;...pity;.two;.", "ONE;a pity;TWO;");
    assert_eq!(journal.count("handle"), 2);
}

fn a_codecs_own_reason_is_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    exchange(&server, b"one;bad;two;", "ONE;this is bad;");
    journal.wait_for("finish bad-frame");
}

fn fin_in_the_middle_of_a_codecs_frame_is_a_bad_frame(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    let unfinished = "stream ended in the middle of a frame, after 2 bytes of it;";
    exchange(&server, b"one;tw", &format!("ONE;{unfinished}"));
    journal.wait_for("finish bad-frame");
}

fn a_codec_that_waits_for_ever_is_stopped_at_the_maximum(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    exchange(&server, &[&[b'x'; 99][..], b";"].concat(), &format!("{};", "X".repeat(99)));
    let mut client = server.client();
    client.send_bytes(&[b'x'; 100]);
    client.hears_only("frame longer than the maximum of 100 bytes;");
    drop(client);
    journal.wait_for("finish frame-too-large");
}

fn a_codec_that_breaks_its_rules_costs_one_connection(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    let mut other = server.client();
    for (sent, broken) in [
        ("nothing", "the codec consumed no bytes"),
        ("skip nothing", "the codec consumed no bytes"),
        ("outside", "the codec reported a body that is not in its frame"),
        ("backwards", "the codec reported a body that is not in its frame"),
        ("beyond", "the codec consumed more bytes than there are"),
    ] {
        exchange(&server, format!("one;{sent};two;").as_bytes(), &format!("ONE;{broken};"));
        other.send_bytes(b"me;");
        assert_eq!(other.hear_bytes(3), b"ME;");
    }
    journal.wait_for_so_many(5, "finish bad-frame");
}

fn a_panic_wherever_a_codec_decodes_costs_one_connection(on: On) {
    let journal = Journal::default();
    let codec = Semicolons::default();
    let server = shouting(on, &journal, codec.clone());
    let mut other = server.client();
    for _ in 0..20 {
        exchange(&server, b"one;panic;two;", "ONE;");
        exchange(&server, b"one;drop;", "ONE;DROP;");
        other.send_bytes(b"me;");
        assert_eq!(other.hear_bytes(3), b"ME;");
    }
    journal.wait_for_so_many(20, "finish handler-panic");
    assert_eq!(journal.count("rejected"), 0);
    drop(other);
    eventually("every state is gone", || codec.states.load(Ordering::SeqCst) == 0);

    let journal = Journal::default();
    let server = shouting(on, &journal, Stillborn);
    for _ in 0..20 {
        exchange(&server, b"one", "");
    }
    journal.wait_for_so_many(20, "finish handler-panic");
}

fn a_panic_in_encode_is_one_of_the_handler(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    // Of the message that could not be framed not even a part goes out.
    exchange(&server, b"one;PANIC;two;", "ONE;");
    journal.wait_for("finish handler-panic");
    exchange(&server, b"one;", "ONE;");
}

fn a_message_that_a_codec_refuses_ends_the_connection(on: On) {
    let journal = Journal::default();
    let server = shouting(on, &journal, Semicolons::default());
    exchange(&server, b"one;refuse;two;", "ONE;");
    journal.wait_for("finish handler-err: planned");
}

/// A server whose peers hand out remotes of themselves as they say their first message.
fn with_remotes(on: On, journal: &Journal) -> (Running, Arc<Mutex<Vec<Remote>>>) {
    let remotes: Arc<Mutex<Vec<Remote>>> = Arc::default();
    let kept = remotes.clone();
    let script = Script::new(journal).handle(move |message, cx| {
        kept.lock().push(cx.remote());
        cx.send(message);
        Ok(Next::Continue)
    });
    let framing = Framing::custom(Semicolons::default()).max_frame(100);
    (Running::of(on.framed(script.server(), framing)), remotes)
}

fn a_remote_sends_through_the_codec(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut client = server.client();
    client.send_bytes(b"me;");
    assert_eq!(client.hear_bytes(3), b"me;");
    let remote = remotes.lock()[0].clone();
    assert_eq!(remote.send("one"), Ok(()));
    assert_eq!(remote.send_shared(&Arc::from(&b"two"[..])), Ok(()));
    assert_eq!(client.hear_bytes(8), b"one;two;");
    let refused = Err(SendError::Unencodable(EncodeError::custom("planned")));
    assert_eq!(remote.send("REFUSE"), refused);
    assert_eq!(remote.send_shared(&Arc::from(&b"REFUSE"[..])), refused);
    let too_long = Err(SendError::Unencodable(EncodeError::TooLong { len: 101, max: 100 }));
    assert_eq!(remote.send("x".repeat(100)), too_long);
}

fn a_panic_in_encode_on_another_thread_is_that_threads_own(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut client = server.client();
    client.send_bytes(b"me;");
    assert_eq!(client.hear_bytes(3), b"me;");
    let remote = remotes.lock()[0].clone();
    for _ in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| remote.send("PANIC"))).is_err());
        let shared = Arc::from(&b"PANIC"[..]);
        assert!(catch_unwind(AssertUnwindSafe(|| remote.send_shared(&shared))).is_err());
        // Neither the connection nor anybody's lock has suffered.
        assert_eq!(remote.send("on"), Ok(()));
        client.send_bytes(b"me;");
        let heard = client.hear_bytes(6);
        assert!(heard == b"on;me;" || heard == b"me;on;", "{heard:?}");
    }
    assert_eq!(journal.count("finish"), 0);
}

fn a_connection_that_has_never_spoken_has_no_state_of_its_codec(on: On) {
    let journal = Journal::default();
    let codec = Semicolons::default();
    let server = shouting(on, &journal, codec.clone());
    let _silent: Vec<_> = (0..5).map(|_| server.client()).collect();
    journal.wait_for_so_many(5, "setup");
    assert_eq!(codec.states.load(Ordering::SeqCst), 0);
    let mut client = server.client();
    client.send_bytes(b"me;");
    assert_eq!(client.hear_bytes(3), b"ME;");
    assert_eq!(codec.states.load(Ordering::SeqCst), 1);
    drop(client);
    eventually("it is gone with its connection", || codec.states.load(Ordering::SeqCst) == 0);
}
