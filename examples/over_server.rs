//! Answers in upper case until the peer says a quit word.
//!
//! ```text
//! cargo run --example over_server -- --word over --word bye --ignore-case
//! cargo run --example client -- tcp://127.0.0.1:9997
//! ```
//! With `--stop-server` the word ends the server as well: it is drained, and its exit status is 0.

mod common;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use switchboard::{Outcome, Server};
use switchboard_handlers::{Over, QuitWords, Upper};

use common::{ListenUrl, ServerOptions, run};

/// Answers in upper case until the peer says a quit word.
#[derive(Parser, Debug)]
struct Cli {
    /// Where to listen; repeatable: tcp://HOST:PORT, tcp://[::1]:0, udp://HOST:PORT, unix:PATH,
    /// unixgram:PATH, unix:@NAME (abstract); with settings of its own after a '?', which therefore no
    /// path can have: 'tcp://HOST:PORT?framing=lines&max-frame=512', 'unix:PATH?mode=660'
    #[arg(long, value_name = "URL", default_values = ["tcp://127.0.0.1:9997"])]
    listen: Vec<ListenUrl>,

    /// A message that ends the conversation, white space at its ends aside; repeatable
    #[arg(long, default_values = ["over"], value_parser = NonEmptyStringValueParser::new())]
    word: Vec<String>,

    /// Takes small and capital letters for the same
    #[arg(long)]
    ignore_case: bool,

    /// The word ends the server as well
    #[arg(long)]
    stop_server: bool,

    #[command(flatten)]
    options: ServerOptions,
}

fn main() -> switchboard::Result<Outcome> {
    let cli = Cli::parse();
    cli.options.check::<Cli>();
    let mut quit = QuitWords::new(&cli.word);
    if cli.ignore_case {
        quit = quit.ignore_case();
    }
    if cli.stop_server {
        quit = quit.stop_server();
    }
    let server = Server::new(move |_peer| Over::with_words(Upper, quit.clone()));
    run(cli.options.apply(server, &cli.listen))
}
