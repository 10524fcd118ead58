//! Predictions of a forest for one row and for many, bit by bit the same, without an allocation.

use linfa::traits::PredictInplace;
use ndarray::{Array1, ArrayBase, Data, Ix2};
use thiserror::Error;

use crate::compiled::layout::{CompiledForest, Nodes, Step};
use crate::data::samples::Samples;
use crate::ensemble::forest::Forest;
use crate::ensemble::form::Combine;
use crate::scale::Scaler;

/// How many paths are walked at a time, so that one can wait for memory while the others go on. With 16, which do not all
/// stay in registers, a row took four tenths longer.
const LANES: usize = 8;

/// How many rows go through a tree before the next tree: as many as stay in the cache beside it.
const BLOCK: usize = 512;

/// Why rows have no prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PredictError {
    /// The rows are not as long as the forest has features.
    #[error("{values} values are not {rows} rows of {features} features")]
    Values {
        /// How many values were given.
        values: usize,
        /// For how many rows there is room for an answer.
        rows: usize,
        /// How many values a row has.
        features: usize,
    },
    /// The room for answers is not a multiple of the number of classes.
    #[error("room for {room} probabilities is not room for answers of {classes} classes")]
    Room {
        /// How much room was given.
        room: usize,
        /// How many classes there are.
        classes: usize,
    },
}

impl CompiledForest {
    /// Fills `probabilities`, one per class, with the answer for `row`, which a [`Scaler`] has scaled.
    pub fn predict_row(&self, row: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        if probabilities.len() != self.classes {
            return Err(PredictError::Room { room: probabilities.len(), classes: self.classes });
        }
        self.check(row, probabilities)?;
        self.begin(probabilities);
        match &self.nodes {
            Nodes::Small(nodes) => self.sum_trees(nodes, row, probabilities),
            Nodes::Wide(nodes) => self.sum_trees(nodes, row, probabilities),
        }
        self.finish(probabilities);
        Ok(())
    }

    /// Fills `probabilities`, one per class, row after row, with the answers for `rows`, row after row.
    pub fn predict_rows(&self, rows: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        self.check(rows, probabilities)?;
        // Lanes that have no row of their own would walk for nothing: one by one the rows left over take less time.
        let full = probabilities.len() / self.classes / LANES * LANES;
        let (rows, rest) = rows.split_at(full * self.features);
        let (probabilities, answers) = probabilities.split_at_mut(full * self.classes);
        for (row, answer) in rest.chunks_exact(self.features).zip(answers.chunks_exact_mut(self.classes)) {
            self.predict_row(row, answer)?;
        }
        self.begin(probabilities);
        let blocks = rows.chunks(BLOCK * self.features).zip(probabilities.chunks_mut(BLOCK * self.classes));
        for (rows, sums) in blocks {
            match &self.nodes {
                Nodes::Small(nodes) => self.sum_rows(nodes, rows, sums),
                Nodes::Wide(nodes) => self.sum_rows(nodes, rows, sums),
            }
        }
        self.finish(probabilities);
        Ok(())
    }

    /// The share of `samples` whose class is predicted; 0 where there are none.
    pub fn accuracy(&self, scaler: &Scaler, samples: &Samples) -> Result<f64, PredictError> {
        let mut rows = Vec::new();
        scaler.apply(samples.values(), &mut rows);
        let mut probabilities = vec![0.0; samples.len() * self.classes];
        self.predict_rows(&rows, &mut probabilities)?;
        let answers = probabilities.chunks(self.classes).map(class_of);
        let right = answers.zip(samples.targets()).filter(|(answer, target)| answer == *target).count();
        Ok(right as f64 / samples.len().max(1) as f64)
    }

    fn check(&self, values: &[f32], probabilities: &[f64]) -> Result<(), PredictError> {
        let (room, classes) = (probabilities.len(), self.classes);
        if !room.is_multiple_of(classes) {
            return Err(PredictError::Room { room, classes });
        }
        let (values, rows, features) = (values.len(), room / classes, self.features);
        if values != rows * features {
            return Err(PredictError::Values { values, rows, features });
        }
        Ok(())
    }

