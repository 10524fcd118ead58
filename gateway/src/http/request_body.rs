//! The body of a request for predictions, taken in within its limits.
//!
//! Comes in: bytes, as slowly as the client sends them. Goes out: rows. Never: a wait or a memory without bound, for one
//! request or for all that are in flight.

use axum::body::Body;
use bytes::Bytes;
use canopy_contract::body::{BodyError, parse};
use canopy_contract::rows::Rows;
use canopy_runtime::bodies::Held;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::app::Limits;
use crate::body::Pieces;
use crate::error::ApiError;

/// Reads `body` whole. Its bytes count as held until [`Held`] is dropped.
pub(crate) async fn bytes(body: Body, limits: &Limits) -> Result<(Bytes, Held), ApiError> {
    let late = ApiError::BodyTimeout { after: limits.body_time };
    timeout(limits.body_time, whole(body, limits)).await.map_err(|_| late)?
}

/// Reads `body` as rows of numbers, which no model has judged yet.
pub(crate) async fn rows(body: Body, limits: &Limits) -> Result<(Rows, Held), ApiError> {
    let (body, held) = bytes(body, limits).await?;
    let rows = parse(&body).map_err(|error| match error {
        BodyError::Malformed(words) => ApiError::MalformedJson(words),
        BodyError::Faults(faults) => ApiError::InvalidFeatures(faults),
    })?;
    Ok((rows, held))
}

async fn whole(mut body: Body, limits: &Limits) -> Result<(Bytes, Held), ApiError> {
    let max = limits.body_bytes;
    let too_large = |_| ApiError::BodyTooLarge { limit: Some(max) };
    let mut pieces = Pieces::expecting(&body.size_hint(), max).map_err(too_large)?;
    let mut held = limits.bodies.admit(&body.size_hint()).map_err(|_| ApiError::BodyMemoryFull)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::MalformedJson("the body broke off".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            held.grow(data.len()).map_err(|_| ApiError::BodyMemoryFull)?;
            pieces.add(data).map_err(too_large)?;
        }
    }
    Ok((pieces.join(), held))
}
