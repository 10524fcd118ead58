//! Predictions of a forest, of one row and of many: bit by bit the same.
//!
//! Comes in: scaled rows. Goes out: a probability per class. Never: an allocation, or a failure that the lengths
//! of the arguments do not explain.

use linfa::traits::PredictInplace;
use ndarray::{Array1, ArrayBase, Data, Ix2};
use thiserror::Error;

use crate::data::Samples;
use crate::layout::{Nodes, Packed, Step};
use crate::model::Forest;
use crate::scale::Scaler;

/// How many paths are walked at a time: while one waits for memory, the others go on.
const LANES: usize = 16;

/// How many rows go through a tree before the next tree: as many as stay in the cache beside it.
const BLOCK: usize = 512;

/// Why there is no prediction.
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

impl Packed {
    /// Fills `probabilities`, one per class, with the answer for `row`, which a [`Scaler`] has scaled.
    pub fn predict_row(&self, row: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        if probabilities.len() != self.classes {
            return Err(PredictError::Room { room: probabilities.len(), classes: self.classes });
        }
        self.check(row, probabilities)?;
        probabilities.fill(0.0);
        match &self.nodes {
            Nodes::Small(nodes) => self.sum_trees(nodes, row, probabilities),
            Nodes::Wide(nodes) => self.sum_trees(nodes, row, probabilities),
        }
        self.divide(probabilities);
        Ok(())
    }

    /// Fills `probabilities`, one per class, row after row, with the answers for `rows`, row after row.
    pub fn predict_rows(&self, rows: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        self.check(rows, probabilities)?;
        probabilities.fill(0.0);
        let blocks =
            rows.chunks(BLOCK * self.features).zip(probabilities.chunks_mut(BLOCK * self.classes));
        for (rows, sums) in blocks {
            match &self.nodes {
                Nodes::Small(nodes) => self.sum_rows(nodes, rows, sums),
                Nodes::Wide(nodes) => self.sum_rows(nodes, rows, sums),
            }
        }
        self.divide(probabilities);
        Ok(())
    }

    /// The share of `samples` whose class is predicted; 0 where there are none.
    pub fn accuracy(&self, scaler: &Scaler, samples: &Samples) -> Result<f64, PredictError> {
        let mut scaled = Vec::new();
        scaler.apply(samples.values(), &mut scaled);
        let mut probabilities = vec![0.0; samples.len() * self.classes];
        self.predict_rows(&scaled, &mut probabilities)?;
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
            let mut lanes = Lanes::new(roots);
            lanes.walk(nodes, |_| row);
            lanes.ends().take(roots.len()).for_each(|leaf| self.add(leaf, sums));
        }
    }

    /// Adds up the distributions that each of `rows` ends in, [`LANES`] rows at a time. As with one row, the
    /// trees are added in their order: sums of floats in another order may differ in the last bit.
    fn sum_rows<N: Step>(&self, nodes: &[N], rows: &[f32], sums: &mut [f64]) {
        for &root in &self.roots {
            let groups = rows.chunks(LANES * self.features).zip(sums.chunks_mut(LANES * self.classes));
            for (rows, sums) in groups {
                let last = rows.len() / self.features - 1;
                let mut lanes = Lanes::new(&[root]);
                lanes.walk(nodes, |lane| {
                    let start = lane.min(last) * self.features;
                    &rows[start..start + self.features]
                });
                let sums = sums.chunks_exact_mut(self.classes);
                lanes.ends().zip(sums).for_each(|(leaf, sums)| self.add(leaf, sums));
            }
        }
    }

    fn add(&self, leaf: usize, sums: &mut [f64]) {
        let start = self.leaves[leaf] as usize * self.classes;
        let distribution = &self.distributions[start..start + self.classes];
        sums.iter_mut().zip(distribution).for_each(|(sum, share)| *sum += share);
    }

    fn divide(&self, sums: &mut [f64]) {
        let trees = self.roots.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= trees);
    }
}

/// Several paths that are walked together.
struct Lanes {
    roots: [usize; LANES],
    places: [usize; LANES],
}

impl Lanes {
    /// Paths from `roots`; those left over are walked from the last root once more, for nothing.
    fn new(roots: &[usize]) -> Self {
        let roots = std::array::from_fn(|lane| roots[lane.min(roots.len() - 1)]);
        Self { roots, places: roots }
    }

    /// Walks until every path has come to a leaf.
    fn walk<'r, N: Step>(&mut self, nodes: &[N], row: impl Fn(usize) -> &'r [f32]) {
        let rows: [&[f32]; LANES] = std::array::from_fn(row);
        loop {
            let mut moved = 0;
            for lane in 0..LANES {
                let place = self.places[lane];
                let next = self.roots[lane] + nodes[place].next(rows[lane]);
                moved |= next ^ place;
                self.places[lane] = next;
            }
            if moved == 0 {
                return;
            }
        }
    }

    fn ends(&self) -> impl Iterator<Item = usize> {
        self.places.into_iter()
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
    /// keep a [`Packed`].
    ///
    /// # Panics
    /// As linfa's own models do, if the shapes do not fit.
    fn predict_inplace<'a>(&'a self, records: &'a ArrayBase<D, Ix2>, classes: &mut Array1<usize>) {
        assert_eq!(records.nrows(), classes.len(), "the number of records is not the number of targets");
        assert_eq!(records.ncols(), self.features(), "the number of columns is not the number of features");
        let rows: Vec<f32> = records.iter().map(|&value| value as f32).collect();
        let mut probabilities = vec![0.0; records.nrows() * self.classes()];
        let predicted = Packed::new(self).predict_rows(&rows, &mut probabilities);
        assert_eq!(predicted, Ok(()), "the rows do not fit the forest");
        let answers = probabilities.chunks(self.classes()).map(class_of);
        classes.iter_mut().zip(answers).for_each(|(class, answer)| *class = answer);
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::default(records.nrows())
    }
}
