//! Reads the body of a request within limits of size, time and total memory.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use canopy_contract::body;
use canopy_contract::fault::BodyError;
use canopy_runtime::server::body_memory::Reservation;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::app::Limits;
use crate::error::ApiError;

/// Reads all of `body`. Its memory is reserved until the [`Reservation`] is dropped.
pub(crate) async fn bytes(body: Body, limits: &Limits) -> Result<(Bytes, Reservation), ApiError> {
    let late = ApiError::BodyTimeout { after: limits.body_time };
    timeout(limits.body_time, collect(body, limits)).await.map_err(|_| late)?
}

/// Reads a request for predictions. Its rows are not validated against a model yet.
pub(crate) async fn predict(body: Body, limits: &Limits) -> Result<(body::Body, Reservation), ApiError> {
    let (body, held) = bytes(body, limits).await?;
    let body = body::parse(&body).map_err(|error| match error {
        BodyError::Malformed(words) => ApiError::MalformedJson(words),
        BodyError::Faults(faults) => ApiError::InvalidFeatures(faults),
    })?;
    Ok((body, held))
}

async fn collect(body: Body, limits: &Limits) -> Result<(Bytes, Reservation), ApiError> {
    let max = limits.body_bytes;
    let too_large = || ApiError::BodyTooLarge { limit: Some(max) };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut held = limits.bodies.admit(&body.size_hint()).map_err(|_| ApiError::BodyMemoryFull)?;
    let mut body = Limited::new(body, max);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let is_too_large = error.is::<LengthLimitError>();
            if is_too_large {
                too_large()
            } else {
                ApiError::MalformedJson("the body ended early".to_owned())
            }
        })?;
        let Ok(data) = frame.into_data() else { continue };
        held.grow(data.len()).map_err(|_| ApiError::BodyMemoryFull)?;
        if bytes.is_empty() && body.is_end_stream() {
            // Most bodies arrive in one frame, which needs no copy.
            return Ok((data, held));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), held))
}
