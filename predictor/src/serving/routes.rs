//! The router of a model's port, and the responses for requests that no handler takes.

mod answer;
mod predict;
mod about;
mod openapi;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use canopy_runtime::docs;
use http::StatusCode;
use serde_json::json;
use utoipa::OpenApi as _;

use crate::error::Failure;
use crate::serving::app::App;

/// The router of a model's port.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/predict", post(predict::predict))
        .route("/health", get(about::health))
        .route("/model", get(about::model))
        .merge(docs::routes(openapi))
        .fallback(|State(app): State<App>| async move { unrouted(&app, &Failure::UnknownPath) })
        .method_not_allowed_fallback(|State(app): State<App>| async move {
            unrouted(&app, &Failure::MethodNotAllowed)
        })
        .with_state(app)
}

/// The description of the API, made from the code of its handlers.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::Description::openapi()
}

/// The response if the code of a handler panicked outside the model.
pub fn panicked() -> Response {
    answer::bare(&Failure::ModelFailed)
}

/// The response to a request that names another host than this server may be called by.
pub fn misdirected() -> Response {
    let detail =
        "the Host header must be localhost, an IP address, or a name that this predictor is called by";
    (StatusCode::MISDIRECTED_REQUEST, Json(json!({"detail": detail}))).into_response()
}

fn unrouted(app: &App, failure: &Failure) -> Response {
    app.requests().finished(failure.ending());
    answer::failure(app, failure)
}
