//! Responses: status, headers and body.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use crate::error::Failure;
use crate::serving::app::{App, REVISION};

/// A prediction that is JSON already.
pub(super) fn prediction(app: &App, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REVISION, app.revision());
    response
}

/// The response for a failure.
pub(super) fn failure(app: &App, failure: &Failure) -> Response {
    let mut response = bare(failure);
    let headers = response.headers_mut();
    headers.insert(REVISION, app.revision());
    // A gateway distinguishes a saturated predictor from one that is not ready by this header.
    if *failure == Failure::Overloaded {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A failure of whatever model.
pub(super) fn bare(failure: &Failure) -> Response {
    let (status, _) = failure.ending();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(failure.body())).into_response()
}
