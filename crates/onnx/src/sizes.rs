//! How many numbers an operator makes at most, from the shapes of its inputs and the sizes that some inputs hold.
//!
//! Invariant: a bound is never less than what the operator makes. A dimension of 0 counts as 1, since a reduction removes it.

use std::collections::BTreeMap;

use crate::error::GraphError;
use crate::file::File;
use crate::node::{Node, Parameter};

/// The largest padding, kernel, stride and dilation of a convolution or pooling.
const WINDOW_MAX: i64 = 1 << 16;

/// Refuses convolutions and poolings with attributes that are negative or too large.
pub(crate) fn check_windows(file: &File<'_>) -> Result<(), GraphError> {
    for node in &file.nodes {
        for attribute in &node.attributes {
            let is_window =
                ["pads", "kernel_shape", "strides", "dilations", "output_padding", "output_shape"]
                    .contains(&attribute.name);
            if let (true, Parameter::Ints(sizes)) = (is_window, &attribute.value)
                && let Some(size) = sizes.iter().find(|size| !(0..=WINDOW_MAX).contains(*size))
            {
                return Err(GraphError::malformed(format!(
                    "{} has {} of {size}, which is not from 0 to {WINDOW_MAX}",
                    node.place(),
                    attribute.name
                )));
            }
        }
    }
    Ok(())
}

/// One input of an operator.
#[derive(Debug, Default)]
pub(crate) struct Operand {
    pub(crate) shape: Vec<u64>,
    /// Its numbers, where they are few: they may be sizes.
    pub(crate) numbers: Option<Vec<f64>>,
}

/// An operator and its inputs. An optional input that is absent has no dimensions.
pub(crate) struct Operation<'a> {
    pub(crate) node: &'a Node<'a>,
    pub(crate) operands: Vec<Operand>,
}

