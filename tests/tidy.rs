//! The source itself under test: layers, sizes, words, and what is absent by rule.
//!
//! A rule is one test, and its message says what to do. What the compiler and clippy already enforce is
//! not repeated here.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The framework's modules, bottom to top. A module imports from rows above its own line only, never
/// from its neighbours in a row. ARCHITECTURE.md shows the same table.
const LAYERS: [&[&str]; 10] = [
    &["fault", "unwind"],
    &["error", "peer", "reason"],
    &["codec", "config", "filter", "sys", "timer"],
    &["event", "outbox"],
    &["desk", "handler", "stage"],
    &["datagram", "slots", "stream"],
    &["schedule"],
    &["server"],
    &["testing"],
    &["guide", "lib"],
];

/// Lines of a file of the framework or the handlers: looked at from here on, and never more than that.
const MANY_LINES: usize = 400;
const MOST_LINES: usize = 450;

/// Everything that is Rust and ours.
const ALL: [&str; 4] = ["framework", "handlers", "examples", "tests"];

// ---- layers ----

#[test]
fn modules_import_only_from_the_layers_below() {
    let lib = read("framework/src/lib.rs");
    let exported = exported_names(&code_of(&lib));
    let mut faults = Vec::new();
    for source in sources(&["framework/src"]) {
        let me = module_of(&source.path);
        let Some(my_row) = row_of(&me) else {
            faults.push(format!("{}: put `{me}` into a row of LAYERS", source.path));
            continue;
        };
        if source.path.ends_with("/lib.rs") {
            continue;
        }
        for (line, rest) in source.after_word("crate::") {
            let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
            let module = exported.get(&name).cloned().unwrap_or(name);
            let fault = match row_of(&module) {
                None if module.is_empty() => {
                    "name one module: `use crate::module::Name;`".to_owned()
                }
                None => format!("`{module}` is no module of LAYERS"),
                Some(row) if row < my_row || module == me => continue,
                Some(_) => format!("`{me}` may not import from `{module}`, which is not below it"),
            };
            faults.push(format!("{}:{line}: {fault}", source.path));
        }
        let upwards = source.lines_with("super::super");
        faults.extend(upwards.map(|line| format!("{line}: name the module: `use crate::module`")));
    }
    complain("Turn the dependency round, or move what is shared down to a lower row:", faults);
}

#[test]
fn every_row_of_the_layers_is_real_and_the_architecture_shows_them() {
    let lib = code_of(&read("framework/src/lib.rs"));
    let declared = |name: &str| name == "lib" || lib.contains(&format!("mod {name};"));
    let unreal = LAYERS.iter().copied().flatten().filter(|name| !declared(name));
    complain("Take modules that are gone out of LAYERS:", unreal.map(ToString::to_string));

    let drawn = LAYERS.map(|row| row.join(", ")).join("\n< ");
    let shown = read("ARCHITECTURE.md").contains(&drawn);
    assert!(shown, "ARCHITECTURE.md must show the layers as they are enforced:\n{drawn}");
}

#[test]
fn the_framework_knows_neither_handlers_nor_examples() {
    let mut files = sources(&["framework"]);
    files.push(Source::new("framework/Cargo.toml"));
    let names = ["switchboard_handlers", "switchboard-handlers", "examples/"];
    let known = files.iter().flat_map(|file| {
        let lines = (1..).zip(file.text.lines());
        let known = lines.filter(|(_, text)| names.iter().any(|name| text.contains(name)));
        known.map(|(line, _)| format!("{}:{line}", file.path))
    });
    complain("The framework stands alone; move this to handlers/ or examples/:", known);
}

// ---- sizes ----

#[test]
fn files_stay_short() {
    let mut faults = Vec::new();
    for source in sources(&["framework", "handlers"]) {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            faults.push(format!("{}: {lines} lines", source.path));
        } else if lines > MANY_LINES {
            println!("{}: {lines} lines; it does more than one job soon", source.path);
        }
    }
    complain(&format!("At most {MOST_LINES} lines; give a second job a file of its own:"), faults);
}

// ---- words ----

