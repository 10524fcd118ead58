//! A graph that is ready to run.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use crate::error::{GraphError, Limits, failed, panic_message, shown};
use crate::file::File;
use crate::first_run;
use crate::graph::Graph;
use crate::operators;
use crate::port::Port;

/// The stack of the thread that prepares a graph: `rten` visits a chain of operators by recursion.
const STACK_BYTES: usize = 64 << 20;
/// How many rows the first runs have.
const TRIAL_ROWS: usize = 4;
/// How far the scores of a row may differ when it is computed beside other rows.
const TOLERANCE: f64 = 1e-3;
/// The factor of the rows of large numbers.
const LARGE: f64 = 1e3;
/// The most columns that are tried to find the value for which a run failed.
const TRIED_MAX: usize = 64;
/// What another number must be.
const NARROW: &str = "must be within the range of 32-bit floats";
/// What an integer must be.
const WHOLE: &str = "must be a whole number of 32 bits";
/// What an integer must be if a run fails for it.
const INDEX: &str = "must be an index that the network has";

thread_local! {
    /// A thread of its own for each thread that predicts. `rten` computes on such a pool, and with one thread it does not
    /// divide the work, which is too small for that.
    static POOL: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) };
}

/// A graph that has computed its first rows.
pub struct Network {
    model: Model,
    inputs: Vec<(Port, Option<NodeId>)>,
    outputs: Vec<NodeId>,
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
    columns: usize,
    one_row: bool,
    is_distribution: bool,
    fixed: Duration,
    per_row: Duration,
}

