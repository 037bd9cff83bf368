//! The source itself under test: every file says its job in its first line.
use std::{fs, path::Path};

fn rust_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_first_line_of_every_file_says_its_job() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["framework", "handlers", "examples", "tests"] {
        rust_files(&root.join(dir), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("readable source");
        assert!(text.starts_with("//! "), "{} does not begin with its job", file.display());
    }
}
