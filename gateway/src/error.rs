//! Why a request got no answer: what its caller is told, what the log says, and the word for it.
//!
//! Comes in: what a part found wrong. Goes out: the code, and the error body in the caller's language. Never:
//! an address or a system's own words in that body; those are for the log.

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

/// The member of feedback that has the truth.
const FEEDBACK_MEMBER: &str = "actual";

/// How much of what a caller asked for is told back to it.
const QUOTED_MAX: usize = 100;

/// What a caller asked for, cut where it is long.
pub(crate) fn truncated(asked: &str) -> String {
    asked.chars().take(QUOTED_MAX).collect()
}

/// Why a request got no answer.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// The body is not JSON, or did not arrive whole.
    MalformedJson(String),
    /// The body's fields are not what the model takes.
    InvalidFeatures(Vec<FieldFault>),
    /// The predictor found fault with what the gateway let pass; the member of the body, and its words.
    RefusedByPredictor { member: &'static str, words: String },
    /// The body is too long, for the gateway or for the predictor.
    BodyTooLarge { limit: Option<usize> },
    /// The body has an encoding that is not read; which one.
    UnsupportedEncoding(String),
    /// As many bytes of bodies are held as memory allows.
    BodyMemoryFull,
    /// The body did not arrive in time.
    BodyTimeout { after: Duration },
    /// Nothing is served at the path.
    UnknownPath(String),
    /// The path does not take the method.
    MethodNotAllowed(String),
    /// There is no such model; as it was asked for, cut where it is long.
    UnknownModel(String),
    /// There is no such user.
    UnknownUser(String),
    /// No answer of this id is recorded.
    UnknownPrediction(String),
    /// No answer of this id is recorded, nor was one to be: only `ratio` of all are.
    NotRecorded { id: String, ratio: Ratio },
    /// The truth for this answer was told before.
    FeedbackGiven(Uuid),
    /// What was told is no truth for the answer: the members of the body, and what is wrong with each.
    InvalidFeedback(Vec<(String, String)>),
    /// A parameter of the URL is wrong or unknown: its name, and what is wrong with it.
    InvalidQuery(String, String),
    /// The content type of the body, where there is one, is not JSON.
    UnsupportedMediaType(Option<String>),
    /// What is recorded is not shown.
    ListingDisabled,
    /// There is no database.
    StoreNotConfigured,
    /// A predictor could not be asked, or did not answer; where it listens, if one was asked.
    Upstream { model: ModelRef, endpoint: Option<String>, error: UpstreamError },
    /// The database could not be asked.
    StoreUnavailable(String),
    /// A fault of Canopy itself.
    Internal(&'static str),
}

/// Why a predictor gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// There was no connection, or it was reset; whether the pod may have got the rows before that.
    Unreachable { why: String, delivered: bool },
    /// This process can open no connection, whatever the pod does; whether the pod may have got the rows before, over
    /// another connection.
    OutOfSockets { why: String, delivered: bool },
    /// It has no proven model.
    NotReady(String),
    /// The model exists, and none of its predictors is ready.
    NoneReady,
    /// There is more to do than can be done in time.
    Overloaded,
    /// It failed, or what it answered is no answer.
    Failed(String),
    /// It did not answer in time.
    DeadlineExceeded { after: Duration },
}

impl UpstreamError {
    /// The word for it.
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
    /// The word for it.
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

    /// How long a caller should wait before it tries again, in seconds, where that may help.
    pub(crate) fn retry_after(&self) -> Option<u8> {
        // A predictor that is back is used at once, so there is no reason to wait long.
        (self.code().status() == 503).then_some(1)
    }

    /// Whether it says nothing about the other predictors of the model.
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

    /// Whether the pod surely did not get the rows: then they cannot be what it failed of, and it has no load of them.
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

    /// The same of a pod that got the rows earlier.
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

