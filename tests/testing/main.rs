//! The test kit itself: what it shows in memory is what a server does on a socket.

#[path = "../harness/mod.rs"]
mod harness;

mod clock;
mod datagrams;
mod parity;
mod peers;
mod real;
mod speed;

/// Tests of this binary have servers and sockets at the same time: one that counts the descriptors of the
/// process runs once more, in a process in which nothing else does. Returns whether this is that one.
#[track_caller]
fn in_a_process_of_its_own(test: &str) -> bool {
    const ALONE: &str = "SWITCHBOARD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let ran = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([test, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&ran.stdout);
    let wrong = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}{wrong}");
    false
}
