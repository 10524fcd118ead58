//! The table `prediction_feedback`: one row per prediction with feedback. Its primary key prevents a second one.

use sea_orm::entity::prelude::*;

/// Feedback on a prediction.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "prediction_feedback")]
pub struct Model {
    /// The id of the prediction, 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Vec<u8>,
    /// JSON: the index of the actual class, or a list of indices for a prediction of several rows.
    pub actual: String,
    /// When it was given, in milliseconds since 1970.
    pub given_at: i64,
}

/// Joined manually, since the other table's row may be missing.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
