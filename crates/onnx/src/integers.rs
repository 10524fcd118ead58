//! Refuses integers of 64 bits that do not fit into the 32 bits with which the runtime computes.

use std::collections::HashMap;

use crate::error::{GraphError, shown};
use crate::file::File;
use crate::node::{Node, Parameter};
use crate::tensor::Tensor;

/// Integers that mean "no limit", which they also do when they become the limits of 32 bits.
const NO_LIMIT: [i64; 3] = [i64::MIN, -i64::MAX, i64::MAX];

/// Refuses constants with integers beyond 32 bits, unless they are limits of `Slice` or `Clip`.
pub(crate) fn check(file: &File<'_>) -> Result<(), GraphError> {
    let large = |tensor: &Tensor<'_>| {
        let ints = tensor.as_ints()?;
        ints.into_iter().find(|int| i32::try_from(*int).is_err() && !NO_LIMIT.contains(int))
    };
    let constants = file.constants.iter().filter_map(|tensor| Some((&*tensor.name, large(tensor)?)));
    let constants: HashMap<_, _> = constants.collect();
    for node in &file.nodes {
        for attribute in &node.attributes {
            if let Parameter::Tensor(tensor) = &attribute.value
                && let Some(found) = large(tensor)
            {
                let place = format!("attribute {} of {}", shown(attribute.name), node.place());
                return Err(refused(&place, found));
            }
        }
        for (index, name) in node.inputs.iter().enumerate() {
            if let Some(found) = constants.get(&**name)
                && !is_limit(node, index)
            {
                return Err(refused(&format!("tensor {:?}", shown(name)), *found));
            }
        }
    }
    Ok(())
}

/// Whether an input holds limits, which may be beyond all that they limit.
fn is_limit(node: &Node<'_>, index: usize) -> bool {
    (node.is("Slice") || node.is("Clip")) && [1, 2].contains(&index)
}

fn refused(place: &str, found: i64) -> GraphError {
    GraphError::unsupported(
        format!("{place} with the integer {found}, which does not fit into 32 bits,"),
        "use smaller integers, or float32",
    )
}
