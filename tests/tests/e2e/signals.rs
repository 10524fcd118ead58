//! Processes of pods, struck where the API server cannot reach them.
//!
//! Comes in: a signal and pods. Goes out: it was sent to the program of each, whatever node it is on. Never: the process
//! that only holds a pod's network.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{kubectl_json, on_node};

use crate::model::State;

/// Sends a signal to the program of every pod that is named by its uid; fails where a pod has none.
const STRIKE: &str = r#"
program=$1; signal=$2; shift 2
for uid in "$@"; do
    struck=
    for group in $(grep -lE "pod($uid|$(echo "$uid" | tr - _))" /proc/[0-9]*/cgroup); do
        process=${group%/cgroup}
        case $(readlink "$process/exe") in
            */"$program") kill -"$signal" "${process#/proc/}" && struck=yes ;;
        esac
    done
    [ "$struck" ] || { echo "pod $uid has no $program to send $signal to" >&2; exit 1; }
done"#;

/// Sends a signal to every process of a program on a node and prints their ids.
const SIGNAL_ALL: &str = r#"
for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = "$1" ]; then
        kill -"$2" "${process#/proc/}" && echo "${process#/proc/}"
    fi
done
true"#;

/// Sends `signal` to the processes of a program of the control plane, and returns their ids; fails where there is none.
pub(crate) fn signal_control_plane(program: &str, signal: &str) -> Result<String> {
    let nodes = kubectl_json(&["get", "nodes", "--selector", "node-role.kubernetes.io/control-plane"])?;
    let node = nodes["items"][0]["metadata"]["name"].as_str().context("there is a control plane")?;
    let signalled = on_node(node, SIGNAL_ALL, &[program, signal])?;
    ensure!(!signalled.is_empty(), "{node} runs no {program}");
    Ok(signalled)
}

/// Sends `signal` to the predictors of `pods`, to those of one node at once.
pub(crate) fn signal_predictors<'a>(signal: &str, pods: impl IntoIterator<Item = &'a State>) -> Result<()> {
    signal_pods(
        "canopy",
        signal,
        pods.into_iter().map(|State { node, uid, .. }| (node.as_str(), uid.as_str())),
    )
}

/// Sends `signal` to `program` in pods that are known by their node and uid.
pub(crate) fn signal_pods<'a>(
    program: &str,
    signal: &str,
    pods: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let mut nodes = BTreeMap::<&str, Vec<&str>>::new();
    for (node, uid) in pods {
        nodes.entry(node).or_default().push(uid);
    }
    for (node, uids) in nodes {
        on_node(node, STRIKE, &[&[program, signal], &uids[..]].concat())?;
    }
    Ok(())
}
