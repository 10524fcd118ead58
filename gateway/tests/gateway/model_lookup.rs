//! Look-ups of models: which names are looked up, and what remains of unknown ones.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_proto::rr::RecordType;

use crate::cluster::{Cluster, endpoints, until};
use crate::fake_dns::DnsReply;
use crate::fake_predictor::FakePredictor;
use crate::gateway::{Gateway, ROW, settings};

#[tokio::test]
async fn a_model_without_ready_pods_is_unavailable_and_a_missing_one_is_unknown() {
    let cluster = Cluster::new().await;
    cluster.ready("demo", &[]);
    let gateway = cluster.gateway().await;
    gateway.predict().await.problem(503, "not_ready");
    gateway.get("/api/models/demo").await.problem(503, "not_ready");
    let french = http::Request::post("/api/predict").header("accept-language", "fr");
    let answered = gateway.send(french.body(ROW.into()).unwrap()).await;
    assert_eq!(answered.problem(503, "not_ready").error, "Service IA indisponible");
    gateway.post("/api/models/iris/predict", ROW).await.problem(404, "unknown_model");
    gateway.get("/api/models/iris").await.problem(404, "unknown_model");
    let names: Vec<_> = cluster.dns.queries().into_iter().map(|asked| asked.name).collect();
    let of_iris: Vec<_> = names.iter().filter(|name| name.contains("iris")).collect();
    let expected =
        ["iris-pods.default.svc.cluster.test.", "_http-canopy._tcp.iris.default.svc.cluster.test."];
    assert_eq!(of_iris, expected, "once, for both requests");
}

#[tokio::test]
async fn a_new_model_is_found_when_the_negative_cache_expires() {
    let (cluster, pods) = Cluster::with_pods::<1>().await;
    let gateway = cluster.gateway().await;
    cluster.addresses("demo", DnsReply::NxDomain);
    cluster.exists("demo", false);
    let started = Instant::now();
    gateway.predict().await.problem(404, "unknown_model");
    cluster.ready("demo", &[1]);
    until("it is found", async || gateway.predict().await.status == 200).await;
    let took = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(pods[0].predictions(), 1);
}

#[tokio::test]
async fn the_first_pod_of_a_model_is_found_soon() {
    let (cluster, _pods) = Cluster::with_pods::<1>().await;
    let gateway = cluster.gateway().await;
    cluster.ready("demo", &[]);
    gateway.predict().await.problem(503, "not_ready");
    cluster.ready("demo", &[1]);
    let started = Instant::now();
    until("it is found", async || gateway.predict().await.status == 200).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn while_dns_fails_a_model_is_unavailable_and_not_unknown() {
    let cluster = Cluster::new().await;
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    cluster.dns.set_all(Some(DnsReply::ServFail));
    gateway.predict().await.problem(503, "predictor_unavailable");
    gateway.get("/api/models/demo").await.problem(503, "predictor_unavailable");

    // Existence takes a second query, which fails here.
    cluster.dns.set_all(None);
    cluster.dns.set("_http-canopy._tcp.iris.default.svc.cluster.test", RecordType::SRV, DnsReply::ServFail);
    gateway.post("/api/models/iris/predict", ROW).await.problem(503, "predictor_unavailable");

    let mut settings = cluster.fast_refresh();
    settings.upstream_timeout = Duration::from_millis(300);
    let gateway = Gateway::new(&settings).await;
    cluster.dns.set_all(Some(DnsReply::Timeout));
    let started = Instant::now();
    gateway.predict().await.problem(503, "predictor_unavailable");
    let took = started.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&took), "{took:?}");

    let mut settings = cluster.fast_refresh();
    settings.dns_server = Some(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let gateway = Gateway::new(&settings).await;
    gateway.predict().await.problem(503, "predictor_unavailable");
}

