//! The body of a request for predictions, taken in within its limits.
//!
//! Comes in: bytes, as slowly as the client sends them. Goes out: rows. Never: a wait or a memory without bound, for one
//! request or for all that are in flight.

use axum::body::Body;
use bytes::Bytes;
use canopy_contract::body::{BodyError, parse};
use canopy_contract::rows::Rows;
use canopy_runtime::server::body_memory::Reservation;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::app::Limits;
use crate::body::Pieces;
use crate::error::Failure;

/// Reads `body` whole. Its bytes count as held until [`Reservation`] is dropped.
pub(crate) async fn bytes(body: Body, limits: &Limits) -> Result<(Bytes, Reservation), Failure> {
    let late = Failure::SlowBody { after: limits.body_time };
    timeout(limits.body_time, whole(body, limits)).await.map_err(|_| late)?
}

/// Reads `body` as rows of numbers, which no model has judged yet.
pub(crate) async fn rows(body: Body, limits: &Limits) -> Result<(Rows, Reservation), Failure> {
    let (body, held) = bytes(body, limits).await?;
    let rows = parse(&body).map_err(|error| match error {
        BodyError::Malformed(words) => Failure::Malformed(words),
        BodyError::Faults(faults) => Failure::Faults(faults),
    })?;
    Ok((rows, held))
}

async fn whole(mut body: Body, limits: &Limits) -> Result<(Bytes, Reservation), Failure> {
    let max = limits.body_bytes;
    let too_large = |_| Failure::TooLarge { limit: Some(max) };
    let mut pieces = Pieces::expecting(&body.size_hint(), max).map_err(too_large)?;
    let mut held = limits.bodies.admit(&body.size_hint()).map_err(|_| Failure::Full)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Malformed("the body broke off".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            held.grow(data.len()).map_err(|_| Failure::Full)?;
            pieces.add(data).map_err(too_large)?;
        }
    }
    Ok((pieces.join(), held))
}
