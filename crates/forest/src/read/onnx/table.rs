//! The tensors of a graph in front of its model, as columns of the rows that a client sends.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ensemble::form::INPUTS_MAX;
use crate::ensemble::precision::Precision;
use crate::read::columns::{Change, Column, Norm, Table};
use crate::read::error::{Limits, Problem};
use crate::read::model::{Input, InputKind, Step};
use crate::read::onnx::messages::{Port, kind};
use crate::read::protobuf::Budget;

/// A tensor with one row per row of the client.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the type is named after its main field")]
pub(crate) struct Columns {
    pub(crate) columns: Vec<Column>,
    pub(crate) element: Element,
    /// How many steps were complete when it was made. Its columns are those of the row after that step.
    stage: usize,
}

impl Columns {
    /// How many columns and changes it has.
    fn cost(&self) -> usize {
        self.columns.iter().map(Column::cost).sum()
    }
}

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// Numbers of this precision.
    Number(Precision),
    /// Texts: the columns are inputs, whose numbers are the indices of categories.
    Text,
}

/// The inputs, and the steps that are complete.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) inputs: Vec<Input>,
    pub(crate) steps: Vec<Step>,
    /// The index of each category of each input.
    categories: Vec<HashMap<String, usize>>,
    budget: Budget,
}

impl Preparation {
    /// A preparation without inputs.
    pub(crate) fn new(limits: &Limits) -> Self {
        let budget = Budget::new("columns of preprocessing", limits.numbers / 8);
        Self { inputs: Vec::new(), steps: Vec::new(), categories: Vec::new(), budget }
    }

    /// Adds an input of the graph. Columns have a name of their own if there are `several` inputs.
    pub(crate) fn input(&mut self, port: &Port<'_>, several: bool) -> Result<Columns, Problem> {
        let width = match port.shape[..] {
            [_] => Some(1),
            [_, Some(width)] => usize::try_from(width).ok().filter(|width| *width > 0),
            _ => None,
        };
        let width = width.ok_or_else(|| {
            Problem::unsupported(
                "an input without a known number of columns",
                "export the model with the shape [None, columns] of each input",
            )
        })?;
        Limits::check("inputs", self.inputs.len().saturating_add(width), INPUTS_MAX)?;
        let element = match port.kind {
            kind::TEXT => Element::Text,
            kind::FLOAT => Element::Number(Precision::Single),
            kind::DOUBLE | kind::INT64 | kind::INT32 | kind::BOOL => Element::Number(Precision::Double),
            other => {
                return Err(Problem::unsupported(
                    format!("an input of element type {other}"),
                    "use float, double, int32, int64, bool or string",
                ));
            }
        };
        let first = self.inputs.len();
        for index in 0..width {
            let name = match (several, width) {
                (false, 2..) => None,
                (_, 1) => Some(port.name.to_owned()),
                (true, _) | (false, 0) => Some(format!("{}.{index}", port.name)),
            };
            let kind = match element {
                Element::Text => InputKind::Categorical { categories: Vec::new() },
                Element::Number(_) => InputKind::Numeric,
            };
            self.inputs.push(Input { name, kind });
            self.categories.push(HashMap::new());
        }
        let columns = (first..first + width).map(Column::same).map(|column| match element {
            Element::Number(Precision::Single) => column.then(Change::Round),
            Element::Number(Precision::Double) | Element::Text => column,
        });
        self.spend(2 * width)?;
        Ok(Columns { columns: columns.collect(), element, stage: self.steps.len() })
    }

    /// Subtracts the memory of this many columns and changes from the budget of preprocessing.
    pub(crate) fn spend(&mut self, count: usize) -> Result<(), Problem> {
        self.budget.spend(count)
    }

    /// A tensor of columns that were made of those of another.
    pub(crate) fn derived(
        &mut self,
        from: &Columns,
        columns: Vec<Column>,
        element: Element,
    ) -> Result<Columns, Problem> {
        self.check_stage(from)?;
        Limits::check("columns", columns.len(), INPUTS_MAX)?;
        Ok(Columns { columns, element, stage: from.stage })
    }

