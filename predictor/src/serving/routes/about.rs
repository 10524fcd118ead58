//! `GET /health` and `GET /model`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use canopy_contract::describe::ModelDescription;
use canopy_contract::predict::Health;
use http::{HeaderMap, StatusCode};

use super::answer;
use crate::error::ErrorBody;
use crate::serving::app::App;

/// Whether the model serves
///
/// `healthy` once it has reproduced the answer that was recorded when it was prepared.
#[utoipa::path(
    get,
    path = "/health",
    tag = "model",
    responses(
        (status = 200, description = "It serves", body = Health),
        (status = 503, description = "It does not, and why", body = Health),
    ),
)]
pub(super) async fn health(State(app): State<App>) -> Response {
    let health = app.health();
    let status = if health.reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// What the model takes and gives
///
/// Its features in order, with their bounds, its classes by index, and how good it was on rows it was not
/// trained on.
#[utoipa::path(
    get,
    path = "/model",
    tag = "model",
    responses(
        (status = 200, description = "The model that serves", body = ModelDescription),
        (status = 503, description = "No model serves, and why", body = ErrorBody),
    ),
)]
pub(super) async fn model(State(app): State<App>, headers: HeaderMap) -> Response {
    match app.model(&headers) {
        Ok(model) => Json(model.description()).into_response(),
        Err(failure) => answer::failure(&app, &failure),
    }
}
