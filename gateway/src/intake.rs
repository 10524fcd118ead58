//! The body of a request for predictions, taken in within its limits.
//!
//! Comes in: bytes, as slowly as the client sends them. Goes out: rows. Never: a wait or a memory without bound.

use axum::body::Body;
use bytes::Bytes;
use canopy_contract::body::{BodyError, parse};
use canopy_contract::rows::Rows;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::app::Limits;
use crate::failure::Failure;
use crate::pieces::Pieces;

/// Reads `body` whole.
pub(crate) async fn bytes(body: Body, limits: &Limits) -> Result<Bytes, Failure> {
    let late = Failure::SlowBody { after: limits.body_time };
    timeout(limits.body_time, whole(body, limits.body_bytes)).await.map_err(|_| late)?
}

/// Reads `body` as rows of numbers, which no model has judged yet.
pub(crate) async fn rows(body: Body, limits: &Limits) -> Result<Rows, Failure> {
    let body = bytes(body, limits).await?;
    parse(&body).map_err(|error| match error {
        BodyError::Malformed(words) => Failure::Malformed(words),
        BodyError::Faults(faults) => Failure::Faults(faults),
    })
}

async fn whole(mut body: Body, max: usize) -> Result<Bytes, Failure> {
    let too_large = |_| Failure::TooLarge { limit: Some(max) };
    let mut pieces = Pieces::expecting(&body.size_hint(), max).map_err(too_large)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Malformed("the body broke off".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            pieces.add(data).map_err(too_large)?;
        }
    }
    Ok(pieces.join())
}
