//! Tells people of models that this operator cannot decode: in the log, in an Event, and in the condition Ready.
//!
//! Invariant: each such model is told once for each change of it; a call that fails is tried again a few times.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::api::call::CallError;
use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, Growth};
use crate::caches::undecodable::Faulty;
use crate::status::events::Announcement;

const TRIES: u32 = 5;
/// How tries slow down.
const FAILURES: Growth = Growth {
    free: 0,
    first: Duration::from_secs(1),
    most: Duration::from_secs(10),
    forget: Duration::from_mins(1),
};

/// Tells of each, until no more can come.
pub async fn run(mut news: mpsc::Receiver<Faulty>, cluster: Cluster) {
    let failures = Backoff::new(FAILURES);
    while let Some(faulty) = news.recv().await {
        let (name, namespace) = (faulty.metadata.name.as_deref(), faulty.metadata.namespace.as_deref());
        let trouble = faulty.trouble();
        tracing::error!(model = name, namespace, "{}", trouble.message);
        let key = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        let announcement = Announcement {
            is_warning: true,
            reason: trouble.reason.as_str().to_owned(),
            message: trouble.message,
        };
        failures.clear(&key);
        while let Err(error) = tell(&cluster, &faulty, &announcement).await {
            tracing::warn!(model = name, namespace, %error, "failed to tell that a model cannot be read");
            if failures.count(&key) >= TRIES {
                break;
            }
            tokio::time::sleep(failures.strike(&key)).await;
        }
    }
}

async fn tell(cluster: &Cluster, faulty: &Faulty, announcement: &Announcement) -> Result<(), CallError> {
    let told = cluster.report_conditions(&faulty.metadata, &[faulty.condition(Timestamp::now())]).await;
    match told {
        Err(error) if error.is_not_found() => return Ok(()),
        told => told?,
    }
    cluster.publish_about(faulty.reference(), announcement).await
}
