//! The first run of a graph, one operator after the other. An operator runs only if all numbers that were made so far and those
//! that it makes at most are within the limit.
//!
//! `rten` allocates what an operator asks for, and a failed allocation ends the process. It computes constants while it loads a
//! graph, so this run comes before that.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rten::{Model, RunOptions, Value, ValueOrView};
use rten_tensor::prelude::*;

use crate::error::{GraphError, failed, panic_message, shown};
use crate::file::File;
use crate::links::{Links, Source};
use crate::node::Node;
use crate::sizes::{Operand, Operation};
use crate::tensor::Tensor;

/// An input with more numbers than this holds no sizes: a tensor has fewer dimensions.
const SIZES_MAX: usize = 32;

/// Runs `file`, which `model` has read without an optimisation, with the values of its inputs. The operators may make `max`
/// numbers in all.
pub(crate) fn check(
    model: &Model,
    file: &File<'_>,
    inputs: Vec<(String, Value)>,
    max: usize,
    options: &RunOptions,
) -> Result<(), GraphError> {
    let links = Links::new(file)?;
    let mut run = FirstRun { model, file, links, values: inputs.into_iter().collect(), options };
    let mut made = 0_u64;
    for node in &file.nodes {
        let operands = node.inputs.iter().map(|name| run.operand(name)).collect::<Result<_, _>>()?;
        let bound = Operation { node, operands }.made();
        made = made.saturating_add(bound);
        if made > max as u64 {
            return Err(GraphError::TooLarge { operator: node.place(), made, max });
        }
        let found = run.step(node)?;
        if found > bound {
            let place = node.place();
            return Err(GraphError::Failed(format!(
                "{place} made {found} numbers instead of at most {bound}"
            )));
        }
    }
    Ok(())
}

struct FirstRun<'r, 'a> {
    model: &'r Model,
    file: &'r File<'a>,
    links: Links,
    values: HashMap<String, Value>,
    options: &'r RunOptions,
}

impl FirstRun<'_, '_> {
    fn operand(&self, name: &str) -> Result<Operand, GraphError> {
        if name.is_empty() {
            return Ok(Operand::default());
        }
        if let Some(Source::Constant(index)) = self.links.source(name) {
            let tensor = &self.file.constants[index];
            let shape = tensor.shape.iter().map(|size| *size as u64).collect();
            return Ok(Operand { shape, numbers: few_of_constant(tensor) });
        }
        let value = self.values.get(name);
        let value = value
            .ok_or_else(|| GraphError::malformed(format!("no operator makes the value {:?}", shown(name))))?;
        let shape = value.shape().iter().map(|size| *size as u64).collect();
        Ok(Operand { shape, numbers: few(value) })
    }

    /// Runs one operator and keeps its outputs. Returns how many numbers they have.
    fn step(&mut self, node: &Node<'_>) -> Result<u64, GraphError> {
        let id = |name: &str| self.model.node_id(name).map_err(|error| failed(&error));
        let mut inputs: Vec<(_, ValueOrView<'_>)> = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let id = match self.values.get(&**name) {
                Some(value) => (id(name)?, value.into()),
                None => continue,
            };
            // An operator may have the same value twice.
            if inputs.iter().all(|(known, _)| *known != id.0) {
                inputs.push(id);
            }
        }
        let names: Vec<_> = node.outputs.iter().filter(|name| !name.is_empty()).collect();
        let outputs = names.iter().map(|name| id(name)).collect::<Result<Vec<_>, _>>()?;
        let run = || self.model.run(inputs, &outputs, Some(self.options.clone()));
        let made = catch_unwind(AssertUnwindSafe(run))
            .map_err(|panic| failed(&format_args!("{} failed: {}", node.place(), panic_message(&*panic))))?;
        let made = made.map_err(|error| failed(&error))?;
        let numbers = made.iter().map(|value| value.len() as u64).sum();
        self.values.extend(names.into_iter().map(ToString::to_string).zip(made));
        Ok(numbers)
    }
}

fn few_of_constant(tensor: &Tensor<'_>) -> Option<Vec<f64>> {
    if tensor.elements()? > SIZES_MAX {
        return None;
    }
    let ints = tensor.as_ints().map(|ints| ints.into_iter().map(|int| int as f64).collect());
    ints.or_else(|| Some(tensor.as_floats()?.into_iter().map(f64::from).collect()))
}

fn few(value: &Value) -> Option<Vec<f64>> {
    if let Value::Int32Tensor(tensor) = value {
        return (tensor.len() <= SIZES_MAX).then(|| tensor.iter().map(|int| f64::from(*int)).collect());
    }
    let Value::FloatTensor(tensor) = value else { return None };
    (tensor.len() <= SIZES_MAX).then(|| tensor.iter().map(|float| f64::from(*float)).collect())
}
