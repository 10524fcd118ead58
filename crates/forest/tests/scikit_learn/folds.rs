//! Cross-validation: each fifth of the rows is predicted by a forest that was trained on the rest.

use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::data::samples::Samples;
use canopy_forest::ensemble::forest::Forest;
use canopy_forest::scale::Scaler;
use canopy_forest::train::parameters::TrainError;

/// The mean over the five folds of the share of rows that are predicted rightly; `folds` has one digit per row.
pub(crate) fn accuracy(
    samples: &Samples,
    folds: &str,
    train: impl Fn(&Samples) -> Result<Forest, TrainError>,
) -> f64 {
    let folds = folds.as_bytes();
    assert_eq!(folds.len(), samples.len(), "each row has a fold");
    mean(b"01234".iter().map(|fold| {
        let part = |is_test: bool| {
            let rows = (0..samples.len()).filter(|&row| (folds[row] == *fold) == is_test);
            samples.select(&rows.collect::<Vec<_>>())
        };
        let (known, unknown) = (part(false), part(true));
        let scaler = Scaler::fit(&known).expect("a scaler");
        let forest = train(&scaler.transform(&known)).expect("a forest");
        CompiledForest::new(&forest).accuracy(&scaler, &unknown).expect("an accuracy")
    }))
}

pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}
