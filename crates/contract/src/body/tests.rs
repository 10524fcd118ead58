//! Tests of reading bodies.

use super::*;
use crate::fault::{FAULTS_MAX, Fault};
use proptest::prelude::*;

/// The rows of a body of numbers.
fn numbers(body: &str) -> Rows {
    match parse(body.as_bytes()).unwrap().rows {
        BodyRows::Numbers(rows) => rows,
        BodyRows::Named(rows) => panic!("{body} gave {rows:?}"),
    }
}

/// An age from 0 to 150 that may be missing, a colour that may not, and a number.
fn people() -> [Feature; 3] {
    let colours = ["red", "blue", "dark \"green\""].map(str::to_owned).to_vec();
    [
        Feature { min: Some(0.0), max: Some(150.0), missing: true, ..Feature::named("age") },
        Feature { categories: colours, ..Feature::named("colour") },
        Feature::named("größe"),
    ]
}

fn resolve(body: &str) -> Result<Rows, Vec<String>> {
    let rows = parse(body.as_bytes()).unwrap().into_rows(&people());
    rows.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// The rows as text, because NaN is not equal to itself.
fn shown(rows: &Rows) -> String {
    format!("{:?}", rows.iter().collect::<Vec<_>>())
}

#[test]
fn a_member_that_is_null_is_absent() {
    for body in [
        r#"{"features":[1,2],"instances":null}"#,
        r#"{"instances":null,"features":[1,2]}"#,
        r#"{"features":null,"instances":[[1,2]]}"#,
    ] {
        let features = [Feature::named("a"), Feature::named("b")];
        let body = parse(body.as_bytes()).unwrap();
        let is_single = body.is_single();
        let rows = body.into_rows(&features).unwrap();
        assert_eq!((shown(&rows).as_str(), rows.is_single()), ("[[1.0, 2.0]]", is_single));
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
    let rows = numbers(r#"{"features":[1,-2.5,3e2]}"#);
    assert!(rows.is_single());
    assert_eq!(rows, Rows::single(vec![1.0, -2.5, 300.0]));

    let rows = numbers(r#" {"instances":[[1],[],[2,3]]} "#);
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
    assert_eq!(
        faults(r#"{"features":4}"#),
        ["features must be a list of values, or an object of values by feature"]
    );
    assert_eq!(faults(r#"{"features":null}"#), ["features is required"]);
    assert_eq!(
        faults(r#"{"features":[1,"2",null,true,[3],1e999,-1e999]}"#),
        [
            "features.3 must be a number",
            "features.4 must be a number",
            "features.5 must be a finite number",
            "features.6 must be a finite number",
        ]
    );
    assert_eq!(
        faults(r#"{"instances":[[1],2,["x"]]}"#),
        ["instances.1 must be a list of values, or an object of values by feature"]
    );
    assert_eq!(faults(r#"{"instances":[]}"#), ["instances must have at least one row"]);
    assert_eq!(
        faults(r#"{"features":[1],"instances":[[1]]}"#),
        ["instances must not be given together with features"]
    );
}

#[test]
fn an_unknown_member_is_refused_by_name_before_and_after_the_rows() {
    let unknown = "is unknown; the body takes features or instances, and probabilities";
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
        [format!("model {unknown}"), format!("Instances {unknown}")]
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
    let many = format!(r#"{{"features":[{}0]}}"#, "true,".repeat(10_000));
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

#[test]
fn a_missing_value_is_nan_and_refused_where_the_model_takes_none() {
    let rows = numbers(r#"{"features":[null,1,2.5]}"#);
    assert_eq!(shown(&rows), "[[NaN, 1.0, 2.5]]");
    assert_eq!(
        shown(&resolve(r#"{"instances":[[null,1,2.5],[3,0,-1]]}"#).unwrap()),
        "[[NaN, 1.0, 2.5], [3.0, 0.0, -1.0]]"
    );
    assert_eq!(
        resolve(r#"{"instances":[[1,1,2],[null,null,null]]}"#).unwrap_err(),
        [
            "instances.1.1 must be a number: the model takes no missing values here",
            "instances.1.2 must be a number: the model takes no missing values here",
        ]
    );
}

#[test]
fn rows_by_name_are_read_in_any_order() {
    let one = resolve(r#"{"features":{"größe":180,"age":null,"colour":"blue"}}"#).unwrap();
    assert_eq!((shown(&one).as_str(), one.is_single()), ("[[NaN, 1.0, 180.0]]", true));
    let escaped = r#"{"instances":[{"age":7,"colour":"dark \"green\"","gr\u00f6\u00dfe":1},[8,"r\u0065d",2],{"colour":0,"größe":3,"age":9}]}"#;
    let body = parse(escaped.as_bytes()).unwrap();
    assert_eq!((body.len(), body.is_single(), body.is_empty()), (3, false, false));
    let rows = resolve(escaped).unwrap();
    assert_eq!(
        (shown(&rows).as_str(), rows.is_single()),
        ("[[7.0, 2.0, 1.0], [8.0, 0.0, 2.0], [9.0, 0.0, 3.0]]", false)
    );
    // The same with many rows, where names are looked up in maps.
    let many =
        format!(r#"{{"instances":[{}]}}"#, vec![r#"{"größe":3,"colour":"blue","age":9}"#; 50].join(","));
    assert_eq!(shown(&resolve(&many).unwrap()), shown(&Rows::instances([[9.0, 1.0, 3.0]; 50])));
}

#[test]
fn a_row_by_name_with_another_set_of_features_is_refused_by_name() {
    for (body, expected) in [
        (
            r#"{"features":{"colour":"red","größe":1}}"#,
            vec!["features.age is required; send null if the value is missing"],
        ),
        (r#"{"instances":[{"age":1,"colour":"red"}]}"#, vec!["instances.0.größe is required"]),
        (
            r#"{"instances":[{"age":1,"colour":"red","größe":1,"Age":2}]}"#,
            vec!["instances.0.Age is no feature of the model, which has age, colour, größe"],
        ),
        (
            r#"{"features":{"age":1,"colour":"red","größe":1,"age":1}}"#,
            vec!["features.age is given more than once"],
        ),
        (
            r#"{"features":{"age":151,"colour":"red","größe":1}}"#,
            vec!["features.age age must be between 0 and 150, but is 151"],
        ),
        (
            r#"{"features":{"age":1,"colour":"red","größe":null}}"#,
            vec!["features.größe must be a number: the model takes no missing values here"],
        ),
        (r#"{"features":{"age":"1","colour":"red","größe":1}}"#, vec!["features.age must be a number"]),
        (
            r#"{"features":{}}"#,
            vec![
                "features.age is required; send null if the value is missing",
                "features.colour is required",
                "features.größe is required",
            ],
        ),
        (
            r#"{"features":[1,"red"]}"#,
            vec!["features must have 3 values, one per feature of the model, but has 2"],
        ),
        (r#"{"features":[1,"red","x"]}"#, vec!["features.2 must be a number"]),
    ] {
        assert_eq!(resolve(body).unwrap_err(), expected, "{body}");
    }
    assert_eq!(faults(r#"{"features":{"age":true}}"#), ["features.age must be a number"]);
    let long =
        format!(r#"{{"features":{{"{}\u001b":1,"age":1,"colour":"red","größe":1}}}}"#, "é".repeat(10_000));
    let found = resolve(&long).unwrap_err();
    assert_eq!(
        found,
        [format!("features.{} is no feature of the model, which has age, colour, größe", "é".repeat(64))]
    );
}

#[test]
fn a_value_that_is_no_category_is_refused_with_the_categories() {
    let known = r#"must be one of "red", "blue", "dark "green"", or an index from 0 to 2, but is"#;
    for (value, shown) in
        [(r#""Red""#, r#""Red""#), ("3", "3"), ("1.5", "1.5"), ("-1", "-1"), (r#""1""#, r#""1""#)]
    {
        let expected = format!("features.1 {known} {shown}");
        assert_eq!(resolve(&format!(r#"{{"features":[1,{value},1]}}"#)).unwrap_err(), [expected]);
        let expected = format!("instances.0.colour {known} {shown}");
        let named = format!(r#"{{"instances":[{{"age":1,"colour":{value},"größe":1}}]}}"#);
        assert_eq!(resolve(&named).unwrap_err(), [expected]);
    }
}

/// The index of the category that a value stands for, in all forms of a body; or the fault.
fn category(names: &[&str], value: &str) -> Result<f64, String> {
    let categories = names.iter().map(|name| (*name).to_owned()).collect();
    let features = [Feature { categories, missing: true, ..Feature::named("c") }];
    let bodies = [
        format!(r#"{{"features":[{value}]}}"#),
        format!(r#"{{"features":{{"c":{value}}}}}"#),
        format!(r#"{{"instances":[[{value}],[{value}],[{value}],[{value}],[{value}]]}}"#),
    ];
    let resolve = |body: &String| match parse(body.as_bytes()).unwrap().into_rows(&features) {
        Ok(rows) => Ok(rows.values()[0]),
        Err(faults) => Err(faults[0].fault.to_string()),
    };
    let found: Vec<_> = bodies.iter().map(resolve).collect();
    assert!(found.iter().all(|one| *one == found[0]), "{value}: {found:?}");
    found[0].clone()
}

#[test]
fn a_number_is_the_category_of_this_name_where_names_are_numbers() {
    let sizes = ["10", "20.0", "-1", "0"];
    for (value, index) in
        [("10", 0.0), ("10.0", 0.0), ("2e1", 1.0), (r#""20.0""#, 1.0), ("-1", 2.0), ("-0.0", 3.0)]
    {
        assert_eq!(category(&sizes, value), Ok(index), "{value}");
    }
    for value in ["1", "3", "2", r#""20""#] {
        let expected = format!(r#"must be one of "10", "20.0", "-1", "0", but is {value}"#);
        assert_eq!(category(&sizes, value), Err(expected));
    }
    assert!(
        category(&["1", "01", "2"], "1")
            .unwrap_err()
            .starts_with("is 1, which stands for several categories")
    );
    assert_eq!(category(&["1", "01", "2"], r#""01""#), Ok(1.0));
}

#[test]
fn where_some_names_are_numbers_a_number_is_a_name_or_an_index_but_never_guessed() {
    let mixed = ["a", "1", "0", "7"];
    assert_eq!(category(&mixed, "7"), Ok(3.0), "only a name");
    assert_eq!(category(&mixed, "3"), Ok(3.0), "only an index");
    assert_eq!(category(&mixed, "1"), Ok(1.0), "both are the same");
    let ambiguous = "is 0, which stands for several categories: write the category's name in quotes";
    assert_eq!(category(&mixed, "0"), Err(ambiguous.to_owned()));
    assert_eq!(category(&mixed, r#""0""#), Ok(2.0));
    assert_eq!(category(&["a", "inf", "nan"], "1"), Ok(1.0), "words that floats are read from are words");
}

#[test]
fn probabilities_are_requested_before_or_after_the_rows() {
    for (body, expected) in [
        (r#"{"features":[1],"probabilities":true}"#, true),
        (r#"{"probabilities":true,"instances":[[1]]}"#, true),
        (r#"{"features":[1],"probabilities":false}"#, false),
        (r#"{"features":[1],"probabilities":null}"#, false),
        (r#"{"probabilities":true,"features":{"a":1}}"#, true),
        (r#"{"features":{"a":1}}"#, false),
    ] {
        assert_eq!(parse(body.as_bytes()).unwrap().probabilities, expected, "{body}");
    }
    assert_eq!(faults(r#"{"features":[1],"probabilities":1}"#), ["probabilities must be true or false"]);
    assert_eq!(faults(r#"{"features":[1],"probabilities":"true"}"#), ["probabilities must be true or false"]);
    assert!(
        malformed(r#"{"features":[1],"probabilities":true,"probabilities":true}"#)
            .contains("duplicate field")
    );
}

#[test]
fn many_short_rows_with_faults_are_read_only_until_the_errors_are_enough() {
    let features: Vec<_> = (0..10_000).map(|index| Feature::named(format!("f{index}"))).collect();
    let body = format!(r#"{{"instances":[{}{{}}]}}"#, "{},".repeat(200_000));
    let found = parse(body.as_bytes()).unwrap().into_rows(&features).unwrap_err();
    assert_eq!(found.len(), FAULTS_MAX);
    assert_eq!(found[0].to_string(), "instances.0.f0 is required");
}

proptest! {
    #[test]
    fn a_row_by_name_is_the_row_by_position(values in prop::collection::vec(prop::num::f64::NORMAL, 1..10), seed in any::<u64>()) {
        let features: Vec<_> = (0..values.len()).map(|index| Feature::named(format!("f{index}"))).collect();
        let mut order: Vec<_> = (0..values.len()).collect();
        order.sort_by_key(|index| seed.rotate_left(*index as u32 * 7) ^ (*index as u64 * 0x9e37_79b9));
        let cells: Vec<_> = order.iter().map(|index| format!("\"f{index}\":{}", serde_json::to_string(&values[*index]).unwrap())).collect();
        let body = format!("{{\"features\":{{{}}}}}", cells.join(","));
        prop_assert_eq!(parse(body.as_bytes()).unwrap().into_rows(&features).unwrap(), Rows::single(values));
    }

    #[test]
    fn a_row_is_unchanged_after_json(values in prop::collection::vec(prop::num::f64::NORMAL, 0..20)) {
        let body = serde_json::to_vec(&serde_json::json!({"features": values})).unwrap();
        let expected = Body { rows: BodyRows::Numbers(Rows::single(values)), probabilities: false };
        prop_assert_eq!(parse(&body).unwrap(), expected);
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
