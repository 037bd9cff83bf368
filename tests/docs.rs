//! The documentation under test: everything public has an example that runs, and what is named is there.
//!
//! The examples themselves are run by `cargo test --doc`. These rules see to it that there are some, and
//! that the tests which the pages name exist.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn everything_public_has_an_example_that_runs() {
    let crate_ = Crate::read();
    let missing = crate_.items().into_iter().filter(|item| !crate_.shows(item));
    let faults: Vec<String> = missing
        .map(|item| format!("{}:{}: {} {}", item.file, item.line, item.kind, item.path()))
        .collect();
    assert!(
        faults.is_empty(),
        "Put an example that runs into its documentation, or use it in an example of the type (or \
         of the public module) that it belongs to:\n  {}\n",
        faults.join("\n  ")
    );
}

#[test]
fn the_front_page_names_everything_that_the_crate_exports() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap_or_default();
    let front: String = lib.lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let modules = words_after(&lib, "pub mod ");
    let lists = exports(&lib).into_iter().filter(|name| name.starts_with(char::is_uppercase));
    let named = |name: &String| {
        let links = [format!("[`{name}`]"), format!("`]({name}"), format!("({name}::")];
        links.iter().any(|link| front.contains(link))
    };
    let faults: Vec<String> = lists.chain(modules).filter(|name| !named(name)).collect();
    assert!(faults.is_empty(), "Give each a place in the map of lib.rs, as a link: {faults:?}");
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let page = fs::read_to_string(source().join("guide/promises.rs")).unwrap_or_default();
    let mut faults = Vec::new();
    let mut titles = 0;
    for (number, section) in page.split("//! # ").skip(1).enumerate() {
        titles += 1;
        let rows = section.lines().filter(|line| line.starts_with("//! | `"));
        let title = section.lines().next().unwrap_or_default();
        if !title.starts_with(&format!("{}. ", number + 1)) || rows.clone().count() == 0 {
            faults.push(format!("\"{title}\" has no number, or names no test"));
        }
        faults.extend(rows.filter(|row| !is_proven(row)).map(ToOwned::to_owned));
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let promised = readme.lines().skip_while(|line| *line != "## What is promised").skip(1);
    let promised = promised.take_while(|line| !line.starts_with("## "));
    let promised = promised.filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(titles, promised, "README.md and guide/promises.rs list the same promises");
    assert!(
        faults.is_empty(),
        "These rows of guide/promises.rs name no test in these fields: write them as the `matrix!` of \
         the file, or the row of tests/PORTED.md, has them (a plain test has `–` in both):\n  {}\n",
        faults.join("\n  ")
    );
}

/// Whether the file that a row names has this claim, in these fields.
fn is_proven(row: &str) -> bool {
    let cells: Vec<&str> = row.trim_start_matches("//!").split('|').map(str::trim).collect();
    let &["", file, claim, modes, over, ""] = &cells[..] else { return false };
    let (file, claim) = (file.trim_matches('`'), claim.trim_matches('`'));
    let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
    let every = "inline threads pool";
    if file.ends_with(".md") {
        return text.contains(&format!("| {claim} | {modes} | {over} |"));
    }
    if (modes, over) == ("–", "–") {
        let tests =
            text.split("#[test]").skip(1).map(|test| test.split('{').next().unwrap_or(test));
        return tests.into_iter().any(|head| head.contains(&format!("fn {claim}()")));
    }
    let in_modes = format!(" {claim} in [{modes}]: [{over}];");
    text.contains(&in_modes) || modes == every && text.contains(&format!(" {claim}: [{over}];"))
}

// ---- what is public ----

/// The framework's source, as far as these rules look at it.
struct Crate {
    files: Vec<Page>,
    /// What public modules re-export, by its own name.
    exported: BTreeSet<String>,
    /// The code in the documentation of types and modules, by name.
    shown: HashMap<String, String>,
}

/// One file.
struct Page {
    /// From `framework/src/`.
    path: String,
    /// Whether each module that leads here is public.
    is_public: bool,
    text: String,
}

