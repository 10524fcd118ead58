//! `/api/predictions`: recorded predictions, and feedback on them. Predictions of namespaces that are not served do not exist here.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use canopy_contract::names::ModelRef;
use canopy_contract::predict;
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use canopy_contract::schema::Class;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::error::{ApiError, truncated};
use crate::http::query;
use crate::http::request_body;
use crate::http::request_context;
use crate::recording::entry::{RecordedAnswers, RecordedRow};
use crate::recording::feedback::evaluate;
use crate::recording::feedback_recorder::EvaluatedFeedback;
use crate::recording::queue::Recorder;
use crate::store::{FeedbackRow, Page, PredictionFilter, PredictionRecord, StoreQueryError};

/// The default length of a list.
const LIMIT: u64 = 50;
/// The maximum length of a list.
const LIMIT_MAX: u64 = 500;

/// The actual classes of a prediction.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the API; feedback::evaluate parses the body")]
struct FeedbackRequest {
    /// The actual class, by name or index; for a prediction of `instances` a list with one class per row. If all class names are
    /// numbers, a number is a name.
    #[schema(value_type = Value, example = 1)]
    actual: Value,
}

/// The result of feedback.
#[derive(Serialize, ToSchema)]
struct FeedbackReceipt {
    /// The id of the prediction.
    id: String,
    /// The number of rows.
    rows: u64,
    /// The number of rows that were predicted correctly.
    correct: u64,
}

/// A recorded prediction.
#[derive(Serialize, ToSchema)]
struct RecordedPrediction {
    /// The id.
    id: String,
    /// The model.
    #[schema(example = "iris")]
    model: String,
    /// The namespace of the model.
    #[schema(example = "shop")]
    namespace: String,
    /// The version of the model.
    #[schema(example = "1.0")]
    version: String,
    /// The revision of the model.
    #[schema(example = "6f3a9c1e")]
    revision: String,
    /// When it was made, by the clock of the gateway.
    #[schema(example = "2026-11-26T16:00:00.123Z")]
    answered_at: String,
    /// The prediction, for a request with `features`.
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<predict::Prediction>,
    /// The predictions in the order of the rows, for a request with `instances`.
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<predict::Prediction>>,
    /// The row or rows, if features are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<f64>>)]
    features: Option<Box<RawValue>>,
    /// The feedback, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<FeedbackView>,
}

/// Feedback on a prediction.
#[derive(Serialize, ToSchema)]
#[schema(as = PredictionFeedback)]
struct FeedbackView {
    /// The index of the actual class, or one per row.
    #[schema(value_type = Value, example = 1)]
    actual: Box<RawValue>,
    /// The name of the actual class, or one per row, if the model's classes have names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, example = "yes")]
    label: Option<Value>,
    /// When the feedback was given.
    #[schema(example = "2026-11-26T16:00:00.123Z")]
    given_at: String,
}

/// The actual classes as recorded.
#[derive(Deserialize)]
#[serde(untagged)]
enum Actual {
    One(u32),
    Many(Vec<u32>),
}

/// Recorded predictions.
#[derive(Serialize, ToSchema)]
struct RecordedPredictions {
    /// The predictions, latest first.
    predictions: Vec<RecordedPrediction>,
    /// The value of `after` for the next page, if there may be more.
    next: Option<String>,
}

