//! The two bodies between which a prediction travels: what the predictor answers, and what the client reads.
//!
//! Comes in: rows, and the predictor's bytes. Goes out: the predictor's request, its answer once it is proven
//! to be one, and the client's answer. Never: a class that the model does not have.

use bytes::Bytes;
use canopy_contract::describe::ModelDescription;
use canopy_contract::predict::{RowAnswer, RowsAnswer};
use canopy_contract::rows::Rows;
use serde::Serialize;

/// How long an answer may be, however few rows there are: room for members that a later predictor may add.
const RESPONSE_BASE_BYTES: usize = 16 << 10;
/// How long an answer may be per row.
const RESPONSE_ROW_BYTES: usize = 256;
/// How far above 1 a sum of probabilities may lie by rounding.
const ROUNDING: f64 = 1e-6;

/// What a predictor answered: as many rows as it was asked about, each with a class of the model.
#[derive(Debug, PartialEq)]
pub(crate) enum Answers {
    /// To `features`.
    One(RowAnswer),
    /// To `instances`.
    Many(Vec<RowAnswer>),
}

/// The body of the predictor's request.
pub(crate) fn encode_request(rows: &Rows) -> Result<Bytes, serde_json::Error> {
    // Some 20 characters write any 64-bit float.
    let mut body = Vec::with_capacity(32 + rows.values().len() * 20);
    let (before, after): (&[u8], &[u8]) =
        if rows.is_single() { (br#"{"features":"#, b"}") } else { (br#"{"instances":["#, b"]}") };
    body.extend_from_slice(before);
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, row)?;
    }
    body.extend_from_slice(after);
    Ok(body.into())
}

/// How many bytes the answer to so many rows may have.
pub(crate) fn response_max(rows: usize) -> usize {
    RESPONSE_BASE_BYTES + rows * RESPONSE_ROW_BYTES
}

/// Reads the predictor's answer to `rows`, or says why it is none.
pub(crate) fn decode_response(body: &[u8], rows: &Rows, model: &ModelDescription) -> Result<Answers, String> {
    let unreadable = |error: serde_json::Error| format!("its answer cannot be read: {error}");
    let answers = if rows.is_single() {
        Answers::One(serde_json::from_slice(body).map_err(unreadable)?)
    } else {
        let RowsAnswer { predictions } = serde_json::from_slice(body).map_err(unreadable)?;
        Answers::Many(predictions)
    };
    if answers.as_slice().len() != rows.len() {
        return Err(format!("it answered {} rows instead of {}", answers.as_slice().len(), rows.len()));
    }
    for &RowAnswer { prediction, confidence } in answers.as_slice() {
        if prediction as usize >= model.classes.len() {
            return Err(format!("it answered class {prediction} of {}", model.classes.len()));
        }
        if !(0.0..=1.0 + ROUNDING).contains(&confidence) {
            return Err(format!("it answered the probability {confidence}"));
        }
    }
    Ok(answers)
}

impl Answers {
    /// The answers in the order of the rows.
    pub(crate) fn as_slice(&self) -> &[RowAnswer] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// The answer to the row of a request with `features`.
    pub(crate) fn one(&self) -> Option<&RowAnswer> {
        match self {
            Self::One(one) => Some(one),
            Self::Many(_) => None,
        }
    }

    /// The client's answer, as `contract::predict::Answer` describes it.
    pub(crate) fn write(&self, model: &ModelDescription, id: &str) -> Result<Bytes, serde_json::Error> {
        let named = |answer: &RowAnswer| Prediction {
            class: answer.prediction,
            label: model.classes.get(answer.prediction as usize).and_then(|class| class.name()),
            proba: answer.confidence,
        };
        let (prediction, predictions) = match self {
            Self::One(one) => (Some(named(one)), None),
            Self::Many(many) => (None, Some(many.iter().map(named).collect())),
        };
        let answer = Answer {
            success: true,
            confidence: prediction.as_ref().map(|prediction| prediction.proba),
            prediction,
            predictions,
            service: model.model.as_str(),
            version: &model.version,
            id,
            cached: false,
        };
        let mut body = Vec::with_capacity(192 + self.as_slice().len() * 64);
        serde_json::to_writer(&mut body, &answer)?;
        Ok(body.into())
    }
}

/// `contract::predict::Answer`, borrowed: it is written once per request.
#[derive(Serialize)]
struct Answer<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<Prediction<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    service: &'a str,
    version: &'a str,
    id: &'a str,
    cached: bool,
}

