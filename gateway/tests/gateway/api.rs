//! Every route, as documented.

use http::{Method, Request};
use serde_json::json;

use crate::fake_predictor::FakePredictor;
use crate::gateway::{Gateway, ROW, settings};

#[tokio::test]
async fn the_test_route_reports_ok() {
    let answered = Gateway::new(&settings(&[])).await.get("/api/test").await;
    assert_eq!((answered.status, answered.json()["status"].as_str()), (200, Some("ok")));
}

#[tokio::test]
async fn users_without_a_database_are_alice_and_bob() {
    let gateway = Gateway::new(&settings(&[])).await;
    let all = gateway.get("/api/users").await;
    assert_eq!(
        all.body,
        r#"{"users":[{"id":1,"name":"Alice","email":"alice@test.com"},{"id":2,"name":"Bob","email":"bob@test.com"}]}"#
    );
    assert_eq!(all.header("content-type"), "application/json");
    let bob = gateway.get("/api/users/2").await;
    assert_eq!(bob.json(), json!({"id": 2, "name": "Bob", "email": "bob@test.com"}));
    for nobody in ["3", "0", "-1", "x", "1.0", "99999999999999999999", "%ff"] {
        gateway.get(&format!("/api/users/{nobody}")).await.problem(404, "unknown_user");
    }
}

#[tokio::test]
async fn one_row_is_predicted_by_either_route() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    for path in ["/api/predict", "/api/models/demo/predict", "/api/models/demo.default/predict"] {
        let answered = gateway.post(path, ROW).await;
        let id = answered.header("canopy-prediction-id").to_owned();
        assert_eq!(
            answered.json(),
            json!({
                "success": true, "prediction": {"class": 1, "proba": 0.87}, "confidence": 0.87,
                "service": "demo", "version": "1.0", "id": id, "cached": false,
            })
        );
        assert_eq!(answered.header("canopy-revision"), "6f3a9c1e");
        assert_eq!(answered.header("content-type"), "application/json");
        assert_eq!((id.len(), &id[14..15]), (36, "7"), "{id} is no UUID of version 7");
    }
}

#[tokio::test]
async fn several_rows_are_predicted_in_order_without_a_common_confidence() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let answered = gateway.post("/api/predict", r#"{"instances":[[1,2,0,0],[-1,-2,0,0]]}"#).await.json();
    assert_eq!(answered["predictions"], json!([{"class": 1, "proba": 0.87}, {"class": 0, "proba": 0.87}]));
    assert!(answered.get("prediction").is_none() && answered.get("confidence").is_none(), "{answered}");
}

