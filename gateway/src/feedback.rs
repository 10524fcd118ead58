//! The truth about an answer: read from a body, and held against what was answered.
//!
//! Comes in: `{"actual": …}`, the classes of the revision that answered, and its answers. Goes out: the class that was
//! right for each row, and how many answers were. Never: a class that the model does not have.

use canopy_contract::fault::FAULTS_MAX;
use canopy_contract::schema::Class;
use serde_json::Value;

use crate::failure::Failure;

/// What was the case, row by row.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The indices of the classes that were right.
    pub(crate) actual: Vec<u32>,
    /// How many rows were answered with them.
    pub(crate) correct: u64,
}

/// Reads `body`, which tells the truth about rows that were answered with `answered`, of a model with `classes`; `is_one`
/// where the request was about one row instead of a list.
pub(crate) fn judge(
    body: &[u8],
    classes: &[Class],
    answered: &[u32],
    is_one: bool,
) -> Result<Verdict, Failure> {
    let told: Value = serde_json::from_slice(body).map_err(|error| Failure::Malformed(error.to_string()))?;
    let fault = |member: &str, words: String| Err(Failure::Feedback(vec![(member.to_owned(), words)]));
    let Value::Object(told) = told else {
        return fault("body", "must be an object with actual".to_owned());
    };
    let found: Vec<(String, Option<u32>)> = match told.get("actual") {
        None | Some(Value::Null) => return fault("actual", "is required".to_owned()),
        Some(Value::Array(_)) if is_one => {
            return fault("actual", "must be one class, since the prediction was for one row".to_owned());
        }
        Some(Value::Array(list)) if list.len() != answered.len() => {
            let words = format!("must have {} classes, one per row, but has {}", answered.len(), list.len());
            return fault("actual", words);
        }
        Some(Value::Array(list)) => {
            list.iter().enumerate().map(|(row, one)| (format!("actual.{row}"), class(one, classes))).collect()
        }
        Some(one) if is_one => vec![("actual".to_owned(), class(one, classes))],
        Some(_) => {
            let words =
                format!("must be a list of {} classes, one per row of the prediction", answered.len());
            return fault("actual", words);
        }
    };
    let unknown = found.iter().filter(|(_, class)| class.is_none()).take(FAULTS_MAX);
    let faults: Vec<_> = unknown.map(|(member, _)| (member.clone(), words(classes))).collect();
    if !faults.is_empty() {
        return Err(Failure::Feedback(faults));
    }
    let actual: Vec<u32> = found.into_iter().filter_map(|(_, class)| class).collect();
    let correct = actual.iter().zip(answered).filter(|(actual, answered)| actual == answered).count() as u64;
    Ok(Verdict { actual, correct })
}

/// The index of the class that `told` names, by index or by name.
fn class(told: &Value, classes: &[Class]) -> Option<u32> {
    let index = match told {
        Value::Number(number) => {
            usize::try_from(number.as_u64()?).ok().filter(|&index| index < classes.len())
        }
        Value::String(name) => classes.iter().position(|class| class.name() == Some(name)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    index.and_then(|index| u32::try_from(index).ok())
}

fn words(classes: &[Class]) -> String {
    let last = classes.len().saturating_sub(1);
    let names: Vec<_> = classes.iter().filter_map(Class::name).take(FAULTS_MAX).collect();
    match names.as_slice() {
        [] => format!("must be the index of a class of the model, from 0 to {last}"),
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
    use crate::language::Language;

    fn named() -> Vec<Class> {
        ["no", "yes"].map(|name| Class::Name(name.to_owned())).into()
    }

    #[test]
    fn a_class_is_told_by_index_or_by_name() {
        let check = |body: &str, answered: &[u32], is_one, actual: &[u32], correct| {
            let verdict = Verdict { actual: actual.into(), correct };
            assert_eq!(judge(body.as_bytes(), &named(), answered, is_one).unwrap(), verdict, "{body}");
        };
        check(r#"{"actual":1}"#, &[1], true, &[1], 1);
        check(r#"{"actual":"yes"}"#, &[1], true, &[1], 1);
        check(r#"{"actual":"no","by":"somebody"}"#, &[1], true, &[0], 0);
        check(r#"{"actual":["no",1,"yes"]}"#, &[0, 0, 1], false, &[0, 1, 1], 2);
        check(r#"{"actual":[1]}"#, &[1], false, &[1], 1);
    }

    #[test]
    fn what_is_no_truth_for_the_answer_is_told_by_member() {
        let check = |body: &str, answered: &[u32], is_one, member: &str, words: &str| {
            let failure = judge(body.as_bytes(), &named(), answered, is_one).unwrap_err();
            let problem = failure.problem(Language::English);
            assert_eq!((problem.status, problem.code.as_str()), (422, "invalid_feedback"), "{body}");
            assert_eq!(problem.errors[member], [words], "{body}");
        };
        let class = "must be a class of the model: an index from 0 to 1, or one of no, yes";
        check("[]", &[1], true, "body", "must be an object with actual");
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
        check(r#"{"actual":[1]}"#, &[1, 0], false, "actual", "must have 2 classes, one per row, but has 1");
        check(r#"{"actual":[1,2]}"#, &[1, 0], false, "actual.1", class);
        let failure = judge(br#"{"actual":"#, &named(), &[1], true).unwrap_err();
        assert_eq!(failure.problem(Language::English).status, 400);
        let failure = judge(br#"{"actual":9}"#, &[Class::Index(0), Class::Index(1)], &[1], true).unwrap_err();
        assert_eq!(failure.to_string(), "actual must be the index of a class of the model, from 0 to 1");
    }
}
