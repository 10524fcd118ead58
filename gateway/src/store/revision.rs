//! A revision that has answered: a row of the table `prediction_revisions`, with what its answers mean.
//!
//! Comes in and goes out: a row. Never: a change; what a revision is never changes.

use sea_orm::entity::prelude::*;

/// A revision of a model.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "prediction_revisions")]
pub struct Model {
    /// The model's namespace.
    #[sea_orm(primary_key, auto_increment = false)]
    pub namespace: String,
    /// The model.
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    /// The revision.
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: String,
    /// Its version, as people label it.
    pub version: String,
    /// JSON: the list of its classes, each a name or an index.
    pub classes: String,
}

/// Joined by hand: a table may have rows that another lost already.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
