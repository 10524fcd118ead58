//! Failures of a request: status, error code, and a body `{"detail": …}` without internals, which only the log has.

use std::borrow::Cow;
use std::time::Duration;

use canopy_contract::code::Code;
use canopy_contract::fault::{BodyError, FieldFault};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The body is not JSON; with the message of the parser.
    Malformed(String),
    /// The body is JSON with other members or types.
    Shape(Vec<FieldFault>),
    /// The body is well-formed, but its values do not fit the model.
    Values(Vec<FieldFault>),
    /// A value is none that the model takes.
    Value {
        /// The member of the body.
        member: &'static str,
        /// The indices below it.
        indices: Vec<usize>,
        /// What is wrong, with the name of the feature.
        problem: String,
    },
    /// The body is longer than this number of bytes.
    TooLarge(usize),
    /// The body has this content encoding, which is not supported.
    Encoding(String),
    /// The body did not arrive within this time.
    TooSlow(Duration),
    /// No such path.
    UnknownPath,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The model failed to compute a prediction.
    ModelFailed,
    /// The model is not verified, for this reason.
    NotReady(String),
    /// More requests than the model can answer in time.
    Overloaded,
    /// The client closed the connection before the response.
    ClientClosed,
}

/// The results of requests: status and code. All counters of a model exist from its start, so that the first failure of a
/// kind is an increase from 0, which Prometheus' `rate` sees.
pub const ENDINGS: [(u16, Code); 13] = [
    (200, Code::Ok),
    (400, Code::InvalidFeatures),
    (404, Code::UnknownPath),
    (405, Code::MethodNotAllowed),
    (408, Code::RequestTimeout),
    (413, Code::BodyTooLarge),
    (415, Code::UnsupportedEncoding),
    (422, Code::InvalidFeatures),
    (422, Code::MalformedJson),
    (499, Code::ClientClosed),
    (500, Code::ModelFailed),
    (503, Code::NotReady),
    (503, Code::Overloaded),
];

impl Failure {
    /// The status and the code.
    pub fn ending(&self) -> (u16, Code) {
        match self {
            Self::Malformed(_) => (422, Code::MalformedJson),
            Self::Shape(_) | Self::Value { .. } => (422, Code::InvalidFeatures),
            Self::Values(_) => (400, Code::InvalidFeatures),
            Self::TooLarge(_) => (413, Code::BodyTooLarge),
            Self::Encoding(_) => (415, Code::UnsupportedEncoding),
            Self::TooSlow(_) => (408, Code::RequestTimeout),
            Self::UnknownPath => (404, Code::UnknownPath),
            Self::MethodNotAllowed => (405, Code::MethodNotAllowed),
            Self::ModelFailed => (500, Code::ModelFailed),
            Self::NotReady(_) => (503, Code::NotReady),
            Self::Overloaded => (503, Code::Overloaded),
            Self::ClientClosed => (499, Code::ClientClosed),
        }
    }

    /// The failure of a body with these faults.
    pub fn faults(faults: Vec<FieldFault>) -> Self {
        if faults.iter().any(|fault| fault.fault.is_shape()) {
            Self::Shape(faults)
        } else {
            Self::Values(faults)
        }
    }

    /// The body of the response.
    pub fn body(&self) -> ErrorBody {
        let detail = match self {
            Self::Malformed(words) => Detail::Faults(vec![FaultDetail::malformed(words)]),
            Self::Shape(faults) => Detail::Faults(faults.iter().map(FaultDetail::of).collect()),
            Self::Values(faults) => {
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                Detail::Text(format!("Invalid features: {}", faults.join("; ")))
            }
            Self::Value { member, indices, problem } => {
                Detail::Faults(vec![FaultDetail::of_value(member, indices, problem)])
            }
            Self::TooLarge(limit) => Detail::Text(format!("Body too large: at most {limit} bytes")),
            Self::Encoding(encoding) => {
                Detail::Text(format!("Unsupported encoding {encoding:?}: send JSON without Content-Encoding"))
            }
            Self::TooSlow(limit) => {
                Detail::Text(format!("Body too slow: it must arrive within {} seconds", limit.as_secs_f64()))
            }
            Self::UnknownPath => Detail::Text("Not Found".to_owned()),
            Self::MethodNotAllowed => Detail::Text("Method Not Allowed".to_owned()),
            Self::ModelFailed => Detail::Text("Model error".to_owned()),
            Self::NotReady(reason) => Detail::Text(format!("Model not ready: {reason}")),
            Self::Overloaded => Detail::Text("Overloaded: try again in a second".to_owned()),
            Self::ClientClosed => Detail::Text("Client closed the connection".to_owned()),
        };
        ErrorBody { detail }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Malformed(words) => Self::Malformed(words),
            BodyError::Faults(faults) => Self::faults(faults),
        }
    }
}

/// The body of an error response.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The cause.
    detail: Detail,
}

