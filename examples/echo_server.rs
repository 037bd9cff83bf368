//! Answers in upper case, over TCP, UDP and Unix sockets at once.
//!
//! ```text
//! cargo run --release --example echo_server
//! printf 'hello\n' | nc -N 127.0.0.1 9999
//! printf 'hello' | nc -u -w1 127.0.0.1 9999
//!
//! cargo run --release --example echo_server -- --listen 'unix:/tmp/echo.sock?mode=600'
//! printf 'hello\n' | nc -N -U /tmp/echo.sock
//! ```
//! Or it answers a fixed text, or nothing, as the servers of tutorials do:
//! `echo_server --listen tcp://127.0.0.1:7788 --reply 'thank you !' --print --once`.

mod common;

use clap::Parser;
use switchboard::{Handler, Outcome, Server};
use switchboard_handlers::{Escaped, Fixed, Inspect, Once, Silent, Upper};

use common::{ListenUrl, ServerOptions, run, say};

/// Answers in upper case, over TCP, UDP and Unix sockets at once.
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: tcp://HOST:PORT, tcp://[::1]:0, udp://HOST:PORT, unix:PATH,
    /// unixgram:PATH, unix:@NAME (abstract); with settings of its own after a '?', which therefore no
    /// path can have: 'tcp://HOST:PORT?framing=lines&max-frame=512', 'unix:PATH?mode=660'
    #[arg(long, value_name = "URL", default_values = ["tcp://127.0.0.1:9999", "udp://127.0.0.1:9999"])]
    listen: Vec<ListenUrl>,

    /// Answers this text instead
    #[arg(long, value_name = "TEXT", conflicts_with = "no_reply")]
    reply: Option<String>,

    /// Answers nothing
    #[arg(long)]
    no_reply: bool,

    /// Says on stdout who said what, control characters escaped
    #[arg(long)]
    print: bool,

    /// Ends each conversation after one exchange
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    options: ServerOptions,
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    cli.options.check::<Cli>();
    let (print, once, no_reply) = (cli.print, cli.once, cli.no_reply);
    let fixed = cli.reply.map(Fixed::new);

    let server = Server::new(move |_peer| {
        let mut handler: Box<dyn Handler> = match &fixed {
            Some(fixed) => Box::new(fixed.clone()),
            None if no_reply => Box::new(Silent),
            None => Box::new(Upper),
        };
        if once {
            handler = Box::new(Once::new(handler));
        }
        if print {
            handler = Box::new(Inspect::new(handler, |peer, message| {
                say(format_args!("{peer}: {}", Escaped(message)));
            }));
        }
        handler
    });
    run(cli.options.apply(server, &cli.listen))
}
