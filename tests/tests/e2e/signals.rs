//! Sends signals to the programs of pods, from the nodes that they run on.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::api;
use canopy_tests::kubernetes::on_node;

use crate::model::State;

/// Sends a signal to the program of each pod, by the pod's uid, to all of them in one step; fails if a pod does not run the program.
const SIGNAL: &str = r#"
program=$1; signal=$2; shift 2
all=
for uid in "$@"; do
    found=
    for group in $(grep -lE "pod($uid|$(echo "$uid" | tr - _))" /proc/[0-9]*/cgroup); do
        process=${group%/cgroup}
        case $(readlink "$process/exe") in
            */"$program") found="$found ${process#/proc/}" ;;
        esac
    done
    [ "$found" ] || { echo "pod $uid does not run $program" >&2; exit 1; }
    all="$all$found"
done
# One command: on a busy node each further search takes up to half a second.
kill -"$signal" $all"#;

/// Sends a signal to every process of a program on a node, and prints their ids.
const SIGNAL_BY_NAME: &str = r#"
# Linux keeps the first 15 bytes of a program's name.
name=$(printf %.15s "$1")
for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = "$name" ]; then
        kill -"$2" "${process#/proc/}" && echo "${process#/proc/}"
    fi
done
true"#;

/// Sends `signal` to the processes of a program of the control plane, and returns their ids; fails if there are none.
pub(crate) fn signal_control_plane(program: &str, signal: &str) -> Result<String> {
    let nodes = api::list("nodes", None, "node-role.kubernetes.io/control-plane")?;
    let node = nodes.first().and_then(|node| node["metadata"]["name"].as_str());
    let node = node.context("the cluster has no control plane")?;
    let signalled = on_node(node, SIGNAL_BY_NAME, &[program, signal])?;
    ensure!(!signalled.is_empty(), "{node} runs no {program}");
    Ok(signalled)
}

/// Sends `signal` to the program of Canopy in each of `pods`, at once to the pods of one node.
pub(crate) fn signal_pods<'a>(signal: &str, pods: impl IntoIterator<Item = &'a State>) -> Result<()> {
    let places = pods.into_iter().map(|State { node, uid, .. }| (node.as_str(), uid.as_str()));
    signal_program("canopy", signal, places)
}

/// Sends `signal` to `program` in pods that are given by their node and uid.
pub(crate) fn signal_program<'a>(
    program: &str,
    signal: &str,
    pods: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let mut nodes = BTreeMap::<&str, Vec<&str>>::new();
    for (node, uid) in pods {
        nodes.entry(node).or_default().push(uid);
    }
    for (node, uids) in nodes {
        on_node(node, SIGNAL, &[&[program, signal], &uids[..]].concat())?;
    }
    Ok(())
}
