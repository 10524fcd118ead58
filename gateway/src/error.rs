//! Why a request failed: the error code, the response for the client, and the message for the log. Addresses and messages of the
//! system appear in the log only.

pub(crate) mod language;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use canopy_contract::code::Code;
use canopy_contract::fault::FieldFault;
use canopy_contract::names::ModelRef;
use canopy_contract::problem::Problem;
use uuid::Uuid;

use crate::error::language::Language;
use crate::settings::Ratio;

/// The member of a feedback body.
const FEEDBACK_MEMBER: &str = "actual";

/// How many characters of a client's input an error quotes.
const QUOTED_MAX: usize = 100;

/// A client's input, shortened for an error message.
pub(crate) fn truncated(asked: &str) -> String {
    asked.chars().take(QUOTED_MAX).collect()
}

/// Why a request failed.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// The body is not JSON, or ended early.
    MalformedJson(String),
    /// Fields of the body do not match the model.
    InvalidFeatures(Vec<FieldFault>),
    /// The predictor refused rows that the gateway had accepted.
    RefusedByPredictor { member: &'static str, words: String },
    /// The body exceeds the limit of the gateway (`limit`) or of the predictor.
    BodyTooLarge { limit: Option<usize> },
    /// The body has this content encoding.
    UnsupportedEncoding(String),
    /// The memory for request bodies is in use.
    BodyMemoryFull,
    /// The body did not arrive in time.
    BodyTimeout { after: Duration },
    /// No route has this path.
    UnknownPath(String),
    /// The route does not accept this method.
    MethodNotAllowed(String),
    /// No such model; its name as given, shortened.
    UnknownModel(String),
    /// No such user.
    UnknownUser(String),
    /// No such prediction is recorded.
    UnknownPrediction(String),
    /// The prediction is not recorded, because only a share of `ratio` is.
    NotRecorded { id: String, ratio: Ratio },
    /// The prediction has feedback already.
    FeedbackGiven(Uuid),
    /// The feedback does not match the prediction: members with what is wrong.
    InvalidFeedback(Vec<(String, String)>),
    /// A query parameter is unknown or invalid: its name and what is wrong.
    InvalidQuery(String, String),
    /// The content type is not JSON, or missing.
    UnsupportedMediaType(Option<String>),
    /// Recorded data is not shown.
    ListingDisabled,
    /// No database is configured.
    StoreNotConfigured,
    /// No response from a predictor; `endpoint` is its URL, if one was chosen.
    Upstream { model: ModelRef, endpoint: Option<String>, error: UpstreamError },
    /// A query failed.
    StoreUnavailable(String),
    /// A bug.
    Internal(&'static str),
}

/// Why there is no response from a predictor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// The connection failed or was reset. `delivered`: the predictor may have received the rows.
    Unreachable { why: String, delivered: bool },
    /// This process cannot open a connection. `delivered`: the predictor may have received the rows over another one.
    OutOfSockets { why: String, delivered: bool },
    /// The predictor has no verified model yet.
    NotReady(String),
    /// No predictor of the model is ready.
    NoneReady,
    /// The model or the predictor has too many requests.
    Overloaded,
    /// The predictor returned an error or an invalid response.
    Failed(String),
    /// No response before the deadline.
    DeadlineExceeded { after: Duration },
}

impl UpstreamError {
    /// The error code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::PredictorUnavailable,
            Self::OutOfSockets { .. } => Code::OutOfSockets,
            Self::NotReady(_) | Self::NoneReady => Code::NotReady,
            Self::Overloaded => Code::Overloaded,
            Self::Failed(_) => Code::PredictorFailed,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        }
    }
}

impl ApiError {
    /// The error code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::MalformedJson(_) => Code::MalformedJson,
            Self::InvalidFeatures(_) | Self::RefusedByPredictor { .. } => Code::InvalidFeatures,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::UnsupportedEncoding(_) => Code::UnsupportedEncoding,
            Self::BodyMemoryFull => Code::Overloaded,
            Self::BodyTimeout { .. } => Code::RequestTimeout,
            Self::UnknownPath(_) => Code::UnknownPath,
            Self::MethodNotAllowed(_) => Code::MethodNotAllowed,
            Self::UnknownModel(_) => Code::UnknownModel,
            Self::UnknownUser(_) => Code::UnknownUser,
            Self::UnknownPrediction(_) => Code::UnknownPrediction,
            Self::NotRecorded { .. } => Code::NotRecorded,
            Self::FeedbackGiven(_) => Code::FeedbackGiven,
            Self::InvalidFeedback(_) => Code::InvalidFeedback,
            Self::InvalidQuery(..) => Code::InvalidQuery,
            Self::UnsupportedMediaType(_) => Code::UnsupportedMediaType,
            Self::ListingDisabled => Code::ListingDisabled,
            Self::StoreNotConfigured => Code::StoreNotConfigured,
            Self::Upstream { error, .. } => error.code(),
            Self::StoreUnavailable(_) => Code::StoreUnavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The value of `Retry-After` in seconds, if a retry may help.
    pub(crate) fn retry_after(&self) -> Option<u8> {
        // A predictor that recovers is used at once, so a short time is enough.
        (self.code().status() == 503).then_some(1)
    }

