//! The trees of an `XGBoost` file.
//!
//! A value goes left if it is below the threshold, or if it is not one of a set of categories.

use crate::ensemble::form::{Node, Side};
use crate::ensemble::precision::Precision;
use crate::read::builder::Builder;
use crate::read::error::Problem;
use crate::read::xgboost::document::Tree;

/// `split_type` of a split by categories.
const BY_CATEGORY: u8 = 1;

/// Adds a tree that counts for one output, with a weight.
pub(super) fn add(tree: &Tree, builder: &mut Builder, output: usize, weight: f64) -> Result<(), Problem> {
    if tree.tree_param.size_leaf_vector > 1 {
        return Err(Problem::unsupported(
            "multi_strategy multi_output_tree, leaves with several numbers",
            "train with multi_strategy one_output_per_tree",
        ));
    }
    let count = tree.left_children.len();
    for (what, found) in [
        ("right_children", tree.right_children.len()),
        ("split_indices", tree.split_indices.len()),
        ("split_conditions", tree.split_conditions.len()),
        ("default_left", tree.default_left.len()),
        ("split_type", if tree.split_type.is_empty() { count } else { tree.split_type.len() }),
    ] {
        if found != count {
            return Err(Problem::malformed(format!("`{what}` must have {count} entries, got {found}")));
        }
    }
    let first_set = builder.sets();
    add_sets(tree, builder)?;
    builder.add(count, |builder, index| {
        let condition = f64::from(tree.split_conditions[index]);
        if tree.left_children[index] < 0 {
            return builder.leaf(output, condition * weight);
        }
        let child = |children: &[i32]| {
            let child = children[index];
            u32::try_from(child).map_err(|_| Problem::malformed(format!("node {index} has child {child}")))
        };
        let (left, right) = (child(&tree.left_children)?, child(&tree.right_children)?);
        let feature = tree.split_indices[index];
        let is_default_left = tree.default_left[index].0;
        if tree.split_type.get(index) == Some(&BY_CATEGORY) {
            let node = index as u32;
            let set = tree.categories_nodes.binary_search(&node).map_err(|_| {
                Problem::malformed(format!("node {index} splits by categories, but has no set of them"))
            })?;
            // The set goes right in XGBoost and left in an ensemble.
            let missing = if is_default_left { Side::Right } else { Side::Left };
            let set = first_set + set as u32;
            return Ok(Node::Category { feature, set, left: right, right: left, missing });
        }
        let missing = if is_default_left { Side::Left } else { Side::Right };
        if !condition.is_finite() {
            return Err(Problem::malformed(format!("node {index} has a threshold that is not finite")));
        }
        Ok(Node::Split { feature, threshold: Precision::Single.below(condition), left, right, missing })
    })
}

/// Adds the category sets of a tree, in the order of their nodes.
fn add_sets(tree: &Tree, builder: &mut Builder) -> Result<(), Problem> {
    let Tree { categories, categories_nodes, categories_segments, categories_sizes, .. } = tree;
    let sizes = [categories_segments.len(), categories_sizes.len()];
    let malformed = |fault: &str| Err(Problem::malformed(format!("its category sets are wrong: {fault}")));
    if sizes != [categories_nodes.len(); 2] || !categories_nodes.is_sorted() {
        return malformed("each node with a set must be listed once, in order");
    }
    let mut end = 0;
    for (start, size) in categories_segments.iter().zip(categories_sizes) {
        // Sets that overlap would need more memory than the file.
        if *start != end {
            return malformed("each must start where the one before ends");
        }
        end = start.saturating_add(*size);
        let Some(listed) = categories.get(*start..end) else { return malformed("one ends after the list") };
        builder.set_of(listed)?;
    }
    Ok(())
}
