//! Tests of the bodies that are exchanged with predictors.

use super::*;
use canopy_contract::body::BodyRows;
use canopy_contract::describe::{Metric, Quality};
use canopy_contract::names::ModelRef;
use canopy_contract::predict::Answer as PublicAnswer;
use canopy_contract::schema::{Class, Feature};

use crate::metrics::Metrics;

fn description(classes: Vec<Class>) -> ModelDescription {
    ModelDescription {
        model: "demo".parse().unwrap(),
        namespace: "default".into(),
        version: "1.0".into(),
        revision: "6f3a9c1e".into(),
        task: Task::Classification,
        features: vec![Feature::named("x")],
        classes,
        outputs: Vec::new(),
        quality: Some(Quality { metric: Metric::Accuracy, value: 0.9, samples: 30 }),
        digest: "00".into(),
    }
}

fn revision(description: &ModelDescription) -> Revision {
    let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
    let name = ModelRef::parse("demo.default", "default").unwrap();
    Revision::parse(&serde_json::to_vec(description).unwrap(), &name, &metrics).unwrap()
}

fn unnamed() -> ModelDescription {
    description(vec![Class::Index(0), Class::Index(1)])
}

fn named() -> ModelDescription {
    description(vec![Class::Name("no".into()), Class::Name("yes".into())])
}

fn request(rows: &Rows, probabilities: bool) -> Body {
    Body { rows: BodyRows::Numbers(rows.clone()), probabilities }
}

/// The client's response to `request`, made from the predictor's, and that it is what the contract describes.
fn respond(response: &str, request: &Body, model: &ModelDescription) -> String {
    let answers = decode_response(response.as_bytes(), request, model).unwrap();
    let text = String::from_utf8(answers.write(&revision(model), "7").unwrap().to_vec()).unwrap();
    let public: PublicAnswer = serde_json::from_str(&text).unwrap();
    let again = serde_json::to_value(&public).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    text
}

