//! Recording of predictions: what is recorded, for how long, and that shutdown loses nothing.

use std::path::Path;
use std::time::Duration;

use canopy_gateway::settings::Settings;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, FromQueryResult as _, Statement};
use serde_json::json;

use crate::fake_predictor::FakePredictor;
use crate::feedback::recording;
use crate::gateway::{Gateway, ROW};

const DROPPED: &str = "canopy_gateway_records_dropped_total";
/// A deadline for background work.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The number of rows of `table`.
pub(crate) async fn count(database: &DatabaseConnection, table: &str) -> u64 {
    #[derive(sea_orm::FromQueryResult)]
    struct Count {
        found: i64,
    }
    let sql = format!("SELECT count(*) AS found FROM {table}");
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let found = Count::find_by_statement(statement).one(database).await.unwrap().unwrap();
    found.found.try_into().unwrap()
}

async fn open(path: &Path) -> DatabaseConnection {
    Box::pin(Database::connect(format!("sqlite://{}", path.display()))).await.unwrap()
}

/// Polls a condition.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited {SOON:?} for {what}");
}

#[tokio::test]
async fn features_are_recorded_only_if_enabled() {
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &folder.path().join("canopy.db"));
    let gateway = Gateway::new(&settings).await;
    let without = gateway.predict_id().await;
    assert!(gateway.get(&format!("/api/predictions/{without}")).await.json().get("features").is_none());
    settings.recording.features = true;
    let gateway = Gateway::new(&settings).await;
    let with = gateway.predict_id().await;
    let shown = gateway.get(&format!("/api/predictions/{with}")).await.json();
    assert_eq!(shown["features"], json!([1.0, 2.0, -0.5, 0.3]));
    let rows = r#"{"instances":[[1,2,0,0],[-1,-2,0,0]]}"#;
    let many = gateway.post("/api/predict", rows).await.header("canopy-prediction-id").to_owned();
    let shown = gateway.get(&format!("/api/predictions/{many}")).await.json();
    assert_eq!(shown["features"], json!([[1.0, 2.0, 0.0, 0.0], [-1.0, -2.0, 0.0, 0.0]]));
}

#[tokio::test]
async fn with_a_ratio_each_prediction_is_recorded_or_its_feedback_gets_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &folder.path().join("canopy.db"));
    settings.recording.ratio = "0.5".parse().unwrap();
    let gateway = Gateway::new(&settings).await;
    let (mut recorded, mut not) = (0, 0);
    for _ in 0..40 {
        let id = gateway.predict_id().await;
        let told = gateway.send_feedback(&id, r#"{"actual":1}"#).await;
        if told.status == 202 {
            recorded += 1;
        } else {
            let problem = told.problem(404, "not_recorded");
            assert!(
                problem.detail.ends_with("was not recorded: only a share of 0.5 is recorded"),
                "{problem:?}"
            );
            not += 1;
        }
    }
    // Fails by chance once in 10^12 runs.
    assert!(recorded > 0 && not > 0, "{recorded} recorded, {not} not");
    assert_eq!(count(&open(&folder.path().join("canopy.db")).await, "predictions").await, recorded);
    assert_eq!(gateway.metric(DROPPED), 0);
}

#[tokio::test]
async fn queued_predictions_are_written_at_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    // The timer would not write the batch.
    settings.recording.tuning.batch_delay = Duration::from_hours(1);
    let gateway = Gateway::new(&settings).await;
    for _ in 0..25 {
        gateway.predict_id().await;
    }
    gateway.close(SOON).await;
    assert_eq!(count(&open(&path).await, "predictions").await, 25);
    // Later predictions are dropped and counted.
    gateway.predict_id().await;
    assert_eq!(gateway.metric(DROPPED), 1);
}

#[tokio::test]
async fn predictions_beyond_the_queue_are_dropped_and_counted_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    settings.recording.tuning.batch_delay = Duration::from_hours(1);
    settings.recording.tuning.queue_capacity = 10;
    let gateway = Gateway::new(&settings).await;
    for _ in 0..50 {
        gateway.predict_id().await;
    }
    let dropped = gateway.metric(DROPPED);
    gateway.close(SOON).await;
    let stored = count(&open(&path).await, "predictions").await;
    assert_eq!(stored + dropped, 50, "{stored} stored, {dropped} dropped");
    // The queue, and the entry that the writer holds.
    assert!((10..=11).contains(&stored), "{stored} stored");
}

#[tokio::test]
async fn a_prediction_too_large_for_a_statement_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &folder.path().join("canopy.db"));
    settings.recording.features = true;
    let gateway = Gateway::new(&settings).await;
    let rows = |count: usize| format!(r#"{{"instances":[{}]}}"#, vec!["[1,2,0,0]"; count].join(","));
    let large = gateway.post("/api/predict", rows(60_000)).await;
    assert_eq!(large.status, 200);
    assert_eq!(gateway.metric(DROPPED), 1);
    let id = gateway.post("/api/predict", rows(20_000)).await.header("canopy-prediction-id").to_owned();
    let told =
        gateway.send_feedback(&id, &format!(r#"{{"actual":[{}]}}"#, vec!["1"; 20_000].join(","))).await;
    assert_eq!(told.json()["correct"], 20_000);
}

#[tokio::test]
async fn expired_predictions_are_deleted_with_their_feedback_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    let gateway = Gateway::new(&settings).await;
    let young = gateway.predict_id().await;
    assert_eq!(gateway.send_feedback(&young, r#"{"actual":1}"#).await.status, 202);
    let database = open(&path).await;
    // 2500 predictions of 1970 with feedback: more than one batch of deletes.
    let old = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)";
    for sql in [
        format!(
            "{old} INSERT INTO predictions (id, namespace, model, revision, answers) \
             SELECT unhex(printf('%032X', i)), 'default', 'demo', '6f3a9c1e', '{{}}' FROM n"
        ),
        "INSERT INTO prediction_feedback (id, actual, given_at) SELECT id, '1', 0 FROM predictions WHERE answers = '{}'"
            .to_owned(),
    ] {
        database.execute_unprepared(&sql).await.unwrap();
    }
    assert_eq!(
        (count(&database, "predictions").await, count(&database, "prediction_feedback").await),
        (2501, 2501)
    );
    settings.recording.retention_seconds = 24 * 60 * 60;
    let (_one, _other) = (Gateway::new(&settings).await, Gateway::new(&settings).await);
    until("old answers to go", async || count(&database, "predictions").await == 1).await;
    until("their truths to go", async || count(&database, "prediction_feedback").await == 1).await;
    assert_eq!(gateway.get(&format!("/api/predictions/{young}")).await.status, 200);
}

#[tokio::test]
async fn without_retention_nothing_is_deleted() {
    let settings = Settings::default();
    assert_eq!(settings.recording.retention_seconds, 2_592_000, "thirty days");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &path);
    settings.recording.tuning.expiry_interval = Duration::from_millis(1);
    settings.recording.retention_seconds = 0;
    let gateway = Gateway::new(&settings).await;
    let id = gateway.predict_id().await;
    gateway.get(&format!("/api/predictions/{id}")).await.json();
    let database = open(&path).await;
    let old = "UPDATE predictions SET id = x'00000000000000000000000000000001'";
    database.execute_unprepared(old).await.unwrap();
    for _ in 0..20 {
        assert_eq!(gateway.post("/api/predict", ROW).await.status, 200);
    }
    assert_eq!(gateway.get("/api/predictions/00000000-0000-0000-0000-000000000001").await.status, 200);
}
