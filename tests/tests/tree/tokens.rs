//! Splits Rust text into tokens without `#[cfg(test)]` items, so that comments and strings are not taken for code.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// The tokens of a file without items under `#[cfg(test)]`.
pub(crate) fn code(text: &str) -> Vec<TokenTree> {
    without_tests(all(text))
}

/// The tokens of a file, including tests.
pub(crate) fn all(text: &str) -> TokenStream {
    // The compiler has parsed the tree before this test runs, so only an example of a test can fail here.
    text.parse().unwrap_or_else(|error| panic!("failed to parse Rust tokens: {error}"))
}

/// A module as its parent declares it.
pub(crate) struct Declared {
    pub(crate) name: String,
    /// The tokens between its braces, if the module has no file.
    pub(crate) inline: Option<Vec<TokenTree>>,
}

/// Splits tokens into the modules they declare, in order, and the rest.
pub(crate) fn modules(tokens: &[TokenTree]) -> (Vec<Declared>, Vec<TokenTree>) {
    let (mut declared, mut rest) = (Vec::new(), Vec::new());
    let mut tokens = tokens.iter().cloned().peekable();
    while let Some(token) = tokens.next() {
        if !is_ident(&token, "mod") {
            rest.push(token);
            continue;
        }
        let Some(TokenTree::Ident(name)) = tokens.next() else { continue };
        let inline = match tokens.next() {
            Some(TokenTree::Group(body)) => Some(body.stream().into_iter().collect()),
            _ => None,
        };
        declared.push(Declared { name: name.to_string(), inline });
    }
    (declared, rest)
}

/// All paths, as segments. `{a, b}` is two paths, and `*` is a segment.
pub(crate) fn paths(tokens: &[TokenTree]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut tokens = tokens.iter().cloned().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // The name after `as` is new.
            TokenTree::Ident(word) if word == "as" => {
                drop(tokens.next_if(|t| matches!(t, TokenTree::Ident(_))));
            }
            TokenTree::Ident(word) => found.extend(path(word.to_string(), &mut tokens)),
            TokenTree::Group(group) => found.extend(paths(&inside(&group))),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// All string literals, without quotes.
pub(crate) fn strings(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(strings(&inside(group))),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.trim_start_matches(['b', 'c', 'r', '#']).trim_end_matches('#');
                found.extend(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(str::to_owned));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    found
}

/// The words of all attributes, inner and outer: `ignore` of `#[ignore]`, `cfg test` of `#[cfg(test)]`.
pub(crate) fn attributes(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let before = tokens[..index].last();
        if group.delimiter() == Delimiter::Bracket
            && before.is_some_and(|t| is_punct(t, '#') || is_punct(t, '!'))
        {
            found.push(words(group));
        }
        found.extend(attributes(&inside(group)));
    }
    found
}

/// The rest of a path after its first segment.
fn path(first: String, tokens: &mut Peekable<impl Iterator<Item = TokenTree> + Clone>) -> Vec<Vec<String>> {
    let mut segments = vec![first];
    while takes_double_colon(tokens) {
        match tokens.peek() {
            Some(TokenTree::Ident(word)) => segments.push(word.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let tails = paths(&inside(group));
                tokens.next();
                return tails.into_iter().map(|tail| [&segments[..], &tail].concat()).collect();
            }
            _ => break,
        }
        tokens.next();
    }
    vec![segments]
}

fn takes_double_colon(tokens: &mut Peekable<impl Iterator<Item = TokenTree> + Clone>) -> bool {
    let mut ahead = tokens.clone();
    let first = matches!(ahead.next(), Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint);
    let is = first && ahead.next().is_some_and(|t| is_punct(&t, ':'));
    if is {
        tokens.nth(1);
    }
    is
}

fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let starts_attribute = is_punct(&token, '#');
        match (starts_attribute, tokens.peek()) {
            (true, Some(TokenTree::Group(group))) if is_for_tests(group) => skip_item(&mut tokens),
            _ => kept.push(match token {
                TokenTree::Group(group) => {
                    let body = without_tests(group.stream()).into_iter().collect();
                    TokenTree::Group(Group::new(group.delimiter(), body))
                }
                other @ (TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) => other,
            }),
        }
    }
    kept
}

/// Whether an attribute has the condition `cfg(test)`, alone or with others.
fn is_for_tests(attribute: &Group) -> bool {
    let words = words(attribute);
    let has = |word: &str| words.split(' ').any(|w| w == word);
    words.starts_with("cfg ") && has("test") && !has("not")
}

/// Skips the item of the current attribute, up to its `;` or closing brace.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>) {
    tokens
        .find(|t| is_punct(t, ';') || matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace));
}

fn words(group: &Group) -> String {
    let text = group.to_string();
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn inside(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(&code(text)).iter().filter(|p| p.len() > 1).map(|p| p.join("::")).collect()
    }

    #[test]
    fn a_path_is_found_in_code_and_not_in_comments_strings_or_tests() {
        let text = r##"
            //! `crate::doc`
            use crate::{a::{B, self as c}, d::*};
            /* crate::comment */
            fn f() -> Vec<crate::e::E> { log!("crate::string", r#"crate::raw"#, crate::g()); x::<super::h::H>() }
            #[cfg(test)]
            #[expect(dead_code)]
            mod tests { use crate::test; }
            #[cfg(all(test, unix))] use crate::test; #[cfg(not(test))] use crate::l;
            impl crate::i::I for J { #[cfg(test)] fn t() { crate::t() } fn u(&self) { super::super::k::k() } }
        "##;
        let expected = [
            "crate::a::B",
            "crate::a::self",
            "crate::d::*",
            "crate::e::E",
            "crate::g",
            "super::h::H",
            "crate::l",
            "crate::i::I",
            "super::super::k::k",
        ];
        assert_eq!(named(text), expected);
    }

    #[test]
    fn modules_keep_their_order_and_inline_ones_their_body() {
        let (declared, rest) = modules(&code("pub mod b; mod a { use x::y; } #[cfg(test)] mod t; fn f() {}"));
        let names: Vec<_> = declared.iter().map(|m| (m.name.as_str(), m.inline.is_some())).collect();
        assert_eq!(names, [("b", false), ("a", true)]);
        assert_eq!(rest.into_iter().collect::<TokenStream>().to_string(), "pub fn f () { }");
    }

    #[test]
    fn strings_and_attributes_are_read() {
        let tokens = code(r##"#![doc = "d"] #[ignore = "x"] fn f() { g(["a", r#"b"#, b"c", 'd']); }"##);
        assert_eq!(strings(&tokens), ["d", "x", "a", "b", "c"]);
        assert_eq!(attributes(&tokens), ["doc d", "ignore x"]);
    }
}