#[tokio::test]
async fn a_dns_timeout_delays_the_first_request_by_five_seconds_at_most() {
    let cluster = Cluster::new().await;
    let gateway = cluster.gateway().await;
    cluster.dns.set_all(Some(DnsReply::Timeout));
    let started = Instant::now();
    gateway.predict().await.problem(503, "predictor_unavailable");
    let took = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn other_namespaces_and_invalid_names_are_not_looked_up() {
    let (cluster, _pods) = Cluster::with_pods::<1>().await;
    let gateway = cluster.gateway().await;
    for name in ["iris.shop", "iris.shop.svc", "IRIS", "a_b", "iris-pods", "iris-6f3a9c1e", "predictors", "-"]
    {
        gateway.post(&format!("/api/models/{name}/predict"), ROW).await.problem(404, "unknown_model");
    }
    assert_eq!(cluster.dns.queries(), []);
    let mut settings = cluster.settings();
    settings.namespaces = Some("*".to_owned());
    Gateway::new(&settings)
        .await
        .post("/api/models/iris.shop/predict", ROW)
        .await
        .problem(404, "unknown_model");
    assert_eq!(cluster.dns.queries()[0].name, "iris-pods.shop.svc.cluster.test.");
}

#[tokio::test]
async fn the_default_model_may_be_in_another_namespace() {
    let (cluster, pods) = Cluster::with_pods::<1>().await;
    pods[0].change_revision("00000001", |model| model["namespace"] = "shop".into());
    let at = DnsReply::Addresses(vec![crate::cluster::ip(1)], 30);
    cluster.dns.set("demo-pods.shop.svc.cluster.test", RecordType::A, at);
    let mut settings = cluster.settings();
    settings.default_model = "demo.shop".to_owned();
    let gateway = Gateway::new(&settings).await;
    gateway.predict().await.class();
    gateway.post("/api/models/demo.shop/predict", ROW).await.class();
}

#[tokio::test]
async fn a_static_model_is_not_looked_up() {
    let (cluster, _pods) = Cluster::with_pods::<1>().await;
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    (settings.cluster_domain, settings.dns_server) = (Some("cluster.test".into()), Some(cluster.dns.address));
    let gateway = Gateway::new(&settings).await;
    gateway.predict().await.class();
    assert_eq!((predictor.predictions(), cluster.dns.queries()), (1, vec![]));
    assert_eq!(endpoints(&gateway), None);
}

#[tokio::test]
async fn without_a_cluster_domain_dns_is_not_used() {
    let cluster = Cluster::new().await;
    for domain in [None, Some(String::new()), Some(" ".to_owned())] {
        let settings = canopy_gateway::settings::Settings { cluster_domain: domain, ..cluster.settings() };
        let gateway = Gateway::new(&settings).await;
        gateway.predict().await.problem(404, "unknown_model");
    }
    assert_eq!(cluster.dns.queries(), []);
}

#[tokio::test]
async fn unknown_names_leave_neither_tasks_nor_series() {
    let cluster = Cluster::new().await;
    let gateway = cluster.gateway().await;
    gateway.get("/api/models/none").await.problem(404, "unknown_model");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = (tasks(), gateway.metrics().lines().count());
    for hundred in 0..100 {
        let paths = (0..100).map(|one| format!("/api/models/model{hundred}x{one}"));
        let asked = join_all(paths.map(async |path| gateway.get(&path).await)).await;
        for answered in &asked {
            drop(answered.problem(404, "unknown_model"));
        }
    }
    assert!(cluster.dns.queries().len() >= 20_000);
    assert_eq!((tasks(), gateway.metrics().lines().count()), before);
}

#[tokio::test]
async fn an_idle_model_is_forgotten_and_found_again() {
    let (cluster, pods) = Cluster::with_pods::<1>().await;
    let mut settings = cluster.fast_refresh();
    settings.tuning.idle_ttl = Duration::ZERO;
    let gateway = Gateway::new(&settings).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    gateway.get("/api/models/none").await.problem(404, "unknown_model");
    let before = tasks();
    gateway.predict().await.class();
    assert_eq!(endpoints(&gateway), Some(1));
    until("it is forgotten", async || endpoints(&gateway).is_none()).await;
    pods[0].wait_disconnected().await;
    until("its task ends", async || tasks() == before).await;
    gateway.predict().await.class();
}
