//! The body of a request to a predictor, the validation of its response, and the body of the client's response. A response with
//! a class that the model does not have is rejected.

use bytes::Bytes;
use canopy_contract::describe::{ModelDescription, Task};
use canopy_contract::predict::{RowAnswer, RowValue};
use canopy_contract::rows::Rows;
use serde::{Deserialize, Serialize};

/// The longest response, in bytes, apart from its rows; leaves room for members that later predictors add.
const RESPONSE_BASE_BYTES: usize = 16 << 10;
/// The longest response per row, in bytes.
const RESPONSE_ROW_BYTES: usize = 256;
/// By how much a probability may exceed 1 through rounding.
const ROUNDING: f64 = 1e-6;

/// A valid response: one answer per row, each with a class of the model, or with a finite value.
#[derive(Debug, PartialEq)]
pub(crate) enum Answers {
    /// Answers `features`.
    One(RowAnswer),
    /// Answers `instances`.
    Many(Vec<RowAnswer>),
    /// Answers `features` of a regression.
    OneValue(RowValue),
    /// Answers `instances` of a regression.
    ManyValues(Vec<RowValue>),
}

/// A predictor's response to `instances`.
#[derive(Deserialize)]
struct Predictions<T> {
    predictions: Vec<T>,
}

/// The body of a request to a predictor.
pub(crate) fn encode_request(rows: &Rows) -> Result<Bytes, serde_json::Error> {
    // A 64-bit float takes about 20 characters.
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

/// The longest valid response for `rows` rows, in bytes.
pub(crate) fn response_max(rows: usize) -> usize {
    RESPONSE_BASE_BYTES + rows * RESPONSE_ROW_BYTES
}

/// Parses and validates the predictor's response to `rows`.
pub(crate) fn decode_response(body: &[u8], rows: &Rows, model: &ModelDescription) -> Result<Answers, String> {
    let unreadable = |error: serde_json::Error| format!("invalid response: {error}");
    let answers = match (model.task, rows.is_single()) {
        (Task::Classification, true) => Answers::One(serde_json::from_slice(body).map_err(unreadable)?),
        (Task::Regression, true) => Answers::OneValue(serde_json::from_slice(body).map_err(unreadable)?),
        (Task::Classification, false) => {
            let Predictions { predictions } = serde_json::from_slice(body).map_err(unreadable)?;
            Answers::Many(predictions)
        }
        (Task::Regression, false) => {
            let Predictions { predictions } = serde_json::from_slice(body).map_err(unreadable)?;
            Answers::ManyValues(predictions)
        }
    };
    if answers.rows() != rows.len() {
        return Err(format!("the response has {} rows, expected {}", answers.rows(), rows.len()));
    }
    for &RowAnswer { prediction, confidence } in answers.classes() {
        if prediction as usize >= model.classes.len() {
            return Err(format!(
                "the response has class {prediction}, but the model has {} classes",
                model.classes.len()
            ));
        }
        if !(0.0..=1.0 + ROUNDING).contains(&confidence) {
            return Err(format!("the response has the probability {confidence}, expected 0 to 1"));
        }
    }
    Ok(answers)
}

impl Answers {
    /// The classes in the order of the rows; none for a regression.
    pub(crate) fn classes(&self) -> &[RowAnswer] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
            Self::OneValue(_) | Self::ManyValues(_) => &[],
        }
    }

    /// How many rows have an answer.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::One(_) | Self::OneValue(_) => 1,
            Self::Many(many) => many.len(),
            Self::ManyValues(many) => many.len(),
        }
    }

    /// Whether the model is a regression.
    pub(crate) fn are_values(&self) -> bool {
        matches!(self, Self::OneValue(_) | Self::ManyValues(_))
    }

    /// The class, if the request had `features`.
    pub(crate) fn one(&self) -> Option<&RowAnswer> {
        match self {
            Self::One(one) => Some(one),
            Self::Many(_) | Self::OneValue(_) | Self::ManyValues(_) => None,
        }
    }

    /// The value, if the request had `features`.
    pub(crate) fn only_value(&self) -> Option<f64> {
        match self {
            Self::OneValue(one) => Some(one.prediction),
            Self::One(_) | Self::Many(_) | Self::ManyValues(_) => None,
        }
    }

    /// The body of the client's response, as described by `contract::predict::Answer`.
    pub(crate) fn write(&self, model: &ModelDescription, id: &str) -> Result<Bytes, serde_json::Error> {
        let named = |answer: &RowAnswer| Prediction::Class {
            class: answer.prediction,
            label: model.classes.get(answer.prediction as usize).and_then(|class| class.name()),
            proba: answer.confidence,
        };
        let value = |answer: &RowValue| Prediction::Value { value: answer.prediction };
        let (prediction, predictions) = match self {
            Self::One(one) => (Some(named(one)), None),
            Self::Many(many) => (None, Some(many.iter().map(named).collect())),
            Self::OneValue(one) => (Some(value(one)), None),
            Self::ManyValues(many) => (None, Some(many.iter().map(value).collect())),
        };
        let answer = Answer {
            success: true,
            confidence: self.one().map(|one| one.confidence),
            prediction,
            predictions,
            service: model.model.as_str(),
            version: &model.version,
            id,
            cached: false,
        };
        let mut body = Vec::with_capacity(192 + self.rows() * 64);
        serde_json::to_writer(&mut body, &answer)?;
        Ok(body.into())
    }
}