    /// Adds up the distributions that `row` ends in, [`LANES`] trees at a time.
    fn sum_trees<N: Step>(&self, nodes: &[N], row: &[f32], sums: &mut [f64]) {
        for roots in self.roots.chunks(LANES) {
            // Lanes left over walk the last tree once more, for nothing.
            let mut paths = std::array::from_fn(|lane| Path::new(roots[lane.min(roots.len() - 1)], row));
            walk(nodes, &mut paths);
            for path in &paths[..roots.len()] {
                self.add(path.place, sums);
            }
        }
    }

    /// Adds up the distributions that each of `rows` ends in, [`LANES`] rows at a time; they are a multiple of that. As
    /// with one row, the trees are added in their order: sums of floats in another order may differ in the last bit.
    fn sum_rows<N: Step>(&self, nodes: &[N], rows: &[f32], sums: &mut [f64]) {
        for &root in &self.roots {
            let groups =
                rows.chunks_exact(LANES * self.features).zip(sums.chunks_exact_mut(LANES * self.classes));
            for (rows, sums) in groups {
                let mut paths = std::array::from_fn(|lane| {
                    let start = lane * self.features;
                    Path::new(root, &rows[start..start + self.features])
                });
                walk(nodes, &mut paths);
                for (path, sums) in paths.iter().zip(sums.chunks_exact_mut(self.classes)) {
                    self.add(path.place, sums);
                }
            }
        }
    }

    fn add(&self, leaf: usize, sums: &mut [f64]) {
        let start = self.leaves[leaf] as usize * self.classes;
        let distribution = &self.distributions[start..start + self.classes];
        for (sum, share) in sums.iter_mut().zip(distribution) {
            *sum += share;
        }
    }

    fn begin(&self, sums: &mut [f64]) {
        match &self.combine {
            Combine::Mean => sums.fill(0.0),
            Combine::Sum { base } => {
                sums.chunks_exact_mut(self.classes).for_each(|sums| sums.copy_from_slice(base));
            }
        }
    }

    fn finish(&self, sums: &mut [f64]) {
        if self.combine == Combine::Mean {
            let trees = self.roots.len() as f64;
            for sum in sums {
                *sum /= trees;
            }
        }
    }
}

/// The way of a row through a tree.
struct Path<'a> {
    root: usize,
    place: usize,
    row: &'a [f32],
}

impl<'a> Path<'a> {
    fn new(root: usize, row: &'a [f32]) -> Self {
        Self { root, place: root, row }
    }
}

