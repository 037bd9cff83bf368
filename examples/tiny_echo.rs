//! The smallest server: `cargo run --example tiny_echo`, then `nc 127.0.0.1 9999`.
use std::{env, io};
use switchboard::{Concurrency, Context, Handler, Next, Outcome, Server};

struct Upper;
impl Handler for Upper {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    }
}

fn main() -> switchboard::Result<Outcome> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".to_owned());
    let server = Server::new(|_peer| Upper).tcp(&addr).udp(&addr);
    let server = server.concurrency(Concurrency::pool(16)).bind()?.watch_signals()?;
    log::info!("Ctrl-C or SIGTERM drains the server");
    server.run_until_signal()
}
