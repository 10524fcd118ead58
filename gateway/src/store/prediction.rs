//! An answer that was given: a row of the table `predictions`.
//!
//! Comes in and goes out: a row. Never: when the answer was given; the id begins with that, in milliseconds since 1970.

use sea_orm::entity::prelude::*;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "predictions")]
pub struct Model {
    /// The 16 bytes of the answer's id, which sort by time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Vec<u8>,
    /// The namespace of the model that answered.
    pub namespace: String,
    /// The model that answered.
    pub model: String,
    /// The revision that answered.
    pub revision: String,
    /// JSON: an object with class and proba, or for a request with `instances` a list of such.
    pub answers: String,
    /// JSON: the row that was asked about, or a list of rows, where features are recorded.
    pub features: Option<String>,
}

/// Joined by hand: a table may have rows that another lost already.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
