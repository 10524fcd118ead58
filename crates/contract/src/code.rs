//! The closed list of error codes.
//!
//! A code is the `code` of an error body, the `reason` of a metric, a field of log lines, a heading in the runbook and, in
//! CamelCase, the reason of a Kubernetes condition.

/// The result of a request or of a preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Success.
    Ok,
    /// Accepted; there is no further response.
    Accepted,
    /// The body is not JSON.
    MalformedJson,
    /// The body is JSON, but its fields do not fit the model.
    InvalidFeatures,
    /// No such path.
    UnknownPath,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// No model of this name.
    UnknownModel,
    /// No user of this id.
    UnknownUser,
    /// No prediction with this id is recorded.
    UnknownPrediction,
    /// Only a share of all predictions is recorded, and this one is not.
    NotRecorded,
    /// The prediction already has feedback.
    FeedbackGiven,
    /// The feedback does not fit the prediction.
    InvalidFeedback,
    /// The request names a host that this server is not called by.
    MisdirectedRequest,
    /// A query parameter is unknown or invalid.
    InvalidQuery,
    /// The content type of the body is not supported by the path.
    UnsupportedMediaType,
    /// Listing recorded predictions is disabled.
    ListingDisabled,
    /// The body is longer than the limit.
    BodyTooLarge,
    /// The body is compressed, or has another content encoding that is not supported.
    UnsupportedEncoding,
    /// The client took too long to send its body.
    RequestTimeout,
    /// The client closed the connection before it had its answer.
    ClientClosed,
    /// No predictor of the model could be reached.
    PredictorUnavailable,
    /// A predictor responded with an error or with an invalid response.
    PredictorFailed,
    /// There was no response before the deadline.
    DeadlineExceeded,
    /// The database is unavailable.
    StoreUnavailable,
    /// There is no database, and the path needs one.
    StoreNotConfigured,
    /// The model failed to compute a prediction.
    ModelFailed,
    /// The predictor has not verified its model yet, or has refused it.
    NotReady,
    /// More requests than the model can answer in time.
    Overloaded,
    /// The gateway cannot open connections because of a limit of its process or machine.
    OutOfSockets,
    /// A fault of Canopy itself.
    Internal,
    /// The training data cannot be used.
    DataInvalid,
    /// The training data could not be read.
    DataUnavailable,
    /// A downloaded file does not have the given digest.
    DigestMismatch,
    /// The model's quality on the hold-out rows is below its gate.
    GateMissed,
    /// The model file cannot be read or served.
    ModelInvalid,
    /// The model gives another answer than an example expects.
    ExampleMismatch,
    /// The artifact is not the one that was prepared.
    ArtifactCorrupt,
    /// The model does not reproduce the prediction that was recorded when it was prepared.
    GoldenMismatch,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 38] = [
        Self::Ok,
        Self::Accepted,
        Self::MalformedJson,
        Self::InvalidFeatures,
        Self::UnknownPath,
        Self::MethodNotAllowed,
        Self::UnknownModel,
        Self::UnknownUser,
        Self::UnknownPrediction,
        Self::NotRecorded,
        Self::FeedbackGiven,
        Self::InvalidFeedback,
        Self::MisdirectedRequest,
        Self::InvalidQuery,
        Self::UnsupportedMediaType,
        Self::ListingDisabled,
        Self::BodyTooLarge,
        Self::UnsupportedEncoding,
        Self::RequestTimeout,
        Self::ClientClosed,
        Self::PredictorUnavailable,
        Self::PredictorFailed,
        Self::DeadlineExceeded,
        Self::StoreUnavailable,
        Self::StoreNotConfigured,
        Self::ModelFailed,
        Self::NotReady,
        Self::Overloaded,
        Self::OutOfSockets,
        Self::Internal,
        Self::DataInvalid,
        Self::DataUnavailable,
        Self::DigestMismatch,
        Self::GateMissed,
        Self::ModelInvalid,
        Self::ExampleMismatch,
        Self::ArtifactCorrupt,
        Self::GoldenMismatch,
    ];

    /// The code in `snake_case`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Accepted => "accepted",
            Self::MalformedJson => "malformed_json",
            Self::InvalidFeatures => "invalid_features",
            Self::UnknownPath => "unknown_path",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownModel => "unknown_model",
            Self::UnknownUser => "unknown_user",
            Self::UnknownPrediction => "unknown_prediction",
            Self::NotRecorded => "not_recorded",
            Self::FeedbackGiven => "feedback_given",
            Self::InvalidFeedback => "invalid_feedback",
            Self::MisdirectedRequest => "misdirected_request",
            Self::InvalidQuery => "invalid_query",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ListingDisabled => "listing_disabled",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::RequestTimeout => "request_timeout",
            Self::ClientClosed => "client_closed",
            Self::PredictorUnavailable => "predictor_unavailable",
            Self::PredictorFailed => "predictor_failed",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreNotConfigured => "store_not_configured",
            Self::ModelFailed => "model_failed",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::OutOfSockets => "out_of_sockets",
            Self::Internal => "internal",
            Self::DataInvalid => "data_invalid",
            Self::DataUnavailable => "data_unavailable",
            Self::DigestMismatch => "digest_mismatch",
            Self::GateMissed => "gate_missed",
            Self::ModelInvalid => "model_invalid",
            Self::ExampleMismatch => "example_mismatch",
            Self::ArtifactCorrupt => "artifact_corrupt",
            Self::GoldenMismatch => "golden_mismatch",
        }
    }

    /// The code in CamelCase, for reasons of Kubernetes conditions: `gate_missed` is `GateMissed`.
    pub fn camel_case(self) -> String {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        self.as_str().split('_').map(capital).collect()
    }

    /// Whether the request succeeded.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Accepted)
    }

    /// The HTTP status of the gateway's response.
    pub const fn status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Accepted => 202,
            Self::MalformedJson => 400,
            Self::ListingDisabled => 403,
            Self::UnknownPath
            | Self::UnknownModel
            | Self::UnknownUser
            | Self::UnknownPrediction
            | Self::NotRecorded => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::FeedbackGiven => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => 415,
            Self::MisdirectedRequest => 421,
            Self::InvalidFeatures | Self::InvalidFeedback | Self::InvalidQuery => 422,
            // Never sent: metrics and traces have it for a client that disconnected, as those of nginx do.
            Self::ClientClosed => 499,
            Self::ModelFailed | Self::Internal => 500,
            Self::PredictorUnavailable
            | Self::PredictorFailed
            | Self::StoreUnavailable
            | Self::StoreNotConfigured
            | Self::NotReady
            | Self::Overloaded
            | Self::OutOfSockets
            | Self::DataInvalid
            | Self::DataUnavailable
            | Self::DigestMismatch
            | Self::GateMissed
            | Self::ModelInvalid
            | Self::ExampleMismatch
            | Self::ArtifactCorrupt
            | Self::GoldenMismatch => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The `title` of an error body.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Accepted => "Accepted",
            Self::MalformedJson => "The body is not valid JSON",
            Self::InvalidFeatures => "The features do not fit the model",
            Self::UnknownPath => "Path not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::UnknownModel => "Model not found",
            Self::UnknownUser => "User not found",
            Self::UnknownPrediction => "Prediction not found",
            Self::NotRecorded => "The prediction was not recorded",
            Self::FeedbackGiven => "The prediction already has feedback",
            Self::InvalidFeedback => "The feedback does not fit the prediction",
            Self::MisdirectedRequest => "The Host header is not allowed",
            Self::InvalidQuery => "Invalid query parameters",
            Self::UnsupportedMediaType => "The content type of the body is not supported",
            Self::ListingDisabled => "Listing recorded predictions is disabled",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedEncoding => "The content encoding of the body is not supported",
            Self::RequestTimeout => "The body did not arrive in time",
            Self::ClientClosed => "The client closed the connection",
            Self::PredictorUnavailable => "No predictor of the model can be reached",
            Self::PredictorFailed => "The predictor returned an error",
            Self::DeadlineExceeded => "The predictor did not respond in time",
            Self::StoreUnavailable => "The database is unavailable",
            Self::StoreNotConfigured => "No database is configured",
            Self::ModelFailed => "The model failed to compute a prediction",
            Self::NotReady => "The model is not ready",
            Self::Overloaded => "The model is overloaded",
            Self::OutOfSockets => "The gateway cannot open more connections",
            Self::Internal => "Internal error",
            Self::DataInvalid => "The training data cannot be used",
            Self::DataUnavailable => "The training data cannot be read",
            Self::DigestMismatch => "The file does not have the expected digest",
            Self::GateMissed => "The quality of the model is below its gate",
            Self::ModelInvalid => "The model file cannot be served",
            Self::ExampleMismatch => "The model gives another answer than an example expects",
            Self::ArtifactCorrupt => "The artifact is not the one that was prepared",
            Self::GoldenMismatch => "The model does not reproduce its recorded prediction",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_have_one_camel_case_form() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(format!("{code:?}"), code.camel_case());
        }
    }
}
