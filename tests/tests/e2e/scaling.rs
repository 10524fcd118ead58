//! `kubectl scale`, including to zero. It makes no new revision.

use anyhow::{Result, ensure};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::{gateways, shared};
use crate::model::{Model, TIMEOUT, revision, small};

#[tokio::test]
async fn kubectl_scales_a_model_up_down_to_zero_and_back() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-scale", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        let first = revision(&tiny.ready()?)?;
        let gateways = gateways().await?;
        for replicas in [3, 1] {
            scale(&tiny, replicas).await?;
            let model = tiny.ready()?;
            ensure!(revision(&model)? == first, "scaling made a new revision");
            ensure!(model["status"]["readyReplicas"] == replicas, "{}", model["status"]);
            let budgets = namespace.kubectl(&["get", "poddisruptionbudgets", "--output", "name"])?;
            ensure!(budgets.is_empty() == (replicas == 1), "{replicas} pods and the budgets {budgets:?}");
            for gateway in &gateways {
                tiny.predict_until(gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;
            }
        }
        scale(&tiny, 0).await?;
        tiny.condition("Ready", "False", "ScaledToZero").await?;
        for gateway in &gateways {
            // The model exists, but has no pods.
            let reply = tiny.predict_until(gateway, &[1.0; 4], "503", |r| r.status == 503).await?;
            ensure!(!reply.header("retry-after").is_empty(), "{:?}", reply.headers);
        }
        scale(&tiny, 1).await?;
        ensure!(revision(&tiny.ready()?)? == first, "scaling to zero made a new revision");
        for gateway in &gateways {
            tiny.predict_until(gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;
        }
        Ok(())
    })
    .await
}

async fn scale(model: &Model<'_>, replicas: usize) -> Result<()> {
    model.scale(replicas)?;
    until(&format!("{replicas} pods"), TIMEOUT, async || {
        let status = model.read()?["status"].clone();
        ensure!(status["replicas"] == replicas && status["readyReplicas"] == replicas, "{status}");
        Ok(())
    })
    .await
}
