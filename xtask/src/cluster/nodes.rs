//! The list of nodes as the API server returns it.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A node.
#[derive(Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) ready: bool,
}

/// Parses the list.
pub(crate) fn read(json: &[u8]) -> Result<Vec<Node>> {
    let list: Value = serde_json::from_slice(json).context("failed to read the list of nodes")?;
    let items = list["items"].as_array().context("failed to read the list of nodes: it has no items")?;
    let node = |item: &Value| {
        let conditions = item["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|is| is["type"] == "Ready" && is["status"] == "True");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Node {
            name: text(&item["metadata"]["name"]),
            version: text(&item["status"]["nodeInfo"]["kubeletVersion"]),
            ready,
        }
    };
    Ok(items.iter().map(node).collect())
}

/// A line for people: version, how many are ready, and the names of the others.
pub(crate) fn line(nodes: &[Node]) -> String {
    let ready = nodes.iter().filter(|node| node.ready).count();
    let version = nodes.first().map_or("?", |node| &node.version);
    let not: Vec<_> = nodes.iter().filter(|node| !node.ready).map(|node| node.name.as_str()).collect();
    let waiting = if not.is_empty() { String::new() } else { format!(", not ready: {}", not.join(" ")) };
    format!("Kubernetes {version}, {ready} of {} nodes ready{waiting}", nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"items": [
        {"metadata": {"name": "a"}, "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}, "conditions": [
            {"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]}},
        {"metadata": {"name": "b"}, "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}, "conditions": [
            {"type": "Ready", "status": "Unknown"}]}},
        {"metadata": {"name": "c"}, "status": {}}]}"#;

    #[test]
    fn only_a_node_whose_ready_condition_is_true_is_ready() {
        let nodes = read(LIST.as_bytes()).unwrap();
        let ready: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.ready)).collect();
        assert_eq!(ready, [("a", true), ("b", false), ("c", false)]);
        assert_eq!(line(&nodes), "Kubernetes v1.37.2, 1 of 3 nodes ready, not ready: b c");
        assert_eq!(line(&nodes[..1]), "Kubernetes v1.37.2, 1 of 1 nodes ready");
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(read(b"{}").is_err());
        assert!(read(b"Unable to connect to the server").is_err());
    }
}
