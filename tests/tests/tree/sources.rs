//! Reads the Rust files of the tree, without build output and hidden folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// The text of each Rust file, by its path from the root of the workspace.
pub(crate) type Sources = BTreeMap<String, String>;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the folder of the workspace can be resolved")
}

/// Reads all Rust files.
pub(crate) fn read() -> Sources {
    let root = root();
    let kept = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name.starts_with('.') || name == "target")
    };
    let entries =
        WalkDir::new(&root).into_iter().filter_entry(kept).map(|entry| entry.expect("a readable tree"));
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "rs"));
    files.map(|entry| (relative(&root, entry.path()), text(entry.path()))).collect()
}

/// Reads one file of the tree; panics if it cannot be read.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}
