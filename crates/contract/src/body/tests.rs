//! Tests of reading bodies.

use super::*;
use proptest::prelude::*;

#[test]
fn a_member_that_is_null_is_absent() {
    for body in [
        r#"{"features":[1,2],"instances":null}"#,
        r#"{"instances":null,"features":[1,2]}"#,
        r#"{"features":null,"instances":[[1,2]]}"#,
    ] {
        let rows = parse(body.as_bytes()).unwrap();
        assert_eq!(rows.iter().map(<[f64]>::to_vec).collect::<Vec<_>>(), [vec![1.0, 2.0]], "{body}");
    }
    let both = parse(br#"{"features":null,"instances":null}"#).unwrap_err();
    assert_eq!(both, BodyError::Faults(vec![FieldFault::at(FEATURES, &[], Fault::Missing)]));
}

fn faults(body: &str) -> Vec<String> {
    match parse(body.as_bytes()) {
        Err(BodyError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{body} gave {other:?}"),
    }
}

fn malformed(body: &str) -> String {
    match parse(body.as_bytes()) {
        Err(BodyError::Malformed(text)) => text,
        other => panic!("{body} gave {other:?}"),
    }
}

#[test]
fn one_row_and_many_rows_are_read() {
    let rows = parse(br#"{"features":[1,-2.5,3e2]}"#).unwrap();
    assert!(rows.is_single());
    assert_eq!(rows, Rows::single(vec![1.0, -2.5, 300.0]));

    let rows = parse(br#" {"instances":[[1],[],[2,3]]} "#).unwrap();
    assert!(!rows.is_single());
    assert_eq!(rows.iter().collect::<Vec<_>>(), [&[1.0][..], &[], &[2.0, 3.0]]);
}

#[test]
fn a_byte_order_mark_is_named() {
    let with_mark = |mark: &[u8]| match parse(&[mark, br#"{"features":[1]}"#].concat()) {
        Err(BodyError::Malformed(text)) => text,
        other => panic!("{mark:?} gave {other:?}"),
    };
    let expected = "the body begins with a byte order mark; send JSON in UTF-8 without it";
    assert_eq!(with_mark(b"\xef\xbb\xbf"), expected);
    assert!(with_mark(b"\xff\xfe").starts_with("the body is UTF-16; send JSON in UTF-8"));
}

#[test]
fn every_error_is_reported_with_its_place() {
    assert_eq!(faults("{}"), ["features is required"]);
    assert_eq!(faults("[1,2]"), ["body must be an object with features or instances"]);
    assert_eq!(faults(r#"{"features":4}"#), ["features must be a list"]);
    assert_eq!(faults(r#"{"features":null}"#), ["features is required"]);
    assert_eq!(
        faults(r#"{"features":[1,"2",null,true,[3],1e999,-1e999]}"#),
        [
            "features.1 must be a number",
            "features.2 must be a number",
            "features.3 must be a number",
            "features.4 must be a number",
            "features.5 must be a finite number",
            "features.6 must be a finite number",
        ]
    );
    assert_eq!(
        faults(r#"{"instances":[[1],2,["x"]]}"#),
        ["instances.1 must be a list", "instances.2.0 must be a number"]
    );
    assert_eq!(faults(r#"{"instances":[]}"#), ["instances must have at least one row"]);
    assert_eq!(
        faults(r#"{"features":[1],"instances":[[1]]}"#),
        ["instances must not be given together with features"]
    );
}

#[test]
fn an_unknown_member_is_refused_by_name_before_and_after_the_rows() {
    let unknown = "is unknown; the body takes features or instances";
    for body in [
        r#"{"names":["a"],"features":[1]}"#,
        r#"{"features":[1],"names":["a"]}"#,
        r#"{"instances":[[1]],"names":{"a":[[[]]]}}"#,
        r#"{"names":null}"#,
    ] {
        assert_eq!(faults(body), [format!("names {unknown}")], "{body}");
    }
    assert_eq!(
        faults(r#"{"model":"iris","features":[1,"2"],"Instances":[]}"#),
        [
            format!("model {unknown}"),
            format!("Instances {unknown}"),
            "features.1 must be a number".to_owned()
        ]
    );
    let long = format!(r#"{{"features":[1],"{}\u001b[2J":1}}"#, "é".repeat(10_000));
    assert_eq!(faults(&long), [format!("{} {unknown}", "é".repeat(64))]);
    assert_eq!(faults("{\"\\u001b[2J\":1}"), [format!("\u{fffd}[2J {unknown}")]);
    let many: Vec<_> = (0..100_000).map(|number| format!(r#""m{number}":1"#)).collect();
    assert_eq!(faults(&format!("{{{}}}", many.join(","))).len(), FAULTS_MAX);
}

#[test]
fn malformed_json_is_reported_with_line_and_column() {
    for body in ["{", r#"{"features":[1,"#, r#"{"features":[NaN]}"#, "not json", r#"{"features":[1]}x"#] {
        assert!(malformed(body).contains("line 1 column"), "{body}");
    }
    for twice in [
        r#"{"features":[1],"features":[2]}"#,
        r#"{"instances":null,"instances":[[2]]}"#,
        r#"{"features":null,"features":null}"#,
    ] {
        assert!(malformed(twice).contains("duplicate field"), "{twice}");
    }
    assert!(matches!(parse(b"{\"features\":[\xff]}"), Err(BodyError::Malformed(_))));
}

#[test]
fn the_depth_and_number_of_errors_are_bounded() {
    let deep = format!(r#"{{"features":[{}{}]}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(faults(&deep), ["features.0 must be a number"]);
    let many = format!(r#"{{"features":[{}0]}}"#, "\"x\",".repeat(10_000));
    assert_eq!(faults(&many).len(), FAULTS_MAX);
}

#[test]
fn a_body_that_the_gateway_accepts_is_within_the_limit_of_the_predictor_after_encoding() {
    let signs = ["", "-"];
    let digits = ["0", "1", "9", "12", "1.5"];
    let exponents = (-30..30).map(|exponent| format!("e{exponent}")).chain([String::new()]);
    for exponent in exponents {
        for text in signs.iter().flat_map(|sign| digits.map(|digits| format!("{sign}{digits}{exponent}"))) {
            let number: f64 = text.parse().unwrap();
            let in_full = serde_json::to_string(&number).unwrap();
            // Each with the comma after it.
            let growth = (in_full.len() + 1) as f64 / (text.len() + 1) as f64;
            let allowed = (FORWARDED_MAX_BYTES / BODY_MAX_BYTES) as f64;
            assert!(growth <= allowed, "{text} becomes {in_full}");
        }
    }
}

proptest! {
    #[test]
    fn a_row_is_unchanged_after_json(values in prop::collection::vec(prop::num::f64::NORMAL, 0..20)) {
        let body = serde_json::to_vec(&serde_json::json!({"features": values})).unwrap();
        prop_assert_eq!(parse(&body).unwrap(), Rows::single(values));
    }

    #[test]
    fn any_bytes_give_rows_or_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
        drop(parse(&body));
    }

    #[test]
    fn any_text_of_json_characters_gives_rows_or_an_error(body in r#"[\[\]{}",:a-f0-9eE.\- ]{0,40}"#) {
        drop(parse(format!(r#"{{"features":{body}}}"#).as_bytes()));
    }
}

#[test]
fn frequent_causes_of_malformed_json_are_named() {
    for (body, expected) in [
        (&b""[..], "the body is empty; send a JSON object"),
        (b" \n", "the body is empty; send a JSON object"),
        (b"\x1f\x8b\x08\0", "the body is compressed by gzip; send JSON uncompressed"),
        (b"{\"features\":[1,NaN]}", "JSON has no NaN (line 1 column 16); values must be finite numbers"),
        (
            b"{\"features\":[\n1,-Infinity]}",
            "JSON has no -Infinity (line 2 column 4); values must be finite numbers",
        ),
        (b"{\"features\":[1,", "EOF while parsing a value at line 1 column 15"),
    ] {
        assert_eq!(parse(body), Err(BodyError::Malformed(expected.to_owned())), "{body:?}");
    }
}