/// The parameters of a list.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the API; query::parameters parses the URL")]
struct ListParameters {
    /// Only predictions of this model: MODEL, or MODEL.NAMESPACE.
    #[param(example = "demo")]
    model: Option<String>,
    /// Only predictions before the one with this id; use `next` of the previous page.
    after: Option<String>,
    /// The maximum number, from 1 to 500; 50 by default.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// Records feedback on a prediction.
#[utoipa::path(post, path = "/api/predictions/{id}/feedback", tag = "predictions", request_body = FeedbackRequest,
    params(("id" = String, Path, description = "The prediction's `id`")),
    responses(
        (status = 202, body = FeedbackReceipt),
        (status = 400, body = Problem, content_type = MEDIA_TYPE, description = "The body is not JSON"),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such prediction is recorded"),
        (status = 408, body = Problem, content_type = MEDIA_TYPE, description = "The body took too long to arrive"),
        (status = 409, body = Problem, content_type = MEDIA_TYPE, description = "The prediction has feedback already"),
        (status = 413, body = Problem, content_type = MEDIA_TYPE, description = "The body is too large"),
        (status = 415, body = Problem, content_type = MEDIA_TYPE, description = "The content type is not application/json"),
        (status = 422, body = Problem, content_type = MEDIA_TYPE, description = "Not a class of the model, or not one per row; `errors` has each error"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "No database is configured, or it is unavailable"),
    ),
)]
pub(crate) async fn feedback(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let is_json = is_json(request.headers());
    request_context::handle(&app, "/api/predictions/{id}/feedback", request, async |_, body| {
        is_json?;
        let recorder = app.recorder()?;
        let (body, _held) = request_body::bytes(body, &app.limits).await?;
        let (id, found) = find(&app, recorder, &id.map(|Path(id)| id).unwrap_or_default()).await?;
        let PredictionRecord { prediction, revision, .. } = &found;
        let (answers, classes) =
            (read::<RecordedAnswers>(&prediction.answers)?, read::<Vec<Class>>(&revision.classes)?);
        let answered: Vec<_> = answers.as_slice().iter().map(|one| one.class).collect();
        let evaluation = evaluate(&body, &classes, &answered, matches!(answers, RecordedAnswers::One(_)))?;
        let actual = match (&answers, evaluation.actual.as_slice()) {
            (RecordedAnswers::One(_), [one]) => serde_json::to_string(one),
            (_, many) => serde_json::to_string(many),
        };
        let actual = actual.map_err(|_| ApiError::Internal("failed to encode feedback as JSON"))?;
        let feedback =
            FeedbackRow { id: id.as_bytes().to_vec(), actual, given_at: Timestamp::now().as_millisecond() };
        let (rows, correct) = (answered.len() as u64, evaluation.correct);
        let (model, version) = (model(&found)?, revision.version.clone());
        // If two gateways get feedback at once, the database accepts one.
        if !recorder
            .feedback
            .record(EvaluatedFeedback { feedback, model, version, correct, wrong: rows - correct })
            .await?
        {
            return Err(ApiError::FeedbackGiven(id));
        }
        let feedback = FeedbackReceipt { id: id.to_string(), rows, correct };
        Ok((StatusCode::ACCEPTED, Json(feedback)).into_response())
    })
    .await
}

/// Shows a recorded prediction and its feedback.
#[utoipa::path(get, path = "/api/predictions/{id}", tag = "predictions",
    params(("id" = String, Path, description = "The prediction's `id`")),
    responses(
        (status = 200, body = RecordedPrediction),
        (status = 403, body = Problem, content_type = MEDIA_TYPE, description = "Showing recorded data is disabled"),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such prediction is recorded"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "No database is configured, or it is unavailable"),
    ),
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    request_context::handle(&app, "/api/predictions/{id}", request, async |_, _| {
        let recorder = app.recorder()?;
        app.may_show_records()?;
        let (_, found) = find(&app, recorder, &id.map(|Path(id)| id).unwrap_or_default()).await?;
        Ok(Json(describe(found)?).into_response())
    })
    .await
}

/// Lists recorded predictions, latest first.
#[utoipa::path(get, path = "/api/predictions", tag = "predictions", params(ListParameters),
    responses(
        (status = 200, body = RecordedPredictions),
        (status = 403, body = Problem, content_type = MEDIA_TYPE, description = "Showing recorded data is disabled"),
        (status = 404, body = Problem, content_type = MEDIA_TYPE, description = "No such model"),
        (status = 422, body = Problem, content_type = MEDIA_TYPE, description = "A parameter is unknown or invalid; `errors` names it"),
        (status = 503, body = Problem, content_type = MEDIA_TYPE, description = "No database is configured, or it is unavailable"),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let parameters = query::parameters(request.uri(), ["model", "after", "limit"]);
    request_context::handle(&app, "/api/predictions", request, async |_, _| {
        let recorder = app.recorder()?;
        app.may_show_records()?;
        let [model, after, limit] = parameters?;
        let limit = limit.as_deref().map_or(Ok(LIMIT), parse_limit)?;
        let after = after.as_deref().map(cursor).transpose()?;
        let model = model.as_deref().map(|name| requested_model(&app, name)).transpose()?;
        let filter = match (&model, app.catalogue.static_models.allowed_namespaces()) {
            (Some(ModelRef { name, namespace }), _) => {
                PredictionFilter::Model { namespace, model: name.as_str() }
            }
            (None, Some(namespaces)) => PredictionFilter::NamespacePolicy(namespaces),
            (None, None) => PredictionFilter::All,
        };
        let after = after.as_ref().map(|id| id.as_bytes().as_slice());
        let Page { answers, next } = recorder.store.list(&filter, after, limit).await.map_err(store_error)?;
        let predictions = answers.into_iter().map(describe).collect::<Result<Vec<_>, _>>()?;
        let next = next.as_deref().map(id_of).transpose()?.map(|id| id.to_string());
        Ok(Json(RecordedPredictions { predictions, next }).into_response())
    })
    .await
}

