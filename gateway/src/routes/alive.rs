//! `GET /api/test`, for people. Probes use the admin port.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::request_context;

/// The gateway is running.
#[derive(Serialize, ToSchema)]
struct ServiceStatus {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The name of the process.
    #[schema(example = "canopy-gateway")]
    service: &'static str,
    /// The version of the gateway.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

/// Reports that the gateway is running.
#[utoipa::path(get, path = "/api/test", tag = "gateway", responses((status = 200, body = ServiceStatus)))]
pub(crate) async fn test(State(app): State<Arc<App>>, request: Request) -> Response {
    request_context::handle(&app, "/api/test", request, async |_, _| {
        let service = env!("CARGO_PKG_NAME");
        Ok(Json(ServiceStatus { status: "ok", service, version: env!("CARGO_PKG_VERSION") }).into_response())
    })
    .await
}
