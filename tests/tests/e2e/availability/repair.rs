//! Somebody works against the operator: children are edited, deleted, or lose what they are known by.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::{Value, json};

use super::Scene;
use crate::canopy::under_load;
use crate::model::{Model, TIMEOUT, revision};

/// How long a repair may take.
const SECONDS: Duration = Duration::from_secs(10);

/// What somebody does to a child.
enum Deed {
    /// A merge patch.
    Patch(Value),
    Delete,
}

/// Does it, and returns when all is as it was, and told.
async fn repaired(model: &Model<'_>, (kind, name): (&str, &str), deed: Deed) -> Result<()> {
    let read = || -> Result<Value> {
        Ok(serde_json::from_str(&model.namespace.kubectl(&["get", kind, name, "--output", "json"])?)?)
    };
    let essence = |of: &Value| {
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
    let (is_done, words): (&dyn Fn(&Value) -> bool, _) = match &deed {
        Deed::Patch(patch) => {
            let patch = patch.to_string();
            model.namespace.kubectl(&["patch", kind, name, "--type", "merge", "--patch", &patch])?;
            (&|now| now["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"], "changed")
        }
        Deed::Delete => {
            model.namespace.kubectl(&["delete", kind, name, "--wait=false"])?;
            (&|now| now["metadata"]["uid"] != before["metadata"]["uid"], "deleted")
        }
    };
    let began = Instant::now();
    until(&format!("the repair of {kind} {name}"), TIMEOUT, async || {
        let now = read()?;
        ensure!(is_done(&now) && essence(&now) == essence(&before), "{now}");
        Ok(())
    })
    .await?;
    ensure!(began.elapsed() < SECONDS, "{kind} {name} was repaired after {:?}", began.elapsed());
    let told = format!("{}/{name} was {words} outside the operator", model.namespace.name);
    model.has_event("Repaired", &told).await
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
        let nobody = json!({"spec": {"selector": {"canopy.rs/revision": "nobody"}}});
        let added = json!({"spec": {"selector": {"x": "y"}}});
        let pinned = json!({"spec": {"template": {"spec": {"nodeSelector": {"x": "y"}}}}});
        let orphan = || Deed::Patch(json!({"metadata": {"ownerReferences": null}}));
        let deeds = [
            ("a selector changed", ("service", "tiny-pods"), Deed::Patch(nobody.clone())),
            ("the other selector changed", ("service", "tiny"), Deed::Patch(nobody)),
            ("a selector added to", ("service", "tiny-pods"), Deed::Patch(added.clone())),
            ("the other selector added to", ("service", "tiny"), Deed::Patch(added)),
            ("pods pinned to a node", ("deployment", of_revision.as_str()), Deed::Patch(pinned)),
            ("the owner forgotten", ("deployment", of_revision.as_str()), orphan()),
            ("scaled by hand", ("deployment", &of_revision), Deed::Patch(json!({"spec": {"replicas": 1}}))),
            ("a Service deleted", ("service", "tiny-pods"), Deed::Delete),
            ("the other Service deleted", ("service", "tiny"), Deed::Delete),
            ("the config deleted", ("configmap", &of_revision), Deed::Delete),
            ("the Deployment deleted", ("deployment", &of_revision), Deed::Delete),
        ];
        let mut load = scene.load().await?;
        for (what, child, deed) in deeds {
            load.during(what, repaired(model, child, deed)).await?;
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
