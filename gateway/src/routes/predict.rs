//! `POST /api/predict` and `POST /api/models/{model}/predict`. Rows are validated before they are forwarded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use canopy_contract::names::{PREDICTION_ID_HEADER, REVISION_HEADER};
use canopy_contract::predict::{Answer, PredictRequest};
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use canopy_runtime::server::response_body;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::error::ApiError;
use crate::forward::{Forwarded, forward};
use crate::http::request_body;
use crate::http::request_context::{self, RequestContext};
use crate::model::Model;
use crate::upstream::pool::Deadline;

static REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);
static PREDICTION_ID: HeaderName = HeaderName::from_static(PREDICTION_ID_HEADER);

#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "these are words for the description of the API")]
enum Failures {
    /// The body is not JSON.
    #[response(status = 400, content_type = MEDIA_TYPE)]
    Malformed(#[to_schema] Problem),
    /// The model is unknown.
    #[response(status = 404, content_type = MEDIA_TYPE)]
    Unknown(#[to_schema] Problem),
    /// The body took too long to arrive.
    #[response(status = 408, content_type = MEDIA_TYPE)]
    SlowBody(#[to_schema] Problem),
    /// The body is too large.
    #[response(status = 413, content_type = MEDIA_TYPE)]
    TooLarge(#[to_schema] Problem),
    /// The body is compressed.
    #[response(status = 415, content_type = MEDIA_TYPE)]
    Encoded(#[to_schema] Problem),
    /// The features do not match the model; `errors` has each error.
    #[response(status = 422, content_type = MEDIA_TYPE)]
    Invalid(#[to_schema] Problem),
    /// No predictor is available.
    #[response(status = 503, content_type = MEDIA_TYPE)]
    Unavailable(#[to_schema] Problem),
    /// The predictor did not respond in time.
    #[response(status = 504, content_type = MEDIA_TYPE)]
    Late(#[to_schema] Problem),
}

/// Predicts with the default model.
#[utoipa::path(post, path = "/api/predict", tag = "predictions", request_body = PredictRequest,
    responses(
        (status = 200, body = Answer, headers(
            ("Canopy-Revision" = String, description = "The revision of the model that predicted"),
            ("Canopy-Prediction-Id" = String, description = "The prediction's `id`"),
        )),
        Failures,
    ),
)]
pub(crate) async fn default_model(State(app): State<Arc<App>>, request: Request) -> Response {
    request_context::handle(&app, "/api/predict", request, async |context, body| {
        let deadline = Deadline::after(app.limits.upstream_time);
        let model = app.default(deadline).await?;
        predict(&app, &model, context, body, deadline).await
    })
    .await
}

/// Predicts with a model by name.
#[utoipa::path(post, path = "/api/models/{model}/predict", tag = "predictions", request_body = PredictRequest,
    params(("model" = String, Path, description = "MODEL, or MODEL.NAMESPACE", example = "demo")),
    responses(
        (status = 200, body = Answer, headers(
            ("Canopy-Revision" = String, description = "The revision of the model that predicted"),
            ("Canopy-Prediction-Id" = String, description = "The prediction's `id`"),
        )),
        Failures,
    ),
)]
pub(crate) async fn named_model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    request_context::handle(&app, "/api/models/{model}/predict", request, async |context, body| {
        let deadline = Deadline::after(app.limits.upstream_time);
        let model = app.named(name.as_ref().map_or("", |Path(name)| name), deadline).await?;
        predict(&app, &model, context, body, deadline).await
    })
    .await
}

async fn predict(
    app: &App,
    model: &Arc<Model>,
    context: &mut RequestContext<'_>,
    body: Body,
    deadline: Deadline,
) -> Result<Response, ApiError> {
    context.set_model(model);
    let began = Instant::now();
    let (body, held) = request_body::predict(body, &app.limits).await?;
    let rows = body.len();
    // The time for receiving the body has its own limit.
    let deadline = Deadline { at: deadline.at + began.elapsed(), ..deadline };
    let Forwarded { revision, answers } = forward(model, &body, &context.span, deadline).await?;
    context.set_revision(&revision);
    context.span.model(model.id.name.as_str(), &revision.description.version, rows);

    let mut buffer = Uuid::encode_buffer();
    let prediction = Uuid::now_v7();
    let id: &str = prediction.hyphenated().encode_lower(&mut buffer);
    let header =
        HeaderValue::from_str(id).map_err(|_| ApiError::Internal("an id is no valid header value"))?;
    let written = answers
        .write(&revision, id)
        .map_err(|_| ApiError::Internal("failed to encode a response as JSON"))?;
    if let Some(recorder) = &app.recorder {
        let rows = body.into_rows(&revision.description.features).map_err(ApiError::InvalidFeatures)?;
        recorder.offer(prediction, &revision, answers, rows);
    }
    let mut response = Response::new(Body::from(written));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(&REVISION, revision.header.clone());
    headers.insert(&PREDICTION_ID, header);
    Ok(response_body::hold_until_sent(response, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// Every request moves and allocates its future.
    const SIZE_MAX: usize = 4 << 10;

    #[tokio::test]
    async fn the_future_of_a_request_stays_small() {
        let registry = canopy_runtime::metrics::Registry::new();
        let app = App::open(&Settings::default(), &registry).await.unwrap();
        let answering = default_model(State(app), Request::new(Body::empty()));
        assert!(size_of_val(&answering) <= SIZE_MAX, "{} bytes", size_of_val(&answering));
    }
}
