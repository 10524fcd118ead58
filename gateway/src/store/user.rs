//! The table `users`, and the user of the API. A column that clients must not see would need a separate API type.

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
    /// The email address.
    #[schema(example = "alice@test.com")]
    pub email: String,
}

/// No relations.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