/// Something public, and the documentation on it.
#[derive(Clone)]
struct Item {
    file: String,
    line: usize,
    kind: String,
    name: String,
    /// The type or trait that it belongs to; else the public module, if it is written in one.
    owner: Option<String>,
    docs: String,
}

impl Item {
    fn path(&self) -> String {
        self.owner.iter().chain([&self.name]).map(String::as_str).collect::<Vec<_>>().join("::")
    }
}

impl Crate {
    fn read() -> Self {
        let mut files: Vec<Page> = rust_files(&source()).iter().map(|path| page(path)).collect();
        let mut public = vec![("lib.rs".to_owned(), String::new())];
        let mut exported = BTreeSet::new();
        while let Some((path, folder)) = public.pop() {
            let Some(file) = files.iter_mut().find(|file| file.path == path) else { continue };
            file.is_public = true;
            exported.extend(exports(&file.text));
            for module in words_after(&file.text, "pub mod ") {
                let inner = format!("{folder}{module}/");
                public.push((format!("{folder}{module}.rs"), inner.clone()));
                public.push((format!("{inner}mod.rs"), inner));
            }
        }
        let mut found = Self { files, exported, shown: HashMap::new() };
        found.shown = found.shown();
        found
    }

    /// Everything that users of the crate can name, and has documentation of its own.
    fn items(&self) -> Vec<Item> {
        self.files.iter().flat_map(|file| self.items_of(file)).collect()
    }

    fn items_of(&self, file: &Page) -> Vec<Item> {
        let reachable = |name: &str| file.is_public || self.exported.contains(name);
        let mut items = Vec::new();
        for item in declared(file) {
            let counts = match &item.owner {
                Some(owner) => reachable(owner),
                None => reachable(&item.name),
            };
            if counts && item.kind != "impl" {
                let module = file.is_public.then(|| module_of(&file.path));
                items.push(Item { owner: item.owner.clone().or(module), ..item });
            }
        }
        items
    }

    /// The examples that stand at types, at their impl blocks, and at modules.
    fn shown(&self) -> HashMap<String, String> {
        let mut shown: HashMap<String, String> = HashMap::new();
        for file in &self.files {
            let module = file.text.lines().filter_map(|line| line.strip_prefix("//!"));
            let module = code_in(&module.collect::<Vec<_>>().join("\n"));
            shown.entry(module_of(&file.path)).or_default().push_str(&module);
            for item in declared(file) {
                let is_type = item.owner.is_none() && item.kind != "fn";
                if is_type {
                    shown.entry(item.name).or_default().push_str(&code_in(&item.docs));
                }
            }
        }
        shown
    }

    fn shows(&self, item: &Item) -> bool {
        let by_its_owner = item.owner.as_ref().and_then(|owner| self.shown.get(owner));
        !code_in(&item.docs).trim().is_empty()
            || by_its_owner.is_some_and(|code| uses(code, &item.name))
    }
}

/// What stands in a file with `pub`, the methods of public traits, and impl blocks (for their
/// documentation). It relies on the layout that rustfmt gives.
fn declared(file: &Page) -> Vec<Item> {
    let (mut items, mut docs) = (Vec::new(), String::new());
    let mut block: Option<(String, bool)> = None;
    let mut in_attribute = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        let (text, inside) = (line.trim_start(), line.starts_with("    "));
        if let Some(doc) = text.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
            continue;
        }
        // An attribute of several lines ends with a line of its own.
        if in_attribute || text.starts_with("#[") || text.starts_with("//") {
            let begins = text.starts_with("#[") && !text.ends_with(']');
            in_attribute = begins || (in_attribute && text != ")]");
            continue;
        }
        let is_member = inside && !line.starts_with("     ");
        let found = match &block {
            None if !inside => declaration(text, "pub "),
            Some((_, is_trait)) if is_member => {
                declaration(text, if *is_trait { "" } else { "pub " })
            }
            _ => None,
        };
        if let Some((kind, name)) = found {
            let owner = block.as_ref().map(|(name, _)| name.clone());
            let (file, docs) = (file.path.clone(), docs.clone());
            items.push(Item { file, line: number, kind, name: name.clone(), owner, docs });
            if text.starts_with("pub trait ") {
                block = Some((name, true));
            }
        }
        if text.starts_with("impl") && !inside {
            let name = implemented(text);
            let (file, docs) = (file.path.clone(), docs.clone());
            let kind = "impl".to_owned();
            items.push(Item { file, line: number, kind, name: name.clone(), owner: None, docs });
            // What a trait demands is documented at the trait.
            block = (!text.contains(" for ")).then_some((name, false));
        }
        if line == "}" {
            block = None;
        }
        docs.clear();
    }
    items
}