/// Walks on until every path has come to its leaf.
// One slice and no `zip`: whether a zip's constructor is inlined depends on the rest of the crate and on how it is cut
// into codegen units. Where it was called, once a level, the walk took twice the time.
fn walk<N: Step>(nodes: &[N], paths: &mut [Path<'_>; LANES]) {
    loop {
        let mut moved = 0;
        for path in &mut *paths {
            let next = path.root + nodes[path.place].next(path.row);
            moved |= next ^ path.place;
            path.place = next;
        }
        if moved == 0 {
            return;
        }
    }
}

/// The index of the largest probability, the lowest where several are equal, as numpy's `argmax`.
pub fn class_of(probabilities: &[f64]) -> usize {
    let mut class = 0;
    for (index, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[class] {
            class = index;
        }
    }
    class
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for Forest {
    /// Fills `classes` with the class of each record. The forest is laid out anew each time: to predict often,
    /// keep a [`CompiledForest`].
    ///
    /// # Panics
    /// As linfa's own models do, if the shapes do not fit.
    fn predict_inplace<'a>(&'a self, records: &'a ArrayBase<D, Ix2>, classes: &mut Array1<usize>) {
        assert_eq!(records.nrows(), classes.len(), "the number of records is not the number of targets");
        assert_eq!(records.ncols(), self.features(), "the number of columns is not the number of features");
        let rows: Vec<f32> = records.iter().map(|&value| value as f32).collect();
        let mut probabilities = vec![0.0; records.nrows() * self.classes()];
        let predicted = CompiledForest::new(self).predict_rows(&rows, &mut probabilities);
        assert_eq!(predicted, Ok(()), "the rows do not fit the forest");
        let answers = probabilities.chunks(self.classes()).map(class_of);
        classes.iter_mut().zip(answers).for_each(|(class, answer)| *class = answer);
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::default(records.nrows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::forest::{Builder, Node};
    use crate::train::parameters::RandomForest;
    use proptest::prelude::*;

    /// A tree that goes right on feature `depth` % `features` where it is above `depth`, down to `depth` questions.
    fn chain(depth: u32, features: u32, builder: &mut Builder) -> Vec<Node> {
        let leaves: Vec<Node> = (0..=depth)
            .map(|leaf| {
                let share = f64::from(leaf % 7) / 7.0;
                Node::Leaf { distribution: builder.distribution(&[share, 1.0 - share]) }
            })
            .collect();
        let splits = (0..depth).map(|place| Node::Split {
            feature: place % features,
            threshold: place as f32,
            left: 2 * place + 1,
            right: 2 * place + 2,
        });
        splits.zip(&leaves).flat_map(|(split, &leaf)| [split, leaf]).chain(leaves.last().copied()).collect()
    }

    fn forest(depths: &[u32], features: u32) -> Forest {
        let mut builder = Builder::new(features as usize, 2);
        for &depth in depths {
            let tree = chain(depth, features, &mut builder);
            builder.push(tree);
        }
        builder.finish().unwrap()
    }

    /// The answer by the definition: each tree by itself, summed in the order of the trees.
    fn expected(forest: &Forest, row: &[f32]) -> Vec<f64> {
        let distributions: Vec<&[f64]> = forest.distributions().collect();
        let mut sums = vec![0.0; forest.classes()];
        for tree in forest.trees() {
            let mut node = tree[0];
            while let Node::Split { feature, threshold, left, right } = node {
                let goes_right = row[feature as usize] > threshold;
                node = tree[if goes_right { right } else { left } as usize];
            }
            if let Node::Leaf { distribution } = node {
                let shares = distributions[distribution as usize];
                sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
            }
        }
        sums.iter().map(|sum| sum / forest.trees().len() as f64).collect()
    }

    fn bits(probabilities: &[f64]) -> Vec<u64> {
        probabilities.iter().map(|probability| probability.to_bits()).collect()
    }

    /// Compares one row and many with the definition, bit by bit.
    fn check(forest: &Forest, rows: &[f32]) {
        let packed = CompiledForest::new(forest);
        let mut together = vec![f64::NAN; rows.len() / packed.features() * packed.classes()];
        packed.predict_rows(rows, &mut together).unwrap();
        let mut one = vec![f64::NAN; packed.classes()];
        for (row, together) in rows.chunks(packed.features()).zip(together.chunks(packed.classes())) {
            packed.predict_row(row, &mut one).unwrap();
            assert_eq!(bits(&one), bits(&expected(forest, row)), "{row:?}");
            assert_eq!(bits(&one), bits(together), "{row:?}");
        }
    }

    #[test]
    fn trees_of_any_depth_and_any_number_of_trees_and_rows_give_the_same_answer() {
        let rows: Vec<f32> = (0..2 * 1100_u16).map(|place| f32::from(place % 97) - 3.0).collect();
        for trees in [1, 7, 8, 9, 33] {
            let depths: Vec<u32> = (0..trees).map(|tree| tree * 5 % 23).collect();
            let forest = forest(&depths, 2);
            for count in [0, 1, 2, 3, 5, 6, 7, 8, 9, 15, 17, 511, 512, 513, 1100] {
                check(&forest, &rows[..2 * count]);
            }
        }
    }

    #[test]
    fn more_features_than_a_small_node_can_name_give_the_same_answer() {
        for (features, is_small) in [(1024, true), (1025, false)] {
            let forest = forest(&[40, 3, 1030], features);
            assert_eq!(matches!(CompiledForest::new(&forest).nodes, Nodes::Small(_)), is_small);
            let rows: Vec<f32> = (0..3 * features).map(|place| (place * 7 % 1100) as f32).collect();
            check(&forest, &rows);
        }
    }

    #[test]
    fn more_nodes_than_a_small_node_can_count_give_the_same_answer() {
        for (depth, is_small) in [((1 << 21) - 1, true), (1 << 21, false)] {
            let forest = forest(&[depth], 1);
            assert_eq!(matches!(CompiledForest::new(&forest).nodes, Nodes::Small(_)), is_small);
            check(&forest, &[f32::INFINITY, 0.5]);
        }
    }

    #[test]
    fn nan_and_infinities_have_an_answer_too() {
        check(&forest(&[5, 9], 2), &[f32::NAN, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let packed = CompiledForest::new(&forest(&[2], 3));
        let error = |values: usize, room: usize, many: bool| {
            let (values, mut room) = (vec![0.0; values], vec![0.0; room]);
            let predict = if many { CompiledForest::predict_rows } else { CompiledForest::predict_row };
            predict(&packed, &values, &mut room).unwrap_err().to_string()
        };
        assert_eq!(error(2, 2, false), "2 values are not 1 rows of 3 features");
        assert_eq!(error(6, 2, false), "6 values are not 1 rows of 3 features");
        assert_eq!(error(6, 4, false), "room for 4 probabilities is not room for answers of 2 classes");
        assert_eq!(error(3, 0, false), "room for 0 probabilities is not room for answers of 2 classes");
        assert_eq!(error(6, 3, true), "room for 3 probabilities is not room for answers of 2 classes");
        assert_eq!(error(5, 4, true), "5 values are not 2 rows of 3 features");
        assert_eq!(error(3, 0, true), "3 values are not 0 rows of 3 features");
    }

    #[test]
    fn the_class_is_the_first_of_the_most_probable() {
        assert_eq!(class_of(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(class_of(&[0.5, 0.5]), 0);
        assert_eq!(class_of(&[0.0, 0.0, 1.0]), 2);
    }

    #[test]
    fn accuracy_is_the_share_of_rows_whose_class_is_predicted() {
        let samples = Samples::from_csv(b"a,class\n-1,0\n0.5,1\n1,1\n-3,1\n", "class").unwrap();
        let mut builder = Builder::new(1, 2);
        let [left, right] = [[0.9, 0.1], [0.2, 0.8]].map(|shares| builder.distribution(&shares));
        builder.push(vec![
            Node::Split { feature: 0, threshold: 0.0, left: 1, right: 2 },
            Node::Leaf { distribution: left },
            Node::Leaf { distribution: right },
        ]);
        let packed = CompiledForest::new(&builder.finish().unwrap());
        assert_eq!(packed.accuracy(&Scaler::identity(1), &samples), Ok(0.75));
        assert_eq!(packed.accuracy(&Scaler::new(vec![0.9], vec![1.0]).unwrap(), &samples), Ok(0.5));
        assert_eq!(packed.accuracy(&Scaler::identity(1), &samples.select(&[])), Ok(0.0));
    }

    proptest! {
        #[test]
        fn one_row_many_rows_and_the_definition_agree_bit_by_bit(
            seed in any::<u64>(), trees in 1..40_u32, min_samples_leaf in 1..20_u32, count in 1..60_usize,
        ) {
            let samples = Samples::synthetic(80, 3, seed).unwrap();
            let parameters = RandomForest::params().trees(trees).min_samples_leaf(min_samples_leaf).seed(seed);
            let forest = parameters.train(&samples, &|_, _| {}).unwrap();
            let mut rows = Vec::new();
            let other = Samples::synthetic(60, 3, !seed).unwrap();
            Scaler::identity(3).apply(&other.values()[..3 * count], &mut rows);
            check(&forest, &rows);
        }
    }
}