/// The same as `contract::predict::Answer`, with borrowed values: it is written once per request.
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
#[serde(untagged)]
enum Prediction<'a> {
    Class {
        class: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<&'a str>,
        proba: f64,
    },
    Value {
        value: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_contract::describe::{Metric, Quality};
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
            quality: Some(Quality { metric: Metric::Accuracy, value: 0.9, samples: 30 }),
            digest: "00".into(),
        }
    }

    fn unnamed() -> ModelDescription {
        model(vec![Class::Index(0), Class::Index(1)])
    }

    #[test]
    fn rows_are_sent_to_the_predictor_without_loss_of_precision() {
        let body = |rows| String::from_utf8(encode_request(&rows).unwrap().to_vec()).unwrap();
        assert_eq!(body(Rows::single(vec![0.1, -2.0, 1e300])), r#"{"features":[0.1,-2.0,1e+300]}"#);
        assert_eq!(body(Rows::instances([[0.5], [1.5]])), r#"{"instances":[[0.5],[1.5]]}"#);
    }

    #[test]
    fn a_response_to_one_row_has_a_confidence_and_a_response_to_several_rows_has_a_list() {
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
    fn a_regression_has_values_without_a_confidence() {
        let model = ModelDescription { task: Task::Regression, quality: None, ..model(Vec::new()) };
        let text = |body: &str, rows: &Rows| {
            let answers = decode_response(body.as_bytes(), rows, &model).unwrap();
            assert!(answers.are_values() && answers.classes().is_empty());
            String::from_utf8(answers.write(&model, "7").unwrap().to_vec()).unwrap()
        };
        let (single, two) = (Rows::single(vec![1.0]), Rows::instances([[1.0], [2.0]]));
        let one = text(r#"{"prediction":3.5}"#, &single);
        assert_eq!(
            one,
            r#"{"success":true,"prediction":{"value":3.5},"service":"demo","version":"1.0","id":"7","cached":false}"#
        );
        let many = text(r#"{"predictions":[{"prediction":-1},{"prediction":2.5}]}"#, &two);
        assert_eq!(
            many,
            r#"{"success":true,"predictions":[{"value":-1.0},{"value":2.5}],"service":"demo","version":"1.0","id":"7","cached":false}"#
        );
        for text in [one, many] {
            let public: PublicAnswer = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&public).unwrap(), text);
        }
        let error = decode_response(br#"{"prediction":null}"#, &single, &model).unwrap_err();
        assert!(error.contains("invalid response"), "{error}");
    }

    #[test]
    fn responses_that_do_not_match_the_rows_are_rejected_with_the_reason() {
        let (single, two) = (Rows::single(vec![1.0]), Rows::instances([[1.0], [2.0]]));
        let check = |body: &str, rows: &Rows, why: &str| {
            let error = decode_response(body.as_bytes(), rows, &unnamed()).expect_err(body);
            assert!(error.contains(why), "{body}: {error:?} instead of {why:?}");
        };
        check("", &single, "invalid response: EOF");
        check("<html>", &single, "invalid response: expected value");
        check(r#"{"prediction":1}"#, &single, "missing field `confidence`");
        check(r#"{"prediction":-1,"confidence":0.5}"#, &single, "invalid value");
        check(
            r#"{"prediction":2,"confidence":0.5}"#,
            &single,
            "the response has class 2, but the model has 2 classes",
        );
        check(r#"{"prediction":1,"confidence":1.5}"#, &single, "the probability 1.5");
        check(r#"{"prediction":1,"confidence":-0.1}"#, &single, "the probability -0.1");
        check(r#"{"prediction":1,"confidence":1e999}"#, &single, "number out of range");
        check(r#"{"prediction":1,"confidence":0.5}x"#, &single, "trailing characters");
        check(r#"{"predictions":[]}"#, &single, "missing field `prediction`");
        check(r#"{"prediction":1,"confidence":0.5}"#, &two, "missing field `predictions`");
        check(
            r#"{"predictions":[{"prediction":1,"confidence":0.5}]}"#,
            &two,
            "the response has 1 rows, expected 2",
        );
        let deep = format!(r#"{{"more":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, &single, "missing field `prediction`");
    }

    #[test]
    fn unknown_members_of_a_response_are_ignored() {
        let body = br#"{"prediction":1,"confidence":1.0000000001,"probabilities":[0,1]}"#;
        let answers = decode_response(body, &Rows::single(vec![1.0]), &unnamed()).unwrap();
        assert_eq!(answers.one().map(|one| one.prediction), Some(1));
    }
}
