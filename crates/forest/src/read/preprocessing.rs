//! The preprocessing of a model, checked: the steps fit each other, so it cannot fail for a row of the right length.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::read::model::Step;

/// The longest row between two steps.
const COLUMNS_MAX: usize = 1 << 20;

/// Steps that change a row of `inputs` numbers into one of `outputs` numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Preprocessing {
    inputs: usize,
    outputs: usize,
    steps: Vec<Step>,
}

/// Why steps are no preprocessing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PreprocessingError {
    /// A step uses a column that its row does not have.
    #[error("step {step} of the preprocessing uses column {column}, but its rows have {columns} columns")]
    Column {
        /// The index of the step.
        step: usize,
        /// The index of the column.
        column: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// The rows of a step are too long, or empty.
    #[error("rows of the preprocessing must have from 1 to {COLUMNS_MAX} columns, got {0}")]
    Columns(usize),
}

#[derive(Serialize, Deserialize)]
struct Parts {
    inputs: usize,
    steps: Vec<Step>,
}

impl TryFrom<Parts> for Preprocessing {
    type Error = PreprocessingError;

    fn try_from(Parts { inputs, steps }: Parts) -> Result<Self, PreprocessingError> {
        Self::new(inputs, steps)
    }
}

impl From<Preprocessing> for Parts {
    fn from(Preprocessing { inputs, outputs: _, steps }: Preprocessing) -> Self {
        Self { inputs, steps }
    }
}

/// The rows before and after a step; they mean nothing between calls.
#[derive(Debug, Default)]
pub struct Room {
    row: Vec<f64>,
    next: Vec<f64>,
}

impl Preprocessing {
    /// Steps for rows of `inputs` numbers.
    pub fn new(inputs: usize, steps: Vec<Step>) -> Result<Self, PreprocessingError> {
        let mut columns = inputs;
        for (step, what) in steps.iter().enumerate() {
            let in_range = |column: usize| {
                if column < columns {
                    Ok(())
                } else {
                    Err(PreprocessingError::Column { step, column, columns })
                }
            };
            match what {
                Step::ZeroToMissing { largest: _, columns } => {
                    columns.iter().copied().try_for_each(in_range)?;
                }
                Step::Columns(new) => {
                    new.iter().map(|column| column.source).try_for_each(in_range)?;
                    columns = new.len();
                }
                Step::Normalize(_) => {}
            }
            Self::check_length(columns)?;
        }
        Self::check_length(inputs)?;
        Ok(Self { inputs, outputs: columns, steps })
    }

    fn check_length(columns: usize) -> Result<(), PreprocessingError> {
        if (1..=COLUMNS_MAX).contains(&columns) { Ok(()) } else { Err(PreprocessingError::Columns(columns)) }
    }

    /// How many numbers a row has before the steps.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many numbers a row has after the steps.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Replaces the contents of `changed` by the rows of `values` after all steps.
    pub fn apply(&self, values: &[f64], room: &mut Room, changed: &mut Vec<f64>) {
        changed.clear();
        changed.reserve(values.len() / self.inputs * self.outputs);
        for old in values.chunks_exact(self.inputs) {
            let Room { row, next } = room;
            row.clear();
            row.extend_from_slice(old);
            for step in &self.steps {
                if let Step::Columns(columns) = step {
                    next.clear();
                    next.extend(columns.iter().map(|column| column.value(row)));
                    std::mem::swap(row, next);
                } else {
                    step.apply(row);
                }
            }
            changed.extend_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::columns::{Change, Column, Norm};

    #[test]
    fn rows_are_changed_by_one_step_after_the_other() {
        let steps = vec![
            Step::ZeroToMissing { largest: 0.0, columns: vec![1] },
            Step::Columns(vec![
                Column::same(1).then(Change::Replace { value: f64::NAN, with: 4.0 }),
                Column::same(0),
                Column::same(1).then(Change::Replace { value: f64::NAN, with: 0.0 }),
            ]),
            Step::Normalize(Norm::Max),
        ];
        let preprocessing = Preprocessing::new(2, steps.clone()).unwrap();
        assert_eq!((preprocessing.inputs(), preprocessing.outputs()), (2, 3));
        let mut changed = Vec::new();
        preprocessing.apply(&[2.0, 0.0, 1.0, 2.0], &mut Room::default(), &mut changed);
        assert_eq!(changed, [1.0, 0.5, 0.0, 1.0, 0.5, 1.0]);
        let mut row = vec![2.0, 0.0];
        for step in &steps {
            step.apply(&mut row);
        }
        assert_eq!(row, changed[..3]);
    }

    #[test]
    fn a_step_that_uses_a_column_that_does_not_exist_is_refused() {
        let steps = || vec![Step::Columns(vec![Column::same(1)]), Step::Columns(vec![Column::same(1)])];
        let error = Preprocessing::new(2, steps()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "step 1 of the preprocessing uses column 1, but its rows have 1 columns"
        );
        assert_eq!(Preprocessing::new(0, Vec::new()).unwrap_err(), PreprocessingError::Columns(0));
        assert_eq!(
            Preprocessing::new(1, vec![Step::Columns(Vec::new())]).unwrap_err(),
            PreprocessingError::Columns(0)
        );
        let json = serde_json::to_string(&Parts { inputs: 2, steps: steps() }).unwrap();
        assert!(serde_json::from_str::<Preprocessing>(&json).unwrap_err().to_string().contains("step 1"));
    }
}
