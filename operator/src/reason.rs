//! The closed list of words with which conditions and Events say why.
//!
//! Comes in: nothing, or a [`Code`] that `prepare` reported. Goes out: a CamelCase word. Never: a word made up
//! where it is used; a `Code` and the reason of the same failure are the same word.

use canopy_contract::code::Code;

/// Why a condition has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The revision answers.
    Serving,
    /// The revision is trained and met its gate.
    Prepared,
    /// The revision is being trained.
    Preparing,
    /// The revision is trained, and its pods are coming up.
    Starting,
    /// A revision that served before is about to go.
    Retiring,
    /// Nothing is left to do.
    Settled,
    /// There are to be no pods.
    ScaledToZero,
    /// Nothing is changed while `paused` is set.
    Paused,
    /// Pods prepared the same revision and got different artifacts.
    ArtifactsDiffer,
    /// An object of a name that the model needs belongs to somebody else.
    NameTaken,
    /// The API server refused an object.
    ApplyRefused,
    /// The spec cannot be planned.
    SpecInvalid,
    /// The image of the predictor cannot be pulled.
    ImageUnavailable,
    /// No node takes the pod.
    Unschedulable,
    /// Kubernetes will not make the pods.
    PodsRefused,
    /// Pods run and are not ready.
    PodsNotReady,
    /// Pods are ready, and the Service by which gateways find them has no endpoint.
    NoEndpoints,
    /// `prepare` failed in a way that may pass, and is tried again.
    PrepareFailed,
    /// A container needed more memory than its limit.
    OutOfMemory,
    /// Training took longer than `train.deadlineSeconds`.
    DeadlineExceeded,
    /// `prepare` refused: the training data cannot be used.
    DataInvalid,
    /// The training data cannot be read.
    DataUnavailable,
    /// The copy of the data of the revision that serves is gone and cannot be made again.
    DataCopyLost,
    /// `prepare` refused: the file at the uri is not the one that the spec asks for.
    DigestMismatch,
    /// `prepare` refused: the model is not good enough.
    GateMissed,
    /// `serve` refused: the artifact is not what `prepare` left.
    ArtifactCorrupt,
    /// `serve` refused: the model does not answer as it did when it was prepared.
    GoldenMismatch,
    /// `prepare` refused, for a reason that this operator does not know.
    Refused,
}

/// What is wrong, in a word and in a sentence that names the object and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub message: String,
}

impl Diagnosis {
    /// Trouble of the kind `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Reason {
    /// Every word there is.
    pub const ALL: [Self; 28] = [
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
        Self::ArtifactCorrupt,
        Self::GoldenMismatch,
        Self::Refused,
    ];

    /// The word.
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
            Self::ArtifactCorrupt => "ArtifactCorrupt",
            Self::GoldenMismatch => "GoldenMismatch",
            Self::Refused => "Refused",
        }
    }

    /// The reason that a report or an earlier status names: of a word that is not known, only that it refuses.
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
    fn the_words_are_the_names_and_none_is_left_out() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str(), format!("{reason:?}"));
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_prepare() {
        assert_eq!(Reason::from_refusal_code(Code::GateMissed.as_str()), Reason::GateMissed);
        assert_eq!(Reason::from_refusal_code("DataInvalid"), Reason::DataInvalid);
        assert_eq!(Reason::from_refusal_code(Code::DigestMismatch.as_str()), Reason::DigestMismatch);
        assert_eq!(Reason::from_refusal_code(Code::ArtifactCorrupt.as_str()), Reason::ArtifactCorrupt);
        assert_eq!(Reason::from_refusal_code(Code::GoldenMismatch.as_str()), Reason::GoldenMismatch);
        assert_eq!(Reason::from_refusal_code("a word of a later version"), Reason::Refused);
    }
}
