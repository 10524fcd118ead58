//! The `OpenAPI` document, generated from the handlers.

use utoipa::OpenApi;

use super::{about, predict};

/// The document at `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Canopy predictor",
        description = "One model on one port. Every answer to `/predict` carries the header `Canopy-Revision`.",
    ),
    paths(predict::predict, about::health, about::model),
    tags(
        (name = "predict", description = "Predictions"),
        (name = "model", description = "The model itself"),
    ),
)]
pub(super) struct Description;
