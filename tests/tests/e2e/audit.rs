//! The writes by operators and to models in the API server's audit log.

use anyhow::{Context as _, Result, bail, ensure};
use canopy_tests::api;
use canopy_tests::kubernetes::on_node;
use serde_json::Value;

use crate::canopy::SYSTEM;

const LOG: &str = "/var/log/kubernetes/audit.log";
/// The inode and the size of the log.
const STATE: &str = r#"stat --format '%i %s' "$1""#;
/// The lines after an offset that name an operator or a model. `grep` exits with 1 if there are none.
const LINES: &str =
    r#"tail -c "+$2" "$1" | grep -F -e canopy-operator -e predictormodels; code=$?; [ "$code" -le 1 ]"#;

/// A position in the log.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    node: String,
    inode: u64,
    size: u64,
}

impl Mark {
    /// The present end of the log.
    pub(crate) fn now() -> Result<Self> {
        let nodes = api::list("nodes", None, "node-role.kubernetes.io/control-plane")?;
        let node = nodes.first().and_then(|node| node["metadata"]["name"].as_str());
        let node = node.context("the cluster has no control plane")?.to_owned();
        let state = on_node(&node, STATE, &[LOG])?;
        let (inode, size) = state.trim().split_once(' ').with_context(|| format!("{LOG}: {state:?}"))?;
        let (inode, size) = (inode.parse()?, size.parse()?);
        ensure!(size > 0, "{LOG} of {node} is empty: does the API server write an audit log?");
        Ok(Self { node, inode, size })
    }

    /// All writes since then by operators or to models, in order. Fails if the log was rotated.
    pub(crate) fn writes(&self) -> Result<Vec<Value>> {
        let now = Self::now()?;
        ensure!(
            now.inode == self.inode && now.size >= self.size,
            "{LOG} was rotated since {self:?}: it is {now:?}"
        );
        let text = on_node(&self.node, LINES, &[LOG, &(self.size + 1).to_string()])?;
        let lines: Vec<_> = text.lines().collect();
        let mut writes = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(write) => writes.push(write),
                // The API server may be writing it.
                Err(_) if number + 1 == lines.len() => {}
                Err(error) => bail!("{LOG} has a line that is not JSON: {error}: {line}"),
            }
        }
        Ok(writes)
    }
}

/// Whether a write is an operator's.
pub(crate) fn is_operators(write: &Value) -> bool {
    write["user"]["username"] == format!("system:serviceaccount:{SYSTEM}:canopy-operator")
}

/// Whether a write renews the Lease of the operators.
pub(crate) fn is_renewal(write: &Value) -> bool {
    is_operators(write) && write["objectRef"]["resource"] == "leases"
}

/// The pod of the operator that made a write as the leader; `None` for a renewal and for writes of other accounts.
pub(crate) fn leads(write: &Value) -> Option<&str> {
    let is_of_leader = is_operators(write) && !is_renewal(write);
    is_of_leader.then(|| write["user"]["extra"]["authentication.kubernetes.io/pod-name"][0].as_str())?
}