#[derive(Serialize)]
struct Prediction<'a> {
    class: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    proba: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_contract::describe::{Metric, Quality, Task};
    use canopy_contract::predict::Answer as PublicAnswer;
    use canopy_contract::schema::{Class, Feature};

    fn model(classes: Vec<Class>) -> ModelDescription {
        ModelDescription {
            model: "demo".parse().unwrap(),
            namespace: "default".into(),
            version: "1.0".into(),
            revision: "6f3a9c1e".into(),
            task: Task::Classification,
            features: vec![Feature::named("x")],
            classes,
            quality: Quality { metric: Metric::Accuracy, value: 0.9, samples: 30 },
            digest: "00".into(),
        }
    }

    fn unnamed() -> ModelDescription {
        model(vec![Class::Index(0), Class::Index(1)])
    }

    #[test]
    fn rows_go_to_the_predictor_as_the_numbers_they_are() {
        let body = |rows| String::from_utf8(encode_request(&rows).unwrap().to_vec()).unwrap();
        assert_eq!(body(Rows::single(vec![0.1, -2.0, 1e300])), r#"{"features":[0.1,-2.0,1e+300]}"#);
        assert_eq!(body(Rows::instances([[0.5], [1.5]])), r#"{"instances":[[0.5],[1.5]]}"#);
    }

    #[test]
    fn the_answer_to_one_row_has_a_confidence_and_that_to_many_a_list() {
        let one = Answers::One(RowAnswer { prediction: 1, confidence: 0.87 });
        let many = Answers::Many(vec![RowAnswer { prediction: 0, confidence: 0.5 }]);
        let named = model(vec![Class::Name("no".into()), Class::Name("yes".into())]);
        let text = |answers: &Answers, model: &ModelDescription| {
            String::from_utf8(answers.write(model, "7").unwrap().to_vec()).unwrap()
        };
        assert_eq!(
            text(&one, &unnamed()),
            r#"{"success":true,"prediction":{"class":1,"proba":0.87},"confidence":0.87,"service":"demo","version":"1.0","id":"7","cached":false}"#
        );
        assert_eq!(
            text(&many, &named),
            r#"{"success":true,"predictions":[{"class":0,"label":"no","proba":0.5}],"service":"demo","version":"1.0","id":"7","cached":false}"#
        );
        for text in [text(&one, &named), text(&many, &unnamed())] {
            let public: PublicAnswer = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&public).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_answer_to_the_rows_is_told_apart() {
        let (single, two) = (Rows::single(vec![1.0]), Rows::instances([[1.0], [2.0]]));
        let check = |body: &str, rows: &Rows, why: &str| {
            let error = decode_response(body.as_bytes(), rows, &unnamed()).expect_err(body);
            assert!(error.contains(why), "{body}: {error:?} instead of {why:?}");
        };
        check("", &single, "cannot be read: EOF");
        check("<html>", &single, "cannot be read: expected value");
        check(r#"{"prediction":1}"#, &single, "missing field `confidence`");
        check(r#"{"prediction":-1,"confidence":0.5}"#, &single, "invalid value");
        check(r#"{"prediction":2,"confidence":0.5}"#, &single, "it answered class 2 of 2");
        check(r#"{"prediction":1,"confidence":1.5}"#, &single, "the probability 1.5");
        check(r#"{"prediction":1,"confidence":-0.1}"#, &single, "the probability -0.1");
        check(r#"{"prediction":1,"confidence":1e999}"#, &single, "number out of range");
        check(r#"{"prediction":1,"confidence":0.5}x"#, &single, "trailing characters");
        check(r#"{"predictions":[]}"#, &single, "missing field `prediction`");
        check(r#"{"prediction":1,"confidence":0.5}"#, &two, "missing field `predictions`");
        check(r#"{"predictions":[{"prediction":1,"confidence":0.5}]}"#, &two, "answered 1 rows instead of 2");
        let deep = format!(r#"{{"more":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, &single, "missing field `prediction`");
    }

    #[test]
    fn members_that_a_later_predictor_adds_are_passed_over() {
        let body = br#"{"prediction":1,"confidence":1.0000000001,"probabilities":[0,1]}"#;
        let answers = decode_response(body, &Rows::single(vec![1.0]), &unnamed()).unwrap();
        assert_eq!(answers.one().map(|one| one.prediction), Some(1));
    }
}
