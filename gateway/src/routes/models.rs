//! Listing: what can be predicted.
//!
//! Comes in: the name of a model, or none. Goes out: what predictors say of their models, a few seconds ago at most.
//! Never: what was known of a model whose predictor is gone; it cannot be asked for predictions either.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use canopy_contract::describe::ModelDescription;
use canopy_contract::names::ModelRef;
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use canopy_runtime::trace::RequestSpan;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::discovery::catalogue::{LIST_CONCURRENCY, ListGap};
use crate::http::query;
use crate::http::request_context;
use crate::upstream::pool::Deadline;

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
    /// NamespacePolicy that may have more models than are listed, and why.
    #[schema(example = json!([]))]
    incomplete: Vec<Incomplete>,
}

/// A namespace that may have more models than are listed.
#[derive(Serialize, ToSchema)]
struct Incomplete {
    /// The namespace; `*` stands for all that have no name in the settings of the gateway.
    #[schema(example = "shop")]
    namespace: String,
    /// Why: `cut`, `no_answer` or `unlisted`.
    #[schema(example = "no_answer")]
    reason: &'static str,
    /// The same for people.
    #[schema(example = "DNS did not answer")]
    detail: &'static str,
}

impl Incomplete {
    fn new((namespace, gap): (String, ListGap)) -> Self {
        let (reason, detail) = match gap {
            ListGap::Cut => {
                ("cut", "DNS cuts an answer at 64 KB; a model that is not listed can be asked by its name")
            }
            ListGap::NoAnswer => ("no_answer", "DNS did not answer"),
            ListGap::Unlisted => (
                "unlisted",
                "DNS cannot tell which namespaces there are; CANOPY_NAMESPACES lists those that it names",
            ),
        };
        Self { namespace, reason, detail }
    }
}

/// Lists what can be predicted.
#[utoipa::path(get, path = "/api/models", tag = "models", responses(
    (status = 200, body = Listing),
    (status = 422, body = Problem, content_type = MEDIA_TYPE, description = "A parameter is unknown; `errors` names it"),
))]
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let parameters = query::parameters(request.uri(), []);
    request_context::handle(&app, "/api/models", request, async |context, _| {
        let [] = parameters?;
        let list = app.listing.get(Instant::now(), || make(app.clone(), context.span.clone())).await?;
        let mut response = Response::new(Body::from(list));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    })
    .await
}

/// Asks DNS and the predictors, some of them at once.
async fn make(app: Arc<App>, span: RequestSpan) -> Bytes {
    let deadline = Deadline::in_(app.limits.upstream_time.min(LISTING_TIME));
    let listing = app.catalogue.list(deadline).await;
    let ask = async |id: &ModelRef| match app.catalogue.find_once(id, deadline).await {
        Ok(model) => (id.to_string(), model.describe(&span, deadline).await.ok()),
        Err(_) => (id.to_string(), None),
    };
    let mut asked: Vec<_> =
        stream::iter(&listing.models).map(ask).buffer_unordered(LIST_CONCURRENCY).collect().await;
    asked.sort_by(|(one, _), (other, _)| one.cmp(other));
    let incomplete = listing.incomplete.into_iter().map(Incomplete::new).collect();
    let mut all = Listing { models: Vec::new(), unavailable: Vec::new(), incomplete };
    for (model, revision) in asked {
        match revision {
            Some(revision) => all.models.push(revision.description.clone()),
            None => all.unavailable.push(model),
        }
    }
    serde_json::to_vec(&all).unwrap_or_default().into()
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
    request_context::handle(&app, "/api/models/{model}", request, async |context, _| {
        let deadline = Deadline::in_(app.limits.upstream_time);
        let model = app.named(name.as_ref().map_or("", |Path(name)| name), deadline).await?;
        context.set_model(&model);
        let revision = model.describe(&context.span, deadline).await?;
        Ok(Json(&revision.description).into_response())
    })
    .await
}