    /// Whether another endpoint may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Upstream {
                endpoint: Some(_),
                error: UpstreamError::Unreachable { .. }
                    | UpstreamError::OutOfSockets { .. }
                    | UpstreamError::NotReady(_)
                    | UpstreamError::Failed(_)
                    | UpstreamError::Overloaded,
                ..
            }
        )
    }

    /// Whether the endpoint certainly did not receive the rows, so they neither caused the failure nor load it now.
    pub(crate) fn is_undelivered(&self) -> bool {
        matches!(
            self,
            Self::Upstream {
                error: UpstreamError::Unreachable { delivered: false, .. }
                    | UpstreamError::OutOfSockets { delivered: false, .. },
                ..
            }
        )
    }

    /// Marks the rows as delivered by an earlier attempt on the same endpoint.
    pub(crate) fn after_delivery(mut self) -> Self {
        if let Self::Upstream {
            error:
                UpstreamError::Unreachable { delivered, .. } | UpstreamError::OutOfSockets { delivered, .. },
            ..
        } = &mut self
        {
            *delivered = true;
        }
        self
    }

    /// The URL of the predictor that failed.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        if let Self::Upstream { endpoint, .. } = self { endpoint.as_deref() } else { None }
    }

    /// The cause, for the log only.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Upstream {
                error:
                    UpstreamError::Unreachable { why, .. }
                    | UpstreamError::OutOfSockets { why, .. }
                    | UpstreamError::NotReady(why)
                    | UpstreamError::Failed(why),
                ..
            }
            | Self::StoreUnavailable(why) => Some(why),
            Self::Internal(why) => Some(why),
            Self::Upstream {
                error:
                    UpstreamError::NoneReady | UpstreamError::Overloaded | UpstreamError::DeadlineExceeded { .. },
                ..
            }
            | Self::MalformedJson(_)
            | Self::InvalidFeatures(_)
            | Self::RefusedByPredictor { .. }
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedEncoding(_)
            | Self::BodyMemoryFull
            | Self::BodyTimeout { .. }
            | Self::UnknownPath(_)
            | Self::MethodNotAllowed(_)
            | Self::UnknownModel(_)
            | Self::UnknownUser(_)
            | Self::UnknownPrediction(_)
            | Self::NotRecorded { .. }
            | Self::FeedbackGiven(_)
            | Self::InvalidFeedback(_)
            | Self::InvalidQuery(..)
            | Self::UnsupportedMediaType(_)
            | Self::ListingDisabled
            | Self::StoreNotConfigured => None,
        }
    }

    /// The message for the log, without feature values.
    pub(crate) fn log_message(&self) -> String {
        match self {
            Self::InvalidFeatures(faults) => {
                let places: Vec<_> = faults.iter().map(FieldFault::place_to_log).collect();
                format!("faults at {}", places.join(", "))
            }
            Self::RefusedByPredictor { member, .. } => format!("the predictor refused the {member}"),
            Self::InvalidFeedback(faults) => {
                // Unknown names come from the client and are not logged.
                let known = |member: &str| member.starts_with(FEEDBACK_MEMBER).then(|| member.to_owned());
                let members = faults.iter().map(|(member, _)| known(member));
                let members: Vec<_> =
                    members.map(|member| member.unwrap_or_else(|| "an unknown member".to_owned())).collect();
                format!("faults at {}", members.join(", "))
            }
            Self::MalformedJson(_)
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedEncoding(_)
            | Self::BodyMemoryFull
            | Self::BodyTimeout { .. }
            | Self::UnknownPath(_)
            | Self::MethodNotAllowed(_)
            | Self::UnknownModel(_)
            | Self::UnknownUser(_)
            | Self::UnknownPrediction(_)
            | Self::NotRecorded { .. }
            | Self::FeedbackGiven(_)
            | Self::InvalidQuery(..)
            | Self::UnsupportedMediaType(_)
            | Self::ListingDisabled
            | Self::StoreNotConfigured
            | Self::Upstream { .. }
            | Self::StoreUnavailable(_)
            | Self::Internal(_) => self.to_string(),
        }
    }

    /// The response body for the client.
    pub(crate) fn problem(&self, language: Language) -> Problem {
        let mut problem = Problem::new(self.code(), self.to_string());
        problem.errors = self.errors();
        if let Self::Upstream { error, .. } = self
            && error.code().status() == 503
        {
            let words = match language {
                Language::English => "AI service unavailable",
                Language::French => "Service IA indisponible",
            };
            words.clone_into(&mut problem.error);
        }
        problem
    }

    /// What is wrong, by field.
    fn errors(&self) -> BTreeMap<String, Vec<String>> {
        let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
        match self {
            Self::InvalidFeatures(faults) => {
                for FieldFault { place, fault } in faults {
                    errors.entry(place.to_string()).or_default().push(fault.to_string());
                }
            }
            Self::RefusedByPredictor { member, words } => {
                errors.insert((*member).to_owned(), vec![words.clone()]);
            }
            Self::InvalidQuery(parameter, words) => {
                errors.insert(parameter.clone(), vec![words.clone()]);
            }
            Self::InvalidFeedback(faults) => {
                for (member, words) in faults {
                    errors.entry(member.clone()).or_default().push(words.clone());
                }
            }
            Self::MalformedJson(_)
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedEncoding(_)
            | Self::BodyMemoryFull
            | Self::BodyTimeout { .. }
            | Self::UnknownPath(_)
            | Self::MethodNotAllowed(_)
            | Self::UnknownModel(_)
            | Self::UnknownUser(_)
            | Self::UnknownPrediction(_)
            | Self::NotRecorded { .. }
            | Self::FeedbackGiven(_)
            | Self::UnsupportedMediaType(_)
            | Self::ListingDisabled
            | Self::StoreNotConfigured
            | Self::Upstream { .. }
            | Self::StoreUnavailable(_)
            | Self::Internal(_) => {}
        }
        errors
    }
}

