//! The test kit itself: what it shows in memory is what a server does on a socket.

#[path = "../harness/mod.rs"]
mod harness;

mod clock;
mod datagrams;
mod parity;
mod peers;
mod real;
mod speed;
