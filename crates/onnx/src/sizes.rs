//! Sizes that are written in a file, and from which operators make tensors that the file does not contain.

use crate::error::{GraphError, Limits};
use crate::file::File;
use crate::links::{Links, Source};
use crate::node::{Node, Parameter};

/// The largest padding, kernel, stride and dilation of a convolution or pooling.
const WINDOW_MAX: i64 = 1 << 16;

/// Refuses operators that would make more numbers than `limits` allow, where the file itself has the size.
pub(crate) fn check(file: &File<'_>, limits: &Limits) -> Result<(), GraphError> {
    let sizes = Sizes { file, links: Links::new(file)? };
    for node in &file.nodes {
        let made = match node.operator {
            "ConstantOfShape" => sizes.product(node.input(0)),
            "Expand" | "Tile" => sizes.product(node.input(1)),
            "OneHot" | "Pad" => sizes.sum(node.input(1)),
            "Range" => sizes.sum(node.input(1)).saturating_add(sizes.sum(node.input(0))),
            "Split" => node.int("num_outputs").map_or(0, i64::unsigned_abs),
            _ => window(node)?,
        };
        if made > limits.made as u64 {
            return Err(GraphError::Limit {
                what: "numbers that one operator makes",
                found: usize::try_from(made).unwrap_or(usize::MAX),
                max: limits.made,
            });
        }
    }
    Ok(())
}

struct Sizes<'f, 'a> {
    file: &'f File<'a>,
    links: Links,
}

impl Sizes<'_, '_> {
    /// The integers of a constant, or those that are known of a `Concat`.
    fn known(&self, value: &str) -> Vec<i64> {
        match self.links.source(value) {
            Some(Source::Constant(index)) => self.file.constants[index].as_ints().unwrap_or_default(),
            Some(Source::Node(index)) if self.file.nodes[index].is("Concat") => {
                let inputs = self.file.nodes[index].inputs.iter();
                let constants = inputs.filter_map(|name| match self.links.source(name) {
                    Some(Source::Constant(index)) => self.file.constants[index].as_ints(),
                    Some(Source::Node(_) | Source::Input(_)) | None => None,
                });
                constants.flatten().collect()
            }
            Some(Source::Node(_) | Source::Input(_)) | None => Vec::new(),
        }
    }

    fn product(&self, value: &str) -> u64 {
        let sizes = self.known(value).into_iter().map(i64::unsigned_abs);
        sizes.filter(|size| *size > 0).fold(1, u64::saturating_mul)
    }

    fn sum(&self, value: &str) -> u64 {
        self.known(value).into_iter().map(i64::unsigned_abs).fold(0, u64::saturating_add)
    }
}

/// The largest size of a convolution or pooling.
fn window(node: &Node<'_>) -> Result<u64, GraphError> {
    for attribute in &node.attributes {
        let is_window = ["pads", "kernel_shape", "strides", "dilations", "output_padding", "output_shape"]
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
    Ok(0)
}