/// A sentence, or a list if members or types of the body are wrong.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
enum Detail {
    Text(String),
    Faults(Vec<FaultDetail>),
}

/// A wrong member or type, in the format of `FastAPI`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct FaultDetail {
    /// The location.
    #[schema(example = json!(["body", "features", 2]))]
    loc: Vec<Step>,
    /// The cause.
    #[schema(example = "must be a number")]
    msg: String,
    /// The kind.
    #[serde(rename = "type")]
    #[schema(example = "number_type")]
    kind: &'static str,
}

const BODY: Cow<'static, str> = Cow::Borrowed("body");

/// A part of a location: the name of a member, or an index.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
enum Step {
    Member(Cow<'static, str>),
    Index(usize),
}

impl FaultDetail {
    fn of(FieldFault { place, fault }: &FieldFault) -> Self {
        let members = [Some(BODY), place.member.clone()].into_iter().flatten().map(Step::Member);
        let indices = place.indices.iter().copied().map(Step::Index);
        let name = place.name.clone().map(|name| Step::Member(name.into()));
        Self { loc: members.chain(indices).chain(name).collect(), msg: fault.to_string(), kind: fault.kind() }
    }

    fn of_value(member: &'static str, indices: &[usize], problem: &str) -> Self {
        let members = [BODY, member.into()].into_iter().map(Step::Member);
        let indices = indices.iter().copied().map(Step::Index);
        Self { loc: members.chain(indices).collect(), msg: problem.to_owned(), kind: "value_error" }
    }

    fn malformed(words: &str) -> Self {
        Self {
            loc: vec![Step::Member(BODY)],
            msg: format!("JSON decode error: {words}"),
            kind: "json_invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_contract::fault::Fault;

    #[track_caller]
    fn check(failure: &Failure, status: u16, body: &str) {
        assert_eq!(failure.ending().0, status);
        assert_eq!(serde_json::to_string(&failure.body()).unwrap(), body);
        assert!(ENDINGS.contains(&failure.ending()), "{failure:?} has no counter");
    }

    #[test]
    fn wrong_types_are_reported_by_location_and_wrong_values_in_a_sentence() {
        let number = FieldFault::at("instances", &[3, 2], Fault::NotANumber);
        let infinite = FieldFault::at("features", &[0], Fault::NotFinite);
        check(
            &Failure::from(BodyError::Faults(vec![number, infinite.clone()])),
            422,
            r#"{"detail":[{"loc":["body","instances",3,2],"msg":"must be a number","type":"number_type"},{"loc":["body","features",0],"msg":"must be a finite number","type":"finite_number"}]}"#,
        );
        check(
            &Failure::from(BodyError::Faults(vec![FieldFault::unknown_member("names")])),
            422,
            r#"{"detail":[{"loc":["body","names"],"msg":"is unknown; the body takes features or instances, and probabilities","type":"extra_forbidden"}]}"#,
        );
        check(
            &Failure::from(BodyError::Faults(vec![infinite])),
            400,
            r#"{"detail":"Invalid features: features.0 must be a finite number"}"#,
        );
        check(
            &Failure::from(BodyError::Malformed("expected value at line 1 column 1".to_owned())),
            422,
            r#"{"detail":[{"loc":["body"],"msg":"JSON decode error: expected value at line 1 column 1","type":"json_invalid"}]}"#,
        );
    }

    #[test]
    fn every_other_failure_has_one_sentence() {
        check(&Failure::TooLarge(10), 413, r#"{"detail":"Body too large: at most 10 bytes"}"#);
        check(
            &Failure::TooSlow(Duration::from_secs(3)),
            408,
            r#"{"detail":"Body too slow: it must arrive within 3 seconds"}"#,
        );
        check(
            &Failure::Encoding("gzip".to_owned()),
            415,
            r#"{"detail":"Unsupported encoding \"gzip\": send JSON without Content-Encoding"}"#,
        );
        let problem = "kind must be a whole number of 32 bits, but is 0.5".to_owned();
        check(
            &Failure::Value { member: "instances", indices: vec![3, 1], problem },
            422,
            r#"{"detail":[{"loc":["body","instances",3,1],"msg":"kind must be a whole number of 32 bits, but is 0.5","type":"value_error"}]}"#,
        );
        check(&Failure::ClientClosed, 499, r#"{"detail":"Client closed the connection"}"#);
        check(&Failure::UnknownPath, 404, r#"{"detail":"Not Found"}"#);
        check(&Failure::MethodNotAllowed, 405, r#"{"detail":"Method Not Allowed"}"#);
        check(&Failure::ModelFailed, 500, r#"{"detail":"Model error"}"#);
        check(&Failure::Overloaded, 503, r#"{"detail":"Overloaded: try again in a second"}"#);
        check(&Failure::NotReady("loading".to_owned()), 503, r#"{"detail":"Model not ready: loading"}"#);
    }
}
