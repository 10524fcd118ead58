//! Rules for one file: a header, a limit of lines, a name that is unique in its folder, and no leftovers.

use proc_macro2::TokenTree;

use crate::tokens::{all, attributes, code, modules, paths};

/// The maximum number of lines of a file, including tests.
const LINES_MAX: usize = 450;
/// Names that do not describe the content, and `mod`, whose module has the name of its folder.
const EMPTY_NAMES: [&str; 9] =
    ["mod", "util", "utils", "common", "helper", "helpers", "misc", "types", "shared"];

/// Returns all breaches in one file.
pub(crate) fn breaches(path: &str, text: &str) -> Vec<String> {
    let tokens: Vec<_> = all(text).into_iter().collect();
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    let lines = text.lines().count();
    let mut breaches = Vec::new();
    let mut breach = |is: bool, what: &str| {
        if is {
            breaches.push(format!("{path}: {what}"));
        }
    };
    breach(!text.starts_with("//! "), "does not begin with a //! header that says what the module does");
    breach(EMPTY_NAMES.contains(&stem), "has a name that does not describe its content");
    breach(lines > LINES_MAX, &format!("has {lines} lines, more than {LINES_MAX}"));
    breach(
        attributes(&tokens).iter().any(|a| !a.starts_with("doc ") && a.split(' ').any(|w| w == "ignore")),
        "has a test that is ignored",
    );
    breach(
        paths(&tokens).iter().any(|p| p.ends_with(&["thread".into(), "sleep".into()])),
        "blocks a thread in sleep",
    );
    breach(
        path.ends_with("/src/lib.rs") && !only_declares(text),
        "has other items than declarations of modules",
    );
    breaches
}

/// Whether a file has only `mod x;` and `pub mod x;`, with their attributes.
fn only_declares(text: &str) -> bool {
    let (declared, rest) = modules(&code(text));
    let harmless = |token: &TokenTree| match token {
        TokenTree::Ident(word) => word == "pub",
        TokenTree::Punct(sign) => matches!(sign.as_char(), '#' | '!'),
        TokenTree::Group(group) => {
            matches!(group.delimiter(), proc_macro2::Delimiter::Bracket) || group.to_string() == "(crate)"
        }
        TokenTree::Literal(_) => false,
    };
    declared.iter().all(|module| module.inline.is_none()) && rest.iter().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(breaches(path, text), expected);
    }

    #[test]
    fn a_file_with_a_header_is_accepted() {
        check(
            "a/src/lib.rs",
            "//! A.\n#![doc = \"x\"]\npub mod a;\n/// B.\n#[cfg(test)]\nmod b;\npub(crate) mod c;\n",
            &[],
        );
        check(
            "a/src/b.rs",
            "//! B.\n\nfn f() { sleep(1); /** ignore */ tokio::time::sleep(d).await } // #[ignore]\n",
            &[],
        );
    }

    #[test]
    fn each_breach_is_reported() {
        let silent = "a/src/b.rs: does not begin with a //! header that says what the module does";
        check("a/src/b.rs", "fn f() {}", &[silent]);
        check("a/src/b.rs", "// B.\n", &[silent]);
        check(
            "a/src/b/mod.rs",
            "//! B.\n",
            &["a/src/b/mod.rs: has a name that does not describe its content"],
        );
        check(
            "a/src/helpers.rs",
            "//! B.\n",
            &["a/src/helpers.rs: has a name that does not describe its content"],
        );
        let long = format!("//! B.\n{}", "\n".repeat(450));
        check("a/src/b.rs", &long, &["a/src/b.rs: has 451 lines, more than 450"]);
        for text in
            ["#[ignore] fn f() {}", "#[ignore = \"slow\"] fn f() {}", "#[cfg_attr(x, ignore)] fn f() {}"]
        {
            let test = format!("//! B.\n#[cfg(test)] mod tests {{ #[test] {text} }}");
            check("a/src/b.rs", &test, &["a/src/b.rs: has a test that is ignored"]);
        }
        for text in [
            "use std::thread::{self, sleep};",
            "fn f() { thread::sleep(d) }",
            "fn f() { std::thread::sleep(d) }",
        ] {
            check("a/src/b.rs", &format!("//! B.\n{text}"), &["a/src/b.rs: blocks a thread in sleep"]);
        }
        for text in ["pub use a::A;", "fn f() {}", "mod a { fn f() {} }", "const A: u8 = 1;", "use std::fs;"]
        {
            let expected = ["a/src/lib.rs: has other items than declarations of modules"];
            check("a/src/lib.rs", &format!("//! A.\nmod b;\n{text}"), &expected);
        }
    }
}