    /// Where the predictor listens that gave no answer.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        if let Self::Upstream { endpoint, .. } = self { endpoint.as_deref() } else { None }
    }

    /// What the log is told and the caller is not.
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

    /// This occurrence, in words for the log, which must not have the values of features.
    pub(crate) fn log_message(&self) -> String {
        match self {
            Self::InvalidFeatures(faults) => {
                let places: Vec<_> = faults.iter().map(FieldFault::place_to_log).collect();
                format!("faults at {}", places.join(", "))
            }
            Self::RefusedByPredictor { member, .. } => format!("the predictor does not take the {member}"),
            Self::InvalidFeedback(faults) => {
                // A name that a client made up may hold anything.
                let known = |member: &str| member.starts_with(FEEDBACK_MEMBER).then(|| member.to_owned());
                let members = faults.iter().map(|(member, _)| known(member));
                let members: Vec<_> = members
                    .map(|member| member.unwrap_or_else(|| "a member that is not known".to_owned()))
                    .collect();
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

    /// What the caller is told, as an error body.
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

    /// What is wrong with each faulty field.
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
    /// This occurrence, in words that the caller may read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedJson(words) | Self::RefusedByPredictor { words, .. } => f.write_str(words),
            Self::InvalidFeatures(faults) => match faults.as_slice() {
                [] => f.write_str("the body does not fit the model"),
                [only] => write!(f, "{only}"),
                [first, rest @ ..] => write!(f, "{first}, and {} more in 'errors'", rest.len()),
            },
            Self::BodyTooLarge { limit: Some(limit) } => {
                write!(f, "the body may have at most {limit} bytes; send fewer rows at once")
            }
            Self::BodyTooLarge { limit: None } => {
                f.write_str("the body is longer than the predictor takes; send fewer rows at once")
            }
            Self::UnsupportedEncoding(encoding) => {
                write!(f, "the body has the encoding {encoding:?}; send JSON without Content-Encoding")
            }
            Self::BodyMemoryFull => f.write_str(
                "the gateway holds as many bytes of requests as its memory allows; send fewer rows at once, or later",
            ),
            Self::BodyTimeout { after } => write!(f, "the body did not arrive within {after:?}"),
            Self::UnknownPath(path) => write!(f, "nothing is served at {path}; /docs lists every route"),
            Self::MethodNotAllowed(method) => write!(f, "{method} is not taken here; the header Allow lists what is"),
            Self::UnknownModel(name) => write!(f, "no model {name}; /api/models lists the models there are"),
            Self::UnknownUser(id) => write!(f, "no user {id}; /api/users lists the users there are"),
            Self::UnknownPrediction(id) => write!(f, "no prediction {id} is recorded"),
            Self::NotRecorded { id, ratio } => {
                write!(f, "prediction {id} is not of the share that is recorded, which is {ratio} of all")
            }
            Self::FeedbackGiven(id) => write!(f, "the truth for prediction {id} was told before, and stays"),
            Self::InvalidFeedback(faults) => match faults.as_slice() {
                [] => f.write_str("the body does not fit the prediction"),
                [(member, words)] => write!(f, "{member} {words}"),
                [(member, words), rest @ ..] => {
                    write!(f, "{member} {words}, and {} more in 'errors'", rest.len())
                }
            },
            Self::InvalidQuery(parameter, words) => write!(f, "{parameter} {words}"),
            Self::UnsupportedMediaType(Some(found)) => {
                write!(f, "the content type must be application/json, but is {found}")
            }
            Self::UnsupportedMediaType(None) => {
                f.write_str("the content type must be application/json, but none is given")
            }
            Self::ListingDisabled => f.write_str(
                "recorded data is not shown by this gateway; CANOPY_LIST_PREDICTIONS=true switches it on",
            ),
            Self::StoreNotConfigured => f.write_str("nothing is recorded here: CANOPY_DATABASE_URL is not set"),
            Self::Upstream { model, endpoint: _, error } => write_upstream_error(f, model, error),
            Self::StoreUnavailable(_) => f.write_str("the database cannot be asked at the moment"),
            Self::Internal(_) => f.write_str("the fault is in the log of the gateway"),
        }
    }
}

fn write_upstream_error(f: &mut fmt::Formatter<'_>, model: &ModelRef, error: &UpstreamError) -> fmt::Result {
    match error {
        UpstreamError::Unreachable { .. } => write!(f, "no predictor of model {model} can be reached"),
        UpstreamError::OutOfSockets { .. } => write!(
            f,
            "the gateway can open no connection to a predictor of model {model}; send fewer requests at once, \
                     or later"
        ),
        UpstreamError::NoneReady => write!(f, "no predictor of model {model} is ready"),
        UpstreamError::Overloaded => {
            write!(f, "model {model} has more requests than it can answer in time; send fewer, or later")
        }
        UpstreamError::NotReady(_) => write!(f, "the predictor of model {model} is not ready to answer"),
        UpstreamError::Failed(_) => write!(f, "the predictor of model {model} gave no valid answer"),
        UpstreamError::DeadlineExceeded { after } => {
            write!(f, "the predictor of model {model} did not answer within {after:?}")
        }
    }
}

#[cfg(test)]
mod tests;
