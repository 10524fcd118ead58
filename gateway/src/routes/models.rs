//! Listing: what can be predicted.
//!
//! Comes in: the name of a model, or none. Goes out: what predictors say of their models at this moment.
//! Never: what was known of a model whose predictor is gone; it cannot be asked for predictions either.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use canopy_contract::describe::ModelDescription;
use canopy_contract::names::ModelRef;
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::catalogue::AT_ONCE;
use crate::edge;
use crate::upstream::Deadline;

/// How long the list waits for a predictor: it should not take as long as the slowest prediction may.
const LISTING_TIME: Duration = Duration::from_secs(2);

/// Every model that this gateway was told of, and in a cluster those of its namespaces that have ready predictors.
#[derive(Serialize, ToSchema)]
struct Listing {
    /// Those that can be predicted, by name.
    models: Vec<ModelDescription>,
    /// Those whose predictors do not answer, as MODEL.NAMESPACE.
    #[schema(example = json!([]))]
    unavailable: Vec<String>,
    /// Namespaces that may have more models than are listed: DNS cuts an answer at 64 KB, and may fail to answer.
    #[schema(example = json!([]))]
    incomplete: BTreeSet<String>,
}

/// Lists what can be predicted.
#[utoipa::path(get, path = "/api/models", tag = "models", responses((status = 200, body = Listing)))]
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    edge::handle(&app, "/api/models", request, async |exchange, _| {
        let deadline = Deadline::in_(app.limits.upstream_time.min(LISTING_TIME));
        let span = &exchange.span;
        let listing = app.catalogue.list(deadline).await;
        let ask = async |model: &ModelRef| match app.catalogue.find(model, deadline).await {
            Ok(served) => (model.to_string(), served.describe(span, deadline).await.ok()),
            Err(_) => (model.to_string(), None),
        };
        let mut asked: Vec<_> =
            stream::iter(&listing.models).map(ask).buffer_unordered(AT_ONCE).collect().await;
        asked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut all = Listing { models: Vec::new(), unavailable: Vec::new(), incomplete: listing.incomplete };
        for (model, known) in asked {
            match known {
                Some(known) => all.models.push(known.description.clone()),
                None => all.unavailable.push(model),
            }
        }
        Ok(Json(all).into_response())
    })
    .await
}

/// Tells what a model takes and answers.
#[utoipa::path(get, path = "/api/models/{model}", tag = "models",
    params(("model" = String, Path, description = "MODEL, or MODEL.NAMESPACE", example = "demo")),
    responses(
        (status = 200, body = ModelDescription),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such model"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "No predictor can be asked"),
        (status = 504, body = Problem, content_type = MEDIA_TYPE, description = "The predictor is too slow"),
    ),
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    edge::handle(&app, "/api/models/{model}", request, async |exchange, _| {
        let deadline = Deadline::in_(app.limits.upstream_time);
        let served = app.named(name.as_ref().map_or("", |Path(name)| name), deadline).await?;
        exchange.is_about(&served);
        let known = served.describe(&exchange.span, deadline).await?;
        Ok(Json(&known.description).into_response())
    })
    .await
}
