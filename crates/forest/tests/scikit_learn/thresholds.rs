//! Rows on and next to a threshold go the same way as in scikit-learn.

use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::compiled::walk::class_of;
use canopy_forest::data::samples::Samples;
use canopy_forest::train::parameters::RandomForest;

use crate::golden;

#[test]
fn rows_on_a_threshold_go_as_in_scikit_learn() {
    let above = |steps: usize| f32::from_bits(1.0_f32.to_bits() + steps as u32);
    for expected in golden::thresholds() {
        let width = expected.len() - 1;
        let table = format!("a,class\n{:e},0\n{:e},1\n", above(0), f64::from(above(width)));
        let samples = Samples::from_csv(table.as_bytes(), "class").expect("two rows");
        let parameters = RandomForest::params().trees(1).bootstrap(false);
        let packed = CompiledForest::new(&parameters.train(&samples, &|_, _| {}).expect("a tree"));
        let answers = (0..=width).map(|steps| {
            let mut probabilities = [0.0; 2];
            packed.predict_row(&[above(steps)], &mut probabilities).expect("an answer");
            class_of(&probabilities)
        });
        assert_eq!(answers.collect::<Vec<_>>(), expected, "{width} steps");
    }
}
