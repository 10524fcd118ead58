//! `GET /api/users` and `GET /api/users/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, truncated};
use crate::http::query;
use crate::http::request_context;
use crate::store::{Store, User};

/// All users.
#[derive(Serialize, ToSchema)]
struct Users {
    /// The users in the order of their ids.
    users: Vec<User>,
}

/// Lists all users.
#[utoipa::path(get, path = "/api/users", tag = "users", responses(
    (status = 200, body = Users),
    (status = 403, body = Problem, content_type = MEDIA_TYPE, description = "Showing the data of the database is disabled"),
    (status = 422, body = Problem, content_type = MEDIA_TYPE, description = "A parameter is unknown; `errors` names it"),
    (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "The database is unavailable"),
))]
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let parameters = query::parameters(request.uri(), []);
    request_context::handle(&app, "/api/users", request, async |_, _| {
        let [] = parameters?;
        may_show(&app)?;
        let users = app.store.users().await.map_err(|why| ApiError::StoreUnavailable(why.to_string()))?;
        Ok(Json(Users { users }).into_response())
    })
    .await
}

/// Shows a user.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users", params(("id" = i64, Path, description = "The user")),
    responses(
        (status = 200, body = User),
        (status = 403, body = Problem, content_type = MEDIA_TYPE, description = "Showing the data of the database is disabled"),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such user"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "The database is unavailable"),
    ),
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    request_context::handle(&app, "/api/users/{id}", request, async |_, _| {
        may_show(&app)?;
        let text = id.map(|Path(text)| text).unwrap_or_default();
        let unknown = || ApiError::UnknownUser(truncated(&text));
        let id = text.parse().map_err(|_| unknown())?;
        let user = app.store.user(id).await.map_err(|why| ApiError::StoreUnavailable(why.to_string()))?;
        Ok(Json(user.ok_or_else(unknown)?).into_response())
    })
    .await
}

/// The users of a database are people with email addresses; the fixed list without a database is an example.
fn may_show(app: &App) -> Result<(), ApiError> {
    match app.store {
        Store::Seed => Ok(()),
        Store::Database(_) => app.may_show_records(),
    }
}
