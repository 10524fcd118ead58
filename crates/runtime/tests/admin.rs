//! The admin port and the API pages, called in process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
use axum::body::Body;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::Peer;
use canopy_runtime::{admin, docs, metrics};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tower::ServiceExt as _;
use utoipa::OpenApi;

async fn get(router: &Router, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let answer = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn readiness_has_a_reason_and_liveness_does_not_depend_on_it() {
    let readiness = Readiness::new();
    let gate = readiness.gate("model demo", "training");
    let router = admin::router(readiness.clone(), metrics::registry("test").unwrap(), LogControl::Off);

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
async fn the_log_filter_can_be_changed_from_this_machine_only() {
    let router = admin::router(Readiness::new(), metrics::registry("test").unwrap(), LogControl::Local);
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

#[tokio::test]
async fn the_log_filter_cannot_be_changed_where_that_is_disabled() {
    let router = admin::router(Readiness::new(), metrics::registry("test").unwrap(), LogControl::Off);
    let mut request = Request::put("/log").body(Body::from("debug")).unwrap();
    request.extensions_mut().insert(Peer(SocketAddr::from(([127, 0, 0, 1], 1))));
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("--log-control or CANOPY_LOG_CONTROL=true"), "{text}");
}

/// A collector that takes until it is released.
struct Slow {
    gauge: IntGauge,
    begun: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl Collector for Slow {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // It fails only when the test has ended.
        let _ = self.begun.send(());
        let _ = self.release.lock().unwrap().recv();
        self.gauge.collect()
    }
}

#[tokio::test]
async fn a_slow_scrape_does_not_delay_probes() {
    let registry = metrics::registry("test").unwrap();
    let ((begun, has_begun), (release, released)) = (channel(), channel());
    let gauge = IntGauge::new("slow", "Slow.").unwrap();
    let slow = Slow { gauge, begun, release: Mutex::new(released) };
    registry.register(Box::new(slow)).unwrap();
    let router = admin::router(Readiness::new(), registry, LogControl::Off);
    let scraping = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/metrics").await.0 }
    });
    // Registering a collector only reads its description.
    while has_begun.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    // On the one thread of this test: it is answered only if the scrape is on another.
    assert_eq!(get(&router, "/live").await.0, StatusCode::OK);
    assert!(!scraping.is_finished());
    release.send(()).unwrap();
    assert_eq!(scraping.await.unwrap(), StatusCode::OK);
}

#[derive(OpenApi)]
#[openapi(info(title = "a test", description = "of pages"))]
struct Description;

#[tokio::test]
async fn the_api_pages_restrict_the_browser_to_this_host() {
    let router: Router = docs::routes(Description::openapi);

    let (status, _, body) = get(&router, "/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&router, "/openapi.json").await.2, body, "made once, the same each time");
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