impl Operation<'_> {
    /// The most numbers that the operator makes.
    pub(crate) fn made(&self) -> u64 {
        self.bound().unwrap_or(u64::MAX)
    }

    /// `None` if there is no bound: sizes are missing, or a shape does not fit the operator.
    fn bound(&self) -> Option<u64> {
        let first = volume(self.shape(0));
        Some(match self.node.operator {
            "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
            | "Max" | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "Sub" | "Sum" | "Where"
            | "Xor" => {
                volume(&self.operands.iter().fold(Vec::new(), |shape, one| broadcast(&shape, &one.shape)))
            }
            "Expand" => volume(&broadcast(self.shape(0), &self.sizes(1)?)),
            "ConstantOfShape" => volume(&self.sizes(0)?),
            "Tile" | "OneHot" => first.saturating_mul(volume(&self.sizes(1)?)),
            "Range" => self.range()?,
            "Pad" => self.pad()?,
            "Concat" => self.operands.iter().map(|one| volume(&one.shape)).fold(0, u64::saturating_add),
            "Split" => first.saturating_add(self.node.int("num_outputs").unwrap_or(0).unsigned_abs()),
            "MatMul" => self.mat_mul()?,
            "Gemm" => self.gemm()?,
            "Einsum" => self.einsum()?,
            "Conv" => self.windows(self.shape(1).first().copied()?)?,
            "AveragePool" | "MaxPool" => self.windows(self.shape(0).get(1).copied()?)?,
            "ConvTranspose" => self.conv_transpose()?,
            "GRU" | "LSTM" => self.recurrent()?,
            "Gather" => self.gather()?,
            "GatherElements" => volume(self.shape(1)),
            "GatherND" => self.gather_nd()?,
            "NonZero" => first.saturating_mul(self.shape(0).len().max(1) as u64),
            "Shape" | "Size" => self.shape(0).len() as u64 + 1,
            // The others make at most their first input again, in up to three outputs.
            _ => first.saturating_mul(self.node.outputs.len().clamp(1, 3) as u64),
        })
    }

    fn shape(&self, index: usize) -> &[u64] {
        self.operands.get(index).map_or(&[], |one| &one.shape)
    }

    fn numbers(&self, index: usize) -> Option<&[f64]> {
        self.operands.get(index)?.numbers.as_deref()
    }

    /// The sizes that an input holds.
    fn sizes(&self, index: usize) -> Option<Vec<u64>> {
        Some(self.numbers(index)?.iter().map(|number| size(number.abs())).collect())
    }

    /// The integers of an attribute; empty if it is absent.
    fn ints(&self, name: &str) -> Vec<u64> {
        match self.node.attribute(name) {
            Some(Parameter::Ints(ints)) => ints.iter().map(|int| int.unsigned_abs()).collect(),
            _ => Vec::new(),
        }
    }

    fn range(&self) -> Option<u64> {
        let [start, limit, step] = [0, 1, 2].map(|index| self.numbers(index)?.first().copied());
        // A step of 0 makes infinity or NaN, which becomes 0; the operator refuses it.
        Some(size(((limit? - start?) / step?).ceil()))
    }

    fn pad(&self) -> Option<u64> {
        let shape = self.shape(0);
        let pads = if self.operands.len() > 1 { self.sizes(1)? } else { self.ints("pads") };
        let rank = shape.len() as f64;
        let axes: Vec<_> = match self.numbers(3) {
            Some(axes) if !axes.is_empty() => {
                axes.iter().map(|axis| size(if *axis < 0.0 { axis + rank } else { *axis })).collect()
            }
            Some(_) | None => (0..shape.len() as u64).collect(),
        };
        let mut padded = shape.to_vec();
        for (index, pad) in pads.iter().enumerate() {
            let place = usize::try_from(*axes.get(index % axes.len().max(1))?).ok()?;
            let size = padded.get_mut(place)?;
            *size = size.saturating_add(*pad);
        }
        Some(volume(&padded))
    }

    fn mat_mul(&self) -> Option<u64> {
        let (a, b) = (self.shape(0), self.shape(1));
        let (rows, a) = match a {
            [.., rows, _] => (*rows, &a[..a.len() - 2]),
            [_] => (1, &a[..0]),
            [] => return None,
        };
        let (columns, b) = match b {
            [.., _, columns] => (*columns, &b[..b.len() - 2]),
            [_] => (1, &b[..0]),
            [] => return None,
        };
        Some(volume(&[volume(&broadcast(a, b)), rows, columns]))
    }

    fn gemm(&self) -> Option<u64> {
        let is_transposed = |name| usize::from(self.node.int(name).unwrap_or(0) != 0);
        let rows = *self.shape(0).get(is_transposed("transA"))?;
        let columns = *self.shape(1).get(1 - is_transposed("transB"))?;
        Some(volume(&[rows, columns]))
    }

    /// All of its dimensions together, as if no sum were taken: a contraction of several inputs has steps.
    fn einsum(&self) -> Option<u64> {
        let Some(Parameter::Text(equation)) = self.node.attribute("equation") else { return None };
        let inputs = std::str::from_utf8(equation).ok()?.split("->").next()?;
        let mut sizes = BTreeMap::new();
        let mut rest = Vec::new();
        for (index, labels) in inputs.split(',').enumerate() {
            let labels: Vec<_> = labels.chars().filter(|c| c.is_alphabetic()).collect();
            let shape = self.shape(index);
            let unnamed = shape.len().checked_sub(labels.len())?;
            // The dimensions of an ellipsis may be anywhere, so a label may have any of the sizes around it.
            for (place, label) in labels.iter().enumerate() {
                let size = shape[place..=place + unnamed].iter().max()?;
                let known = sizes.entry(*label).or_insert(1);
                *known = (*known).max(*size);
            }
            if unnamed > 0 {
                rest.push(volume(shape));
            }
        }
        Some(volume(&sizes.into_values().chain(rest).collect::<Vec<_>>()))
    }

    /// A window at each place of the input, with `channels` numbers.
    fn windows(&self, channels: u64) -> Option<u64> {
        let shape = self.shape(0);
        let kernel = self.kernel();
        let (pads, dilations) = (self.ints("pads"), self.ints("dilations"));
        let sizes = shape.get(2..)?.iter().enumerate().map(|(index, size)| {
            let pads: u64 = pads.iter().skip(index).step_by(shape.len() - 2).sum();
            let dilation = dilations.get(index).copied().unwrap_or(1);
            let window = kernel.get(index).copied().unwrap_or(1).saturating_mul(dilation);
            size.saturating_add(pads).saturating_add(window)
        });
        Some(volume(&[*shape.first()?, channels].into_iter().chain(sizes).collect::<Vec<_>>()))
    }

    /// The window: an attribute, or the shape of the weights.
    fn kernel(&self) -> Vec<u64> {
        let kernel = self.ints("kernel_shape");
        if kernel.is_empty() { self.shape(1).get(2..).unwrap_or_default().to_vec() } else { kernel }
    }

    /// The output, and the products of all weights with all places of the input, which are added up afterwards.
    fn conv_transpose(&self) -> Option<u64> {
        let (shape, weights) = (self.shape(0), self.shape(1));
        let groups = self.node.int("group").unwrap_or(1).unsigned_abs();
        let channels = weights.get(1)?.saturating_mul(groups);
        let kernel = self.kernel();
        let [strides, dilations, padding, given] =
            ["strides", "dilations", "output_padding", "output_shape"].map(|name| self.ints(name));
        let at = |sizes: &[u64], index: usize, default| sizes.get(index).copied().unwrap_or(default);
        let made = shape.get(2..)?.iter().enumerate().map(|(index, size)| {
            let steps = size.saturating_mul(at(&strides, index, 1));
            let window = at(&kernel, index, 1).saturating_mul(at(&dilations, index, 1));
            let made = steps.saturating_add(window).saturating_add(at(&padding, index, 0));
            made.max(at(&given, index, 0))
        });
        let made = volume(&[*shape.first()?, channels].into_iter().chain(made).collect::<Vec<_>>());
        let places = volume(&[*shape.first()?, volume(shape.get(2..)?), channels, volume(&kernel)]);
        Some(made.saturating_add(places))
    }

    /// The gates of all steps, and the last states.
    fn recurrent(&self) -> Option<u64> {
        let [steps, rows, _] = self.shape(0) else { return None };
        let [directions, gates, _] = self.shape(1) else { return None };
        Some(volume(&[steps.saturating_add(2), rows.saturating_add(2), *directions, *gates]))
    }

    fn gather(&self) -> Option<u64> {
        let shape = self.shape(0);
        let axis = self.node.int("axis").unwrap_or(0);
        let from_end = usize::try_from(axis.unsigned_abs()).ok()?;
        let axis = if axis < 0 { shape.len().checked_sub(from_end)? } else { from_end };
        let (before, after) = (shape.get(..axis)?, shape.get(axis + 1..)?);
        Some(volume(&[volume(before), volume(self.shape(1)), volume(after)]))
    }

    fn gather_nd(&self) -> Option<u64> {
        let indices = self.shape(1);
        let (depth, places) = indices.split_last()?;
        let batch = self.node.int("batch_dims").unwrap_or(0).unsigned_abs();
        let from = usize::try_from(depth.saturating_add(batch)).ok()?;
        Some(volume(places).saturating_mul(volume(self.shape(0).get(from..).unwrap_or_default())))
    }
}

/// A size that is computed as a float; a negative one and what is not a number are 0.
#[expect(clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn size(number: f64) -> u64 {
    number as u64
}

/// The product of dimensions.
fn volume(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product, size| product.saturating_mul((*size).max(1)))
}

/// The larger dimension of both shapes at each place from the end.
fn broadcast(one: &[u64], other: &[u64]) -> Vec<u64> {
    let (long, short) = if one.len() < other.len() { (other, one) } else { (one, other) };
    let mut shape = long.to_vec();
    for (size, other) in shape.iter_mut().rev().zip(short.iter().rev()) {
        *size = (*size).max(*other);
    }
    shape
}
