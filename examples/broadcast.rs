//! Everybody hears what anybody says, whichever way they came: a `Group`, and what hangs on a server.
//!
//! ```text
//! cargo run --example broadcast
//! cargo run --example client -- tcp://127.0.0.1:9993 --framing lines
//! cargo run --example client -- unix:@broadcast --framing lines
//! cargo run --example client -- udp://127.0.0.1:9993
//! ```

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use switchboard::{
    CloseReason, Context, Event, Framing, Group, GroupRules, Handler, Next, Outcome, Overflow,
    Peer, Server,
};

use common::{Span, Url, run};

/// Everybody hears what anybody says, whichever way they came.
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unixgram:PATH
    #[arg(long, value_name = "URL", default_values =
        ["tcp://127.0.0.1:9993", "udp://127.0.0.1:9993", "unix:@broadcast"])]
    listen: Vec<Url>,
    /// How often the log says how many are here
    #[arg(long, value_name = "TIME", default_value = "10s")]
    every: Span,
}

struct Member {
    everybody: Group,
    name: String,
}

impl Handler for Member {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        self.everybody.join(&cx.remote());
        // Urgent: before what waits for those who read slowly.
        self.everybody.send_urgent_except(format!("* {} is here", self.name), cx.id());
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let said = [self.name.as_bytes(), b": ", message.trim_ascii_end()].concat();
        self.everybody.send_except(said, cx.id());
        Ok(Next::Continue)
    }

    /// Whoever leaves is no member any more when this is called.
    fn finish(&mut self, _reason: &CloseReason) {
        self.everybody.send_urgent(format!("* {} has left", self.name));
    }
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    let missed = |messages| format!("* you have missed {messages} messages").into_bytes();
    let rules = GroupRules::new().overflow(Overflow::DropOldest).limit(64 * 1024).notice(missed);
    let (everybody, came) = (Group::with_rules(rules), Arc::new(AtomicUsize::new(0)));
    let (room, count) = (everybody.clone(), came.clone());
    let member = move |peer: &Peer| Member { everybody: room.clone(), name: peer.to_string() };
    let server = Server::new(member)
        .framing(Framing::lines())
        .observer(move |event: &Event<'_>| {
            let comes =
                matches!(event, Event::ConnectionOpened { .. } | Event::SessionBegun { .. });
            count.fetch_add(usize::from(comes), Ordering::Relaxed);
        })
        .on_tick(cli.every.0, move |_server| {
            let came = came.load(Ordering::Relaxed);
            log::info!("{} here, {came} came so far", everybody.len());
        });
    run(cli.listen.iter().fold(server, |server, url| server.listen(url.listen())))
}
