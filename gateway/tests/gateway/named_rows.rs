//! Rows by name, missing values, categories, probabilities of all classes, and values: what predictors get and clients are answered.

use serde_json::{Value, json};

use crate::fake_predictor::FakePredictor;
use crate::gateway::Gateway;

/// The body of the last request that the predictor got.
fn sent(predictor: &FakePredictor) -> Value {
    serde_json::from_str(&predictor.script.last.lock().unwrap().1).unwrap()
}

/// A predictor whose feature `b` may be missing and whose feature `c` has categories.
async fn with_categories() -> (FakePredictor, Gateway) {
    let predictor = FakePredictor::of("demo").await;
    predictor.change_revision("00000001", |model| {
        model["features"][1]["missing"] = json!(true);
        model["features"][2] = json!({"name": "c", "categories": ["red", "blue"]});
        model["classes"] = json!(["no", "yes"]);
    });
    let gateway = Gateway::with_predictor(&predictor).await;
    (predictor, gateway)
}

#[tokio::test]
async fn rows_by_name_reach_the_predictor_in_the_order_of_its_features() {
    let (predictor, gateway) = with_categories().await;
    let one = gateway.post("/api/predict", r#"{"features":{"d":4,"c":"blue","b":null,"a":1}}"#).await;
    // The fake predictor adds the first two features, and a sum with a missing value is not above 0.
    assert_eq!(one.json()["prediction"], json!({"class": 0, "label": "no", "proba": 0.87}));
    assert_eq!(sent(&predictor), json!({"features": [1.0, null, 1.0, 4.0]}));

    let body = r#"{"instances":[{"a":-1,"b":-2,"c":0,"d":3},[1,2,"red",3]]}"#;
    let two = gateway.post("/api/predict", body).await.json();
    let classes: Vec<_> = two["predictions"].as_array().unwrap().iter().map(|row| &row["class"]).collect();
    assert_eq!(classes, [0, 1]);
    assert_eq!(sent(&predictor), json!({"instances": [[-1.0, -2.0, 0.0, 3.0], [1.0, 2.0, 0.0, 3.0]]}));
}

/// Otherwise the predictor would take the index of a category for its name.
#[tokio::test]
async fn categories_that_are_numbers_reach_the_predictor_as_the_client_sent_them() {
    let (predictor, gateway) = with_categories().await;
    predictor.change_revision("00000002", |model| {
        model["features"][2] = json!({"name": "c", "categories": ["1", "2", "0"]});
    });
    for body in [
        json!({"features": [1.0, 2.0, 2.0, 3.0]}),
        json!({"features": {"a": 1, "b": 2, "c": "2", "d": 3}}),
        json!({"instances": [[1, 2, "0", 3], {"a": 1, "b": 2, "c": 0, "d": 3}]}),
    ] {
        let answered = gateway.post("/api/predict", body.to_string()).await;
        assert_eq!(answered.status, 200, "{body}");
        assert_eq!(sent(&predictor), body);
    }
    let sent_before = predictor.predictions();
    let answered = gateway.post("/api/predict", r#"{"features":[1,2,3,3]}"#).await;
    answered.problem(422, "invalid_features");
    assert_eq!(
        answered.json()["errors"],
        json!({"features.2": [r#"must be one of "1", "2", "0", but is 3"#]})
    );
    assert_eq!(predictor.predictions(), sent_before);
}

#[tokio::test]
async fn a_value_that_is_no_category_and_a_null_that_is_not_taken_reach_no_predictor() {
    let (predictor, gateway) = with_categories().await;
    let unknown = r#"must be one of "red", "blue", or an index from 0 to 1, but is"#;
    for (body, errors) in [
        (r#"{"features":[1,2,"green",3]}"#, json!({"features.2": [format!("{unknown} \"green\"")]})),
        (r#"{"features":[1,2,2,3]}"#, json!({"features.2": [format!("{unknown} 2")]})),
        (r#"{"instances":[[1,2,0.5,3]]}"#, json!({"instances.0.2": [format!("{unknown} 0.5")]})),
        (
            r#"{"features":{"a":null,"b":null,"c":"red"}}"#,
            json!({
                "features.a": ["must be a number: the model takes no missing values here"],
                "features.d": ["is required"],
            }),
        ),
        (
            r#"{"features":{"a":1,"c":"red","d":1}}"#,
            json!({"features.b": ["is required; send null if the value is missing"]}),
        ),
    ] {
        let answered = gateway.post("/api/predict", body).await;
        answered.problem(422, "invalid_features");
        assert_eq!(answered.json()["errors"], errors, "{body}");
    }
    assert_eq!(predictor.predictions(), 0);
}

#[tokio::test]
async fn probabilities_of_all_classes_are_answered_by_name_or_as_a_list() {
    let (predictor, gateway) = with_categories().await;
    let body = r#"{"features":[1,2,0,3],"probabilities":true}"#;
    let expected =
        json!({"class": 1, "label": "yes", "proba": 0.87, "probabilities": {"no": 0.13, "yes": 0.87}});
    assert_eq!(gateway.post("/api/predict", body).await.json()["prediction"], expected);
    assert_eq!(sent(&predictor), json!({"features": [1.0, 2.0, 0.0, 3.0], "probabilities": true}));

    predictor.change_revision("00000002", |model| model["classes"] = json!([0, 1]));
    let body = r#"{"probabilities":true,"instances":[{"a":-1,"b":0,"c":"red","d":1}]}"#;
    let expected = json!([{"class": 0, "proba": 0.87, "probabilities": [0.87, 0.13]}]);
    assert_eq!(gateway.post("/api/predict", body).await.json()["predictions"], expected);
}

#[tokio::test]
async fn a_regression_answers_a_value_or_values_by_name() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.change_revision("00000002", |model| {
        model["task"] = json!("Regression");
        model["classes"] = json!([]);
        model.as_object_mut().unwrap().remove("quality");
    });
    let one = gateway.post("/api/predict", r#"{"features":[1,2,3,4]}"#).await.json();
    assert_eq!((&one["prediction"], &one["confidence"]), (&json!({"value": 3.0}), &Value::Null));
    let refused = gateway.post("/api/predict", r#"{"features":[1,2,3,4],"probabilities":true}"#).await;
    refused.problem(422, "invalid_features");
    let errors = json!({"probabilities": ["must be false or absent: the model has no classes"]});
    assert_eq!(refused.json()["errors"], errors);

    predictor.change_revision("00000003", |model| model["outputs"] = json!(["width", "height"]));
    let two = gateway.post("/api/predict", r#"{"instances":[[1,2,3,4],[5,6,7,8]]}"#).await.json();
    let expected =
        json!([{"values": {"width": 1.0, "height": 1.0}}, {"values": {"width": 5.0, "height": 5.0}}]);
    assert_eq!(two["predictions"], expected);
}

#[tokio::test]
async fn an_answer_with_too_many_probabilities_is_refused_before_it_is_computed() {
    let predictor = FakePredictor::of("demo").await;
    predictor.change_revision("00000002", |model| model["classes"] = json!((0..1000).collect::<Vec<_>>()));
    let gateway = Gateway::with_predictor(&predictor).await;
    let body = format!(r#"{{"instances":[{}[1,2,3,4]],"probabilities":true}}"#, "[1,2,3,4],".repeat(200));
    let answered = gateway.post("/api/predict", body).await;
    let problem = answered.problem(422, "invalid_features");
    let expected =
        "instances would give 1000 numbers for each of 201 rows; one answer has at most 200000 numbers";
    assert!(problem.detail.starts_with(expected), "{}", problem.detail);
    assert_eq!(predictor.predictions(), 0);
}

#[tokio::test]
async fn rows_by_name_are_sent_again_to_a_new_revision_with_another_order() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let body = r#"{"features":{"a":1,"b":2,"c":-3,"d":-4}}"#;
    assert_eq!(gateway.post("/api/predict", body).await.class(), 1);
    predictor.change_revision("00000002", |model| model["features"].as_array_mut().unwrap().reverse());
    let answered = gateway.post("/api/predict", body).await;
    assert_eq!((answered.class(), answered.header("canopy-revision")), (json!(0), "00000002"));
    assert_eq!(sent(&predictor), json!({"features": [-4.0, -3.0, 2.0, 1.0]}));
    assert_eq!(
        predictor.predictions(),
        3,
        "the first answer of the new revision was for numbers in the old order"
    );
}
