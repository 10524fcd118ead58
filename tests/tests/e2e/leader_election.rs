//! Two operators, of which one leads.
//!
//! Comes in: an end of the leader. Goes out: another leader, in time, that does the work. Never: two at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use canopy_tests::kubernetes::kubectl;
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::{SYSTEM, exclusive, leader, measurements, pods};
use crate::model::{Model, small};

/// How long nobody may lead after a leader was lost without a word.
const TAKE_OVER: Duration = Duration::from_secs(20);

#[tokio::test]
async fn another_operator_takes_over_from_a_leader_that_is_killed() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-leader", async |namespace| {
        let first = until("a leader", TAKE_OVER, async || leader()).await?;
        for pod in pods("operator")? {
            let leads = measurements(&pod).await?.count("canopy_operator_leader", &[])?;
            ensure!(
                leads == u64::from(pod == first),
                "{pod} says that it leads {leads} times; {first} holds the Lease"
            );
        }
        let killed = Instant::now();
        kubectl(&["delete", "pod", &first, "--namespace", SYSTEM, "--grace-period", "0", "--force"])?;
        let second = until("another leader", TAKE_OVER, async || {
            let leader = leader()?;
            ensure!(leader != first, "{first} still leads");
            Ok(leader)
        })
        .await?;
        ensure!(killed.elapsed() < TAKE_OVER, "{second} took over after {:?}", killed.elapsed());
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        Model { namespace, name: "tiny" }.ready().map(drop)
    })
    .await
}
