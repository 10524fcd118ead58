//! The migrations of the database. A released migration never changes. Several gateways may run a migration at once, and `MySQL`
//! has no transactional DDL, so every statement is idempotent.

use sea_orm::{ConnectionTrait as _, DbBackend};
use sea_orm_migration::MigrationName;
use sea_orm_migration::prelude::{
    ColumnDef, DbErr, Index, IntoIden, MigrationTrait, MigratorTrait, OnConflict, Query, SchemaManager,
    Table, TableCreateStatement, async_trait,
};
use sea_orm_migration::schema::{big_integer, big_pk_auto, string, string_len, string_uniq};

use super::seed::SEED;

/// All migrations.
pub(super) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Users), Box::new(Predictions), Box::new(ByNamespace)]
    }
}

/// Migration 1: users, with two rows.
struct Users;

impl MigrationName for Users {
    fn name(&self) -> &'static str {
        "0001_users"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Users {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let users = table("users", manager.get_database_backend())
            .col(big_pk_auto("id"))
            .col(string("name"))
            .col(string_uniq("email"))
            .to_owned();
        manager.create_table(users).await?;
        let mut rows = Query::insert();
        rows.into_table("users").columns(["id", "name", "email"]);
        for (id, name, email) in SEED {
            rows.values_panic([id.into(), name.into(), email.into()]);
        }
        rows.on_conflict(OnConflict::column("id").do_nothing_on(["id"]).to_owned());
        manager.execute(rows).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            // The sequence does not advance for rows with explicit ids.
            let count_on = "SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users";
            manager.get_connection().execute_unprepared(count_on).await?;
        }
        Ok(())
    }

    /// A table without its first rows would never be filled again.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Migration 2: predictions, revisions and feedback.
struct Predictions;

impl MigrationName for Predictions {
    fn name(&self) -> &'static str {
        "0002_predictions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Predictions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        let mut predictions = table("predictions", backend)
            .col(ColumnDef::new("id").binary_len(16).not_null().primary_key())
            .col(string_len("namespace", 63))
            .col(string_len("model", 63))
            .col(string_len("revision", 63))
            .col(long_text("answers", backend).not_null())
            .col(long_text("features", backend).null())
            .to_owned();
        let mut by_model = Index::create();
        by_model.name("predictions_by_model").col("namespace").col("model").col("id");
        // MySQL has "if not exists" for tables only, the others for separate indexes.
        if backend == DbBackend::MySql {
            manager.create_table(predictions.index(&mut by_model).to_owned()).await?;
        } else {
            manager.create_table(predictions).await?;
            manager.create_index(by_model.table("predictions").if_not_exists().to_owned()).await?;
        }
        let revisions = table("prediction_revisions", backend)
            .col(string_len("namespace", 63))
            .col(string_len("model", 63))
            .col(string_len("revision", 63))
            .col(string("version"))
            .col(long_text("classes", backend).not_null())
            .primary_key(Index::create().col("namespace").col("model").col("revision"))
            .to_owned();
        manager.create_table(revisions).await?;
        let feedback = table("prediction_feedback", backend)
            .col(ColumnDef::new("id").binary_len(16).not_null().primary_key())
            .col(long_text("actual", backend).not_null())
            .col(big_integer("given_at"))
            .to_owned();
        manager.create_table(feedback).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Migration 3: an index for the latest predictions of a namespace, even a rare one.
struct ByNamespace;

/// The name of the index.
const BY_NAMESPACE: &str = "predictions_by_namespace";

impl MigrationName for ByNamespace {
    fn name(&self) -> &'static str {
        "0003_predictions_by_namespace"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ByNamespace {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut index = Index::create();
        index.name(BY_NAMESPACE).table("predictions").col("namespace").col("id");
        if manager.get_database_backend() != DbBackend::MySql {
            return manager.create_index(index.if_not_exists().to_owned()).await;
        }
        // MySQL has no "if not exists" for an index, and another gateway may create it at the same time.
        if manager.has_index("predictions", BY_NAMESPACE).await? {
            return Ok(());
        }
        match manager.create_index(index).await {
            Err(_) if manager.has_index("predictions", BY_NAMESPACE).await? => Ok(()),
            made => made,
        }
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A table, created if missing, for text in any language.
fn table(name: &'static str, backend: DbBackend) -> TableCreateStatement {
    let mut table = Table::create().table(name).if_not_exists().to_owned();
    if backend == DbBackend::MySql {
        table.character_set("utf8mb4");
    }
    table
}

/// A column for text longer than the 64 KB of `text` in `MySQL`.
fn long_text(name: &'static str, backend: DbBackend) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    if backend == DbBackend::MySql {
        column.custom("mediumtext".into_iden());
    } else {
        column.text();
    }
    column
}
