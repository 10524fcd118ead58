//! Parses feedback and compares it with the prediction.

use std::fmt;

use canopy_contract::fault::{FAULTS_MAX, quotable};
use canopy_contract::malformed::malformed as malformed_reason;
use canopy_contract::schema::Class;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Number, Value};

use crate::error::ApiError;

/// The member of the body.
const ACTUAL: &str = "actual";

/// Feedback compared with a prediction.
#[derive(Debug, PartialEq)]
pub(crate) struct Evaluation {
    /// The indices of the actual classes, by row.
    pub(crate) actual: Vec<u32>,
    /// The number of rows that were predicted correctly.
    pub(crate) correct: u64,
}

/// Parses `body` and compares it with the predicted classes `answered`, of a model with `classes`. `is_one` is true for a request
/// with `features`.
pub(crate) fn evaluate(
    body: &[u8],
    classes: &[Class],
    answered: &[u32],
    is_one: bool,
) -> Result<Evaluation, ApiError> {
    let malformed = |error: serde_json::Error| ApiError::MalformedJson(malformed_reason(body, &error));
    let fault =
        |member: &str, words: String| Err(ApiError::InvalidFeedback(vec![(member.to_owned(), words)]));
    if !body.trim_ascii_start().starts_with(b"{") {
        drop(serde_json::from_slice::<Value>(body).map_err(malformed)?);
        return fault("body", "must be an object with the member actual".to_owned());
    }
    let given = match serde_json::from_slice(body).map_err(malformed)? {
        Body { unknown, .. } if !unknown.is_empty() => {
            let fault = |name| (name, "is unknown; the body has only actual".to_owned());
            return Err(ApiError::InvalidFeedback(unknown.into_iter().map(fault).collect()));
        }
        Body { is_twice: true, .. } => return fault(ACTUAL, "must be given only once".to_owned()),
        Body { actual, .. } => actual,
    };
    let found: Vec<(String, ClassMatch)> = match &given {
        None | Some(Value::Null) => return fault(ACTUAL, "is required".to_owned()),
        Some(Value::Array(_)) if is_one => {
            return fault(ACTUAL, "must be one class, since the prediction was for one row".to_owned());
        }
        Some(Value::Array(list)) if list.len() != answered.len() => {
            let words = format!("must have {} classes, one per row, got {}", answered.len(), list.len());
            return fault(ACTUAL, words);
        }
        Some(Value::Array(list)) => {
            list.iter().enumerate().map(|(row, one)| (format!("actual.{row}"), class(one, classes))).collect()
        }
        Some(one) if is_one => vec![(ACTUAL.to_owned(), class(one, classes))],
        Some(_) => {
            let words =
                format!("must be a list of {} classes, one per row of the prediction", answered.len());
            return fault(ACTUAL, words);
        }
    };
    let wrong = found.iter().filter_map(|(member, matched)| match matched {
        ClassMatch::Class(_) => None,
        ClassMatch::Unknown => Some((member.clone(), expected_class(classes))),
        ClassMatch::Ambiguous(words) => Some((member.clone(), words.clone())),
    });
    let faults: Vec<_> = wrong.take(FAULTS_MAX).collect();
    if !faults.is_empty() {
        return Err(ApiError::InvalidFeedback(faults));
    }
    let class = |matched| if let ClassMatch::Class(index) = matched { Some(index) } else { None };
    let actual: Vec<u32> = found.into_iter().filter_map(|(_, matched)| class(matched)).collect();
    let correct = actual.iter().zip(answered).filter(|(actual, answered)| actual == answered).count() as u64;
    Ok(Evaluation { actual, correct })
}

/// The body, with the names of unknown members.
#[derive(Default)]
struct Body {
    actual: Option<Value>,
    is_twice: bool,
    unknown: Vec<String>,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with actual")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut body = Body::default();
        while let Some(name) = map.next_key::<String>()? {
            let value: Value = map.next_value()?;
            if name == ACTUAL {
                body.is_twice |= body.actual.replace(value).is_some();
            } else if body.unknown.len() < FAULTS_MAX {
                body.unknown.push(quotable(&name));
            }
        }
        Ok(body)
    }
}

/// What a given class matches.
enum ClassMatch {
    /// The class with this index.
    Class(u32),
    /// No class of the model.
    Unknown,
    /// Several classes; the text tells the client what to do.
    Ambiguous(String),
}

impl ClassMatch {
    fn of(index: Option<usize>) -> Self {
        index.and_then(|index| u32::try_from(index).ok()).map_or(Self::Unknown, Self::Class)
    }
}

