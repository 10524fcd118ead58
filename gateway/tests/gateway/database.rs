//! Users in an `SQLite` database.

use std::path::Path;

use canopy_gateway::app::App;
use canopy_gateway::settings::Settings;
use canopy_runtime::metrics::Registry;
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::json;

use crate::gateway::{Gateway, settings};

fn at(path: &Path) -> Settings {
    Settings { database_url: Some(format!("sqlite://{}", path.display())), ..settings(&[]) }
}

async fn refused(settings: &Settings) -> String {
    match App::open(settings, &Registry::new()).await {
        Ok(_) => panic!("opened {:?}", settings.database_url),
        Err(error) => error.to_string(),
    }
}

/// Changes the database from outside.
async fn change(path: &Path, sql: &str) {
    let database = Box::pin(Database::connect(format!("sqlite://{}", path.display()))).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_new_database_has_alice_and_bob() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::new(&at(&folder.path().join("new.db"))).await;
    assert_eq!(
        gateway.get("/api/users").await.body,
        r#"{"users":[{"id":1,"name":"Alice","email":"alice@test.com"},{"id":2,"name":"Bob","email":"bob@test.com"}]}"#
    );
    let alice = gateway.get("/api/users/1").await;
    assert_eq!(alice.json(), json!({"id": 1, "name": "Alice", "email": "alice@test.com"}));
    gateway.get("/api/users/3").await.problem(404, "unknown_user");
}

#[tokio::test]
async fn changes_persist_when_the_gateway_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    drop(Gateway::new(&at(&path)).await);
    change(&path, "DELETE FROM users WHERE id = 2").await;
    change(&path, "UPDATE users SET name = 'Alicia' WHERE id = 1").await;
    change(&path, "INSERT INTO users (name, email) VALUES ('Carol', 'carol@test.com')").await;
    let names = |users: serde_json::Value| {
        let users = users["users"].as_array().unwrap().clone();
        users.iter().map(|user| format!("{} {}", user["id"], user["name"])).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let users = Gateway::new(&at(&path)).await.get("/api/users").await.json();
        assert_eq!(names(users), ["1 \"Alicia\"", "3 \"Carol\""]);
    }
    change(&path, "DELETE FROM users").await;
    assert_eq!(Gateway::new(&at(&path)).await.get("/api/users").await.body, r#"{"users":[]}"#);
}

#[tokio::test]
async fn an_unusable_database_is_reported_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, but it is long enough to be taken for one".repeat(100))
        .unwrap();
    for path in [garbage, folder.path().join("missing/canopy.db"), folder.path().to_owned()] {
        let error = refused(&at(&path)).await;
        assert!(
            error.starts_with(&format!("failed to open database sqlite://{}: ", path.display())),
            "{error}"
        );
        assert!(error.contains("CANOPY_DATABASE_URL"), "{error}");
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    drop(Gateway::new(&at(&path)).await);
    change(&path, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('9999_later', 0)").await;
    let error = refused(&at(&path)).await;
    assert!(
        error.contains("9999_later") && error.contains("a database of a later version of Canopy"),
        "{error}"
    );
}

#[tokio::test]
async fn an_invalid_url_is_rejected_without_its_password() {
    for (url, words) in [
        (
            "oracle://root:secret@db/canopy",
            "a database at oracle: is not supported; CANOPY_DATABASE_URL must be sqlite://PATH, mysql://… or postgres://…",
        ),
        ("mysql://root:sec/ret@db/canopy", "CANOPY_DATABASE_URL is invalid: "),
        ("postgres://root:secret@db:port/canopy", "CANOPY_DATABASE_URL is invalid: "),
    ] {
        let error = refused(&Settings { database_url: Some(url.to_owned()), ..settings(&[]) }).await;
        assert!(error.starts_with(words), "{error}");
        assert!(!error.contains("sec"), "{error}");
    }
}

#[tokio::test]
async fn a_database_failure_is_a_503_and_other_routes_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canopy.db");
    let gateway = Gateway::new(&at(&path)).await;
    gateway.get("/api/users").await.json();
    change(&path, "DROP TABLE users").await;
    for path in ["/api/users", "/api/users/1"] {
        let problem = gateway.get(path).await.problem(503, "store_unavailable");
        assert!(!problem.detail.contains("users"), "{}", problem.detail);
        assert_eq!(problem.error, "The database is unavailable");
    }
    assert_eq!(gateway.get("/api/test").await.status, 200);
}
