//! Brings the nodes of a tree into the order of an ensemble: the root first, children after their parents. Nodes that no
//! path reaches are left out.

use crate::ensemble::form::{Node, Tree};
use crate::read::error::Problem;

/// The tree of the nodes that are reached from node `root`, of `count` nodes. `node` gives a node by its index; its
/// children are indices of the same numbering. A node that two paths reach is refused, so there are no cycles.
///
/// It takes time and memory in proportion to `count`, which the caller bounds.
pub fn arrange(
    count: usize,
    root: usize,
    node: impl FnMut(usize) -> Result<Node, Problem>,
) -> Result<Tree, Problem> {
    arrange_in(&mut vec![UNREACHED; count], root, node)
}

/// A node that no path has reached yet.
pub(crate) const UNREACHED: u32 = u32::MAX;

/// As [`arrange`], where several trees have their nodes in one numbering. `places` has one [`UNREACHED`] per node before
/// the first tree; no node may be in two trees.
pub(crate) fn arrange_in(
    places: &mut [u32],
    root: usize,
    mut node: impl FnMut(usize) -> Result<Node, Problem>,
) -> Result<Tree, Problem> {
    let count = places.len();
    let mut tree = Tree::new();
    // The nodes to visit, and for each which place in which node of the tree refers to it.
    let mut open = vec![(root, None)];
    while let Some((index, parent)) = open.pop() {
        let place = places.get_mut(index).ok_or_else(|| {
            Problem::malformed(format!("node {index} is referred to, but the tree has {count} nodes"))
        })?;
        if *place != UNREACHED {
            return Err(Problem::malformed(format!("node {index} is reached by two paths")));
        }
        let new = u32::try_from(tree.len()).map_err(|_| Problem::malformed("the tree has too many nodes"))?;
        *place = new;
        let node = node(index)?;
        if let Node::Split { left, right, .. } | Node::Category { left, right, .. } = node {
            open.push((right as usize, Some((new, false))));
            open.push((left as usize, Some((new, true))));
        }
        tree.push(node);
        if let Some((parent, is_left)) = parent {
            link(&mut tree[parent as usize], is_left, new);
        }
    }
    Ok(tree)
}

fn link(parent: &mut Node, is_left: bool, child: u32) {
    if let Node::Split { left, right, .. } | Node::Category { left, right, .. } = parent {
        *(if is_left { left } else { right }) = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::form::Side;

    fn split(left: u32, right: u32) -> Node {
        Node::Split { feature: 0, threshold: 0.5, left, right, missing: Side::Left }
    }

    fn arranged(nodes: &[Node]) -> Result<Tree, String> {
        arrange(nodes.len(), 0, |index| Ok(nodes[index])).map_err(|problem| problem.to_string())
    }

    #[test]
    fn children_come_after_their_parents_and_unreached_nodes_are_left_out() {
        let leaf = |values| Node::Leaf { values };
        let nodes = [split(4, 2), leaf(0), leaf(1), leaf(2), split(3, 1)];
        assert_eq!(arranged(&nodes).unwrap(), [split(1, 4), split(2, 3), leaf(2), leaf(0), leaf(1)]);
        assert_eq!(arranged(&[leaf(7), split(0, 0)]).unwrap(), [leaf(7)]);
    }

    #[test]
    fn a_cycle_a_shared_child_and_a_child_that_is_not_there_are_refused() {
        let leaf = Node::Leaf { values: 0 };
        for (nodes, expected) in [
            (vec![split(0, 1), leaf], "node 0 is reached by two paths"),
            (vec![split(1, 1), leaf], "node 1 is reached by two paths"),
            (vec![split(1, 9), leaf], "node 9 is referred to, but the tree has 2 nodes"),
            (vec![], "node 0 is referred to, but the tree has 0 nodes"),
        ] {
            let found = arranged(&nodes).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
