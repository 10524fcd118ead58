//! The lists of models of several namespaces.

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bench::{Bench, SYNTHETIC};
use super::server::Disturbance;
use super::world::key;
use crate::controller::discovery_service;

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_calls_hang_or_fail_delays_no_other() {
    for how in [Disturbance::HangsBefore, Disturbance::FailsBefore(500)] {
        let mut bench = Bench::new(SYNTHETIC);
        let mut other = bench.world().get("predictormodels", "iris").unwrap().clone();
        other["metadata"] = json!({"name": "iris"});
        bench.world().store(key("predictormodels", "slow", "iris"), other);
        bench.watch(&["services"]);
        bench.disturb("GET", "namespaces/slow/services", 3, how);
        let (sender, news) = mpsc::channel(10);
        let keeping = tokio::spawn(discovery_service::run(news, bench.cluster()));
        let began = Instant::now();
        for namespace in ["slow", "slow", "shop"] {
            sender.send(namespace.to_owned()).await.unwrap();
        }
        let is_kept = |namespace: &str| {
            let world = bench.world();
            world.objects.contains_key(&key("services", namespace, "predictors"))
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
