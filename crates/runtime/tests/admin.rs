//! The admin port and the API's pages, asked in process.
//!
//! Comes in: requests to routers. Goes out: what they answer. Never: a socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::serve::Peer;
use canopy_runtime::{admin, docs, metrics};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use utoipa::OpenApi;

async fn get(router: &Router, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let answer = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn readiness_is_told_with_its_reason_and_liveness_does_not_depend_on_it() {
    let readiness = Readiness::new();
    let gate = readiness.gate("model demo", "training");
    let router = admin::router(readiness.clone(), metrics::registry("test").unwrap());

    assert_eq!(get(&router, "/live").await.0, StatusCode::OK);
    let (status, _, body) = get(&router, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, br#"{"ready":false,"reason":"model demo: training"}"#);

    gate.open();
    let (status, _, body) = get(&router, "/ready").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &br#"{"ready":true}"#[..]));

    readiness.leave();
    assert_eq!(get(&router, "/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/live").await.0, StatusCode::OK);

    let (status, headers, body) = get(&router, "/metrics").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(String::from_utf8(body).unwrap().contains("canopy_build_info{process=\"test\""));
}

#[tokio::test]
async fn the_levels_of_the_log_are_changed_from_this_machine_only() {
    let router = admin::router(Readiness::new(), metrics::registry("test").unwrap());
    let put = async |from: Option<&str>| {
        let mut request = Request::put("/log").body(Body::from("debug")).unwrap();
        if let Some(from) = from {
            request.extensions_mut().insert(Peer(SocketAddr::new(from.parse().unwrap(), 1)));
        }
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        answer.status()
    };
    for stranger in [None, Some("10.0.0.1"), Some("::ffff:10.0.0.1"), Some("2001:db8::1")] {
        assert_eq!(put(stranger).await, StatusCode::FORBIDDEN, "{stranger:?}");
    }
    for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(put(Some(own)).await, StatusCode::NOT_FOUND, "{own}: this test has no log");
    }
}

#[derive(OpenApi)]
#[openapi(info(title = "a test", description = "of pages"))]
struct Description;

#[tokio::test]
async fn the_pages_of_the_api_hold_the_browser_to_this_host() {
    let router: Router = docs::routes(Description::openapi);

    let (status, _, body) = get(&router, "/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8(body).unwrap().contains(r#""title":"a test""#));

    assert_eq!(get(&router, "/docs").await.1["location"], "/docs/");
    for page in ["/docs/", "/redoc"] {
        let (status, headers, body) = get(&router, page).await;
        assert_eq!(
            (status, headers["content-type"].to_str().unwrap().starts_with("text/html")),
            (StatusCode::OK, true)
        );
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        assert!(!String::from_utf8(body).unwrap().contains("https://"), "{page} names another host");
    }
    let (status, headers, body) = get(&router, "/redoc/redoc.standalone.js").await;
    assert_eq!((status, headers["content-encoding"].to_str().unwrap()), (StatusCode::OK, "gzip"));
    assert_eq!(body[..2], [0x1f, 0x8b]);
    let (_, _, body) = get(&router, "/docs/swagger-initializer.js").await;
    assert!(String::from_utf8(body).unwrap().contains("/openapi.json"));
    assert_eq!(get(&router, "/docs/nothing.js").await.0, StatusCode::NOT_FOUND);
}
