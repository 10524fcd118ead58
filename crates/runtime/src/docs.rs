//! Serves the `OpenAPI` description at `/openapi.json`, Swagger UI at `/docs` and `ReDoc` at `/redoc`, without external hosts.
//!
//! The description is built once, at the first request for it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{StatusCode, header};
use utoipa::openapi::OpenApi;

/// `bundles/redoc.standalone.js` of the npm package; see `assets/README.md`.
const REDOC: &[u8] = include_bytes!("../assets/redoc.standalone.js.gz");

/// The browser must load these pages from this host only: the bundle would otherwise load a logo from another host.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'self' 'unsafe-inline'; \
                      style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
                      worker-src blob:; child-src blob:";

const REDOC_PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>API</title><link rel="icon" href="data:,"></head>
<body style="margin:0">
<redoc spec-url="openapi.json" disable-search="true"></redoc>
<script src="redoc/redoc.standalone.js"></script>
</body>
</html>
"#;

/// The routes for the description that `describe` returns.
pub fn routes<S: Clone + Send + Sync + 'static>(describe: fn() -> OpenApi) -> Router<S> {
    let description: Arc<OnceLock<Option<Bytes>>> = Arc::default();
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { openapi(description.get_or_init(|| made(describe)).as_ref()) }),
        )
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(|| async { swagger("index.html") }))
        .route("/docs/{*file}", get(|Path(file): Path<String>| async move { swagger(&file) }))
        .route("/redoc", get(|| async { with_policy(Html(REDOC_PAGE)) }))
        .route("/redoc/redoc.standalone.js", get(|| async { redoc() }))
}

fn made(describe: fn() -> OpenApi) -> Option<Bytes> {
    describe().to_json().ok().map(Bytes::from)
}

fn openapi(description: Option<&Bytes>) -> Response {
    match description {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn redoc() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CONTENT_ENCODING, "gzip")];
    (headers, REDOC).into_response()
}

fn swagger(file: &str) -> Response {
    static CONFIG: OnceLock<Arc<utoipa_swagger_ui::Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| utoipa_swagger_ui::Config::from("/openapi.json").into());
    match utoipa_swagger_ui::serve(file, config.clone()) {
        Ok(Some(file)) => {
            let bytes = match file.bytes {
                // Most are static data of more than a megabyte, which need not be copied for each request.
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            with_policy(([(header::CONTENT_TYPE, file.content_type)], bytes))
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn with_policy(answer: impl IntoResponse) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], answer).into_response()
}
