//! The load tester tested from outside: against its own server with chosen faults, and against others.
mod faults;
mod support;
