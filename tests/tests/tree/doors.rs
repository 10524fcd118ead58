//! The files that may do each kind of input and output. Tests are exempt.

use crate::sources::Sources;
use crate::tokens::{code, paths};

/// A kind of input or output, the parts of paths by which it is recognised, and the files that may name them.
pub(crate) struct Door {
    pub(crate) kind: &'static str,
    pub(crate) words: &'static [&'static str],
    pub(crate) files: &'static [&'static str],
}

/// Returns all breaches of `doors` in the sources of programs.
pub(crate) fn breaches(sources: &Sources, doors: &[Door]) -> Vec<String> {
    let apart = ["tests/", "bench/", "xtask/"];
    let ships = |file: &str| file.contains("/src/") && !apart.iter().any(|folder| file.starts_with(folder));
    let mut breaches = Vec::new();
    for Door { kind, words, files } in doors {
        let through: Vec<_> =
            sources.iter().filter(|(file, text)| ships(file) && names(text, words)).collect();
        for (file, _) in &through {
            if !files.contains(&file.as_str()) {
                breaches.push(format!("{file}: does {kind}, which only {} may do", files.join(", ")));
            }
        }
        for file in *files {
            if !through.iter().any(|(through, _)| through == file) {
                breaches.push(format!("{file}: is listed for {kind} but does none"));
            }
        }
    }
    breaches
}

fn names(text: &str, words: &[&str]) -> bool {
    let named = paths(&code(text));
    let has = |path: &[String], word: &str| {
        let word: Vec<_> = word.split("::").collect();
        path.windows(word.len()).any(|part| part == word)
    };
    named.iter().any(|path| words.iter().any(|word| has(path, word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, text: &str, expected: &[&str]) {
        let door = Door { kind: "files", words: &["std::fs", "File::open"], files: &["a/src/files.rs"] };
        let door_file = ("a/src/files.rs".to_owned(), "use std::{fs, io};".to_owned());
        let sources = [door_file, (file.to_owned(), text.to_owned())].into();
        assert_eq!(breaches(&sources, &[door]), expected);
    }

    #[test]
    fn other_files_than_the_listed_one_are_breaches() {
        check(
            "a/src/b.rs",
            "use std::fmt; fn f(file: &File) { g(open, myfs::std) } fn h() { log!(\"std::fs\") } #[cfg(test)] use std::fs;",
            &[],
        );
        check("a/tests/b.rs", "use std::fs;", &[]);
        for text in [
            "use std::fs::File;",
            "use std::{fs, io};",
            "fn f() { std::fs::read(p); }",
            "fn f() { tokio::fs::File::open(p).await }",
        ] {
            check("a/src/b.rs", text, &["a/src/b.rs: does files, which only a/src/files.rs may do"]);
        }
    }

    #[test]
    fn a_listed_file_without_use_is_a_breach() {
        check("a/src/files.rs", "use std::io;", &["a/src/files.rs: is listed for files but does none"]);
    }
}