#[tokio::test]
async fn numbers_reach_the_predictor_without_loss() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.post("/api/predict", r#" {"features": [0.1, -1e-7, 9.999999999999998, 10]} "#).await.class();
    let (_, body) = predictor.script.last.lock().unwrap().clone();
    assert_eq!(body, r#"{"features":[0.1,-1e-7,9.999999999999998,10.0]}"#);
}

#[tokio::test]
async fn a_class_name_is_the_label() {
    let predictor = FakePredictor::of("iris").await;
    predictor.change_revision("00000001", |model| model["classes"] = json!(["setosa", "versicolor"]));
    let gateway = Gateway::new(&settings(&[("iris", &predictor)])).await;
    let answered = gateway.post("/api/models/iris/predict", ROW).await.json();
    assert_eq!(answered["prediction"], json!({"class": 1, "label": "versicolor", "proba": 0.87}));
}

#[tokio::test]
async fn models_are_listed_with_descriptions_and_unavailable_ones_by_name() {
    let (demo, iris) = (FakePredictor::of("demo").await, FakePredictor::of("iris").await);
    let gateway = Gateway::new(&settings(&[("demo", &demo), ("iris", &iris)])).await;
    let description = demo.script.description.lock().unwrap().clone();
    assert_eq!(gateway.get("/api/models/demo").await.json(), description);
    let stopped = iris.stop().await;
    let listed = gateway.get("/api/models").await.json();
    assert_eq!(listed, json!({"models": [description], "unavailable": ["iris.default"], "incomplete": []}));
    let iris = stopped.restart().await;
    let both = gateway.get("/api/models").await.json();
    assert_eq!(both["models"][1], iris.script.description.lock().unwrap().clone());
    assert_eq!(both["unavailable"], json!([]));
}

#[tokio::test]
async fn an_unknown_model_is_a_404_without_a_call_to_a_predictor() {
    let predictor = FakePredictor::of("iris").await;
    // The default model, in a namespace that is not served.
    let gateway = Gateway::new(&settings(&[("iris.shop", &predictor)])).await;
    gateway.predict().await.problem(404, "unknown_model");
    for name in ["iris", "iris.shop", "iris.shop.svc", "IRIS", "a_b", "%ff", "iris-pods", "-"] {
        gateway.post(&format!("/api/models/{name}/predict"), ROW).await.problem(404, "unknown_model");
        gateway.get(&format!("/api/models/{name}")).await.problem(404, "unknown_model");
    }
    let long = gateway.get(&format!("/api/models/{}", "x".repeat(5000))).await;
    assert!(long.problem(404, "unknown_model").detail.len() < 200, "{long:?}");
    let none = json!({"models": [], "unavailable": [], "incomplete": []});
    assert_eq!(gateway.get("/api/models").await.json(), none);
    assert_eq!(predictor.connections(), 0);
}

#[tokio::test]
async fn a_namespace_follows_the_model_name_after_a_dot() {
    let predictor = FakePredictor::of("iris").await;
    predictor.change_revision("00000001", |model| model["namespace"] = json!("shop"));
    let mut settings = settings(&[("iris.shop", &predictor)]);
    settings.namespaces = Some("shop".to_owned());
    let gateway = Gateway::new(&settings).await;
    gateway.post("/api/models/iris.shop/predict", ROW).await.class();
    gateway.post("/api/models/iris/predict", ROW).await.problem(404, "unknown_model");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let gateway = Gateway::new(&settings(&[])).await;
    for path in ["/", "/api", "/api/users/", "/api/models/demo/predict/", "/api/predictions/", "/%ff"] {
        gateway.get(path).await.problem(404, "unknown_path");
    }
    for (method, path, allowed) in [
        (Method::GET, "/api/predict", "POST"),
        (Method::DELETE, "/api/users", "GET,HEAD"),
        (Method::POST, "/api/models", "GET,HEAD"),
        (Method::PUT, "/api/models/demo/predict", "POST"),
    ] {
        let request = Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
        let answered = gateway.send(request).await;
        answered.problem(405, "method_not_allowed");
        assert_eq!(answered.header("allow"), allowed, "{path}");
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_route_and_both_viewers_are_served() {
    let gateway = Gateway::new(&settings(&[])).await;
    let openapi = gateway.get("/openapi.json").await.json();
    let paths: Vec<_> = openapi["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/api/models",
            "/api/models/{model}",
            "/api/models/{model}/predict",
            "/api/predict",
            "/api/predictions",
            "/api/predictions/{id}",
            "/api/predictions/{id}/feedback",
            "/api/test",
            "/api/users",
            "/api/users/{id}",
        ]
    );
    let predict = &openapi["paths"]["/api/predict"]["post"]["responses"];
    let statuses: Vec<_> = predict.as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["200", "400", "404", "408", "413", "415", "422", "503", "504"]);
    assert!(predict["422"]["content"]["application/problem+json"].is_object(), "{predict}");
    for schema in ["Answer", "ModelDescription", "PredictRequest", "Problem", "User"] {
        assert!(openapi["components"]["schemas"][schema].is_object(), "{schema}");
    }
    for (path, part) in [("/docs/", "swagger-ui"), ("/redoc", "<redoc")] {
        let page = gateway.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(String::from_utf8_lossy(&page.body).contains(part), "{path}");
    }
}
