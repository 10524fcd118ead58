//! What leaves: status, headers and body of every answer but the pages of the API.
//!
//! Comes in: an answer or a failure. Goes out: a response. Never: a value that JSON has no word for.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::app::{App, REVISION};
use crate::failure::Failure;

/// A prediction that is JSON already.
pub(super) fn prediction(app: &App, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REVISION, app.revision());
    response
}

/// A prediction that there is not.
pub(super) fn no_prediction(app: &App, failure: &Failure) -> Response {
    let mut response = self::failure(failure);
    response.headers_mut().insert(REVISION, app.revision());
    response
}

/// A request that no route takes.
pub(super) fn unrouted(app: &App, failure: &Failure) -> Response {
    app.requests().finished(failure.ending());
    self::failure(failure)
}

/// A failure.
pub(super) fn failure(failure: &Failure) -> Response {
    let (status, _) = failure.ending();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(failure.body())).into_response()
}