#[test]
fn the_first_line_of_every_file_says_its_job() {
    let silent = sources(&ALL).into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        !first.starts_with("//! ") || first.split_whitespace().count() < 4
    });
    let faults = silent.map(|source| source.path);
    complain("Begin the file with `//! ` and a sentence that says its job:", faults);
}

#[test]
fn nothing_but_sys_names_a_platform() {
    let words = ["rustix", "nix", "socket2", "libc", "std::os", "target_os", "target_family"];
    let above = sources(&["framework/src", "handlers/src"]);
    let above = above.iter().filter(|source| module_of(&source.path) != "sys");
    let faults = above.flat_map(|source| words.iter().flat_map(|word| source.lines_with(word)));
    complain("Give sys/ a word for it, and use that:", faults);
}

#[test]
fn nothing_but_event_log_names_the_log_crate() {
    let mut faults = Vec::new();
    for source in sources(&["framework/src", "handlers/src"]) {
        if source.path == "framework/src/event/log.rs" {
            continue;
        }
        // In its parent's file `log` is that module; `::log` is the crate everywhere.
        let bare_is_crate = source.path != "framework/src/event/mod.rs";
        for (at, _) in source.code.match_indices("log::") {
            let before = source.code[..at].trim_end();
            let in_a_word = source.code[..at].ends_with(is_word);
            let global = before.ends_with("::") && !before[..before.len() - 2].ends_with(is_word);
            let bare = !before.ends_with("::");
            if !in_a_word && (global || bare && bare_is_crate) {
                faults.push(source.place(at));
            }
        }
        faults.extend(source.lines_with("env_logger"));
    }
    complain("Emit an event; event/log.rs makes a line of it:", faults);
}

#[test]
fn nothing_is_unsafe() {
    complain("There is no unsafe code here; find a safe crate for it:", everywhere(&["unsafe"]));
}

#[test]
fn no_queue_is_unbounded() {
    let words = ["unbounded", "unbounded_channel", "mpsc::channel"];
    complain("Bound it: crossbeam_channel::bounded(n), and say why n:", everywhere(&words));
}

#[test]
fn nothing_sleeps() {
    let mut faults: Vec<String> = everywhere(&["thread::sleep", "sleep_ms"]).collect();
    for source in sources(&ALL) {
        for (line, rest) in source.after_word("thread::{") {
            let imported = rest.split('}').next().unwrap_or_default();
            if imported.split(|c| !is_word(c)).any(|name| name == "sleep") {
                faults.push(format!("{}:{line}", source.path));
            }
        }
    }
    complain("Wait for the event itself, with a deadline (a channel, a condition):", faults);
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut faults: Vec<String> = everywhere(&["todo", "unimplemented"]).collect();
    for source in sources(&ALL) {
        let lines = (1..).zip(source.text.lines());
        let marked = lines.filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)));
        faults.extend(marked.map(|(line, _)| format!("{}:{line}", source.path)));
    }
    complain("Do it, or write down in DECISIONS.md why not:", faults);
}

#[test]
fn the_codec_does_no_io() {
    let words = ["std::net", "std::io", "std::os", "std::fs", "std::time", "std::thread"];
    let codec = sources(&["framework/src/codec"]);
    let faults = codec.iter().flat_map(|file| words.iter().flat_map(|word| file.lines_with(word)));
    complain("The codec is bytes to frames and back; read and wait in the turn:", faults);
}

#[test]
fn every_allow_has_a_reason() {
    let mut faults = Vec::new();
    for source in sources(&ALL) {
        for word in ["allow(", "expect("] {
            for (line, rest) in source.after_word(word) {
                let before = source.code.lines().nth(line - 1).unwrap_or_default();
                let is_attribute = before.trim_start().starts_with(['#', '!']);
                let inside = rest.split(")]").next().unwrap_or_default();
                if is_attribute && !inside.contains("reason") {
                    faults.push(format!("{}:{line}", source.path));
                }
            }
        }
    }
    complain("Say why: #[allow(lint, reason = \"...\")], or do without:", faults);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // (Cut in two, so that this file passes.)
    let words = ["/wo|rk/", "/tmp/|h-", "/ro|ot/", "sub|agent", "issue |#", "Issue |#"];
    let words = words.map(|word| word.replace('|', ""));
    let mut faults = Vec::new();
    for path in files(&root(), &["rs", "md", "toml", "py", "sh", "yml", "", "run"]) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (line, text) in (1..).zip(text.lines()) {
            if let Some(word) = words.iter().find(|word| text.contains(*word)) {
                faults.push(format!("{}:{line}: {word}", relative(&path)));
            }
        }
    }
    complain("Say it in words that a stranger with a fresh clone understands:", faults);
}

