//! Every answer of every route, in process.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use canopy_contract::rows::Rows;
use canopy_predictor::engine::head;
use canopy_predictor::error::ENDINGS;
use canopy_predictor::serving::app::Limits;
use canopy_predictor::serving::routes::openapi;
use futures_util::{FutureExt, StreamExt as _};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;

use crate::harness::{Answer, LIMITS, Port, sum};

/// Asks a model of two features, `age` from 0 to 150 and `income`, and compares the whole answer.
async fn check(body: &str, status: u16, expected: &str) {
    let answer = Port::serving(sum).post(body.to_owned()).await;
    assert_eq!((answer.status, answer.body.as_str()), (status, expected), "{body}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("canopy-revision"), "6f3a9c1e", "{body}");
}

#[tokio::test]
async fn one_row_is_answered_with_one_prediction_and_many_with_a_list() {
    check(r#"{"features":[20,5.5]}"#, 200, r#"{"prediction":1,"confidence":0.255}"#).await;
    check(r#"{"features":[0,-0.0]}"#, 200, r#"{"prediction":0,"confidence":0.0}"#).await;
    check(
        r#"{"instances":[[1,2],[1,-2.5]]}"#,
        200,
        r#"{"predictions":[{"prediction":1,"confidence":0.03},{"prediction":0,"confidence":0.015}]}"#,
    )
    .await;
    check(r#"{"instances":[[1,2]]}"#, 200, r#"{"predictions":[{"prediction":1,"confidence":0.03}]}"#).await;
}

#[tokio::test]
async fn values_that_do_not_fit_the_model_are_400_with_a_sentence() {
    for (body, detail) in [
        (r#"{"features":[1]}"#, "features must have 2 values, one per feature of the model, but has 1"),
        (r#"{"features":[]}"#, "features must have 2 values, one per feature of the model, but has 0"),
        (r#"{"features":[1e999,1]}"#, "features.0 must be a finite number"),
        (r#"{"features":[1,-1e999]}"#, "features.1 must be a finite number"),
        (r#"{"features":[150.5,1]}"#, "features.0 age must be between 0 and 150, but is 150.5"),
        (
            r#"{"instances":[[1,2],[-1,2],[1,2,3]]}"#,
            "instances.1.0 age must be between 0 and 150, but is -1; \
             instances.2 must have 2 values, one per feature of the model, but has 3",
        ),
    ] {
        check(body, 400, &format!(r#"{{"detail":"Invalid features: {detail}"}}"#)).await;
    }
}

const NOT_A_ROW: &str = "must be a list of values, or an object of values by feature";

#[tokio::test]
async fn rows_by_name_are_answered_like_rows_by_position() {
    check(r#"{"features":{"income":5.5,"age":20}}"#, 200, r#"{"prediction":1,"confidence":0.255}"#).await;
    check(
        r#"{"instances":[{"age":1,"income":2},[1,-2.5]]}"#,
        200,
        r#"{"predictions":[{"prediction":1,"confidence":0.03},{"prediction":0,"confidence":0.015}]}"#,
    )
    .await;
}

#[tokio::test]
async fn requested_probabilities_are_those_of_all_classes() {
    check(
        r#"{"features":[20,5.5],"probabilities":true}"#,
        200,
        r#"{"prediction":1,"confidence":0.255,"probabilities":[0.745,0.255]}"#,
    )
    .await;
    check(
        r#"{"probabilities":true,"instances":[[25,25],[25,0]]}"#,
        200,
        r#"{"predictions":[{"prediction":1,"confidence":0.5,"probabilities":[0.5,0.5]},{"prediction":1,"confidence":0.25,"probabilities":[0.75,0.25]}]}"#,
    )
    .await;
    let many = format!(r#"{{"instances":[{}[1,1]],"probabilities":true}}"#, "[1,1],".repeat(100_000));
    let detail = "Invalid features: instances would give 2 numbers for each of 100001 rows; one answer has at most 200000 \
                  numbers, so send fewer rows per request";
    check(&many, 400, &format!(r#"{{"detail":"{detail}"}}"#)).await;
}

#[tokio::test]
async fn a_body_of_another_shape_is_422_with_each_place() {
    let fault = |loc: &str, msg: &str, kind: &str| {
        format!(r#"{{"detail":[{{"loc":["body"{loc}],"msg":"{msg}","type":"{kind}"}}]}}"#)
    };
    for (body, loc, msg, kind) in [
        ("{}", r#","features""#, "is required", "missing"),
        ("[1,2]", "", "must be an object with features or instances", "object_type"),
        (r#"{"features":4}"#, r#","features""#, NOT_A_ROW, "list_type"),
        (r#"{"features":[1,"2"]}"#, r#","features",1"#, "must be a number", "number_type"),
        (
            r#"{"features":[1,null]}"#,
            r#","features",1"#,
            "must be a number: the model takes no missing values here",
            "number_type",
        ),
        (r#"{"features":{"age":1}}"#, r#","features","income""#, "is required", "missing"),
        (
            r#"{"instances":[{"age":1,"income":2,"Age":3}]}"#,
            r#","instances",0,"Age""#,
            "is no feature of the model, which has age, income",
            "extra_forbidden",
        ),
        (
            r#"{"features":{"age":1,"income":2,"age":1}}"#,
            r#","features","age""#,
            "is given more than once",
            "repeated",
        ),
        (
            r#"{"features":[1,2],"probabilities":1}"#,
            r#","probabilities""#,
            "must be true or false",
            "bool_type",
        ),
        (r#"{"features":[true,1]}"#, r#","features",0"#, "must be a number", "number_type"),
        (r#"{"instances":[[1,2],3]}"#, r#","instances",1"#, NOT_A_ROW, "list_type"),
        (r#"{"instances":[]}"#, r#","instances""#, "must have at least one row", "too_short"),
        (
            r#"{"features":[1,2],"instances":[[1,2]]}"#,
            r#","instances""#,
            "must not be given together with features",
            "both_given",
        ),
    ] {
        check(body, 422, &fault(loc, msg, kind)).await;
    }
    let deep = format!(r#"{{"features":[1,{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    check(&deep, 422, &fault(r#","features",1"#, "must be a number", "number_type")).await;
}

#[tokio::test]
async fn invalid_json_is_422_with_the_parsers_message() {
    for body in ["{", r#"{"features":[1,2"#, "not json", r#"{"features":[NaN,1]}"#, r#"{"features":[1,2]}}"#]
    {
        let answer = Port::serving(sum).post(body).await;
        let detail: Value = serde_json::from_str(&answer.body).unwrap();
        let fault = &detail["detail"][0];
        assert_eq!(
            (answer.status, &fault["type"], &fault["loc"]),
            (422, &"json_invalid".into(), &["body"][..].into())
        );
        let words = fault["msg"].as_str().unwrap();
        assert!(words.starts_with("JSON decode error: ") && words.contains("line 1 column"), "{words}");
    }
}

#[tokio::test]
async fn a_model_that_fails_or_panics_is_500_and_the_next_request_is_answered() {
    let port = Port::serving(|rows: &Rows| match rows.values()[0] {
        1.0 => Err("no such leaf".into()),
        2.0 => panic!("a defect of the model"),
        _ => sum(rows),
    });
    for body in [r#"{"features":[1,0]}"#, r#"{"features":[2,0]}"#] {
        let answer = port.post(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (500, r#"{"detail":"Model error"}"#));
        assert_eq!(answer.header("canopy-revision"), "6f3a9c1e");
    }
    assert_eq!(port.post(r#"{"features":[3,0]}"#).await.status, 200);
    assert_eq!(port.metric("canopy_predictor_requests_total", &[("reason", "model_failed")]), "2");
}

/// A predictor that failed for it would look faulty to the gateway.
#[tokio::test]
async fn a_row_whose_answer_is_not_finite_is_the_error_of_the_client() {
    let port = Port::serving(|rows: &Rows| {
        let value = |row: &[f64]| head::Answer::Value { prediction: row[0] * row[1] };
        Ok(rows.iter().map(value).collect())
    });
    let expected = |place: &str| {
        format!(
            r#"{{"detail":[{{"loc":["body",{place}],"msg":"gets no finite number from the model: send values nearer to those of its training","type":"value_error"}}]}}"#
        )
    };
    for (body, place) in [
        (r#"{"features":[150,1e308]}"#, r#""features""#),
        (r#"{"instances":[[1,2],[150,1e308],[150,1e308]]}"#, r#""instances",1"#),
    ] {
        let answer = port.post(body).await;
        assert_eq!((answer.status, answer.body), (422, expected(place)), "{body}");
    }
    assert_eq!(
        port.metric("canopy_predictor_requests_total", &[("code", "422"), ("reason", "invalid_features")]),
        "2"
    );
    assert_eq!(port.post(r#"{"instances":[[1,2]]}"#).await.status, 200);
}

#[tokio::test]
async fn a_large_batch_is_answered_in_order_and_its_panic_is_500() {
    let port = Port::serving(|rows: &Rows| {
        assert!(rows.values()[0] > 0.0, "a defect of the model");
        sum(rows)
    });
    let rows: Vec<_> = (1..=5000).map(|i| [f64::from(i % 100) + 1.0, 0.0]).collect();
    let answer = port.post(serde_json::json!({ "instances": rows }).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let confidences =
        body["predictions"].as_array().unwrap().iter().map(|p| p["confidence"].as_f64().unwrap());
    assert!(confidences.eq(rows.iter().map(|row| row[0] / 100.0)));
    assert_eq!(port.metric("canopy_predictor_batch_rows_sum", &[]), "5000");

    let answer = port.post(serde_json::json!({ "instances": vec![[0.0, 0.0]; 5000] }).to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (500, r#"{"detail":"Model error"}"#));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_with_and_without_its_length() {
    let port = Port::empty(Limits { body_bytes: 20, ..LIMITS });
    port.app.loaded(port.engine(sum));
    port.app.proven();
    let too_large = (413, r#"{"detail":"Body too large: at most 20 bytes"}"#.to_owned());

    assert_eq!(port.post(r#"{"features":[10,10]}"#).await.status, 200, "20 bytes are allowed");
    let answer = port.post(r#"{"features":[10,100]}"#).await;
    assert_eq!((answer.status, answer.body), too_large);
    let pieces =
        ["{\"features\":", "[10,", "100]}"].map(|p| Ok::<_, Infallible>(Frame::data(Bytes::from(p))));
    let stream = StreamBody::new(futures_util::stream::iter(pieces));
    let answer = port.post(Body::new(stream)).await;
    assert_eq!((answer.status, answer.body), too_large);
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let pieces =
        ["{\"feat", "ures\":", "[1,", "2]}"].map(|p| Ok::<_, Infallible>(Frame::data(Bytes::from(p))));
    let stream = StreamBody::new(futures_util::stream::iter(pieces));
    let answer = Port::serving(sum).post(Body::new(stream)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"prediction":1,"confidence":0.03}"#));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let port = Port::empty(Limits { body_timeout: Duration::from_millis(20), ..LIMITS });
    port.app.loaded(port.engine(sum));
    port.app.proven();
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let answer = port.post(Body::new(StreamBody::new(never))).await;
    let expected = r#"{"detail":"Body too slow: it must arrive within 0.02 seconds"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (408, expected));
}

#[tokio::test]
async fn bodies_that_are_half_sent_are_bounded_in_all_and_small_ones_still_pass() {
    const MEMORY: usize = 4 << 20;
    let port = Port::empty(Limits { body_memory: Some(MEMORY), ..LIMITS });
    port.app.loaded(port.engine(sum));
    port.app.proven();
    let half = || {
        let pieces = (0..63).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 1 << 14]))));
        let pieces = futures_util::stream::iter(pieces);
        Body::new(StreamBody::new(pieces.chain(futures_util::stream::pending())))
    };
    let mut sending: Vec<_> = (0..10).map(|_| Box::pin(port.post(half()))).collect();
    // Those that there is no room for end when they are polled once; the others wait for the rest of their bodies.
    let ended: Vec<_> = sending.iter_mut().filter_map(FutureExt::now_or_never).collect();
    assert_eq!(ended.len(), 7, "there is room for three");
    for answer in ended {
        assert_eq!((answer.status, answer.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
    }
    assert_eq!(port.app.bodies().held(), 3 * 63 * (1 << 14));
    assert_eq!(port.post(r#"{"features":[1,2]}"#).await.status, 200, "a small one");
    drop(sending);
    assert_eq!(port.app.bodies().held(), 0);
    let closed = [("code", "499"), ("reason", "client_closed")];
    assert_eq!(port.metric("canopy_predictor_requests_total", &closed), "3");
}

#[tokio::test]
async fn a_compressed_body_is_415_and_its_encoding_is_named() {
    let request = |encoding: &str, body: &'static str| {
        Request::post("/predict").header("content-encoding", encoding).body(Body::from(body)).unwrap()
    };
    let port = Port::serving(sum);
    let answer = port.send(request("gzip", "\u{1f}")).await;
    let expected = r#"{"detail":"Unsupported encoding \"gzip\": send JSON without Content-Encoding"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (415, expected));
    assert_eq!(port.send(request("identity", r#"{"features":[1,2]}"#)).await.status, 200);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_404_and_405() {
    let port = Port::serving(sum);
    let answer = port.get("/nothing").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    for (method, path, allowed) in
        [("GET", "/predict", "POST"), ("DELETE", "/health", "GET,HEAD"), ("POST", "/docs", "GET,HEAD")]
    {
        let answer =
            port.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#));
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
        assert_eq!(answer.header("canopy-revision"), "6f3a9c1e");
    }
    assert_eq!(port.metric("canopy_predictor_requests_total", &[("code", "404")]), "1");
    assert_eq!(port.metric("canopy_predictor_requests_total", &[("code", "405")]), "3");
}

#[tokio::test]
async fn until_the_model_is_proven_only_the_proof_is_answered() {
    let port = Port::empty(LIMITS);
    let body = r#"{"features":[1,2]}"#;
    let not_ready = |why: &str| (503, format!(r#"{{"detail":"Model not ready: {why}"}}"#));
    let told = |answer: Answer| (answer.status, answer.body);
    let health = |status: &str, trained: bool, reason: &str| {
        format!(r#"{{"status":"{status}","model":"demo","version":"1.0","trained":{trained}{reason}}}"#)
    };
    let with =
        |token: &str| Request::post("/predict").header("canopy-proof", token).body(Body::from(body)).unwrap();

    assert_eq!(told(port.post(body).await), not_ready("loading"));
    assert_eq!(told(port.get("/model").await), not_ready("loading"));
    assert_eq!(told(port.get("/health").await), (503, health("unhealthy", false, r#","reason":"loading""#)));

    let token = port.app.loaded(port.engine(sum));
    assert_eq!(told(port.post(body).await), not_ready("loading"));
    assert_eq!(told(port.send(with("00000000000000000000000000000000")).await), not_ready("loading"));
    assert_eq!(port.send(with(token.as_str())).await.status, 200);
    assert_eq!(told(port.get("/health").await), (503, health("unhealthy", true, r#","reason":"proving""#)));

    port.app.proven();
    assert_eq!(port.post(body).await.status, 200);
    assert_eq!(told(port.get("/health").await), (200, health("healthy", true, "")));
}

#[tokio::test]
async fn a_refused_model_has_its_reason_in_every_answer() {
    let port = Port::empty(LIMITS);
    let token = port.app.loaded(port.engine(sum));
    port.refuse("golden_mismatch", "it answers otherwise");
    let request = Request::post("/predict")
        .header("canopy-proof", token.as_str())
        .body(Body::from(r#"{"features":[1,2]}"#));
    let answer = port.send(request.unwrap()).await;
    let expected = r#"{"detail":"Model not ready: golden_mismatch: it answers otherwise"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (503, expected));
    assert_eq!(answer.header("canopy-revision"), "6f3a9c1e");
    let health = port.get("/health").await;
    assert_eq!(health.status, 503);
    assert!(health.body.contains(r#""reason":"golden_mismatch: it answers otherwise""#), "{}", health.body);
}

#[tokio::test]
async fn the_model_is_described() {
    let answer = Port::serving(sum).get("/model").await;
    let expected = r#"{"model":"demo","namespace":"default","version":"1.0","revision":"6f3a9c1e","task":"Classification","features":[{"name":"age","min":0.0,"max":150.0},{"name":"income"}],"classes":["no","yes"],"quality":{"metric":"Accuracy","value":0.9,"samples":10},"digest":"00"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
}

#[tokio::test]
async fn a_request_is_counted_once_by_how_it_ended() {
    let port = Port::serving(sum);
    for body in [r#"{"features":[1,2]}"#, r#"{"instances":[[1,2],[1,-2]]}"#, r#"{"features":[1]}"#, "{}", "x"]
    {
        port.post(body).await;
    }
    let counted = [
        (200, "ok", "2"),
        (400, "invalid_features", "1"),
        (422, "invalid_features", "1"),
        (422, "malformed_json", "1"),
    ];
    for (status, code) in ENDINGS {
        let labels =
            [("code", &*status.to_string()), ("reason", code.as_str()), ("model_namespace", "default")];
        let expected =
            counted.iter().find(|(s, c, _)| (*s, *c) == (status, code.as_str())).map_or("0", |(_, _, n)| n);
        assert_eq!(port.metric("canopy_predictor_requests_total", &labels), expected, "{labels:?}");
    }
    assert_eq!(port.metric("canopy_predictor_predictions_total", &[("class", "yes")]), "2");
    assert_eq!(port.metric("canopy_predictor_predictions_total", &[("class", "no")]), "1");
    assert_eq!(port.metric("canopy_predictor_batch_rows_count", &[]), "2");
    assert_eq!(port.metric("canopy_predictor_prediction_duration_seconds_count", &[]), "2");
}

#[tokio::test]
async fn the_description_of_the_api_has_every_route_and_no_other() {
    let port = Port::serving(sum);
    let served: Value = serde_json::from_str(&port.get("/openapi.json").await.body).unwrap();
    assert_eq!(served, serde_json::to_value(openapi()).unwrap());

    let mut described = BTreeSet::new();
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse::<Method>().unwrap();
            let request =
                Request::builder().method(&method).uri(path).body(Body::from(r#"{"features":[1,2]}"#));
            let answer = port.send(request.unwrap()).await;
            assert!(
                operation["responses"][answer.status.to_string()].is_object(),
                "{method} {path}: {answer:?}"
            );
            described.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(described, ["GET /health", "GET /model", "POST /predict"].map(String::from).into());
    for page in ["/docs/", "/redoc"] {
        assert_eq!(port.get(page).await.status, 200, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_their_own_answers() {
    let port = std::sync::Arc::new(Port::serving(sum));
    let asks = (1..=100_u32).map(|age| {
        let port = port.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                let one = port.post(format!(r#"{{"features":[{age},0]}}"#)).await;
                assert_eq!(
                    one.body,
                    format!(r#"{{"prediction":1,"confidence":{:?}}}"#, f64::from(age) / 100.0)
                );
            }
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(20), ask).await.unwrap().unwrap();
    }
    assert_eq!(port.metric("canopy_predictor_requests_total", &[("reason", "ok")]), "2000");
}
