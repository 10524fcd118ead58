//! Endpoints discovered by DNS, and while DNS fails.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_proto::rr::RecordType;

use crate::cluster::{Cluster, endpoints, ip, until};
use crate::fake_dns::DnsReply;
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

fn predictions<const N: usize>(pods: &[FakePredictor; N]) -> [usize; N] {
    pods.each_ref().map(FakePredictor::predictions)
}

#[tokio::test]
async fn a_model_is_looked_up_once() {
    let (cluster, pods) = Cluster::with_pods::<1>().await;
    let gateway = cluster.gateway().await;
    for _ in 0..50 {
        gateway.predict().await.class();
    }
    let asked = cluster.dns.queries();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        (asked[0].name.as_str(), asked[0].kind),
        ("demo-pods.default.svc.cluster.test.", RecordType::A)
    );
    assert_eq!((pods[0].descriptions(), pods[0].predictions(), pods[0].connections()), (1, 50, 1));
    let series =
        r#"canopy_gateway_discovery_endpoints{model="demo",model_namespace="default",version="1.0"} 1"#;
    assert!(gateway.metrics().contains(&format!("{series}\n")), "{}", gateway.metrics());
}

#[tokio::test]
async fn concurrent_first_requests_share_the_look_up() {
    let (cluster, _pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    let all = join_all((0..50).map(|_| gateway.predict())).await;
    assert!(all.iter().all(|answered| answered.class() == 1));
    assert_eq!(cluster.dns.queries().len(), 1);
}

#[tokio::test]
async fn requests_in_flight_are_spread_evenly() {
    let (cluster, pods) = Cluster::with_pods::<3>().await;
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(Duration::from_millis(200)));
    }
    let gateway = cluster.gateway().await;
    join_all((0..30).map(|_| gateway.predict()))
        .await
        .iter()
        .for_each(|answered| assert_eq!(answered.class(), 1));
    // Power of two choices keeps the load close to even, but not exactly.
    let asked = predictions(&pods);
    assert!(asked.iter().all(|asked| (7..=13).contains(asked)), "{asked:?}");
}

#[tokio::test]
async fn a_new_pod_is_used_and_a_removed_one_is_not() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    cluster.ready("demo", &[1]);
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    cluster.ready("demo", &[1, 2]);
    until("the new pod is asked", async || {
        gateway.predict().await.class();
        pods[1].predictions() > 0
    })
    .await;
    assert_eq!(pods[1].descriptions(), 0, "its response names a known revision");

    cluster.ready("demo", &[2]);
    pods[0].wait_disconnected().await;
    let before = pods[0].predictions();
    for _ in 0..20 {
        gateway.predict().await.class();
    }
    assert_eq!(pods[0].predictions(), before);
    assert_eq!(endpoints(&gateway), Some(1));
}

#[tokio::test]
async fn a_request_at_a_removed_pod_is_answered() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    cluster.ready("demo", &[1]);
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    pods[0].set_predict_behavior(Behavior::Slow(Duration::from_millis(300)));
    let vanishes = async {
        cluster.dns.wait_queries("demo-pods", 1).await;
        cluster.ready("demo", &[2]);
        cluster.dns.wait_queries("demo-pods", 2).await;
    };
    let (answered, ()) = tokio::join!(gateway.predict(), vanishes);
    assert_eq!((answered.class(), pods[0].predictions()), (1.into(), 2));
    pods[0].wait_disconnected().await;
}

#[tokio::test]
async fn a_response_too_large_for_a_packet_is_read_by_tcp() {
    let cluster = Cluster::new().await;
    let many: Vec<_> = (0..500_u16).map(|n| [127, 1, (n >> 8) as u8, n as u8].into()).collect();
    cluster.exists("demo", true);
    cluster.addresses("demo", DnsReply::Addresses(many, 30));
    let gateway = cluster.gateway().await;
    gateway.predict().await.problem(503, "predictor_unavailable");
    assert_eq!(endpoints(&gateway), Some(500));
    let over_tcp: Vec<_> = cluster.dns.queries().iter().map(|asked| asked.over_tcp).collect();
    assert_eq!(over_tcp[..2], [false, true]);
}

#[tokio::test]
async fn without_a_records_aaaa_records_are_used() {
    let cluster = Cluster::new().await;
    cluster.exists("demo", true);
    cluster.addresses("demo", DnsReply::Empty);
    let name = "demo-pods.default.svc.cluster.test";
    cluster.dns.set(name, RecordType::AAAA, DnsReply::Addresses(vec!["::1".parse().unwrap(), ip(1)], 30));
    let gateway = cluster.gateway().await;
    gateway.predict().await.problem(503, "predictor_unavailable");
    assert_eq!(endpoints(&gateway), Some(1), "only AAAA records with IPv6 addresses count");
    let kinds: Vec<_> =
        cluster.dns.queries().iter().filter(|q| q.name.starts_with(name)).map(|q| q.kind).collect();
    assert_eq!(kinds[..2], [RecordType::A, RecordType::AAAA]);
}

