//! Module order: a module uses only modules that are declared above it, and never its own parent. `#[cfg(test)]` code is exempt.

use std::collections::BTreeMap;

use proc_macro2::TokenTree;

use crate::sources::Sources;
use crate::tokens::{code, modules, paths};

/// Returns all breaches in the crate whose root is the file `root`.
pub(crate) fn breaches(sources: &Sources, root: &str) -> Vec<String> {
    let mut tree = Modules { sources, places: BTreeMap::new(), faults: Vec::new() };
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let place = Place { file: root.to_owned(), folder: folder.to_owned(), position: 0 };
    tree.enter(Vec::new(), place, &code(&sources[root]));
    tree.breaches()
}

/// The modules of one crate by path, each with the paths that it names. The path of the crate itself is empty.
struct Modules<'a> {
    sources: &'a Sources,
    places: BTreeMap<Vec<String>, (Place, Vec<Vec<String>>)>,
    faults: Vec<String>,
}

struct Place {
    file: String,
    /// The folder of its submodules.
    folder: String,
    /// The number of modules that its parent declares above it.
    position: usize,
}

impl Modules<'_> {
    fn enter(&mut self, path: Vec<String>, place: Place, tokens: &[TokenTree]) {
        let (declared, rest) = modules(tokens);
        for (position, child) in declared.into_iter().enumerate() {
            let path = [&path[..], std::slice::from_ref(&child.name)].concat();
            let folder = format!("{}/{}", place.folder, child.name);
            let file = format!("{folder}.rs");
            match (child.inline, self.sources.get(&file)) {
                (Some(body), _) => {
                    self.enter(path, Place { file: place.file.clone(), folder, position }, &body);
                }
                (None, Some(text)) => self.enter(path, Place { file, folder, position }, &code(text)),
                (None, None) => {
                    self.faults.push(format!("{}: module {} has no {file}", place.file, child.name));
                }
            }
        }
        let named = paths(&rest).iter().filter_map(|named| absolute(&path, named)).collect();
        self.places.insert(path, (place, named));
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = self.faults.clone();
        for (path, (place, named)) in &self.places {
            for target in named.iter().map(|named| self.longest_module(named)) {
                if let Some(why) = self.judge(path, target) {
                    breaches.push(format!("{}: {} names {}, {why}", place.file, spell(path), spell(target)));
                }
            }
        }
        breaches.dedup();
        breaches
    }

    fn longest_module<'a>(&self, named: &'a [String]) -> &'a [String] {
        let length = (0..=named.len()).rev().find(|&n| self.places.contains_key(&named[..n]));
        &named[..length.unwrap_or(0)]
    }

    fn judge(&self, path: &[String], target: &[String]) -> Option<&'static str> {
        let same = path.iter().zip(target).take_while(|(a, b)| a == b).count();
        if same == path.len() {
            return None; // itself, or a module of its own
        }
        if same == target.len() {
            return Some("its own parent");
        }
        let position = |of: &[String]| self.places[&of[..=same]].0.position;
        (position(target) > position(path)).then_some("which is declared below it")
    }
}

/// The path from the root of the crate, without `crate`; `None` if it does not begin inside this crate.
fn absolute(module: &[String], named: &[String]) -> Option<Vec<String>> {
    // `crate` or `super` alone is that of `pub(crate)`, which is a visibility and names no module.
    let (first, rest) = named.split_first().filter(|(_, rest)| !rest.is_empty())?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "super" => {
            let ups = named.iter().take_while(|word| *word == "super").count();
            let base = module.get(..module.len().checked_sub(ups)?)?;
            Some([base, &named[ups..]].concat())
        }
        _ => None,
    }
}

fn spell(path: &[String]) -> String {
    [&["crate".to_owned()], path].concat().join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a crate whose root declares `first` and then `second`, with the given files.
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let root = ("src/lib.rs", "pub mod first; pub mod second;");
        let empty = [("src/first.rs", ""), ("src/second.rs", "")];
        let files = empty.iter().chain([&root]).chain(files);
        let sources = files.map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        assert_eq!(breaches(&sources, "src/lib.rs"), expected);
    }

    #[test]
    fn modules_above_and_submodules_may_be_named() {
        check(
            &[("src/second.rs", "use crate::first::{A, B}; pub(crate) struct S; use crate::second::T;")],
            &[],
        );
        check(
            &[
                ("src/second.rs", "mod a; mod b; use self::a::A;"),
                ("src/second/a.rs", "use crate::first;"),
                ("src/second/b.rs", "use super::a::A; fn f() -> crate::second::a::A {}"),
            ],
            &[],
        );
        check(
            &[(
                "src/first.rs",
                "use serde::{self, ser}; use std::super_like; #[cfg(test)] use crate::second;",
            )],
            &[],
        );
    }

    #[test]
    fn modules_below_may_not_be_named_in_any_spelling() {
        let expected = &["src/first.rs: crate::first names crate::second, which is declared below it"];
        for text in [
            "use crate::second::A;",
            "use crate::{second::A, first};",
            "use super::second;",
            "fn f() { crate::second::g(); }",
            "fn f() { println!(\"{}\", crate::second::G); }",
            "fn f() { if true { let x: Vec<super::second::A> = y; } }",
        ] {
            check(&[("src/first.rs", text)], expected);
        }
        check(
            &[
                ("src/second.rs", "mod a; mod b;"),
                ("src/second/a.rs", "use super::b::B;"),
                ("src/second/b.rs", ""),
            ],
            &["src/second/a.rs: crate::second::a names crate::second::b, which is declared below it"],
        );
        check(
            &[("src/first.rs", "mod a;"), ("src/first/a.rs", "use crate::second::B;")],
            &["src/first/a.rs: crate::first::a names crate::second, which is declared below it"],
        );
    }

    #[test]
    fn a_parent_may_not_be_named() {
        for text in [
            "use super::A;",
            "use super::*;",
            "use crate::second::A;",
            "fn f() { super::super::second::g() }",
        ] {
            check(
                &[("src/second.rs", "mod a;"), ("src/second/a.rs", text)],
                &["src/second/a.rs: crate::second::a names crate::second, its own parent"],
            );
        }
        check(
            &[("src/first.rs", "use crate::Settings;")],
            &["src/first.rs: crate::first names crate, its own parent"],
        );
        check(
            &[("src/first.rs", "mod inner { use super::A; }")],
            &["src/first.rs: crate::first::inner names crate::first, its own parent"],
        );
    }

    #[test]
    fn a_module_without_a_file_of_its_name_is_a_breach() {
        check(&[("src/first.rs", "mod a;")], &["src/first.rs: module a has no src/first/a.rs"]);
    }
}
