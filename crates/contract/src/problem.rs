//! The gateway's error body: RFC 9457 `application/problem+json` with the additional members `code` and `error`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::code::Code;

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for people (`title`, `detail`, `error`) and programs (`code`, `status`, `errors`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:canopy:problem:<code>`.
    #[serde(rename = "type")]
    #[schema(example = "urn:canopy:problem:invalid_features")]
    pub kind: String,
    /// The kind of problem, in words.
    #[schema(example = "The features do not fit the model")]
    pub title: String,
    /// The HTTP status, repeated.
    #[schema(example = 422)]
    pub status: u16,
    /// This occurrence: what is wrong, and what to do.
    #[schema(example = "features: expected 4 values, got 3")]
    pub detail: String,
    /// One word of a closed list.
    #[schema(example = "invalid_features")]
    pub code: String,
    /// The same for clients that read only this member.
    #[schema(example = "The features do not fit the model")]
    pub error: String,
    /// Where the body has faulty fields: what is wrong with each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, Vec<String>>,
}

impl Problem {
    /// The problem `code`, explained by `detail`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:canopy:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code: code.as_str().to_owned(),
            error: code.title().to_owned(),
            errors: BTreeMap::new(),
        }
    }
}
