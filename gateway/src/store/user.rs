//! A user: a row of the table `users`, and what the API says of one.
//!
//! Comes in: a row. Goes out: JSON. Never: a column that callers must not see; such a one needs a type of its
//! own for the API.

use sea_orm::entity::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, ToSchema)]
#[sea_orm(table_name = "users")]
#[schema(as = User)]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    #[schema(example = 1)]
    pub id: i64,
    /// The name.
    #[schema(example = "Alice")]
    pub name: String,
    /// The address.
    #[schema(example = "alice@test.com")]
    pub email: String,
}

/// Users belong to nothing else.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