#[tokio::test]
async fn removed_pods_serve_for_a_grace_period_then_the_model_is_not_ready_then_unknown() {
    let (cluster, pods) = Cluster::with_pods::<1>().await;
    let mut settings = cluster.fast_refresh();
    settings.tuning.vanished_grace = Duration::from_millis(400);
    let gateway = Gateway::new(&settings).await;
    gateway.predict().await.class();
    let vanished = Instant::now();
    cluster.ready("demo", &[]);
    cluster.dns.wait_queries("demo-pods", 2).await;
    assert_eq!(gateway.predict().await.class(), 1);
    until("the pods are given up", async || gateway.predict().await.status == 503).await;
    assert!(vanished.elapsed() >= Duration::from_millis(400), "{:?}", vanished.elapsed());
    let problem = gateway.predict().await.problem(503, "not_ready");
    assert_eq!(problem.detail, "no predictor of model demo.default is ready");
    assert_eq!(endpoints(&gateway), Some(0));
    pods[0].wait_disconnected().await;

    cluster.exists("demo", false);
    until("the model is forgotten", async || gateway.predict().await.status == 404).await;
    gateway.predict().await.problem(404, "unknown_model");
    assert_eq!(endpoints(&gateway), None, "the gauge is removed");

    cluster.ready("demo", &[1]);
    until("the model is back", async || gateway.predict().await.status == 200).await;
}

#[tokio::test]
async fn removed_pods_that_refuse_connections_get_no_grace_period() {
    let (cluster, [pod]) = Cluster::with_pods::<1>().await;
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    let _dead = pod.stop().await;
    cluster.ready("demo", &[]);
    until("no pod is left", async || {
        gateway.predict().await;
        endpoints(&gateway) == Some(0)
    })
    .await;
    gateway.predict().await.problem(503, "not_ready");
}

#[tokio::test]
async fn while_dns_fails_the_last_endpoints_stay_in_use() {
    for failure in [DnsReply::ServFail, DnsReply::Timeout] {
        let (cluster, _pods) = Cluster::with_pods::<2>().await;
        let mut settings = cluster.fast_refresh();
        settings.tuning.vanished_grace = Duration::from_millis(1);
        let gateway = Gateway::new(&settings).await;
        gateway.predict().await.class();
        cluster.dns.set_all(Some(failure));
        cluster.dns.wait_queries("demo-pods", 3).await;
        for _ in 0..20 {
            gateway.predict().await.class();
        }
        assert_eq!(endpoints(&gateway), Some(2));
    }
}

#[tokio::test]
async fn without_a_dns_server_the_last_endpoints_stay_in_use() {
    let (cluster, _pods) = Cluster::with_pods::<2>().await;
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    let Cluster { dns, .. } = cluster;
    dns.wait_queries("demo-pods", 1).await;
    drop(dns);
    let started = Instant::now();
    until("some look-ups failed", async || {
        gateway.predict().await.class();
        started.elapsed() > Duration::from_millis(200)
    })
    .await;
    assert_eq!(endpoints(&gateway), Some(2));
}

#[tokio::test]
async fn a_failed_connection_forces_a_look_up() {
    let (cluster, [old, new]) = Cluster::with_pods::<2>().await;
    cluster.ready("demo", &[1]);
    // The next regular look-up is after the deadline of `until`.
    let mut settings = cluster.settings();
    settings.tuning.resolve_interval = Duration::from_mins(1);
    let gateway = Gateway::new(&settings).await;
    gateway.predict().await.class();
    let stopped = old.stop().await;
    cluster.ready("demo", &[2]);
    let started = Instant::now();
    gateway.predict().await.problem(503, "predictor_unavailable");
    until("the new pod answers", async || gateway.predict().await.status == 200).await;
    assert_eq!((new.predictions(), stopped.address.port()), (1, cluster.port()));
    // The regular look-up, the first forced one, and the others at least 225 ms apart.
    let forced_max = 2 + started.elapsed().as_millis() / 225 + 1;
    assert!(cluster.dns.query_count("demo-pods") as u128 <= forced_max, "{:?}", cluster.dns.queries());
}

#[tokio::test]
async fn made_up_names_do_not_delay_look_ups_of_models_in_use() {
    let (cluster, _pods) = Cluster::with_pods::<1>().await;
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    // More names than concurrent queries, and DNS does not respond to any.
    let names = (0..200).map(|number| format!("nothing-{number}")).collect::<Vec<_>>();
    for name in &names {
        cluster.addresses(name, DnsReply::Timeout);
    }
    let ask = async |name: &String| gateway.post(&format!("/api/models/{name}/predict"), ROW).await;
    let mut flood = std::pin::pin!(join_all(names.iter().map(ask)));
    let watched = async {
        until("the names wait for DNS", async || cluster.dns.query_count("nothing-") >= 32).await;
        cluster.dns.wait_queries("demo-pods", 5).await;
    };
    tokio::select! {
        biased;
        _ = &mut flood => panic!("every name had an answer"),
        () = watched => {}
    }
}

#[tokio::test]
async fn pods_missing_in_a_truncated_response_stay_in_use() {
    let (cluster, _pods) = Cluster::with_pods::<3>().await;
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    assert_eq!(endpoints(&gateway), Some(3));
    cluster.addresses("demo", DnsReply::TruncatedAddresses(vec![ip(2), ip(4)], 30));
    until("the new pod is known", async || endpoints(&gateway) == Some(4)).await;
    cluster.dns.wait_queries("demo-pods", 3).await;
    assert_eq!(endpoints(&gateway), Some(4));
    cluster.ready("demo", &[1, 2]);
    until("a whole answer counts alone", async || endpoints(&gateway) == Some(2)).await;
}