/// The kind and the name of what begins here.
fn declaration(line: &str, visibility: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix(visibility)?.split_whitespace().peekable();
    let mut kind = words.next()?;
    if kind == "const" && words.peek() == Some(&"fn") {
        kind = words.next()?;
    }
    let kinds = ["fn", "struct", "enum", "trait", "const", "type"];
    let name = words.next()?.split(|c| !is_word(c)).next()?;
    kinds.contains(&kind).then(|| (kind.to_owned(), name.to_owned()))
}

/// The type that an impl block is of.
fn implemented(line: &str) -> String {
    let (mut rest, mut depth) = (line.trim_start_matches("impl"), 0);
    if rest.starts_with('<') {
        let end = rest.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth == 0
        });
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    let of = rest.split(" for ").last().unwrap_or(rest).trim();
    of.split(|c| !is_word(c)).next().unwrap_or_default().to_owned()
}

/// The names that a file re-exports.
fn exports(text: &str) -> Vec<String> {
    let lists = text.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let names = lists.flat_map(|list| list.split(|c| !is_word(c)));
    names.filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

fn words_after(text: &str, before: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(before));
    lines.filter_map(|rest| rest.split(|c| !is_word(c)).next()).map(ToOwned::to_owned).collect()
}

// ---- what is shown ----

/// The code of the examples that run, without their comments.
fn code_in(docs: &str) -> String {
    let mut code = String::new();
    let mut fence: Option<bool> = None;
    for line in docs.lines().map(str::trim) {
        if let Some(info) = line.strip_prefix("```") {
            fence = match fence {
                Some(_) => None,
                None => Some(matches!(info, "" | "rust" | "should_panic")),
            };
        } else if fence == Some(true) {
            code.push_str(line.split("//").next().unwrap_or_default());
            code.push('\n');
        }
    }
    code
}

/// Whether this code calls, implements or names it.
fn uses(code: &str, name: &str) -> bool {
    let is_type = name.starts_with(char::is_uppercase);
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        let named = is_type || [".", "::", "fn "].iter().any(|mark| before.ends_with(mark));
        whole && named
    })
}

// ---- how the rules read ----

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> PathBuf {
    root().join("framework/src")
}

fn page(path: &Path) -> Page {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let path = path.strip_prefix(source()).unwrap_or(path).to_string_lossy().into_owned();
    Page { path, is_public: false, text }
}

/// The name of the module that a file is.
fn module_of(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.sort();
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn the_rule_sees_what_is_public_and_what_is_shown() {
    let text = "/// ```\n/// a.shown();\n/// // a.spoken();\n/// ```\npub struct A;\n\n\
                impl<T: Into<u8>> A {\n    pub const fn shown() {}\n    pub fn spoken() {}\n    \
                fn private() {}\n}\n\nimpl B for A {\n    fn b() {}\n}\n\n\
                pub trait B {\n    /// ```text\n    /// b\n    /// ```\n    fn b();\n}\n";
    let page = Page { path: "a.rs".to_owned(), is_public: true, text: text.to_owned() };
    let mut seen = Crate { files: vec![page], exported: BTreeSet::new(), shown: HashMap::new() };
    seen.shown = seen.shown();
    let items = seen.items();
    let paths: Vec<String> = items.iter().map(Item::path).collect();
    assert_eq!(paths, ["a::A", "A::shown", "A::spoken", "a::B", "B::b"]);
    let bare = items.iter().filter(|item| !seen.shows(item)).map(Item::path);
    assert_eq!(bare.collect::<Vec<_>>(), ["A::spoken", "a::B", "B::b"]);
}
