//! Two gateways that share a `MariaDB` or `PostgreSQL` server, also while it is unavailable.

use std::time::{Duration, Instant};

use canopy_gateway::settings::Settings;
use futures_util::future::join_all;
use serde_json::json;

use crate::database_server::{DatabaseServer, Kind};
use crate::fake_predictor::FakePredictor;
use crate::gateway::{Gateway, settings};
use crate::recording::{SOON, count, until};

const DROPPED: &str = "canopy_gateway_records_dropped_total";
/// The capacity of the queue in tests that fill it.
const QUEUE: usize = 40;
/// Longer than any prediction takes, and less than the time the database is unavailable.
const QUICK: Duration = Duration::from_secs(5);

fn at(server: &DatabaseServer, predictor: &FakePredictor) -> Settings {
    let mut settings = settings(&[("demo", predictor)]);
    settings.database_url = Some(server.url());
    settings.recording.tuning.query_timeout = Duration::from_secs(1);
    settings
}

fn feedback_counted(gateways: &[&Gateway], result: &str) -> u64 {
    let series = format!(
        r#"canopy_feedback_total{{model="demo",model_namespace="default",result="{result}",version="1.0"}}"#
    );
    gateways.iter().map(|gateway| gateway.metric(&series)).sum()
}

/// Sends feedback to one gateway about a prediction of another, once it is written.
async fn send_feedback_when_written(gateway: &Gateway, id: &str) {
    until("the answer to be there", async || {
        let told = gateway.send_feedback(id, r#"{"actual":1}"#).await;
        assert!([202, 404].contains(&told.status), "{told:?}");
        told.status == 202
    })
    .await;
}

async fn two_gateways_share_everything(kind: Kind) {
    let server = DatabaseServer::start(kind).await;
    let predictor = FakePredictor::of("demo").await;
    predictor.change_revision("00000001", |model| model["classes"] = json!(["nicht größer", "größer"]));
    let mut settings = at(&server, &predictor);
    // The server is busy in this test, not unavailable.
    settings.recording.tuning.query_timeout = SOON;
    // Both start with an empty database and create its tables.
    let (one, other) = tokio::join!(Gateway::new(&settings), Gateway::new(&settings));

    let id = one.predict_id().await;
    send_feedback_when_written(&other, &id).await;
    one.send_feedback(&id, r#"{"actual":1}"#).await.problem(409, "feedback_given");
    for gateway in [&one, &other] {
        let shown = gateway.get(&format!("/api/predictions/{id}")).await.json();
        assert_eq!(shown["prediction"]["label"], "größer", "{shown}");
        assert_eq!(shown["feedback"]["actual"], 1, "{shown}");
        assert_eq!(
            gateway.get("/api/predictions?limit=1&model=demo").await.json()["predictions"],
            json!([shown])
        );
        assert_eq!(gateway.get("/api/users").await.json()["users"][1]["name"], "Bob");
    }

    // Concurrent feedback on one prediction is stored and counted once.
    let contested = one.predict_id().await;
    one.get(&format!("/api/predictions/{contested}")).await.json();
    let tells = (0..20).map(|turn| {
        let gateway = if turn % 2 == 0 { &one } else { &other };
        gateway.send_feedback(&contested, if turn % 3 == 0 { r#"{"actual":1}"# } else { r#"{"actual":0}"# })
    });
    let statuses: Vec<_> = join_all(tells).await.iter().map(|told| told.status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 202).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 409).count(), 19, "{statuses:?}");
    assert_eq!(feedback_counted(&[&one, &other], "correct") + feedback_counted(&[&one, &other], "wrong"), 2);

    // Predictions made just before shutdown are stored, each once.
    for gateway in [&one, &other] {
        for _ in 0..50 {
            gateway.predict_id().await;
        }
        gateway.close(SOON).await;
        assert_eq!(gateway.metric(DROPPED), 0);
    }
    assert_eq!(count(&server.connect().await, "predictions").await, 102);
}

#[tokio::test]
async fn two_gateways_share_everything_by_mariadb() {
    two_gateways_share_everything(Kind::MariaDb).await;
}

#[tokio::test]
async fn two_gateways_share_everything_by_postgresql() {
    two_gateways_share_everything(Kind::Postgres).await;
}

/// A gateway, and how many predictions it has made.
struct Sent {
    gateway: Gateway,
    answers: u64,
}

impl Sent {
    async fn predict(&mut self, times: u64) {
        for _ in 0..times {
            let began = Instant::now();
            self.gateway.predict_id().await;
            assert!(began.elapsed() < QUICK, "a prediction took {:?}", began.elapsed());
            self.answers += 1;
        }
    }

    /// Waits until the database accepts predictions again; returns the id of a stored one.
    async fn recovers(&mut self) -> String {
        let id = self.gateway.predict_id().await;
        self.answers += 1;
        let path = format!("/api/predictions/{id}");
        // A prediction that met a full queue is never stored, but a later one is.
        let mut known = id;
        until("answers to be recorded again", async || {
            if self.gateway.get(&path).await.status == 200 {
                return true;
            }
            known = self.gateway.predict_id().await;
            self.answers += 1;
            self.gateway.get(&format!("/api/predictions/{known}")).await.status == 200
        })
        .await;
        known
    }

    /// Waits until each prediction is stored or counted as dropped.
    async fn adds_up(&self, server: &DatabaseServer) {
        let database = server.connect().await;
        until("the last answers to be written", async || {
            count(&database, "predictions").await + self.gateway.metric(DROPPED) == self.answers
        })
        .await;
    }
}

async fn an_unavailable_database_delays_no_prediction(kind: Kind) {
    let mut server = DatabaseServer::start(kind).await;
    let predictor = FakePredictor::of("demo").await;
    let mut settings = at(&server, &predictor);
    settings.recording.tuning.queue_capacity = QUEUE;
    settings.recording.tuning.batch_size = 7;
    let mut sent = Sent { gateway: Gateway::new(&settings).await, answers: 0 };
    sent.predict(20).await;
    let known = sent.recovers().await;
    sent.adds_up(&server).await;
    assert_eq!(sent.gateway.metric(DROPPED), 0);

    // The server hangs.
    server.set_stopped(true);
    sent.predict(150).await;
    assert!(sent.gateway.metric(DROPPED) > 0, "the queue takes {QUEUE}");
    let problem =
        sent.gateway.send_feedback(&known, r#"{"actual":1}"#).await.problem(503, "store_unavailable");
    assert!(!problem.detail.contains("127.0.0.1"), "{problem:?}");
    server.set_stopped(false);
    sent.recovers().await;
    sent.adds_up(&server).await;

    // The server is killed.
    let dropped = sent.gateway.metric(DROPPED);
    server.kill();
    sent.predict(150).await;
    assert!(sent.gateway.metric(DROPPED) > dropped, "the queue takes {QUEUE}");
    sent.gateway.send_feedback(&known, r#"{"actual":1}"#).await.problem(503, "store_unavailable");
    server.restart().await;
    sent.recovers().await;
    sent.adds_up(&server).await;
    assert_eq!(sent.gateway.send_feedback(&known, r#"{"actual":1}"#).await.status, 202);
    assert_eq!(feedback_counted(&[&sent.gateway], "correct"), 1);

    // A gateway that starts meanwhile serves, and records when the server returns.
    server.kill();
    let mut late = Sent { gateway: Gateway::new(&settings).await, answers: sent.answers };
    late.predict(5).await;
    late.gateway.get("/api/users").await.problem(503, "store_unavailable");
    // A gateway that stops meanwhile counts what it drops.
    sent.predict(3).await;
    let dropped = sent.gateway.metric(DROPPED);
    sent.gateway.close(Duration::from_millis(200)).await;
    assert_eq!(sent.gateway.metric(DROPPED), dropped + 3);
    server.restart().await;
    let database = server.connect().await;
    let stored_before = sent.answers - sent.gateway.metric(DROPPED);
    until("what was answered meanwhile to be written", async || {
        count(&database, "predictions").await == stored_before + 5
    })
    .await;
    assert_eq!(late.gateway.metric(DROPPED), 0);
}

#[tokio::test]
async fn an_unavailable_mariadb_delays_no_prediction() {
    an_unavailable_database_delays_no_prediction(Kind::MariaDb).await;
}

#[tokio::test]
async fn an_unavailable_postgresql_delays_no_prediction() {
    an_unavailable_database_delays_no_prediction(Kind::Postgres).await;
}
