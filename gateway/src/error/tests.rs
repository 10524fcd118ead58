//! What clients and the log are told of failures.

use super::*;
use canopy_contract::fault::Fault;

fn failed(trouble: Trouble) -> Failure {
    Failure::Predictor { model: ModelRef::parse("iris", "shop").unwrap(), endpoint: None, trouble }
}

#[test]
fn a_predictor_that_does_not_answer_is_told_in_two_languages_and_without_its_address() {
    let secret = "10.1.2.3:8001 refused";
    let unreachable = |why| Trouble::Unreachable { why, delivered: false };
    let out_of_sockets = |why| Trouble::OutOfSockets { why, delivered: false };
    let all: [fn(String) -> Trouble; 4] = [unreachable, out_of_sockets, Trouble::NotReady, Trouble::Failed];
    for failure in all.map(|trouble| failed(trouble(secret.to_owned()))) {
        let english = failure.problem(Language::English);
        assert_eq!((english.status, english.error.as_str()), (503, "AI service unavailable"));
        assert_eq!(failure.problem(Language::French).error, "Service IA indisponible");
        assert!(english.detail.contains("model iris.shop") && !english.detail.contains("10.1"));
        assert_eq!((failure.retry_after(), failure.cause()), (Some(1), Some(secret)));
    }
    let problem = failed(Trouble::NoneReady).problem(Language::French);
    assert_eq!((problem.status, problem.code.as_str()), (503, "not_ready"));
    assert_eq!(problem.error, "Service IA indisponible");
}

#[test]
fn rows_that_a_pod_may_have_got_are_delivered() {
    let why = String::new;
    for (trouble, is_undelivered) in [
        (Trouble::Unreachable { why: why(), delivered: false }, true),
        (Trouble::Unreachable { why: why(), delivered: true }, false),
        (Trouble::OutOfSockets { why: why(), delivered: false }, true),
        (Trouble::OutOfSockets { why: why(), delivered: true }, false),
        (Trouble::Failed(why()), false),
        (Trouble::NotReady(why()), false),
        (Trouble::Overloaded, false),
    ] {
        let failure = failed(trouble);
        assert_eq!(failure.is_undelivered(), is_undelivered, "{failure:?}");
        assert!(!failure.after_delivery().is_undelivered());
    }
}

#[test]
fn a_deadline_is_no_unavailable_service() {
    let failure = failed(Trouble::Late { after: Duration::from_millis(1500) });
    let problem = failure.problem(Language::French);
    assert_eq!((problem.status, problem.code.as_str()), (504, "deadline_exceeded"));
    assert_eq!(problem.detail, "the predictor of model iris.shop did not answer within 1.5s");
    assert_eq!(failure.retry_after(), None);
}

#[test]
fn faults_are_told_by_field() {
    let fault = |at: &[usize], fault| FieldFault::at("features", at, fault);
    let length = Fault::WrongLength { expected: 4, found: 2 };
    let problem =
        Failure::Faults(vec![fault(&[], length), fault(&[1], Fault::NotANumber)]).problem(Language::English);
    assert_eq!(problem.status, 422);
    assert!(problem.detail.ends_with("but has 2, and 1 more in 'errors'"), "{}", problem.detail);
    assert_eq!(problem.errors.keys().collect::<Vec<_>>(), ["features", "features.1"]);
    assert_eq!(problem.errors["features.1"], ["must be a number"]);
}
