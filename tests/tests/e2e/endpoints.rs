//! A cluster without endpoint controllers: the status of a model reports that gateways cannot discover its pods.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::namespace::in_namespace;
use serde_json::json;

use crate::canopy::exclusive;
use crate::model::{Model, small};
use crate::signals::signal_control_plane;

/// The program that writes `EndpointSlices`.
const CONTROLLERS: &str = "kube-controller-manager";
const REASON: &str = "NoEndpoints";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_reports_dead_endpoint_controllers_and_recovers_once_they_are_back() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-endpoints", async |namespace| {
        namespace.apply(&small("tiny", &json!({})))?;
        let model = Model { namespace, name: "tiny" };
        model.ready()?;
        signal_control_plane(CONTROLLERS, "STOP")?;
        let reported = async {
            let of_gateways = "kubernetes.io/service-name=tiny-pods";
            let deleted = namespace.kubectl(&[
                "delete",
                "endpointslices",
                "--selector",
                of_gateways,
                "--wait=false",
            ])?;
            ensure!(
                deleted.contains("tiny-pods"),
                "expected a deleted EndpointSlice of tiny-pods, got {deleted:?}"
            );
            let message = model.condition("Available", "False", REASON).await?;
            ensure!(message.contains("Service tiny-pods has no ready endpoint"), "{message}");
            model.condition("Ready", "False", REASON).await?;
            model.has_event(REASON, &message).await
        };
        with_cleanup(reported, async || signal_control_plane(CONTROLLERS, "CONT").map(drop)).await?;
        model.condition("Available", "True", "Serving").await?;
        model.condition("Ready", "True", "Serving").await.map(drop)
    })
    .await
}
