//! Every example program, run as a person runs it: a transcript, a signal, an exit status.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod client;
mod echo;
mod faults;
mod foreign;
mod memory;
mod over;
mod services;
mod unix;
