//! Reports models that this operator cannot decode: in the log, in an Event, and in the condition Ready.
//!
//! Each version of a model is reported once. Failed calls are retried a few times.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::Event;
use tokio::sync::mpsc;

use crate::api::call::CallError;
use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, BackoffPolicy};
use crate::caches::undecodable::UndecodableModel;
use crate::status::events;

const ATTEMPTS_MAX: u32 = 5;
/// Backoff of failed reports.
const FAILURES: BackoffPolicy = BackoffPolicy {
    free_attempts: 0,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(10),
    reset_after: Duration::from_mins(1),
};

/// Reports each model from the queue.
pub async fn run(mut queue: mpsc::Receiver<UndecodableModel>, cluster: Cluster) {
    let failures = Backoff::new(FAILURES);
    while let Some(undecodable_model) = queue.recv().await {
        let (name, namespace) =
            (undecodable_model.metadata.name.as_deref(), undecodable_model.metadata.namespace.as_deref());
        let diagnosis = undecodable_model.diagnosis();
        tracing::error!(model = name, namespace, "{}", diagnosis.message);
        let key = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        let event = events::warning(&diagnosis);
        failures.reset(&key);
        while let Err(error) = report(&cluster, &undecodable_model, &event).await {
            tracing::warn!(model = name, namespace, %error, "failed to report an undecodable model");
            if failures.count(&key) >= ATTEMPTS_MAX {
                break;
            }
            tokio::time::sleep(failures.record_failure(&key)).await;
        }
    }
}

async fn report(
    cluster: &Cluster,
    undecodable_model: &UndecodableModel,
    event: &Event,
) -> Result<(), CallError> {
    let written = cluster
        .write_conditions(&undecodable_model.metadata, &[undecodable_model.condition(Timestamp::now())])
        .await;
    match written {
        Err(error) if error.is_not_found() => return Ok(()),
        written => written?,
    }
    cluster.publish_about(undecodable_model.reference(), event).await
}
