//! Pods that are lost without a word, while others serve.
//!
//! Comes in: a model with three pods, asked without a pause. Goes out: proof that pods were lost and no answer was.
//! Never: a pod that is told to go; its process is gone before it could drain.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::on_node;
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use crate::asking::Asking;
use crate::canopy::{gateways, shared};
use crate::model::{Model, PATIENCE, State, revision, small};

/// Kills the process of every pod that is named by its uid; a pod's other process only holds its network.
const KILL: &str = r#"
for uid in "$@"; do
    for group in $(grep -lE "pod($uid|$(echo "$uid" | tr - _))" /proc/[0-9]*/cgroup); do
        process=${group%/cgroup}
        if [ "$(readlink "$process/exe")" = /canopy ]; then kill -KILL "${process#/proc/}"; fi
    done
done"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_pods_are_killed_at_once_and_no_request_fails() -> Result<()> {
    let _turn = shared().await?;
    in_namespace("e2e-lost", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 3})))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        let before = tiny.pods(&serving)?;
        ensure!(before.len() == 3 && before.values().all(|pod| pod.is_ready), "there are {before:?}");
        let gateways = gateways().await?;
        for gateway in &gateways {
            tiny.ask_until(gateway, &[1.0; 4], "a prediction", |reply| reply.status == 200).await?;
        }

        let asking = Asking::start(gateways, tiny.full_name(), vec![1.0; 4]);
        let lost: Vec<_> = before.iter().take(2).collect();
        let uids: Vec<_> = lost.iter().map(|(_, pod)| pod.uid.as_str()).collect();
        // The cluster of these tests has one node.
        on_node(&lost[0].1.node, KILL, &uids)?;
        until("the pods to serve again", PATIENCE, async || {
            let now = tiny.pods(&serving)?;
            for (name, State { uid, restarts, .. }) in &lost {
                let pod = now.get(*name).with_context(|| format!("pod {name} is gone"))?;
                ensure!(pod.is_ready && pod.restarts > *restarts, "pod {name} was not killed: {pod:?}");
                ensure!(pod.uid == *uid, "pod {name} was made anew");
            }
            Ok(())
        })
        .await?;
        for (gateway, revisions) in asking.stop().await?.1 {
            ensure!(revisions == [serving.clone()], "{gateway} answered with {revisions:?}");
        }
        Ok(())
    })
    .await
}