    /// The number that stands for a category of a text column.
    pub(crate) fn category(&mut self, column: &Column, text: &str) -> f64 {
        let Some(Input { kind: InputKind::Categorical { categories }, .. }) =
            self.inputs.get_mut(column.source)
        else {
            return f64::NAN;
        };
        let index = *self.categories[column.source].entry(text.to_owned()).or_insert_with(|| {
            categories.push(text.to_owned());
            categories.len() - 1
        });
        index as f64
    }

    /// Several tensors side by side.
    pub(crate) fn joined(&mut self, parts: &[&Columns]) -> Result<Columns, Problem> {
        let width = parts.iter().map(|part| part.columns.len()).fold(0, usize::saturating_add);
        Limits::check("columns", width, INPUTS_MAX)?;
        let element = parts.first().map_or(Element::Text, |part| part.element);
        for part in parts {
            self.check_stage(part)?;
            if (part.element == Element::Text) != (element == Element::Text) {
                return Err(Problem::malformed("texts and numbers are joined"));
            }
        }
        let is_double = parts.iter().any(|part| part.element == Element::Number(Precision::Double));
        let element = if is_double { Element::Number(Precision::Double) } else { element };
        self.spend(parts.iter().map(|part| part.cost()).fold(0, usize::saturating_add))?;
        let columns = parts.iter().flat_map(|part| part.columns.clone()).collect();
        Ok(Columns { columns, element, stage: self.steps.len() })
    }

    /// Every column of a tensor of numbers after a change.
    pub(crate) fn changed(
        &mut self,
        from: &Columns,
        element: Element,
        change: impl Fn(usize, Column) -> Column,
    ) -> Result<Columns, Problem> {
        self.check_stage(from)?;
        if from.element == Element::Text {
            return Err(Problem::malformed("it is applied to texts"));
        }
        self.spend(from.cost().saturating_add(2 * from.columns.len()))?;
        let columns = from.columns.iter().cloned().enumerate().map(|(index, column)| change(index, column));
        self.derived(from, columns.collect(), element)
    }

    /// Divides the rows of a tensor by their norm. This completes a step.
    pub(crate) fn normalized(&mut self, from: &Columns, norm: Norm) -> Result<Columns, Problem> {
        self.complete(from)?;
        self.steps.push(Step::Normalize(norm));
        self.spend(2 * from.columns.len())?;
        let columns =
            (0..from.columns.len()).map(|source| Column::same(source).then(Change::Round)).collect();
        Ok(Columns { columns, element: Element::Number(Precision::Single), stage: self.steps.len() })
    }

    /// Ends the preparation with the row that is this tensor, and columns that are looked up in it. Rounding is left out
    /// where a model rounds to `precision` itself.
    pub(crate) fn finish(
        &mut self,
        from: &Columns,
        lookups: Vec<(usize, Table)>,
        precision: Option<Precision>,
    ) -> Result<(), Problem> {
        self.spend(from.cost())?;
        let mut columns = from.clone();
        for (source, table) in lookups {
            let Some(column) = from.columns.get(source).cloned() else {
                return Err(Problem::malformed(format!("a branch has feature {source}, which is not there")));
            };
            columns.columns.push(column.then(Change::Map(Arc::new(table))));
        }
        if precision == Some(Precision::Single) {
            for column in &mut columns.columns {
                if column.changes.last() == Some(&Change::Round) {
                    column.changes.pop();
                }
            }
        }
        self.complete(&columns)
    }

    /// Makes the row that is this tensor, unless it is the row as it is.
    fn complete(&mut self, from: &Columns) -> Result<(), Problem> {
        self.check_stage(from)?;
        if from.element == Element::Text {
            return Err(Problem::malformed("texts are used as numbers"));
        }
        let is_same = |(index, column): (usize, &Column)| column.source == index && column.changes.is_empty();
        let is_whole = !self.steps.is_empty() || from.columns.len() == self.inputs.len();
        if !is_whole || !self.steps.is_empty() || !from.columns.iter().enumerate().all(is_same) {
            self.steps.push(Step::Columns(from.columns.clone()));
        }
        Ok(())
    }

    fn check_stage(&self, columns: &Columns) -> Result<(), Problem> {
        if columns.stage != self.steps.len() {
            return Err(Problem::unsupported(
                "a Normalizer of some columns only",
                "normalise all columns, or none",
            ));
        }
        Ok(())
    }
}
