//! Processes of pods, struck where the API server cannot reach them.
//!
//! Comes in: a signal and pods. Goes out: it was sent to the program of each, whatever node it is on. Never: the process
//! that only holds a pod's network.

use std::collections::BTreeMap;

use anyhow::Result;
use canopy_tests::kubernetes::on_node;

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
