//! The routes of the public API and their `OpenAPI` description. Each module below handles one resource.

mod alive;
mod models;
mod predict;
mod predictions;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use canopy_runtime::docs;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::{ApiError, truncated};
use crate::http::request_context;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Canopy gateway",
    description = "Predictions of the models that are served here. Every error is an RFC 9457 problem whose \
                   `code` is one word of a closed list."
))]
struct Api;

/// The router of the gateway.
pub fn router(app: Arc<App>) -> Router {
    described()
        .split_for_parts()
        .0
        .merge(docs::routes(openapi))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The `OpenAPI` description of the routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(alive::test))
        .routes(routes!(users::list))
        .routes(routes!(users::one))
        .routes(routes!(predict::default_model))
        .routes(routes!(predict::named_model))
        .routes(routes!(predictions::feedback))
        .routes(routes!(predictions::list))
        .routes(routes!(predictions::one))
        .routes(routes!(models::list))
        .routes(routes!(models::one))
}

async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> Response {
    let error = ApiError::UnknownPath(truncated(request.uri().path()));
    request_context::handle(&app, request_context::NO_ROUTE, request, async |_, _| Err(error)).await
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    let error = ApiError::MethodNotAllowed(truncated(request.method().as_str()));
    request_context::handle(&app, request_context::NO_ROUTE, request, async |_, _| Err(error)).await
}
