//! What a run leaves behind: JSON as its schema says, a page that stands alone, and comparisons.
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::schema;
use crate::support::{load, program, serve};

fn checked(report: &Value) {
    let text = include_str!("../../report.schema.json");
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    let wrong = schema::check(report, &schema, &schema, "report");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn reports_of_every_kind_keep_to_the_schema() {
    let server = serve(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0"], "--drop 1%");
    let common = "--duration 600ms --timeout 300ms -c 8";
    checked(&load(&server.urls[0], &format!("{common} --pid {}", server.pid())).json);
    checked(&load(&server.urls[1], &format!("{common} --rate 2k --slo p99<1s")).json);
    checked(&load(&server.urls[0], &format!("{common} -s idle:10")).json);
    let good = serve(&["tcp://127.0.0.1:0"], "");
    checked(&load(good.url(), "--sweep 500..1k:2 --trial 200ms").json);
    let chat = serve(&["tcp://127.0.0.1:0"], "--chat");
    checked(&load(chat.url(), "-s chat --members 5 --duration 300ms").json);
}

#[test]
fn a_report_that_got_worse_is_found_by_compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let (before, after, page) = (path("a"), path("b"), path("c.html"));
    for (file, rate) in [(&before, "2k"), (&after, "1k")] {
        let output =
            program(&[server.url(), "-q", "--duration", "500ms", "--rate", rate, "--json", file]);
        assert!(matches!(output.status.code(), Some(0 | 5)), "{output:?}");
    }
    let status = |words: &[&str]| {
        let words = [&["compare", &before, &after], words].concat();
        program(&words).status.code()
    };
    assert_eq!(status(&[]), Some(0));
    assert_eq!(status(&["--fail-if", "rate<-10%"]), Some(3));
    assert_eq!(status(&["--fail-if", "lost>+0", "--html", &page]), Some(0));
    assert!(std::fs::read_to_string(page).expect("a page").contains("<svg"));
    assert_eq!(status(&["--fail-if", "nonsense"]), Some(2));
}

/// A page of two runs, one with a sweep.
fn page(folder: &Path) -> String {
    let server = serve(&["tcp://127.0.0.1:0"], "");
    let path = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    let (json, html) = (path("first.json"), path("page.html"));
    program(&[
        server.url(),
        "-q",
        "--duration",
        "2s",
        "--rate",
        "1k",
        "--name",
        "before",
        "--json",
        &json,
    ]);
    let output = program(&[
        server.url(),
        "-q",
        "--sweep",
        "500..4k:4",
        "--trial",
        "300ms",
        "--name",
        "after",
        "--html",
        &html,
        "--overlay",
        &json,
    ]);
    assert!(Path::new(&html).exists(), "{output:?}");
    html
}

#[test]
fn the_page_stands_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(page(folder.path())).expect("a page");
    assert_eq!(text.matches("<svg").count(), 5, "every diagram is there");
    for foreign in ["http://", "https://", "<script", "url(", "@import"] {
        let at = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!at.contains(foreign), "the page needs {foreign}");
    }
    assert!(text.contains("prefers-color-scheme: dark"));
}

#[test]
fn a_browser_opens_the_page_without_a_complaint() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    }) else {
        println!("SKIPPED: no Chromium here, so no browser has opened the page");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let html = page(folder.path());
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{html}"))
        .output()
        .expect("the browser runs");
    let (dom, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(dom.contains("<svg") && dom.contains("every reply proved"), "{dom}{log}");
    assert!(!log.contains("CONSOLE"), "{log}");
}
