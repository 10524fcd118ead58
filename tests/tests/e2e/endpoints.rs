//! A cluster whose `EndpointSlices` are no longer written: models say that gateways do not find their pods.

use anyhow::{Result, ensure};
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
    let _turn = exclusive().await?;
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
            ensure!(deleted.contains("tiny-pods"), "no EndpointSlice was deleted: {deleted}");
            let message = model.condition("Available", "False", REASON).await?;
            ensure!(message.contains("Service tiny-pods has no ready endpoint"), "{message}");
            model.condition("Ready", "False", REASON).await?;
            model.has_event(REASON, &message).await
        };
        let reported = reported.await;
        // Other tests need the controllers, whatever became of this one.
        signal_control_plane(CONTROLLERS, "CONT")?;
        reported?;
        model.condition("Available", "True", "Serving").await?;
        model.condition("Ready", "True", "Serving").await.map(drop)
    })
    .await
}
