//! The table `prediction_revisions`: the version and classes of each revision with recorded predictions. Rows never change.

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
    /// The version of the model.
    pub version: String,
    /// JSON: the list of classes, each a name or an index.
    pub classes: String,
}

/// Joined manually, since the other table's row may be missing.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
