//! The row in front of a step of a pipeline, as columns of the rows that a client sends.

use std::collections::HashMap;

use crate::ensemble::form::INPUTS_MAX;
use crate::read::columns::{Change, Column, Norm};
use crate::read::error::{Limits, Problem};
use crate::read::model::{Input, InputKind, Step};
use crate::read::protobuf::Budget;

/// A row. Its columns are those of the row after the steps that are complete.
pub(crate) type Row = Vec<Column>;

/// The inputs, and the steps that are complete.
pub(crate) struct Preparation {
    inputs: Vec<Known>,
    steps: Vec<Step>,
    /// How many columns the row after the complete steps has.
    width: usize,
    budget: Budget,
}

/// What is known of an input.
#[derive(Default)]
struct Known {
    name: Option<String>,
    is_number: bool,
    categories: Vec<String>,
    indices: HashMap<String, usize>,
}

impl Preparation {
    /// A preparation of rows of `count` inputs, and its first row.
    pub(crate) fn new(count: usize, limits: &Limits) -> Result<(Self, Row), Problem> {
        if count == 0 {
            return Err(Problem::malformed("the model has no inputs"));
        }
        Limits::check("inputs", count, INPUTS_MAX)?;
        let budget = Budget::new("columns of preprocessing", limits.numbers / 8);
        let inputs = (0..count).map(|_| Known::default()).collect();
        let mut preparation = Self { inputs, steps: Vec::new(), width: count, budget };
        preparation.spend(count)?;
        Ok((preparation, (0..count).map(Column::same).collect()))
    }

    /// Names the inputs.
    pub(crate) fn name(&mut self, names: Vec<String>) -> Result<(), Problem> {
        if names.len() != self.inputs.len() {
            let (found, count) = (names.len(), self.inputs.len());
            return Err(Problem::malformed(format!("{found} names are given for {count} inputs")));
        }
        for (input, name) in self.inputs.iter_mut().zip(names) {
            input.name = Some(name);
        }
        Ok(())
    }

    /// Subtracts the memory of this many columns and changes from the budget of preprocessing.
    pub(crate) fn spend(&mut self, count: usize) -> Result<(), Problem> {
        self.budget.spend(count)
    }

    /// A column after changes of numbers.
    pub(crate) fn changed(
        &mut self,
        column: &Column,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Column, Problem> {
        self.number(column)?;
        self.extended(column, changes)
    }

    /// A column after changes.
    pub(crate) fn extended(
        &mut self,
        column: &Column,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Column, Problem> {
        let column = changes.into_iter().fold(column.clone(), Column::then);
        self.spend(column.cost())?;
        Ok(column)
    }

    /// Whether the values of a column are still those of an input.
    fn input(&mut self, column: &Column) -> Option<&mut Known> {
        let is_raw = column.changes.iter().all(|change| matches!(change, Change::Replace { .. }));
        if self.steps.is_empty() && is_raw { self.inputs.get_mut(column.source) } else { None }
    }

    /// Notes that the values of a column are numbers.
    pub(crate) fn number(&mut self, column: &Column) -> Result<(), Problem> {
        let Some(input) = self.input(column) else { return Ok(()) };
        input.is_number = true;
        if input.categories.is_empty() { Ok(()) } else { Err(mixed()) }
    }

    /// The number that stands for a category of a column of texts.
    pub(crate) fn category(&mut self, column: &Column, text: &str) -> Result<f64, Problem> {
        let input = self.input(column).ok_or_else(mixed)?;
        if input.is_number {
            return Err(mixed());
        }
        let next = input.categories.len();
        let index = *input.indices.entry(text.to_owned()).or_insert(next);
        if index == next {
            input.categories.push(text.to_owned());
            self.spend(1)?;
        }
        Ok(index as f64)
    }

    /// Divides the row by its norm.
    pub(crate) fn normalize(&mut self, row: &Row, norm: Norm) -> Result<Row, Problem> {
        self.complete(row)?;
        self.steps.push(Step::Normalize(norm));
        self.spend(row.len())?;
        Ok((0..row.len()).map(Column::same).collect())
    }

    /// Makes the row that has these columns, unless it is the row as it is.
    pub(crate) fn complete(&mut self, row: &Row) -> Result<(), Problem> {
        for column in row {
            self.number(column)?;
        }
        let is_same = |(index, column): (usize, &Column)| column.source == index && column.changes.is_empty();
        if row.len() != self.width || !row.iter().enumerate().all(is_same) {
            self.steps.push(Step::Columns(row.clone()));
            self.width = row.len();
        }
        Ok(())
    }

    /// The inputs and the steps.
    pub(crate) fn finish(self) -> (Vec<Input>, Vec<Step>) {
        let input = |known: Known| Input {
            name: known.name,
            kind: if known.categories.is_empty() {
                InputKind::Numeric
            } else {
                InputKind::Categorical { categories: known.categories }
            },
        };
        (self.inputs.into_iter().map(input).collect(), self.steps)
    }
}

fn mixed() -> Problem {
    Problem::unsupported("a column that is used as texts and as numbers", "use it as one of them")
}
