//! Consistency of recording, feedback and series with disconnecting clients, unknown ids and missing rows.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join_all, poll_fn};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, TransactionTrait as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::cluster::{Cluster, endpoints};
use crate::database_server::{DatabaseServer, Kind};
use crate::fake_dns::DnsReply;
use crate::fake_predictor::FakePredictor;
use crate::feedback::recording;
use crate::gateway::{Gateway, ROW};
use crate::recording::{SOON, count, until};

const DROPPED: &str = "canopy_gateway_records_dropped_total";

async fn setup() -> (TempDir, FakePredictor, Gateway, DatabaseConnection) {
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let path = folder.path().join("canopy.db");
    let gateway = Gateway::new(&recording(&predictor, &path)).await;
    let database = Box::pin(Database::connect(format!("sqlite://{}", path.display()))).await.unwrap();
    (folder, predictor, gateway, database)
}

/// How much feedback was counted.
fn feedback_counted(gateway: &Gateway) -> u64 {
    let series = |result| {
        format!(
            r#"canopy_feedback_total{{model="demo",model_namespace="default",result="{result}",version="1.0"}}"#
        )
    };
    gateway.metric(&series("correct")) + gateway.metric(&series("wrong"))
}

/// Polls a request `times` times, then drops it; `None` if it was not ready.
async fn cancel_after<T>(times: usize, asked: impl Future<Output = T>) -> Option<T> {
    let (mut asked, mut waited) = (pin!(asked), 0);
    poll_fn(|context| {
        if waited == times {
            return Poll::Ready(None);
        }
        waited += 1;
        asked.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn feedback_is_stored_and_counted_whenever_the_client_disconnects() {
    let (_folder, _predictor, gateway, database) = setup().await;
    let mut stays = 0;
    for waits in 1..200 {
        let id = gateway.predict_id().await;
        // A written prediction leaves one code path less.
        gateway.get(&format!("/api/predictions/{id}")).await.json();
        if cancel_after(waits, gateway.send_feedback(&id, r#"{"actual":1}"#)).await.is_some() {
            stays += 1;
        }
        if stays == 5 {
            break;
        }
    }
    assert_eq!(stays, 5, "a truth takes more than 200 waits");
    until("what is stored to be counted", async || {
        let stored = count(&database, "prediction_feedback").await;
        stored >= 5 && stored == feedback_counted(&gateway)
    })
    .await;
}

async fn feedback_stored_after_its_timeout_is_counted_once(kind: Kind) {
    let server = DatabaseServer::start(kind).await;
    let predictor = FakePredictor::of("demo").await;
    let mut settings = crate::gateway::settings(&[("demo", &predictor)]);
    settings.database_url = Some(server.url());
    settings.recording.tuning.query_timeout = Duration::from_secs(1);
    let gateway = Gateway::new(&settings).await;
    let id = gateway.predict_id().await;
    until("the answer to be there", async || {
        gateway.get(&format!("/api/predictions/{id}")).await.status == 200
    })
    .await;
    let database = server.connect().await;
    // Concurrent feedback on the same prediction waits for this transaction; reads do not.
    let other = database.begin().await.unwrap();
    let bytes = match kind {
        Kind::MariaDb => format!("x'{}'", id.replace('-', "")),
        Kind::Postgres => format!("decode('{}', 'hex')", id.replace('-', "")),
    };
    let sql = format!("INSERT INTO prediction_feedback (id, actual, given_at) VALUES ({bytes}, '0', 0)");
    other.execute_unprepared(&sql).await.unwrap();
    gateway.send_feedback(&id, r#"{"actual":1}"#).await.problem(503, "store_unavailable");
    assert_eq!(feedback_counted(&gateway), 0);
    other.rollback().await.unwrap();
    until("the truth to be stored", async || count(&database, "prediction_feedback").await == 1).await;
    gateway.send_feedback(&id, r#"{"actual":0}"#).await.problem(409, "feedback_given");
    until("it to be counted", async || feedback_counted(&gateway) == 1).await;
    gateway.send_feedback(&id, r#"{"actual":1}"#).await.problem(409, "feedback_given");
    assert_eq!(feedback_counted(&gateway), 1);
}

#[tokio::test]
async fn feedback_stored_after_its_timeout_is_counted_once_with_mariadb() {
    feedback_stored_after_its_timeout_is_counted_once(Kind::MariaDb).await;
}

#[tokio::test]
async fn feedback_stored_after_its_timeout_is_counted_once_with_postgresql() {
    feedback_stored_after_its_timeout_is_counted_once(Kind::Postgres).await;
}

#[tokio::test]
async fn requests_for_unknown_ids_displace_no_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    settings.recording.tuning.queue_capacity = 20;
    settings.recording.tuning.query_timeout = SOON;
    let gateway = Gateway::new(&settings).await;
    let database = Box::pin(Database::connect(format!("sqlite://{}", path.display()))).await.unwrap();
    let mut answers = 0;
    for _ in 0..5 {
        // One prediction is queued, so each of these ids could be as well.
        gateway.predict_id().await;
        let flood = join_all((0..200).map(async |number| {
            let id = Uuid::now_v7();
            let path = format!("/api/predictions/{id}");
            if number % 2 == 0 {
                gateway.get(&path).await.problem(404, "unknown_prediction");
            } else {
                gateway
                    .send_feedback(&id.to_string(), r#"{"actual":1}"#)
                    .await
                    .problem(404, "unknown_prediction");
            }
        }));
        let predicts = async {
            for _ in 0..15 {
                gateway.predict_id().await;
            }
        };
        tokio::join!(flood, predicts);
        answers += 16;
        // The queue has room for the predictions of one round, however slow the database is.
        until("the predictions to be written", async || count(&database, "predictions").await == answers)
            .await;
    }
    gateway.close(SOON).await;
    assert_eq!(gateway.metric(DROPPED), 0);
    assert_eq!(count(&database, "predictions").await, answers);
}

/// The ids of all pages, and the number of pages.
async fn pages(gateway: &Gateway, filter: &str) -> (Vec<String>, usize) {
    let (mut ids, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = gateway.get(&format!("/api/predictions?limit=2{filter}{after}")).await.json();
        let found = page["predictions"].as_array().unwrap();
        ids.extend(found.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { return (ids, pages) };
        after = format!("&after={next}");
    }
}

#[tokio::test]
async fn a_list_continues_after_predictions_without_revision() {
    let (_folder, _predictor, gateway, database) = setup().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(gateway.predict_id().await);
    }
    ids.reverse();
    gateway.get(&format!("/api/predictions/{}", ids[0])).await.json();
    let hex = |id: &String| id.replace('-', "");
    // One row of the first page, and all of the second.
    for lost in [&ids[1], &ids[2], &ids[3]] {
        let sql = format!("UPDATE predictions SET revision = 'gone' WHERE id = x'{}'", hex(lost));
        database.execute_unprepared(&sql).await.unwrap();
    }
    let kept: Vec<_> = [0, 4, 5, 6, 7].map(|place: usize| ids[place].clone()).into();
    for filter in ["", "&model=demo"] {
        assert_eq!(pages(&gateway, filter).await, (kept.clone(), 5), "{filter}");
    }
}

#[tokio::test]
async fn a_list_of_several_namespaces_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    settings.namespaces = Some("default,shop,empty".to_owned());
    let gateway = Gateway::new(&settings).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(gateway.predict_id().await);
    }
    gateway.get(&format!("/api/predictions/{}", ids[6])).await.json();
    let database = Box::pin(Database::connect(format!("sqlite://{}", path.display()))).await.unwrap();
    let moved = |id: &String, namespace: &str| {
        format!("UPDATE predictions SET namespace = '{namespace}' WHERE id = x'{}'", id.replace('-', ""))
    };
    database
        .execute_unprepared("INSERT INTO prediction_revisions SELECT 'shop', model, revision, version, classes FROM prediction_revisions")
        .await
        .unwrap();
    for (id, namespace) in [(&ids[1], "shop"), (&ids[4], "shop"), (&ids[2], "secret"), (&ids[5], "secret")] {
        database.execute_unprepared(&moved(id, namespace)).await.unwrap();
    }
    let shown: Vec<_> = [6, 4, 3, 1, 0].map(|place: usize| ids[place].clone()).into();
    assert_eq!(pages(&gateway, "").await, (shown, 3));
    assert_eq!(pages(&gateway, "&model=demo.shop").await.0, [ids[4].clone(), ids[1].clone()]);
    settings.namespaces = Some("*".to_owned());
    let every = Gateway::new(&settings).await.get("/api/predictions").await.json();
    assert_eq!(every["predictions"].as_array().map(Vec::len), Some(5), "two have no revision row");
    assert_eq!(every["next"], Value::Null);
}

#[tokio::test]
async fn the_series_of_a_model_are_removed_when_it_is_gone_and_kept_while_it_is_idle() {
    let cluster = Cluster::new().await;
    let (_iris, _wine) = (cluster.pod("iris", 1).await, cluster.pod("wine", 2).await);
    cluster.ready("iris", &[1]);
    cluster.ready("wine", &[2]);
    let mut settings = cluster.fast_refresh();
    settings.tuning.idle_ttl = Duration::ZERO;
    settings.tuning.vanished_grace = Duration::ZERO;
    settings.tuning.series_check_interval = Duration::from_millis(10);
    settings.tuning.series_retention = Duration::from_millis(100);
    let gateway = Gateway::new(&settings).await;
    for model in ["iris", "wine"] {
        gateway.post(&format!("/api/models/{model}/predict"), ROW).await.class();
    }
    until("both to be forgotten", async || endpoints(&gateway).is_none()).await;
    let has = |model: &str| gateway.metrics().contains(&format!("model=\"{model}\""));
    assert!(has("iris") && has("wine"));
    cluster.exists("iris", false);
    cluster.addresses("iris", DnsReply::NxDomain);
    until("the series to go", async || !has("iris")).await;
    assert!(has("wine"), "the model is only idle");
    let asked = cluster.dns.query_count("wine-pods.");
    cluster.dns.wait_queries("wine-pods.", 20).await;
    assert!(has("wine") && cluster.dns.query_count("wine-pods.") >= asked + 20);
    // A DNS failure does not mean that a model is gone.
    cluster.dns.set_all(Some(DnsReply::ServFail));
    cluster.dns.wait_queries("wine-pods.", 20).await;
    assert!(has("wine"));
    cluster.dns.set_all(None);
    cluster.ready("iris", &[1]);
    gateway.post("/api/models/iris/predict", ROW).await.class();
    let counted = r#"canopy_gateway_requests_total{code="200",model="iris",model_namespace="default",reason="ok",version="1.0"}"#;
    assert_eq!(gateway.metric(counted), 1, "{}", json!(gateway.metrics()));
}
