//! The list of models in a cluster.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::cluster::{Cluster, endpoints, ip, until};
use crate::fake_dns::DnsReply;
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, settings};

impl Cluster {
    /// Sets the reply about the models of a namespace.
    fn lists(&self, namespace: &str, say: DnsReply) {
        let name = format!("_http-canopy._tcp.predictors.{namespace}.svc.cluster.test");
        self.dns.set(&name, RecordType::SRV, say);
    }
}

fn targets(namespace: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}.predictors.{namespace}.svc.cluster.test.")).collect()
}

/// The names of listed models, unavailable models, and incomplete namespaces.
async fn listed(gateway: &Gateway) -> Value {
    let list = gateway.get("/api/models").await.json();
    let models = list["models"].as_array().unwrap().iter();
    let names: Vec<_> =
        models.map(|model| format!("{}.{}", model["model"], model["namespace"]).replace('"', "")).collect();
    let incomplete = list["incomplete"].as_array().unwrap().iter();
    let incomplete: Vec<_> = incomplete.map(|gap| json!([gap["namespace"], gap["reason"]])).collect();
    json!([names, list["unavailable"], incomplete])
}

#[tokio::test]
async fn models_with_pods_in_the_gateways_namespace_are_listed() {
    let cluster = Cluster::new().await;
    let _pods = [cluster.pod("iris", 1).await, cluster.pod("iris", 2).await, cluster.pod("wine", 3).await];
    cluster.ready("iris", &[1, 2]);
    cluster.ready("wine", &[3]);
    cluster.ready("late", &[]);
    // One record per pod, and pods that are no predictors.
    let names = ["wine", "iris", "iris", "late", "10-0-0-7", "x--"];
    cluster.lists("default", DnsReply::Targets(targets("default", &names)));
    let gateway = cluster.gateway().await;
    assert_eq!(listed(&gateway).await, json!([["iris.default", "wine.default"], ["late.default"], []]));
    cluster.lists("default", DnsReply::NxDomain);
    assert_eq!(listed(&gateway).await, json!([[], [], []]));
}

#[tokio::test]
async fn static_models_are_listed_once_and_not_looked_up() {
    let cluster = Cluster::new().await;
    let (demo, _iris) = (FakePredictor::of("demo").await, cluster.pod("iris", 1).await);
    cluster.ready("iris", &[1]);
    cluster.lists("default", DnsReply::Targets(targets("default", &["demo", "iris"])));
    let gateway = Gateway::new(&canopy_gateway::settings::Settings {
        predictors: settings(&[("demo", &demo)]).predictors,
        ..cluster.settings()
    })
    .await;
    assert_eq!(listed(&gateway).await, json!([["demo.default", "iris.default"], [], []]));
    assert_eq!(cluster.dns.query_count("demo-pods"), 0);
}

#[tokio::test]
async fn a_truncated_list_is_reported() {
    let cluster = Cluster::new().await;
    let _pod = cluster.pod("iris", 1).await;
    cluster.ready("iris", &[1]);
    cluster.lists("default", DnsReply::TruncatedTargets(targets("default", &["iris"])));
    let gateway = cluster.gateway().await;
    assert_eq!(listed(&gateway).await, json!([["iris.default"], [], [["default", "cut"]]]));
    cluster.lists("default", DnsReply::Targets(targets("default", &["iris"])));
    assert_eq!(listed(&gateway).await, json!([["iris.default"], [], []]));
}