impl fmt::Display for ApiError {
    /// The message for the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedJson(words) | Self::RefusedByPredictor { words, .. } => f.write_str(words),
            Self::InvalidFeatures(faults) => match faults.as_slice() {
                [] => f.write_str("the body does not match the model"),
                [only] => write!(f, "{only}"),
                [first, rest @ ..] => write!(f, "{first}, and {} more in 'errors'", rest.len()),
            },
            Self::BodyTooLarge { limit: Some(limit) } => {
                write!(f, "the body must have at most {limit} bytes; send fewer rows per request")
            }
            Self::BodyTooLarge { limit: None } => {
                f.write_str("the body exceeds the limit of the predictor; send fewer rows per request")
            }
            Self::UnsupportedEncoding(encoding) => {
                write!(f, "the body has the encoding {encoding:?}; send JSON without Content-Encoding")
            }
            Self::BodyMemoryFull => f.write_str(
                "the memory for request bodies is in use; send fewer rows per request, or retry later",
            ),
            Self::BodyTimeout { after } => write!(f, "the body did not arrive within {after:?}"),
            Self::UnknownPath(path) => write!(f, "unknown path {path}; /docs lists the routes"),
            Self::MethodNotAllowed(method) => {
                write!(f, "method {method} is not allowed; see the Allow header")
            }
            Self::UnknownModel(name) => write!(f, "unknown model {name}; /api/models lists the models"),
            Self::UnknownUser(id) => write!(f, "unknown user {id}; /api/users lists the users"),
            Self::UnknownPrediction(id) => write!(f, "no prediction {id} is recorded"),
            Self::NotRecorded { id, ratio } => {
                write!(f, "prediction {id} was not recorded: only a share of {ratio} is recorded")
            }
            Self::FeedbackGiven(id) => {
                write!(f, "prediction {id} has feedback already, which cannot be changed")
            }
            Self::InvalidFeedback(faults) => match faults.as_slice() {
                [] => f.write_str("the body does not match the prediction"),
                [(member, words)] => write!(f, "{member} {words}"),
                [(member, words), rest @ ..] => {
                    write!(f, "{member} {words}, and {} more in 'errors'", rest.len())
                }
            },
            Self::InvalidQuery(parameter, words) => write!(f, "{parameter} {words}"),
            Self::UnsupportedMediaType(Some(found)) => {
                write!(f, "the content type must be application/json, got {found}")
            }
            Self::UnsupportedMediaType(None) => {
                f.write_str("the content type must be application/json, got none")
            }
            Self::ListingDisabled => f.write_str(
                "this gateway does not show recorded data; set CANOPY_LIST_PREDICTIONS=true to enable it",
            ),
            Self::StoreNotConfigured => {
                f.write_str("predictions are not recorded: CANOPY_DATABASE_URL is not set")
            }
            Self::Upstream { model, endpoint: _, error } => write_upstream_error(f, model, error),
            Self::StoreUnavailable(_) => f.write_str("the database is unavailable; retry later"),
            Self::Internal(_) => f.write_str("an internal error; see the log of the gateway"),
        }
    }
}

fn write_upstream_error(f: &mut fmt::Formatter<'_>, model: &ModelRef, error: &UpstreamError) -> fmt::Result {
    match error {
        UpstreamError::Unreachable { .. } => write!(f, "no predictor of model {model} is reachable"),
        UpstreamError::OutOfSockets { .. } => write!(
            f,
            "the gateway can open no connection to a predictor of model {model}; send fewer requests at once, \
                     or later"
        ),
        UpstreamError::NoneReady => write!(f, "no predictor of model {model} is ready"),
        UpstreamError::Overloaded => {
            write!(f, "model {model} is overloaded; send fewer requests, or retry later")
        }
        UpstreamError::NotReady(_) => write!(f, "the predictor of model {model} is not ready"),
        UpstreamError::Failed(_) => write!(f, "the predictor of model {model} returned no valid response"),
        UpstreamError::DeadlineExceeded { after } => {
            write!(f, "the predictor of model {model} did not respond within {after:?}")
        }
    }
}

#[cfg(test)]
mod tests;