/// Matches a given class: a string by name, a number by index. If all class names are numbers, such as the qualities 3 to 8 of a
/// wine, a number is a name. If only some are, a number may be ambiguous.
fn class(given: &Value, classes: &[Class]) -> ClassMatch {
    let number = match given {
        Value::Number(number) => number,
        Value::String(name) => {
            return ClassMatch::of(classes.iter().position(|class| class.name() == Some(name)));
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return ClassMatch::Unknown,
    };
    let called = |(index, class): (usize, &Class)| is_named(class, number).then_some(index);
    let text = number.to_string();
    let exact = classes.iter().position(|class| class.name() == Some(&text));
    let by_name: Vec<_> =
        exact.map_or_else(|| classes.iter().enumerate().filter_map(called).collect(), |exact| vec![exact]);
    let by_index = number.as_u64().and_then(|index| usize::try_from(index).ok());
    let by_index = by_index.filter(|&index| index < classes.len() && !are_numbers(classes));
    match (by_name.as_slice(), by_index) {
        ([], by_index) => ClassMatch::of(by_index),
        (&[one], None) => ClassMatch::of(Some(one)),
        (&[one], Some(index)) if one == index => ClassMatch::of(Some(one)),
        (&[_], Some(_)) => ClassMatch::Ambiguous(format!(
            "{number} is the name of one class and the index of another; give the name of the class as a string"
        )),
        _ => ClassMatch::Ambiguous(format!(
            "{number} may be the name of several classes; give the name of the class as a string"
        )),
    }
}

/// Whether all class names are numbers.
fn are_numbers(classes: &[Class]) -> bool {
    classes.iter().all(|class| class.name().is_some_and(|name| number_of(name).is_some()))
}

/// 64-bit floats do not represent every integer beyond this.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether the name of `class` is `number`, in any notation.
fn is_named(class: &Class, number: &Number) -> bool {
    let Some(name) = class.name() else { return false };
    let given = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (name.parse::<i128>(), given) {
        // Floats do not distinguish large integers.
        (Ok(name), Some(given)) => name == given,
        // The number exceeds 64 bits and was parsed as a float, which its neighbours share.
        (Ok(_), None) if number.as_f64().is_none_or(|number| number.abs() >= EXACT_MAX) => false,
        _ => number_of(name).is_some_and(|name| number.as_f64() == Some(name)),
    }
}

fn number_of(name: &str) -> Option<f64> {
    name.parse().ok().filter(|number: &f64| number.is_finite())
}

fn expected_class(classes: &[Class]) -> String {
    let last = classes.len().saturating_sub(1);
    let names: Vec<_> = classes.iter().filter_map(Class::name).take(FAULTS_MAX).collect();
    match names.as_slice() {
        [] => format!("must be the index of a class of the model, from 0 to {last}"),
        names if are_numbers(classes) => format!("must be a class of the model: one of {}", names.join(", ")),
        names if names.len() < classes.len() => {
            format!("must be a class of the model: an index from 0 to {last}, or a name such as {}", names[0])
        }
        names => {
            format!("must be a class of the model: an index from 0 to {last}, or one of {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::language::Language;

    fn named() -> Vec<Class> {
        ["no", "yes"].map(|name| Class::Name(name.to_owned())).into()
    }

    #[test]
    fn a_class_is_given_by_index_or_name() {
        let check = |body: &str, answered: &[u32], is_one, actual: &[u32], correct| {
            let evaluation = Evaluation { actual: actual.into(), correct };
            assert_eq!(evaluate(body.as_bytes(), &named(), answered, is_one).unwrap(), evaluation, "{body}");
        };
        check(r#"{"actual":1}"#, &[1], true, &[1], 1);
        check(r#"{"actual":"yes"}"#, &[1], true, &[1], 1);
        check(r#" {"actual":"no"} "#, &[1], true, &[0], 0);
        check(r#"{"actual":["no",1,"yes"]}"#, &[0, 0, 1], false, &[0, 1, 1], 2);
        check(r#"{"actual":[1]}"#, &[1], false, &[1], 1);
    }

    /// The class that `given` matches, of a model with these class names.
    fn meant(given: &str, names: &[&str]) -> Result<u32, String> {
        let classes: Vec<_> = names.iter().map(|&name| Class::Name(name.to_owned())).collect();
        let evaluation = evaluate(format!(r#"{{"actual":{given}}}"#).as_bytes(), &classes, &[0], true);
        evaluation.map(|evaluation| evaluation.actual[0]).map_err(|error| error.to_string())
    }

    #[test]
    fn if_all_names_are_numbers_a_number_is_a_name_and_never_an_index() {
        let wine = ["3", "4", "5", "6", "7", "8"];
        for (index, name) in (0..).zip(wine) {
            assert_eq!(meant(name, &wine), Ok(index));
            assert_eq!(meant(&format!("\"{name}\""), &wine), Ok(index));
            assert_eq!(meant(&format!("{name}.0"), &wine), Ok(index));
        }
        for no_name in ["0", "2", "9", "5.5", "-5"] {
            let words = "actual must be a class of the model: one of 3, 4, 5, 6, 7, 8";
            assert_eq!(meant(no_name, &wine), Err(words.to_owned()), "{no_name}");
        }
        assert_eq!(meant("1", &["1", "0"]), Ok(0));
        assert_eq!(meant("-1", &["1", "-1"]), Ok(1));
        assert_eq!(meant("0.5", &["0.25", "0.50"]), Ok(1));
        let large = ["1234567890123456788", "1234567890123456789"];
        assert_eq!(meant("1234567890123456789", &large), Ok(1));
        // As a float it would match its neighbour as well.
        assert!(meant("18446744073709551618", &["1", "18446744073709551617"]).is_err());
        assert_eq!(meant("1", &["1", "01"]), Ok(0), "the name with the same notation");
        let words = "actual 1.0 may be the name of several classes; give the name of the class as a string";
        assert_eq!(meant("1.0", &["1", "01"]), Err(words.to_owned()));
    }

    #[test]
    fn if_some_names_are_numbers_an_ambiguous_number_is_rejected() {
        let mixed = ["2", "other", "7"];
        let words = "actual 2 is the name of one class and the index of another; give the name of the class as a string";
        assert_eq!(meant("2", &mixed), Err(words.to_owned()));
        assert_eq!(meant("\"2\"", &mixed), Ok(0));
        assert_eq!(meant("7", &mixed), Ok(2));
        assert_eq!(meant("1", &mixed), Ok(1));
        assert_eq!(meant("0", &["0", "other"]), Ok(0), "name and index are the same class");
        assert_eq!(meant("0", &["NaN", "inf"]), Ok(0), "words");
    }

    #[test]
    fn unknown_and_repeated_members_are_rejected_by_name() {
        let errors = |body: &str| {
            let problem =
                evaluate(body.as_bytes(), &named(), &[1], true).unwrap_err().problem(Language::English);
            assert_eq!((problem.status, problem.code.as_str()), (422, "invalid_feedback"), "{body}");
            problem.errors.into_iter().map(|(member, words)| format!("{member} {}", words.join("; ")))
        };
        let check = |body: &str, expected: &[&str]| {
            assert_eq!(errors(body).collect::<Vec<_>>(), expected, "{body}");
        };
        let unknown = "is unknown; the body has only actual";
        check(r#"{"actual":1,"by":"somebody"}"#, &[&format!("by {unknown}")]);
        check(r#"{"Actual":1,"id":2}"#, &[&format!("Actual {unknown}"), &format!("id {unknown}")]);
        check(r#"{"actual":1,"actual":0}"#, &["actual must be given only once"]);
        let many: Vec<_> = (0..1000).map(|number| format!(r#""{number}":1"#)).collect();
        assert_eq!(errors(&format!("{{{}}}", many.join(","))).count(), FAULTS_MAX);
    }

    #[test]
    fn invalid_feedback_is_rejected_by_member() {
        let check = |body: &str, answered: &[u32], is_one, member: &str, words: &str| {
            let error = evaluate(body.as_bytes(), &named(), answered, is_one).unwrap_err();
            let problem = error.problem(Language::English);
            assert_eq!((problem.status, problem.code.as_str()), (422, "invalid_feedback"), "{body}");
            assert_eq!(problem.errors[member], [words], "{body}");
        };
        let class = "must be a class of the model: an index from 0 to 1, or one of no, yes";
        check("[]", &[1], true, "body", "must be an object with the member actual");
        check("{}", &[1], true, "actual", "is required");
        for wrong in ["2", "-1", "0.5", "true", "\"maybe\"", "\"1\"", "1e300", "{}"] {
            check(&format!(r#"{{"actual":{wrong}}}"#), &[1], true, "actual", class);
        }
        check(
            r#"{"actual":[1]}"#,
            &[1],
            true,
            "actual",
            "must be one class, since the prediction was for one row",
        );
        check(
            r#"{"actual":1}"#,
            &[1],
            false,
            "actual",
            "must be a list of 1 classes, one per row of the prediction",
        );
        check(r#"{"actual":[1]}"#, &[1, 0], false, "actual", "must have 2 classes, one per row, got 1");
        check(r#"{"actual":[1,2]}"#, &[1, 0], false, "actual.1", class);
        let error = evaluate(br#"{"actual":"#, &named(), &[1], true).unwrap_err();
        assert_eq!(error.problem(Language::English).status, 400);
        let error =
            evaluate(br#"{"actual":9}"#, &[Class::Index(0), Class::Index(1)], &[1], true).unwrap_err();
        assert_eq!(error.to_string(), "actual must be the index of a class of the model, from 0 to 1");
    }
}
