//! Who wrote what: the API server's own log.
//!
//! Comes in: nothing. Goes out: every write by an operator or to a model so far, in order, and which operator it came
//! from. Never: a word of the operators themselves.

use anyhow::{Context as _, Result};
use canopy_tests::kubernetes::{kubectl_json, on_node};
use serde_json::Value;

use crate::canopy::SYSTEM;

/// The lines in which an operator or a model is named: few of all, and the whole log takes seconds to send and to read.
const LINES: &str = "grep -F -e canopy-operator -e predictormodels /var/log/kubernetes/audit.log || true";

/// Every write so far that an operator made, or that was made to a model.
pub(crate) fn writes() -> Result<Vec<Value>> {
    let nodes = kubectl_json(&["get", "nodes", "--selector", "node-role.kubernetes.io/control-plane"])?;
    let node = nodes["items"][0]["metadata"]["name"]
        .as_str()
        .context("there is no control plane to read a log of")?;
    let log = on_node(node, LINES, &[])?;
    let whole = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(whole.collect())
}

/// Whether a write is an operator's.
pub(crate) fn is_operators(write: &Value) -> bool {
    write["user"]["username"] == format!("system:serviceaccount:{SYSTEM}:canopy-operator")
}

/// The pod of an operator that did what only a leader does; nothing for a write of the Lease, or of somebody else.
pub(crate) fn leads(write: &Value) -> Option<&str> {
    let is_of_leader = is_operators(write) && write["objectRef"]["resource"] != "leases";
    is_of_leader.then(|| write["user"]["extra"]["authentication.kubernetes.io/pod-name"][0].as_str())?
}