#[test]
fn rows_are_sent_to_the_predictor_without_loss_of_precision() {
    let body = |rows, wants| String::from_utf8(encode_request(&rows, wants).unwrap().to_vec()).unwrap();
    assert_eq!(body(Rows::single(vec![0.1, -2.0, 1e300]), false), r#"{"features":[0.1,-2.0,1e+300]}"#);
    assert_eq!(body(Rows::instances([[0.5], [f64::NAN]]), false), r#"{"instances":[[0.5],[null]]}"#);
    assert_eq!(body(Rows::single(vec![0.5]), true), r#"{"features":[0.5],"probabilities":true}"#);
    assert_eq!(body(Rows::instances([[0.5]]), true), r#"{"instances":[[0.5]],"probabilities":true}"#);
}

#[test]
fn a_response_to_one_row_has_a_confidence_and_a_response_to_several_rows_has_a_list() {
    let one = r#"{"prediction":1,"confidence":0.87}"#;
    let single = request(&Rows::single(vec![1.0]), false);
    assert_eq!(
        respond(one, &single, &unnamed()),
        r#"{"success":true,"prediction":{"class":1,"proba":0.87},"confidence":0.87,"service":"demo","version":"1.0","id":"7","cached":false}"#
    );
    assert_eq!(
        respond(
            &format!(r#"{{"predictions":[{one}]}}"#),
            &request(&Rows::instances([[1.0]]), false),
            &named()
        ),
        r#"{"success":true,"predictions":[{"class":1,"label":"yes","proba":0.87}],"service":"demo","version":"1.0","id":"7","cached":false}"#
    );
}

#[test]
fn requested_probabilities_have_the_names_of_the_classes_or_are_a_list() {
    let one = r#"{"prediction":1,"confidence":0.75,"probabilities":[0.25,0.75]}"#;
    let single = request(&Rows::single(vec![1.0]), true);
    let text = respond(one, &single, &named());
    assert!(text.contains(r#""proba":0.75,"probabilities":{"no":0.25,"yes":0.75}}"#), "{text}");
    let text = respond(one, &single, &unnamed());
    assert!(text.contains(r#""proba":0.75,"probabilities":[0.25,0.75]}"#), "{text}");
    let repeated = description(vec![Class::Name("a".into()), Class::Name("a".into())]);
    let text = respond(one, &single, &repeated);
    assert!(text.contains(r#""probabilities":[0.25,0.75]}"#), "{text}");
    let two = request(&Rows::instances([[1.0], [2.0]]), true);
    let text = respond(&format!(r#"{{"predictions":[{one},{one}]}}"#), &two, &named());
    assert_eq!(text.matches(r#""probabilities":{"no":0.25,"yes":0.75}"#).count(), 2, "{text}");

    let check = |body: &str, why: &str| {
        let error = decode_response(body.as_bytes(), &single, &named()).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    };
    check(r#"{"prediction":1,"confidence":0.75}"#, "missing field `probabilities`");
    check(
        r#"{"prediction":1,"confidence":0.75,"probabilities":[1]}"#,
        "has 1 probabilities for a row, expected 2",
    );
    check(r#"{"prediction":1,"confidence":0.75,"probabilities":[0,1.5]}"#, "the probability 1.5");
}

#[test]
fn a_regression_has_values_without_a_confidence() {
    let model = ModelDescription { task: Task::Regression, quality: None, ..description(Vec::new()) };
    let single = request(&Rows::single(vec![1.0]), false);
    assert_eq!(
        respond(r#"{"prediction":3.5}"#, &single, &model),
        r#"{"success":true,"prediction":{"value":3.5},"service":"demo","version":"1.0","id":"7","cached":false}"#
    );
    let two = request(&Rows::instances([[1.0], [2.0]]), false);
    assert_eq!(
        respond(r#"{"predictions":[{"prediction":-1},{"prediction":2.5}]}"#, &two, &model),
        r#"{"success":true,"predictions":[{"value":-1.0},{"value":2.5}],"service":"demo","version":"1.0","id":"7","cached":false}"#
    );
    let error = decode_response(br#"{"prediction":null}"#, &single, &model).unwrap_err();
    assert!(error.contains("invalid response"), "{error}");
    let error = decode_response(br#"{"prediction":[1]}"#, &single, &model).unwrap_err();
    assert!(error.contains("invalid response"), "{error}");
}

#[test]
fn a_regression_with_several_outputs_has_values_by_name() {
    let outputs = vec!["width".to_owned(), "height".to_owned()];
    let model =
        ModelDescription { task: Task::Regression, outputs, quality: None, ..description(Vec::new()) };
    let single = request(&Rows::single(vec![1.0]), false);
    let text = respond(r#"{"prediction":[3.5,-1]}"#, &single, &model);
    assert!(text.contains(r#""prediction":{"values":{"width":3.5,"height":-1.0}},"#), "{text}");
    let two = request(&Rows::instances([[1.0], [2.0]]), false);
    let text = respond(r#"{"predictions":[{"prediction":[1,2]},{"prediction":[3,4]}]}"#, &two, &model);
    assert!(
        text.contains(
            r#""predictions":[{"values":{"width":1.0,"height":2.0}},{"values":{"width":3.0,"height":4.0}}]"#
        ),
        "{text}"
    );
    for (body, why) in [
        (r#"{"prediction":[1]}"#, "the response has 1 values for a row, expected 2"),
        (r#"{"prediction":1}"#, "invalid response"),
        (r#"{"prediction":[1,null]}"#, "invalid response"),
    ] {
        let error = decode_response(body.as_bytes(), &single, &model).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    }
}

#[test]
fn responses_that_do_not_match_the_rows_are_rejected_with_the_reason() {
    let (single, two) = (Rows::single(vec![1.0]), Rows::instances([[1.0], [2.0]]));
    let check = |body: &str, rows: &Rows, why: &str| {
        let error = decode_response(body.as_bytes(), &request(rows, false), &unnamed()).expect_err(body);
        assert!(error.contains(why), "{body}: {error:?} instead of {why:?}");
    };
    check("", &single, "invalid response: EOF");
    check("<html>", &single, "invalid response: expected value");
    check(r#"{"prediction":1}"#, &single, "missing field `confidence`");
    check(r#"{"prediction":-1,"confidence":0.5}"#, &single, "invalid value");
    check(
        r#"{"prediction":2,"confidence":0.5}"#,
        &single,
        "the response has class 2, but the model has 2 classes",
    );
    check(r#"{"prediction":1,"confidence":1.5}"#, &single, "the probability 1.5");
    check(r#"{"prediction":1,"confidence":-0.1}"#, &single, "the probability -0.1");
    check(r#"{"prediction":1,"confidence":1e999}"#, &single, "number out of range");
    check(r#"{"prediction":1,"confidence":0.5}x"#, &single, "trailing characters");
    check(r#"{"predictions":[]}"#, &single, "missing field `prediction`");
    check(r#"{"prediction":1,"confidence":0.5}"#, &two, "missing field `predictions`");
    check(
        r#"{"predictions":[{"prediction":1,"confidence":0.5}]}"#,
        &two,
        "the response has 1 rows, expected 2",
    );
    let deep = format!(r#"{{"more":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    check(&deep, &single, "missing field `prediction`");
}

#[test]
fn unknown_members_of_a_response_are_ignored() {
    let body = br#"{"prediction":1,"confidence":1.0000000001,"probabilities":[0,1]}"#;
    let answers = decode_response(body, &request(&Rows::single(vec![1.0]), false), &unnamed()).unwrap();
    assert_eq!(answers.one().map(|one| one.prediction), Some(1));
}
