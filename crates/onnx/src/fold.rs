//! `BatchNormalization` of rows becomes part of the `Gemm` before it, or a product and a sum, which cost far less.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::file::File;
use crate::links::{Links, Source};
use crate::node::Node;
use crate::tensor::Tensor;

/// Operators whose output is a matrix where their first input is one.
const ELEMENTWISE: [&str; 14] = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Gelu",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "HardSigmoid",
    "HardSwish",
    "Erf",
    "Identity",
    "Softmax",
    "Clip",
    "BatchNormalization",
];

/// What a `BatchNormalization` does to each column: a product, then a sum.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// Folds each `BatchNormalization` of a matrix. `links` must be those of the file.
pub(crate) fn fold(file: &mut File<'_>, links: &Links) {
    let mut users: HashMap<String, usize> = HashMap::new();
    for name in file.nodes.iter().flat_map(|node| &node.inputs) {
        *users.entry(name.to_string()).or_default() += 1;
    }
    for output in &file.outputs {
        *users.entry(output.name.to_owned()).or_default() += 1;
    }
    let mut count = 0;
    let mut added = Vec::new();
    for index in 0..file.nodes.len() {
        let node = &file.nodes[index];
        let name = node.input(0).to_owned();
        if !node.is("BatchNormalization") || node.outputs.len() > 1 || node.int("training_mode") == Some(1) {
            continue;
        }
        let Some(affine) = affine(file, links, node).filter(|_| is_matrix(file, links, &name)) else {
            continue;
        };
        count += 1;
        let [scale, shift] = [format!("canopy.scale.{count}"), format!("canopy.shift.{count}")];
        if let Some(Source::Node(gemm)) = links.source(&name)
            && users.get(&name) == Some(&1)
            && let Some((weights, bias)) = folded(file, links, gemm, &affine)
        {
            file.nodes[gemm].inputs.truncate(1);
            file.nodes[gemm].inputs.extend([scale.clone().into(), shift.clone().into()]);
            file.constants.push(Tensor { name: scale.into(), ..weights });
            file.constants.push(Tensor { name: shift.into(), ..bias });
            let node = &mut file.nodes[index];
            *node = Node::new("Identity", vec![name.into()], node.outputs[0].clone());
        } else {
            let columns = affine.scale.len();
            file.constants.push(Tensor::floats(scale.clone(), vec![columns], &affine.scale));
            file.constants.push(Tensor::floats(shift.clone(), vec![columns], &affine.shift));
            let scaled: Cow<'_, str> = format!("canopy.scaled.{count}").into();
            let output = file.nodes[index].outputs[0].clone();
            file.nodes[index] = Node::new("Add", vec![scaled.clone(), shift.into()], output);
            added.push((index, Node::new("Mul", vec![name.into(), scale.into()], scaled)));
        }
    }
    for (index, node) in added.into_iter().rev() {
        file.nodes.insert(index, node);
    }
}

fn constant<'f, 'a>(file: &'f File<'a>, links: &Links, name: &str) -> Option<&'f Tensor<'a>> {
    match links.source(name)? {
        Source::Constant(index) => Some(&file.constants[index]),
        Source::Input(_) | Source::Node(_) => None,
    }
}

fn affine(file: &File<'_>, links: &Links, node: &Node<'_>) -> Option<Affine> {
    let floats = |index| {
        let tensor = constant(file, links, node.input(index))?;
        tensor.as_floats().filter(|_| tensor.shape.len() == 1)
    };
    let [gamma, beta, mean, variance] = [floats(1)?, floats(2)?, floats(3)?, floats(4)?];
    if [beta.len(), mean.len(), variance.len()] != [gamma.len(); 3] {
        return None;
    }
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale = |column: usize| f64::from(gamma[column]) / (f64::from(variance[column]) + epsilon).sqrt();
    let columns = 0..gamma.len();
    Some(Affine {
        shift: columns
            .clone()
            .map(|column| (f64::from(beta[column]) - f64::from(mean[column]) * scale(column)) as f32)
            .collect(),
        scale: columns.map(|column| scale(column) as f32).collect(),
    })
}

/// Whether a value has two dimensions, as far as that can be seen without running anything.
fn is_matrix(file: &File<'_>, links: &Links, name: &str) -> bool {
    let mut name = name;
    // The nodes are in order, so this ends.
    for _ in 0..file.nodes.len() {
        match links.source(name) {
            Some(Source::Input(index)) => return file.inputs[index].shape.len() == 2,
            Some(Source::Node(index)) => {
                let node = &file.nodes[index];
                if node.is("Gemm") {
                    return true;
                }
                if !ELEMENTWISE.iter().any(|operator| node.is(operator)) {
                    return false;
                }
                name = node.input(0);
            }
            Some(Source::Constant(_)) | None => return false,
        }
    }
    false
}

/// Whether a factor of a `Gemm` is not 1.
fn is_scaled(node: &Node<'_>, factor: &str) -> bool {
    (node.float(factor, 1.0) - 1.0).abs() > 0.0
}

/// The weights and the bias of a `Gemm` that also does what `affine` does.
fn folded<'a>(
    file: &File<'a>,
    links: &Links,
    gemm: usize,
    affine: &Affine,
) -> Option<(Tensor<'a>, Tensor<'a>)> {
    let node = &file.nodes[gemm];
    if !node.is("Gemm") || is_scaled(node, "alpha") || is_scaled(node, "beta") {
        return None;
    }
    let weights = constant(file, links, node.input(1))?;
    let &[rows, columns] = &weights.shape[..] else { return None };
    let is_transposed = node.int("transB").unwrap_or(0) != 0;
    let outputs = if is_transposed { rows } else { columns };
    let bias = match node.input(2) {
        "" => vec![0.0; outputs],
        name => constant(file, links, name)?.as_floats()?,
    };
    if affine.scale.len() != outputs || bias.len() != outputs {
        return None;
    }
    let mut values = weights.as_floats()?;
    for (index, value) in values.iter_mut().enumerate() {
        *value *= affine.scale[if is_transposed { index / columns } else { index % columns }];
    }
    let scaled = bias.iter().zip(&affine.scale).zip(&affine.shift);
    let bias: Vec<_> = scaled.map(|((bias, scale), shift)| bias * scale + shift).collect();
    let tensor = |shape, values: &[f32]| Tensor::floats(String::new(), shape, values);
    Some((tensor(weights.shape.clone(), &values), tensor(vec![outputs], &bias)))
}
