//! Explains why a body is not valid JSON, in plain words for frequent causes.

/// How bodies begin that are not JSON in UTF-8, and what to do about it.
const MARKS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "the body is compressed by gzip; send JSON uncompressed"),
    (b"\xef\xbb\xbf", "the body begins with a byte order mark; send JSON in UTF-8 without it"),
    (b"\xff\xfe", "the body is UTF-16; send JSON in UTF-8, without a byte order mark"),
    (b"\xfe\xff", "the body is UTF-16; send JSON in UTF-8, without a byte order mark"),
];

/// Why `body` is not JSON, given the parser's error: in plainer words for frequent causes.
pub fn malformed(body: &[u8], error: &serde_json::Error) -> String {
    if let Some((_, words)) = MARKS.iter().find(|(mark, _)| body.starts_with(mark)) {
        return (*words).to_owned();
    }
    if body.trim_ascii().is_empty() {
        return "the body is empty; send a JSON object".to_owned();
    }
    let rest = rest_from(body, error);
    let not_finite = ["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"];
    match not_finite.iter().find(|word| rest.starts_with(word.as_bytes())) {
        Some(word) => format!(
            "JSON has no {word} (line {} column {}); values must be finite numbers",
            error.line(),
            error.column()
        ),
        None => error.to_string(),
    }
}

/// The part of `body` that begins at the value at which the parser stopped.
fn rest_from<'a>(body: &'a [u8], error: &serde_json::Error) -> &'a [u8] {
    let line = body.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let end = error.column().min(line.len());
    let begin = line[..end].iter().rposition(|byte| !(byte.is_ascii_alphabetic() || *byte == b'-'));
    &line[begin.map_or(0, |before| before + 1)..]
}