// ---- the papers ----

#[test]
fn every_example_is_run_by_a_test() {
    let one = fs::read_to_string(at("tests/examples.rs")).unwrap_or_default();
    let tests = sources(&["tests/examples"]).into_iter().map(|source| source.text);
    let tests: String = tests.chain([one]).collect();
    let unnamed = examples().into_iter().filter(|name| !tests.contains(&format!("\"{name}\"")));
    complain("Play its transcript in tests/examples:", unnamed);
}

#[test]
fn the_readme_names_every_example() {
    let readme = read("README.md");
    let unnamed = examples().into_iter().filter(|name| !readme.contains(&format!("`{name}`")));
    complain("Give it a line in README's table of examples:", unnamed);
}

#[test]
fn the_architecture_lists_every_file_by_its_first_line() {
    let page = read("ARCHITECTURE.md");
    let rows = sources(&["framework/src"]).into_iter().map(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        let path = source.path.trim_start_matches("framework/src/");
        format!("| `{path}` | {}", first.trim_start_matches("//! "))
    });
    let missing = rows.filter(|row| !page.contains(row)).map(|row| row + " |");
    complain("These rows belong into ARCHITECTURE.md's map, in place of the old ones:", missing);
}

#[test]
fn files_that_the_papers_name_are_there() {
    let mut faults = Vec::new();
    for paper in ["README.md", "ARCHITECTURE.md", "DECISIONS.md"] {
        let text = read(paper);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = name.ends_with(".rs") || name.ends_with('/') || name.ends_with(".md");
            let places = ["", "framework/", "framework/src/"];
            let there = || places.iter().any(|place| at(place).join(name).exists());
            if is_path && !name.contains([' ', '*', '{', '<']) && !there() {
                faults.push(format!("{paper}: `{name}`"));
            }
        }
    }
    complain("Name the file by the path it has now:", faults);
}

#[test]
fn the_readme_shows_the_server_of_the_front_page() {
    let readme = read("README.md");
    let shown = readme.lines().skip_while(|line| !line.starts_with("```rust")).skip(1);
    let shown: Vec<&str> = shown.take_while(|line| !line.starts_with("```")).collect();
    let lib = read("framework/src/lib.rs");
    let front = lib.lines().skip_while(|line| !line.contains("```no_run")).skip(1);
    let front = front
        .skip_while(|line| !line.starts_with("//!"))
        .map(|line| line.strip_prefix("//! ").unwrap_or_else(|| line.trim_start_matches("//!")));
    let front: Vec<&str> = front.take_while(|line| !line.starts_with("```")).collect();
    assert!(!shown.is_empty(), "README.md begins with a server");
    assert_eq!(shown, front, "README.md and framework/src/lib.rs show the same server");
}

#[test]
fn every_dependency_has_its_reason_in_the_decisions() {
    let manifest = read("Cargo.toml");
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let decisions = read("DECISIONS.md");
    let unexplained = table
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with('#') && !name.starts_with("switchboard"))
        .filter(|name| !decisions.contains(&format!("`{name}`")));
    let faults = unexplained.map(ToOwned::to_owned);
    complain("Write into DECISIONS.md what it does and what it replaces:", faults);
}

// ---- how the rules read ----

/// A file: its text, and its code alone.
struct Source {
    /// From the root, with slashes.
    path: String,
    text: String,
    /// The text with comments and the insides of literals blanked out; every line in its place.
    code: String,
}

impl Source {
    fn new(path: &str) -> Self {
        let text = read(path);
        Self { path: path.to_owned(), code: code_of(&text), text }
    }

    fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.code[..at].matches('\n').count() + 1)
    }

    /// Where the code has `word`, as a whole word, and what follows it.
    fn after_word<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> + 'a {
        let (starts_word, ends_word) = (word.starts_with(is_word), word.ends_with(is_word));
        self.code.match_indices(word).filter_map(move |(at, _)| {
            let (before, after) = (&self.code[..at], &self.code[at + word.len()..]);
            let inside = (starts_word && before.ends_with(is_word))
                || (ends_word && after.starts_with(is_word));
            (!inside).then(|| (before.matches('\n').count() + 1, after))
        })
    }

    /// The places in the code that have `word`.
    fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = String> + 'a {
        self.after_word(word).map(move |(line, _)| format!("{}:{line}: {word}", self.path))
    }
}

/// Where any Rust file of ours has one of these words.
fn everywhere(words: &[&str]) -> impl Iterator<Item = String> {
    let all = sources(&ALL);
    let found = all.iter().flat_map(|file| words.iter().flat_map(|word| file.lines_with(word)));
    found.collect::<Vec<_>>().into_iter()
}

#[track_caller]
fn complain(what_to_do: &str, faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{what_to_do}\n  {}\n", faults.join("\n  "));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn at(path: &str) -> PathBuf {
    root().join(path)
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let files = dirs.iter().flat_map(|dir| files(&at(dir), &["rs"]));
    files.map(|path| Source::new(&relative(&path))).collect()
}

/// The files below a folder that end so, without what was built and what Git keeps.
fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git"].contains(&name.as_str()) {
            found.extend(files(&path, extensions));
        } else if path.is_file() && extensions.contains(&extension.as_str()) {
            found.push(path);
        }
    }
    found
}

/// The examples that Cargo finds by itself.
fn examples() -> Vec<String> {
    let entries = fs::read_dir(at("examples")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.join("main.rs").is_file() || path.extension().is_some_and(|e| e == "rs")
        })
        .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The module at the crate's root that a file of the framework belongs to.
fn module_of(path: &str) -> String {
    let inside = path.split("/src/").nth(1).unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.trim_end_matches(".rs").to_owned()
}

fn row_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// What lib.rs exports, and the module it comes from: `crate::Error` is an import from `error`.
fn exported_names(lib: &str) -> HashMap<String, String> {
    let mut names = HashMap::new();
    for export in lib.split("pub use ").skip(1) {
        let export = export.split(';').next().unwrap_or_default();
        let (module, exported) = export.split_once("::").unwrap_or((export, ""));
        for name in exported.split(|c| !is_word(c)).filter(|name| !name.is_empty()) {
            names.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    names
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and the insides of literals blanked out.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_words(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        }
        for &c in &chars[at.min(end)..end] {
            code.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = at.max(end);
    }
    code
}

/// Where the comment or literal ends that begins here; here, if none does.
fn end_of_words(chars: &[char], at: usize) -> usize {
    let find = |from: usize, end: &[char]| {
        let rest = chars.get(from..).unwrap_or_default();
        let found = rest.windows(end.len()).position(|window| window == end);
        found.map_or(chars.len(), |found| from + found + end.len())
    };
    match chars[at..] {
        ['/', '/', ..] => find(at, &['\n']) - 1,
        ['/', '*', ..] => find(at, &['*', '/']),
        ['\'', '\\', _, ..] => find(at + 3, &['\'']),
        ['\'', _, '\'', ..] => at + 3,
        ['r', '"' | '#', ..] => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if chars.get(at + 1 + hashes) != Some(&'"') {
                return at;
            }
            let end: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
            find(at + 2 + hashes, &end)
        }
        ['"', ..] => {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            (end + 1).min(chars.len())
        }
        _ => at,
    }
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "a('\"', 'x', \"b \\\" c\", r#\"d \" e\"#); // f\n/* g */ fn h<'i>() {}\n";
    let code: String = code_of(text).split_whitespace().collect();
    assert_eq!(code, "a(,,,);fnh<'i>(){}");
    assert_eq!(code_of(text).len(), text.len());
}
