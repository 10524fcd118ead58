//! A prediction in the queue, and its conversion into rows of the database. A request only hands over what it has already allocated.

use std::sync::Arc;

use canopy_contract::predict::RowAnswer;
use canopy_contract::rows::Rows;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::revision::Revision;
use crate::store::{PredictionRow, RevisionRow};
use crate::upstream::message::Answers;

/// A prediction to be recorded.
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) revision: Arc<Revision>,
    pub(crate) answers: Answers,
    /// The rows, if features are recorded.
    pub(crate) rows: Option<Rows>,
}

/// The prediction for one row, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedRow {
    pub(crate) class: u32,
    pub(crate) proba: f64,
}

/// A recorded prediction: one for `features`, a list for `instances`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum RecordedAnswers {
    One(RecordedRow),
    Many(Vec<RecordedRow>),
}

impl RecordedAnswers {
    /// The predictions in the order of the rows.
    pub(crate) fn as_slice(&self) -> &[RecordedRow] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Entry {
    /// How many values it holds beyond the prediction for one row.
    pub(crate) fn values(&self) -> usize {
        self.answers.rows() - 1 + self.rows.as_ref().map_or(0, |rows| rows.values().len())
    }
}

/// Predictions that are written together.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) predictions: Vec<PredictionRow>,
    /// The revisions of the predictions, without duplicates.
    pub(crate) revisions: Vec<RevisionRow>,
    /// How many values the entries held.
    pub(crate) values: usize,
    /// The last revision added; most predictions are of the same one.
    last: Option<Arc<Revision>>,
}

impl Batch {
    /// Adds a prediction.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), serde_json::Error> {
        self.values += entry.values();
        let Entry { id, revision, answers, rows } = entry;
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &revision)) {
            self.add_revision(&revision)?;
            self.last = Some(revision.clone());
        }
        let stored = |answer: &RowAnswer| RecordedRow { class: answer.prediction, proba: answer.confidence };
        let answers = match answers.one() {
            Some(one) => serde_json::to_string(&stored(one))?,
            None => serde_json::to_string(&answers.classes().iter().map(stored).collect::<Vec<_>>())?,
        };
        let features = rows.map(|rows| {
            let all: Vec<_> = rows.iter().collect();
            if rows.is_single() { serde_json::to_string(&all[0]) } else { serde_json::to_string(&all) }
        });
        let about = &revision.description;
        self.predictions.push(PredictionRow {
            id: id.as_bytes().to_vec(),
            namespace: about.namespace.clone(),
            model: about.model.as_str().to_owned(),
            revision: about.revision.clone(),
            answers,
            features: features.transpose()?,
        });
        Ok(())
    }

    fn add_revision(&mut self, revision: &Revision) -> Result<(), serde_json::Error> {
        let about = &revision.description;
        let row = RevisionRow {
            namespace: about.namespace.clone(),
            model: about.model.as_str().to_owned(),
            revision: about.revision.clone(),
            version: about.version.clone(),
            classes: serde_json::to_string(&about.classes)?,
        };
        if !self.revisions.contains(&row) {
            self.revisions.push(row);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use canopy_contract::names::ModelRef;
    use serde_json::json;

    fn revision(revision: &str) -> Arc<Revision> {
        let body = json!({
            "model": "iris", "namespace": "shop", "version": "1.0", "revision": revision,
            "task": "Classification", "features": [{"name": "x"}], "classes": ["no", "yes"],
            "quality": {"metric": "Accuracy", "value": 0.9, "samples": 30}, "digest": "00",
        });
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        let model = ModelRef::parse("iris.shop", "shop").unwrap();
        Arc::new(Revision::parse(body.to_string().as_bytes(), &model, &metrics).unwrap())
    }

    #[test]
    fn a_batch_has_each_prediction_and_each_revision_once() {
        let (first, second) = (revision("00000001"), revision("00000002"));
        let id = Uuid::from_u128(7);
        let mut batch = Batch::default();
        for revision in [&first, &second, &first] {
            let answers = Answers::one_class(1, 0.75);
            let entry =
                Entry { id, revision: revision.clone(), answers, rows: Some(Rows::single(vec![0.5])) };
            batch.add(entry).unwrap();
        }
        let answers = Answers::classes_of(&[(0, 0.75), (1, 0.75)]);
        let rows = Some(Rows::instances([[1.0], [2.0]]));
        batch.add(Entry { id, revision: second, answers, rows }).unwrap();
        assert_eq!(
            batch.revisions.iter().map(|one| one.revision.as_str()).collect::<Vec<_>>(),
            ["00000001", "00000002"]
        );
        assert_eq!(
            (batch.revisions[0].version.as_str(), batch.revisions[0].classes.as_str()),
            ("1.0", r#"["no","yes"]"#)
        );
        assert_eq!(batch.values, 3 + 3);
        let [one, .., many] = batch.predictions.as_slice() else { panic!("{:?}", batch.predictions) };
        assert_eq!(one.answers, r#"{"class":1,"proba":0.75}"#);
        assert_eq!(one.features.as_deref(), Some("[0.5]"));
        assert_eq!((one.namespace.as_str(), one.model.as_str()), ("shop", "iris"));
        assert_eq!(many.answers, r#"[{"class":0,"proba":0.75},{"class":1,"proba":0.75}]"#);
        assert_eq!(many.features.as_deref(), Some("[[1.0],[2.0]]"));
        let read: RecordedAnswers = serde_json::from_str(&many.answers).unwrap();
        assert_eq!(read.as_slice().iter().map(|one| one.class).collect::<Vec<_>>(), [0, 1]);
    }
}