/// Finds the prediction with this id, waiting until earlier predictions are written.
async fn find(app: &App, recorder: &Recorder, asked: &str) -> Result<(Uuid, PredictionRecord), ApiError> {
    let unknown = || ApiError::UnknownPrediction(truncated(asked));
    let id = Uuid::parse_str(asked).map_err(|_| unknown())?;
    // Read before the query: what has been written by then is found.
    let pending = recorder.pending_for(id);
    let mut found = recorder.store.find(id.as_bytes()).await.map_err(store_error)?;
    if found.is_none() && !recorder.is_recorded(id) {
        return Err(ApiError::NotRecorded { id: id.to_string(), ratio: recorder.ratio });
    }
    if found.is_none()
        && let Some(pending) = pending
    {
        // It may still be in the queue.
        recorder.wait_written(pending).await.map_err(store_error)?;
        found = recorder.store.find(id.as_bytes()).await.map_err(store_error)?;
    }
    let is_served =
        |recorded: &PredictionRecord| app.catalogue.static_models.allows(&recorded.prediction.namespace);
    let found = found.filter(is_served).ok_or_else(unknown)?;
    Ok((id, found))
}

/// Rejects content types that browsers send cross-origin without a preflight request. Otherwise any web page could send feedback to
/// a gateway that only its visitor can reach.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types =
        headers.get_all(CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or("invalid text"));
    let found = types.next().ok_or(ApiError::UnsupportedMediaType(None))?;
    let kind = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if is_json && types.next().is_none() {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType(Some(truncated(found))))
    }
}

fn parse_limit(text: &str) -> Result<u64, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| {
        ApiError::InvalidQuery("limit".to_owned(), format!("must be a number from 1 to {LIMIT_MAX}"))
    })
}

fn cursor(text: &str) -> Result<Uuid, ApiError> {
    let wrong = |_| ApiError::InvalidQuery("after".to_owned(), "must be the id of a prediction".to_owned());
    Uuid::parse_str(text).map_err(wrong)
}

fn requested_model(app: &App, name: &str) -> Result<ModelRef, ApiError> {
    let model = app.reference(name).ok().filter(|model| app.catalogue.static_models.allows(&model.namespace));
    model.ok_or_else(|| ApiError::UnknownModel(truncated(name)))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn store_error(why: StoreQueryError) -> ApiError {
    ApiError::StoreUnavailable(why.to_string())
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(json).map_err(|_| ApiError::Internal("a row of the database is invalid"))
}

fn model(recorded: &PredictionRecord) -> Result<ModelRef, ApiError> {
    let name = recorded.prediction.model.parse();
    let name = name.map_err(|_| ApiError::Internal("a row of the database has an invalid model name"))?;
    Ok(ModelRef { name, namespace: recorded.prediction.namespace.clone() })
}

fn describe(recorded: PredictionRecord) -> Result<RecordedPrediction, ApiError> {
    let PredictionRecord { prediction, revision, feedback } = recorded;
    let id = id_of(&prediction.id)?;
    let (seconds, nanoseconds) = id.get_timestamp().map(|moment| moment.to_unix()).unwrap_or_default();
    let milliseconds = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let classes: Vec<Class> = read(&revision.classes)?;
    let label = |class: u32| classes.get(class as usize).and_then(Class::name).map(str::to_owned);
    let named = |&RecordedRow { class, proba }: &RecordedRow| predict::Prediction {
        class: Some(class),
        label: label(class),
        proba: Some(proba),
        probabilities: None,
        value: None,
        values: None,
    };
    let (one, many) = match read(&prediction.answers)? {
        RecordedAnswers::One(one) => (Some(named(&one)), None),
        RecordedAnswers::Many(many) => (None, Some(many.iter().map(named).collect())),
    };
    let feedback = feedback.map(|feedback| {
        Ok::<_, ApiError>(FeedbackView {
            actual: read::<&RawValue>(&feedback.actual)?.to_owned(),
            label: match read(&feedback.actual)? {
                Actual::One(class) => label(class).map(Value::from),
                Actual::Many(all) => all.into_iter().map(label).collect::<Option<Vec<_>>>().map(Value::from),
            },
            given_at: timestamp(feedback.given_at),
        })
    });
    Ok(RecordedPrediction {
        id: id.to_string(),
        model: prediction.model,
        namespace: prediction.namespace,
        version: revision.version,
        revision: prediction.revision,
        answered_at: timestamp(milliseconds + i64::from(nanoseconds / 1_000_000)),
        prediction: one,
        predictions: many,
        features: prediction.features.as_deref().map(read::<&RawValue>).transpose()?.map(RawValue::to_owned),
        feedback: feedback.transpose()?,
    })
}

fn id_of(bytes: &[u8]) -> Result<Uuid, ApiError> {
    Uuid::from_slice(bytes).map_err(|_| ApiError::Internal("a row of the database has an invalid id"))
}

/// A time in milliseconds since 1970, as text.
fn timestamp(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map(|moment| moment.to_string()).unwrap_or_default()
}
