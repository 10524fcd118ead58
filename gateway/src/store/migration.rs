//! What makes a new database what this program knows, one step after the other.
//!
//! Comes in: a database of any age. Goes out: the tables of today. Never: a change to a step that was ever
//! released; what a step did to somebody's database stays as it was.

use sea_orm_migration::MigrationName;
use sea_orm_migration::prelude::{
    DbErr, MigrationTrait, MigratorTrait, Query, SchemaManager, Table, async_trait,
};
use sea_orm_migration::schema::{big_pk_auto, string, string_uniq};

use super::seed::SEED;

/// All steps.
pub(super) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Users)]
    }
}

/// The first step: the table of users, with the first two.
struct Users;

impl MigrationName for Users {
    fn name(&self) -> &'static str {
        "0001_users"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Users {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let users = Table::create()
            .table("users")
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
        manager.execute(rows).await
    }

    /// A table without its rows would never be filled again.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
