//! Child objects that are edited, deleted or lose their owner are repaired, and no request fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::{Value, json};

use super::Scene;
use crate::canopy::under_load;
use crate::model::{Model, TIMEOUT, revision};

/// The longest time for a repair.
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);

/// A change of a child object.
enum Edit {
    /// A merge patch.
    Patch(Value),
    Delete,
}

/// Makes the change, and returns when the operator has undone and reported it.
async fn repaired(model: &Model<'_>, (kind, name): (&str, &str), edit: Edit) -> Result<()> {
    let read = || model.namespace.json(kind, name);
    let managed_fields = |of: &Value| {
        let metadata = &of["metadata"];
        json!([
            of["spec"]["selector"],
            of["spec"]["replicas"],
            of["spec"]["template"]["metadata"]["labels"],
            of["spec"]["template"]["spec"]["nodeSelector"],
            of["data"],
            metadata["labels"],
            metadata["ownerReferences"]
        ])
    };
    let before = read()?;
    let (is_done, words): (&dyn Fn(&Value) -> bool, _) = match &edit {
        Edit::Patch(patch) => {
            model.namespace.patch(kind, name, patch)?;
            (&|now| now["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"], "changed")
        }
        Edit::Delete => {
            model.namespace.kubectl(&["delete", kind, name, "--wait=false"])?;
            (&|now| now["metadata"]["uid"] != before["metadata"]["uid"], "deleted")
        }
    };
    let began = Instant::now();
    until(&format!("the repair of {kind} {name}"), TIMEOUT, async || {
        let now = read()?;
        ensure!(is_done(&now) && managed_fields(&now) == managed_fields(&before), "{now}");
        Ok(())
    })
    .await?;
    ensure!(began.elapsed() < REPAIRED_WITHIN, "{kind} {name} was repaired after {:?}", began.elapsed());
    let message = format!("{}/{name} was {words} outside the operator", model.namespace.name);
    model.has_event("Repaired", &message).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_are_edited_or_deleted_are_repaired_and_no_request_fails() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-children", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let model = &scene.model;
        let serving = revision(&model.read()?)?;
        let of_revision = format!("tiny-{serving}");
        let before = model.pods(&serving)?;
        let selects_none = json!({"spec": {"selector": {"canopy.rs/revision": "none"}}});
        let added = json!({"spec": {"selector": {"x": "y"}}});
        let pinned = json!({"spec": {"template": {"spec": {"nodeSelector": {"x": "y"}}}}});
        let (list, service) = (("services", "tiny-pods"), ("services", "tiny"));
        let (deployment, config) =
            (("deployments", of_revision.as_str()), ("configmaps", of_revision.as_str()));
        let scaled = json!({"spec": {"replicas": 1}});
        let orphaned = json!({"metadata": {"ownerReferences": null}});
        let patch = |patch: &Value| Edit::Patch(patch.clone());
        let phases = [
            ("selectors changed", vec![(list, patch(&selects_none)), (service, patch(&selects_none))]),
            ("selectors extended", vec![(list, patch(&added)), (service, patch(&added))]),
            (
                "the Deployment pinned to a node, orphaned, scaled",
                vec![
                    (deployment, patch(&pinned)),
                    (deployment, patch(&orphaned)),
                    (deployment, patch(&scaled)),
                ],
            ),
            ("Services deleted", vec![(list, Edit::Delete), (service, Edit::Delete)]),
            ("the config deleted", vec![(config, Edit::Delete)]),
            ("the Deployment deleted", vec![(deployment, Edit::Delete)]),
        ];
        let mut load = scene.load().await?;
        for (phase, edits) in phases {
            let all_repaired = async {
                for (child, edit) in edits {
                    repaired(model, child, edit).await?;
                }
                Ok(())
            };
            load.during(phase, all_repaired).await?;
        }
        until("two pods in the place of those that went", TIMEOUT, async || {
            let now = model.pods(&serving)?;
            let new =
                now.values().filter(|pod| pod.is_ready && before.values().all(|old| old.uid != pod.uid));
            ensure!(new.count() == 2 && now.len() == 2, "{now:?}");
            Ok(())
        })
        .await
        .context("a Deployment was deleted with its pods")?;
        load.calm("after").await?;
        load.stop().await.all_answered("children edited and deleted")
    })
    .await
}
