//! A forest laid out to be walked fast.
//!
//! Comes in: a checked [`Forest`]. Goes out: the same questions in few bytes. Never: another answer.

use crate::model::Forest;

/// A forest ready for inference.
#[derive(Clone, Debug)]
pub struct Packed {
    features: usize,
    classes: usize,
}

impl Packed {
    /// Lays `forest` out.
    pub fn new(forest: &Forest) -> Self {
        Self { features: forest.features(), classes: forest.classes() }
    }

    /// How many values a row has.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }
}