impl Network {
    /// Prepares a graph and runs its first rows, within the time that `limits` allow.
    ///
    /// After [`GraphError::TooSlow`] the thread still runs, since nothing can stop it.
    pub fn load(graph: &Graph, limits: &Limits) -> Result<Self, GraphError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (owned, within) = (graph.clone(), *limits);
        let prepare = move || {
            let result = catch_unwind(AssertUnwindSafe(|| Self::prepare(&owned, &within)));
            // The other side is gone when the time was over.
            drop(sender.send(result.unwrap_or_else(|panic| Err(failed(&panic_message(&*panic))))));
        };
        let thread =
            thread::Builder::new().name("onnx-load".to_owned()).stack_size(STACK_BYTES).spawn(prepare);
        thread.map_err(|error| GraphError::Failed(format!("no thread for it: {error}")))?;
        receiver.recv_timeout(limits.load).map_err(|_| GraphError::TooSlow(limits.load))?
    }

    fn prepare(graph: &Graph, limits: &Limits) -> Result<Self, GraphError> {
        let mut plain = ModelOptions::with_ops(operators::registry());
        plain.enable_optimization(false);
        Self::new(graph, &plain)?.run_first(graph, limits)?;
        let mut options = ModelOptions::with_ops(operators::registry());
        options.prepack_weights(true);
        let mut network = Self::new(graph, &options)?;
        network.find_widths(graph.outputs(), limits.columns)?;
        network.try_rows(graph.is_classifier())?;
        Ok(network)
    }

    fn new(graph: &Graph, options: &ModelOptions) -> Result<Self, GraphError> {
        let model = options.load(graph.bytes().to_vec()).map_err(|error| failed(&error))?;
        let outputs = model.output_ids().to_vec();
        // An input that nothing uses may have been removed.
        let inputs: Vec<_> =
            graph.inputs().iter().map(|port| (port.clone(), model.find_node(&port.name))).collect();
        Ok(Self {
            columns: graph.inputs().iter().map(Port::columns).sum(),
            one_row: graph.inputs().iter().any(|port| port.takes_one_row),
            model,
            inputs,
            outputs,
            names: Vec::new(),
            shapes: Vec::new(),
            is_distribution: false,
            fixed: Duration::ZERO,
            per_row: Duration::ZERO,
        })
    }

    /// How many rows the first runs have.
    fn trial_rows(&self) -> usize {
        if self.one_row { 1 } else { TRIAL_ROWS }
    }

    /// Runs the operators one by one, within the limits.
    fn run_first(&self, graph: &Graph, limits: &Limits) -> Result<(), GraphError> {
        let file = File::read(graph.bytes(), limits)?;
        let rows = self.trial_rows();
        let values = self.trial(rows);
        let inputs = self.ports(&values, rows)?.into_iter();
        let inputs = inputs.map(|(port, value)| (port.name.clone(), value.into_owned())).collect();
        let pool = pool();
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        // On the pool's own thread no operator waits until another thread wakes up.
        pool.run(|| first_run::check(&self.model, &file, inputs, limits.made, &options))
    }

    /// Runs rows to see how many scores each output has. What a file declares can be wrong.
    fn find_widths(&mut self, names: &[String], most: usize) -> Result<(), GraphError> {
        let rows = self.trial_rows();
        let values = self.compute(&self.trial(rows), rows)?;
        for (name, value) in names.iter().zip(&values) {
            let shape = value.shape();
            let place = format!("output {:?}", shown(name));
            if !matches!(value, Value::FloatTensor(_)) {
                return Err(GraphError::unsupported(
                    format!("{place} of integers"),
                    "export outputs of float32",
                ));
            }
            if shape.first() != Some(&rows) {
                return Err(GraphError::unsupported(
                    format!("{place} of shape {:?} for {rows} rows", &shape[..]),
                    "its first dimension must be the rows",
                ));
            }
            let width = shape[1..].iter().product();
            GraphError::limit("scores of a row", self.names.len() + width, most)?;
            self.shapes.push(shape[1..].to_vec());
            match width {
                1 => self.names.push(name.clone()),
                width => self.names.extend((0..width).map(|index| format!("{name}_{index}"))),
            }
        }
        if self.names.is_empty() {
            return Err(GraphError::unsupported("a graph without scores", "export at least one output"));
        }
        Ok(())
    }

    /// Runs rows together and one by one: the answers must be the same. Measures how long they take.
    fn try_rows(&mut self, is_classifier: bool) -> Result<(), GraphError> {
        let width = self.names.len();
        let rows = self.trial(TRIAL_ROWS);
        let mut together = vec![0.0; TRIAL_ROWS * width];
        self.run(&rows, &mut together)?;
        let start = Instant::now();
        self.run(&rows, &mut together)?;
        let batch = start.elapsed();
        let mut alone = vec![0.0; TRIAL_ROWS * width];
        let start = Instant::now();
        for (row, scores) in rows.chunks_exact(self.columns).zip(alone.chunks_exact_mut(width)) {
            self.run(row, scores)?;
        }
        let single = start.elapsed() / TRIAL_ROWS as u32;
        let differs =
            |(a, b): (&f64, &f64)| a.is_nan() != b.is_nan() || (a - b).abs() > TOLERANCE * a.abs().max(1.0);
        if alone.iter().zip(&together).any(differs) {
            return Err(GraphError::unsupported(
                "a graph whose scores for a row depend on the rows beside it",
                "export the model in evaluation mode (model.eval())",
            ));
        }
        self.per_row = batch.saturating_sub(single) / (TRIAL_ROWS as u32 - 1);
        self.fixed = single.saturating_sub(self.per_row);
        self.is_distribution = width > 1
            && alone.chunks_exact(width).all(is_distribution)
            && (!is_classifier || self.is_distribution_of_large_numbers(&rows));
        Ok(())
    }

    /// Whether scores stay probabilities if the numbers of `rows` are larger. Scores that are no probabilities may look
    /// like them for a few rows of small numbers. Scores that are not finite or all 0 show nothing.
    fn is_distribution_of_large_numbers(&self, rows: &[f64]) -> bool {
        let width = self.names.len();
        let rows: Vec<_> = rows.iter().map(|number| number * LARGE).collect();
        let mut scores = vec![0.0; TRIAL_ROWS * width];
        let is_run = self.run(&rows, &mut scores).is_ok();
        let shows = |row: &&[f64]| {
            row.iter().all(|score| score.is_finite()) && row.iter().any(|score| score.abs() > 0.0)
        };
        !is_run || scores.chunks_exact(width).filter(shows).all(is_distribution)
    }

    /// Rows of different small numbers. Integers are 0, which is the index of something in every embedding.
    fn trial(&self, rows: usize) -> Vec<f64> {
        let mut values = Vec::with_capacity(rows * self.columns);
        for row in 0..rows {
            for (port, _) in &self.inputs {
                values.extend((0..port.columns()).map(|column| {
                    let number = ((row * 31 + column * 7 + row * column) % 19) as f64 / 8.0 - 1.0;
                    if port.is_integer || row == 0 { 0.0 } else { number }
                }));
            }
        }
        values
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        self.columns
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        self.names.len()
    }

    /// The names of the scores: the name of the output, with an index behind it where it has several.
    pub fn output_names(&self) -> &[String] {
        &self.names
    }

    /// The dimensions of each output for one row. Empty: one number.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// Whether the scores of each of the first rows were probabilities whose sum is 1. If the file has labels, they also were
    /// for rows of large numbers.
    pub fn is_distribution(&self) -> bool {
        self.is_distribution
    }

    /// About how long [`Network::run`] takes, from the first rows.
    pub fn cost(&self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        if self.one_row {
            (self.fixed + self.per_row).saturating_mul(rows)
        } else {
            self.per_row.saturating_mul(rows).saturating_add(self.fixed)
        }
    }

    /// Fills `scores` for rows that are one behind the other in `values`. The numbers are computed as 32-bit floats.
    pub fn run(&self, values: &[f64], scores: &mut [f64]) -> Result<(), GraphError> {
        let rows = values.len() / self.columns;
        let width = self.names.len();
        if values.len() != rows * self.columns || scores.len() != rows * width {
            return Err(GraphError::Failed(format!(
                "{} numbers and {} scores are not rows of {} and {width}",
                values.len(),
                scores.len(),
                self.columns
            )));
        }
        let at_once = if self.one_row { 1 } else { rows };
        if rows == 0 {
            return Ok(());
        }
        let parts = values.chunks_exact(at_once * self.columns);
        for (part, (values, scores)) in parts.zip(scores.chunks_exact_mut(at_once * width)).enumerate() {
            let outputs = self
                .try_compute(values, at_once)
                .map_err(|error| self.blame(values, error).in_row(part * at_once))?;
            let mut from = 0;
            for output in outputs {
                let Value::FloatTensor(tensor) = output else {
                    return Err(GraphError::Failed("an output is not of float32".to_owned()));
                };
                let part = tensor.len() / at_once;
                let data = tensor.to_vec();
                if part * at_once != data.len() || from + part > width {
                    return Err(GraphError::Failed(format!("an output has {} scores", data.len())));
                }
                for (row, found) in scores.chunks_exact_mut(width).zip(data.chunks_exact(part.max(1))) {
                    for (score, found) in row[from..from + part].iter_mut().zip(found) {
                        *score = f64::from(*found);
                    }
                }
                from += part;
            }
        }
        Ok(())
    }

    fn try_compute(&self, values: &[f64], rows: usize) -> Result<Vec<Value>, GraphError> {
        let run = catch_unwind(AssertUnwindSafe(|| self.compute(values, rows)));
        run.unwrap_or_else(|panic| Err(failed(&panic_message(&*panic))))
    }

    /// The integer for which a run failed: without it, the row can be computed. It is an index that does not exist, for example
    /// one of an embedding.
    fn blame(&self, values: &[f64], error: GraphError) -> GraphError {
        let GraphError::Failed(_) = error else { return error };
        let mut columns = 0;
        let mut integers = Vec::new();
        for (port, _) in &self.inputs {
            if port.is_integer {
                integers.extend(columns..columns + port.columns());
            }
            columns += port.columns();
        }
        if integers.is_empty() {
            return error;
        }
        let mut rows = values.chunks_exact(self.columns).enumerate();
        let Some((index, row)) = rows.find(|(_, row)| self.try_compute(row, 1).is_err()) else {
            return error;
        };
        let mut row = row.to_vec();
        for column in integers.into_iter().take(TRIED_MAX) {
            let value = std::mem::take(&mut row[column]);
            if self.try_compute(&row, 1).is_ok() {
                return GraphError::Value { row: index, column, must: INDEX, value };
            }
            row[column] = value;
        }
        error
    }

    fn compute(&self, values: &[f64], rows: usize) -> Result<Vec<Value>, GraphError> {
        let ids = self.inputs.iter().map(|(_, id)| *id);
        let inputs = ids.zip(self.ports(values, rows)?);
        let inputs = inputs.filter_map(|(id, (_, value))| Some((id?, value))).collect();
        let options = RunOptions::default().with_thread_pool(Some(pool()));
        self.model.run(inputs, &self.outputs, Some(options)).map_err(|error| failed(&error))
    }

    /// The tensor of each input.
    fn ports(&self, values: &[f64], rows: usize) -> Result<Vec<(&Port, ValueOrView<'static>)>, GraphError> {
        let mut from = 0;
        let tensors = self.inputs.iter().map(|(port, _)| {
            let columns = from..from + port.columns();
            from = columns.end;
            Ok((port, self.tensor(port, values, columns, rows)?))
        });
        tensors.collect()
    }

    fn tensor(
        &self,
        port: &Port,
        values: &[f64],
        columns: std::ops::Range<usize>,
        rows: usize,
    ) -> Result<ValueOrView<'static>, GraphError> {
        let shape: Vec<usize> = std::iter::once(rows).chain(port.shape.iter().copied()).collect();
        let numbers = values.chunks_exact(self.columns).flat_map(|row| &row[columns.clone()]);
        let place = |index: usize| (index / columns.len(), columns.start + index % columns.len());
        if port.is_integer {
            let whole = |(index, value): (usize, &f64)| {
                let is_whole =
                    value.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(value);
                is_whole.then_some(*value as i32).ok_or_else(|| {
                    let (row, column) = place(index);
                    GraphError::Value { row, column, must: WHOLE, value: *value }
                })
            };
            let data = numbers.enumerate().map(whole).collect::<Result<Vec<_>, _>>()?;
            Ok(Tensor::from_data(&shape[..], data).into())
        } else {
            let narrow = |(index, value): (usize, &f64)| {
                let narrow = *value as f32;
                if narrow.is_infinite() && value.is_finite() {
                    let (row, column) = place(index);
                    return Err(GraphError::Value { row, column, must: NARROW, value: *value });
                }
                Ok(narrow)
            };
            let data = numbers.enumerate().map(narrow).collect::<Result<Vec<_>, _>>()?;
            Ok(Tensor::from_data(&shape[..], data).into())
        }
    }
}

/// Whether the scores of a row are from 0 to 1, and their sum is 1.
fn is_distribution(scores: &[f64]) -> bool {
    scores.iter().all(|score| (0.0..=1.0).contains(score)) && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-4
}

fn pool() -> Arc<ThreadPool> {
    POOL.with_borrow_mut(|pool| pool.get_or_insert_with(|| Arc::new(ThreadPool::with_num_threads(1))).clone())
}
