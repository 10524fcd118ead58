//! Discovery Services of several namespaces.

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fake_api_server::Fault;
use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};
use crate::controller::discovery_service;

#[tokio::test(start_paused = true)]
async fn a_namespace_with_failing_or_hanging_calls_does_not_delay_others() {
    for how in [Fault::HangsBefore, Fault::FailsBefore(500)] {
        let mut harness = Harness::new(SYNTHETIC);
        let mut other = harness.cluster().get("predictormodels", "iris").unwrap().clone();
        other["metadata"] = json!({"name": "iris"});
        harness.cluster().store(key("predictormodels", "slow", "iris"), other);
        harness.watch(&["services"]);
        harness.inject_fault("GET", "namespaces/slow/services", 3, how);
        let (sender, news) = mpsc::channel(10);
        let keeping = tokio::spawn(discovery_service::run(news, harness.apply_cluster()));
        let began = Instant::now();
        for namespace in ["slow", "slow", "shop"] {
            sender.send(namespace.to_owned()).await.unwrap();
        }
        let is_kept = |namespace: &str| {
            let cluster = harness.cluster();
            cluster.objects.contains_key(&key("services", namespace, "predictors"))
        };
        while !is_kept("shop") {
            tokio::task::yield_now().await;
        }
        assert_eq!(began.elapsed().as_secs(), 0);
        assert!(!is_kept("slow"));
        while !is_kept("slow") {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
        keeping.abort();
    }
}
