//! Sends signals to the programs of pods, from the nodes that they run on.

use std::collections::BTreeMap;

use anyhow::Result;
use canopy_tests::kubernetes::on_node;

use crate::model::State;

/// Sends a signal to the program of each pod, by the pod's uid; fails if a pod does not run the program.
const SIGNAL: &str = r#"
program=$1; signal=$2; shift 2
for uid in "$@"; do
    sent=
    for group in $(grep -lE "pod($uid|$(echo "$uid" | tr - _))" /proc/[0-9]*/cgroup); do
        process=${group%/cgroup}
        case $(readlink "$process/exe") in
            */"$program") kill -"$signal" "${process#/proc/}" && sent=yes ;;
        esac
    done
    [ "$sent" ] || { echo "pod $uid does not run $program" >&2; exit 1; }
done"#;

/// Sends `signal` to the program of Canopy in each of `pods`; pods of one node get it at once.
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
