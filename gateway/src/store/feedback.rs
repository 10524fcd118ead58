//! The truth that was told about an answer: a row of the table `prediction_feedback`.
//!
//! Comes in and goes out: a row. Never: a second one for the same answer; its key forbids that to all gateways.

use sea_orm::entity::prelude::*;

/// What was the case.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "prediction_feedback")]
pub struct Model {
    /// The 16 bytes of the answer's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Vec<u8>,
    /// JSON: the index of the class that was right, or for an answer to several rows a list of such.
    pub actual: String,
    /// When it was told, in milliseconds since 1970.
    pub given_at: i64,
}

/// Joined by hand: a table may have rows that another lost already.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