#[tokio::test]
async fn a_list_too_long_for_a_packet_is_complete() {
    let cluster = Cluster::new().await;
    let names: Vec<_> = (0..200).map(|number| format!("model{number:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    cluster.lists("default", DnsReply::Targets(targets("default", &names)));
    let gateway = cluster.gateway().await;
    let [models, unavailable, incomplete] = serde_json::from_value(listed(&gateway).await).unwrap();
    assert_eq!((models, incomplete), (json!([]), json!([])));
    let expected: Vec<_> = names.iter().map(|name| format!("{name}.default")).collect();
    assert_eq!(unavailable, json!(expected), "none of the models exists");
}

#[tokio::test]
async fn a_namespace_without_a_dns_response_is_reported() {
    let cluster = Cluster::new().await;
    let pod = cluster.pod("iris", 1).await;
    pod.change_revision("00000001", |model| model["namespace"] = json!("shop"));
    cluster.dns.set("iris-pods.shop.svc.cluster.test", RecordType::A, DnsReply::Addresses(vec![ip(1)], 5));
    cluster.lists("shop", DnsReply::Targets(targets("shop", &["iris"])));
    let mut settings = cluster.settings();
    settings.namespaces = Some("default,shop".to_owned());
    let gateway = Gateway::new(&settings).await;
    for failure in [DnsReply::ServFail, DnsReply::Timeout] {
        cluster.lists("default", failure);
        let started = Instant::now();
        assert_eq!(listed(&gateway).await[2], json!([["default", "no_answer"]]));
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    cluster.lists("default", DnsReply::ServFail);
    assert_eq!(listed(&gateway).await, json!([["iris.shop"], [], [["default", "no_answer"]]]));
}

#[tokio::test]
async fn with_all_namespaces_the_list_is_reported_as_incomplete() {
    let cluster = Cluster::new().await;
    let mut settings = cluster.settings();
    settings.namespaces = Some("*".to_owned());
    settings.default_model = "demo.shop".to_owned();
    let list = Gateway::new(&settings).await.get("/api/models").await.json();
    let gap = json!({
        "namespace": "*", "reason": "unlisted",
        "detail": "DNS cannot enumerate namespaces; only namespaces named in CANOPY_NAMESPACES are listed",
    });
    assert_eq!(list, json!({"models": [], "unavailable": [], "incomplete": [gap]}));
    let mut names: Vec<_> = cluster.dns.queries().into_iter().map(|asked| asked.name).collect();
    names.sort();
    let expected =
        ["default", "shop"].map(|ns| format!("_http-canopy._tcp.predictors.{ns}.svc.cluster.test."));
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_hung_pod_delays_the_list_by_two_seconds_at_most() {
    let cluster = Cluster::new().await;
    let (_iris, wine) = (cluster.pod("iris", 1).await, cluster.pod("wine", 2).await);
    cluster.ready("iris", &[1]);
    cluster.ready("wine", &[2]);
    wine.set_describe_behavior(Behavior::Hang);
    cluster.lists("default", DnsReply::Targets(targets("default", &["iris", "wine"])));
    let gateway = cluster.gateway().await;
    let started = Instant::now();
    assert_eq!(listed(&gateway).await, json!([["iris.default"], ["wine.default"], []]));
    let took = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(wine.address, SocketAddr::new(ip(2), cluster.port()));
}

#[tokio::test]
async fn a_thousand_lists_share_one_description_per_pod_and_watch_no_model() {
    let cluster = Cluster::new().await;
    let pods = [cluster.pod("iris", 1).await, cluster.pod("wine", 2).await];
    cluster.ready("iris", &[1]);
    cluster.ready("wine", &[2]);
    cluster.lists("default", DnsReply::Targets(targets("default", &["iris", "wine"])));
    let mut settings = cluster.fast_refresh();
    settings.tuning.listing_ttl = Duration::from_hours(1);
    let gateway = Gateway::new(&settings).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let first = gateway.get("/api/models").await;
    assert_eq!(first.header("content-type"), "application/json");
    let names: Vec<_> =
        first.json()["models"].as_array().unwrap().iter().map(|m| m["model"].clone()).collect();
    assert_eq!(names, ["iris", "wine"]);
    // On a busy machine the resolver may send a query twice.
    let questions = || {
        ["_http-canopy._tcp.predictors.", "iris-pods.", "wine-pods."]
            .map(|name| cluster.dns.query_count(name))
    };
    let asked = questions();
    for list in join_all((0..1000).map(|_| gateway.get("/api/models"))).await {
        assert_eq!(list.body, first.body);
    }
    assert_eq!(pods.each_ref().map(FakePredictor::descriptions), [1, 1]);
    let no_more = |when: &str| {
        for (before, after) in asked.into_iter().zip(questions()) {
            assert!(after <= before + 1, "{} queries for one name {when}", after - before);
        }
    };
    no_more("for 1000 lists");
    // A watched model has a gauge, and a task apart from that of its pod's connection.
    assert_eq!(endpoints(&gateway), None);
    drop(pods);
    until("nothing goes on", async || tasks() <= before).await;
    no_more("after the lists");
}
