//! The closed list of reasons in conditions and Events, and the type for a reason with its message.
//!
//! The reason for an error code of `prepare` or `serve` is that code in `CamelCase`.

use canopy_contract::code::Code;

/// Reason of a condition or an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The revision answers requests.
    Serving,
    /// The revision is trained and passed its gate.
    Prepared,
    /// The revision is being trained.
    Preparing,
    /// The revision is trained and its pods are starting.
    Starting,
    /// A replaced revision is kept for `retireSeconds`.
    Retiring,
    /// There is nothing to do.
    Settled,
    /// `replicas` is 0.
    ScaledToZero,
    /// `paused` is set.
    Paused,
    /// Pods of one revision prepared different artifacts.
    ArtifactsDiffer,
    /// An object that does not belong to the model has a name that the model needs.
    NameTaken,
    /// The API server rejected a request.
    ApplyRefused,
    /// The spec is invalid.
    SpecInvalid,
    /// The predictor image cannot be pulled.
    ImageUnavailable,
    /// The scheduler cannot place the pod.
    Unschedulable,
    /// Kubernetes cannot create pods for the Deployment.
    PodsRefused,
    /// Pods are running and not ready.
    PodsNotReady,
    /// Pods are ready, but the Service through which gateways discover them has no endpoints.
    NoEndpoints,
    /// `prepare` failed temporarily and is retried.
    PrepareFailed,
    /// A container exceeded its memory limit.
    OutOfMemory,
    /// Training took longer than `train.deadlineSeconds`.
    DeadlineExceeded,
    /// `prepare` refused the training data.
    DataInvalid,
    /// The training data cannot be read.
    DataUnavailable,
    /// The `ConfigMap` with the data of the serving revision is lost and cannot be recreated.
    DataCopyLost,
    /// The file at the URI does not have the SHA-256 that the spec requires.
    DigestMismatch,
    /// The model did not reach the threshold of its gate.
    GateMissed,
    /// `prepare` refused the model file.
    ModelInvalid,
    /// The model gives another answer than an example expects.
    ExampleMismatch,
    /// `serve` refused the artifact: it is not the one that `prepare` wrote.
    ArtifactCorrupt,
    /// `serve` refused the model: its self-test returned other predictions than `prepare` recorded.
    GoldenMismatch,
    /// `prepare` refused for a reason that this version of the operator does not know.
    Refused,
}

/// A reason and a message for the user. The message names the object and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The reason.
    pub reason: Reason,
    /// The message.
    pub message: String,
}

impl Diagnosis {
    /// A diagnosis with this reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 30] = [
        Self::Serving,
        Self::Prepared,
        Self::Preparing,
        Self::Starting,
        Self::Retiring,
        Self::Settled,
        Self::ScaledToZero,
        Self::Paused,
        Self::ArtifactsDiffer,
        Self::NameTaken,
        Self::ApplyRefused,
        Self::SpecInvalid,
        Self::ImageUnavailable,
        Self::Unschedulable,
        Self::PodsRefused,
        Self::PodsNotReady,
        Self::NoEndpoints,
        Self::PrepareFailed,
        Self::OutOfMemory,
        Self::DeadlineExceeded,
        Self::DataInvalid,
        Self::DataUnavailable,
        Self::DataCopyLost,
        Self::DigestMismatch,
        Self::GateMissed,
        Self::ModelInvalid,
        Self::ExampleMismatch,
        Self::ArtifactCorrupt,
        Self::GoldenMismatch,
        Self::Refused,
    ];

    /// The reason as it appears in conditions and Events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::Prepared => "Prepared",
            Self::Preparing => "Preparing",
            Self::Starting => "Starting",
            Self::Retiring => "Retiring",
            Self::Settled => "Settled",
            Self::ScaledToZero => "ScaledToZero",
            Self::Paused => "Paused",
            Self::ArtifactsDiffer => "ArtifactsDiffer",
            Self::NameTaken => "NameTaken",
            Self::ApplyRefused => "ApplyRefused",
            Self::SpecInvalid => "SpecInvalid",
            Self::ImageUnavailable => "ImageUnavailable",
            Self::Unschedulable => "Unschedulable",
            Self::PodsRefused => "PodsRefused",
            Self::PodsNotReady => "PodsNotReady",
            Self::NoEndpoints => "NoEndpoints",
            Self::PrepareFailed => "PrepareFailed",
            Self::OutOfMemory => "OutOfMemory",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::DataInvalid => "DataInvalid",
            Self::DataUnavailable => "DataUnavailable",
            Self::DataCopyLost => "DataCopyLost",
            Self::DigestMismatch => "DigestMismatch",
            Self::GateMissed => "GateMissed",
            Self::ModelInvalid => "ModelInvalid",
            Self::ExampleMismatch => "ExampleMismatch",
            Self::ArtifactCorrupt => "ArtifactCorrupt",
            Self::GoldenMismatch => "GoldenMismatch",
            Self::Refused => "Refused",
        }
    }

    /// The reason for the error code of a report, or for a reason in an earlier status. Unknown codes give `Refused`.
    pub fn from_refusal_code(word: &str) -> Self {
        let camel = |code: &Code| code.as_str() == word || code.camel_case() == word;
        let spoken = Code::ALL.iter().find(|code| camel(code)).map(|code| code.camel_case());
        let word = spoken.as_deref().unwrap_or(word);
        Self::ALL.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_listed_under_their_names() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str(), format!("{reason:?}"));
        }
    }

    #[test]
    fn error_codes_map_to_reasons() {
        assert_eq!(Reason::from_refusal_code(Code::GateMissed.as_str()), Reason::GateMissed);
        assert_eq!(Reason::from_refusal_code("DataInvalid"), Reason::DataInvalid);
        assert_eq!(Reason::from_refusal_code(Code::DigestMismatch.as_str()), Reason::DigestMismatch);
        assert_eq!(Reason::from_refusal_code(Code::ArtifactCorrupt.as_str()), Reason::ArtifactCorrupt);
        assert_eq!(Reason::from_refusal_code(Code::GoldenMismatch.as_str()), Reason::GoldenMismatch);
        assert_eq!(Reason::from_refusal_code(Code::ModelInvalid.as_str()), Reason::ModelInvalid);
        assert_eq!(Reason::from_refusal_code(Code::ExampleMismatch.as_str()), Reason::ExampleMismatch);
        assert_eq!(Reason::from_refusal_code("a word of a later version"), Reason::Refused);
    }
}
