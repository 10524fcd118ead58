//! `GET /api/models` and `GET /api/models/{model}`: descriptions as predictors give them, at most a few seconds old.

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

/// How long the list waits for predictors, which is less than a prediction may take.
const LISTING_TIME: Duration = Duration::from_secs(2);

/// The static models, and the discovered models with ready predictors.
#[derive(Serialize, ToSchema)]
struct Listing {
    /// Models that are available, by name.
    models: Vec<ModelDescription>,
    /// Models whose predictors do not respond, as MODEL.NAMESPACE.
    #[schema(example = json!([]))]
    unavailable: Vec<String>,
    /// Namespaces that may have more models, and why.
    #[schema(example = json!([]))]
    incomplete: Vec<Incomplete>,
}

/// A namespace that may have more models.
#[derive(Serialize, ToSchema)]
struct Incomplete {
    /// The namespace; `*` for all namespaces that the gateway's settings do not name.
    #[schema(example = "shop")]
    namespace: String,
    /// The reason: `cut`, `no_answer` or `unlisted`.
    #[schema(example = "no_answer")]
    reason: &'static str,
    /// The reason as text.
    #[schema(example = "DNS did not respond")]
    detail: &'static str,
}

impl Incomplete {
    fn new((namespace, gap): (String, ListGap)) -> Self {
        let (reason, detail) = match gap {
            ListGap::Cut => {
                ("cut", "DNS truncates a response at 64 KB; models that are not listed are available by name")
            }
            ListGap::NoAnswer => ("no_answer", "DNS did not respond"),
            ListGap::Unlisted => (
                "unlisted",
                "DNS cannot enumerate namespaces; only namespaces named in CANOPY_NAMESPACES are listed",
            ),
        };
        Self { namespace, reason, detail }
    }
}

/// Lists the available models.
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

/// Queries DNS and the predictors, several at once.
async fn make(app: Arc<App>, span: RequestSpan) -> Bytes {
    let deadline = Deadline::after(app.limits.upstream_time.min(LISTING_TIME));
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

/// Describes a model: its features, classes and quality.
#[utoipa::path(get, path = "/api/models/{model}", tag = "models",
    params(("model" = String, Path, description = "MODEL, or MODEL.NAMESPACE", example = "demo")),
    responses(
        (status = 200, body = ModelDescription),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such model"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "No predictor is available"),
        (status = 504, body = Problem, content_type = MEDIA_TYPE, description = "The predictor is too slow"),
    ),
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    request_context::handle(&app, "/api/models/{model}", request, async |context, _| {
        let deadline = Deadline::after(app.limits.upstream_time);
        let model = app.named(name.as_ref().map_or("", |Path(name)| name), deadline).await?;
        context.set_model(&model);
        let revision = model.describe(&context.span, deadline).await?;
        Ok(Json(&revision.description).into_response())
    })
    .await
}
