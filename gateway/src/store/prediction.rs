//! The table `predictions`. The time of a prediction is in its id, in milliseconds since 1970.

use sea_orm::entity::prelude::*;

/// A recorded prediction.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "predictions")]
pub struct Model {
    /// The id, 16 bytes that sort by time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Vec<u8>,
    /// The namespace of the model.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The revision.
    pub revision: String,
    /// JSON: an object with class and proba, or a list of them for a request with `instances`.
    pub answers: String,
    /// JSON: the row, or a list of rows, if features are recorded.
    pub features: Option<String>,
}

/// Joined manually, since the other table's row may be missing.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
