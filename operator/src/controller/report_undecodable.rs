//! Tells people of models that this operator cannot decode: in the log, in an Event, and in the condition Ready.
//!
//! Invariant: each such model is told once for each change of it; a call that fails is tried again a few times.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::api::call::CallError;
use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, BackoffPolicy};
use crate::caches::undecodable::UndecodableModel;
use crate::status::events::Announcement;

const TRIES: u32 = 5;
/// How tries slow down.
const FAILURES: BackoffPolicy = BackoffPolicy {
    free_attempts: 0,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(10),
    reset_after: Duration::from_mins(1),
};

/// Tells of each, until no more can come.
pub async fn run(mut queue: mpsc::Receiver<UndecodableModel>, cluster: Cluster) {
    let failures = Backoff::new(FAILURES);
    while let Some(undecodable_model) = queue.recv().await {
        let (name, namespace) =
            (undecodable_model.metadata.name.as_deref(), undecodable_model.metadata.namespace.as_deref());
        let diagnosis = undecodable_model.diagnosis();
        tracing::error!(model = name, namespace, "{}", diagnosis.message);
        let key = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        let announcement = Announcement {
            is_warning: true,
            reason: diagnosis.reason.as_str().to_owned(),
            message: diagnosis.message,
        };
        failures.reset(&key);
        while let Err(error) = tell(&cluster, &undecodable_model, &announcement).await {
            tracing::warn!(model = name, namespace, %error, "failed to tell that a model cannot be read");
            if failures.count(&key) >= TRIES {
                break;
            }
            tokio::time::sleep(failures.record_failure(&key)).await;
        }
    }
}

async fn tell(
    cluster: &Cluster,
    undecodable_model: &UndecodableModel,
    announcement: &Announcement,
) -> Result<(), CallError> {
    let told = cluster
        .write_conditions(&undecodable_model.metadata, &[undecodable_model.condition(Timestamp::now())])
        .await;
    match told {
        Err(error) if error.is_not_found() => return Ok(()),
        told => told?,
    }
    cluster.publish_about(undecodable_model.reference(), announcement).await
}
