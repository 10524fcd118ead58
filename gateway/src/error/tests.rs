//! The texts of errors for clients and for the log.

use super::*;
use canopy_contract::fault::Fault;

fn failed(error: UpstreamError) -> ApiError {
    ApiError::Upstream { model: ModelRef::parse("iris", "shop").unwrap(), endpoint: None, error }
}

#[test]
fn upstream_errors_are_reported_in_two_languages_without_addresses() {
    let secret = "10.1.2.3:8001 refused";
    let unreachable = |why| UpstreamError::Unreachable { why, delivered: false };
    let out_of_sockets = |why| UpstreamError::OutOfSockets { why, delivered: false };
    let all: [fn(String) -> UpstreamError; 4] =
        [unreachable, out_of_sockets, UpstreamError::NotReady, UpstreamError::Failed];
    for error in all.map(|error| failed(error(secret.to_owned()))) {
        let english = error.problem(Language::English);
        assert_eq!((english.status, english.error.as_str()), (503, "AI service unavailable"));
        assert_eq!(error.problem(Language::French).error, "Service IA indisponible");
        assert!(english.detail.contains("model iris.shop") && !english.detail.contains("10.1"));
        assert_eq!((error.retry_after(), error.cause()), (Some(1), Some(secret)));
    }
    let problem = failed(UpstreamError::NoneReady).problem(Language::French);
    assert_eq!((problem.status, problem.code.as_str()), (503, "not_ready"));
    assert_eq!(problem.error, "Service IA indisponible");
}

#[test]
fn rows_that_an_endpoint_may_have_received_count_as_delivered() {
    let why = String::new;
    for (error, is_undelivered) in [
        (UpstreamError::Unreachable { why: why(), delivered: false }, true),
        (UpstreamError::Unreachable { why: why(), delivered: true }, false),
        (UpstreamError::OutOfSockets { why: why(), delivered: false }, true),
        (UpstreamError::OutOfSockets { why: why(), delivered: true }, false),
        (UpstreamError::Failed(why()), false),
        (UpstreamError::NotReady(why()), false),
        (UpstreamError::Overloaded, false),
    ] {
        let error = failed(error);
        assert_eq!(error.is_undelivered(), is_undelivered, "{error:?}");
        assert!(!error.after_delivery().is_undelivered());
    }
}

#[test]
fn a_missed_deadline_is_a_504_without_retry_after() {
    let error = failed(UpstreamError::DeadlineExceeded { after: Duration::from_millis(1500) });
    let problem = error.problem(Language::French);
    assert_eq!((problem.status, problem.code.as_str()), (504, "deadline_exceeded"));
    assert_eq!(problem.detail, "the predictor of model iris.shop did not respond within 1.5s");
    assert_eq!(error.retry_after(), None);
}

#[test]
fn errors_are_grouped_by_field() {
    let fault = |at: &[usize], fault| FieldFault::at("features", at, fault);
    let length = Fault::WrongLength { expected: 4, found: 2 };
    let problem = ApiError::InvalidFeatures(vec![fault(&[], length), fault(&[1], Fault::NotANumber)])
        .problem(Language::English);
    assert_eq!(problem.status, 422);
    assert!(problem.detail.ends_with("but has 2, and 1 more in 'errors'"), "{}", problem.detail);
    assert_eq!(problem.errors.keys().collect::<Vec<_>>(), ["features", "features.1"]);
    assert_eq!(problem.errors["features.1"], ["must be a number"]);
}
