//! `POST /predict`: reads the body, predicts, counts and logs. Heavy work runs on the blocking thread pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use canopy_contract::code::Code;
use canopy_contract::names::TIMEOUT_HEADER;
use canopy_contract::predict::{PredictRequest, PredictResponse};
use canopy_runtime::server::body_memory::Reservation;
use canopy_runtime::server::response_body;
use canopy_runtime::trace::RequestSpan;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt as _;
use tokio::task::spawn_blocking;

use super::answer;
use crate::engine::head::Answer;
use crate::error::{ErrorBody, Failure};
use crate::serving::app::{App, Identity};
use crate::serving::served_model::{Answered, ServedModel};

const PATH: &str = "/predict";
/// How many characters of an encoding's name a message has.
const ENCODING_MAX: usize = 100;

/// Ask the model
///
/// `features` for one row, answered with one prediction; `instances` for many, answered with a list in the same
/// order. `confidence` is the probability of the predicted class. `"probabilities": true` adds those of all classes.
#[utoipa::path(
    post,
    path = "/predict",
    tag = "predict",
    request_body = PredictRequest,
    responses(
        (status = 200, description = "Of the same shape as the request", body = PredictResponse,
         headers(("Canopy-Revision" = String, description = "The revision that answered"))),
        (status = 400, description = "A row is not as long as the model has features, or a value is not finite \
                                      or out of its bounds", body = ErrorBody),
        (status = 408, description = "The body took too long to arrive", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "The body is compressed", body = ErrorBody),
        (status = 422, description = "The body is not JSON or of another shape, or the model does not take a value, \
                                      such as 0.5 for an integer", body = ErrorBody),
        (status = 500, description = "The model could not compute an answer", body = ErrorBody),
        (status = 503, description = "The model does not serve, and why; or, with `Retry-After`, it has more to do \
                                      than it can in time", body = ErrorBody),
    ),
)]
pub(super) async fn predict(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let span = RequestSpan::server(&head, Some(PATH));
    let ask = Ask { started: Instant::now(), app, span, is_finished: false };

    let taken = match ask.app.model(&head.headers) {
        Ok(model) => take(body, &ask.app).await.map(|body| (model, body)),
        Err(failure) => Err(failure),
    };
    match taken {
        Err(failure) => ask.finish(Err(failure)),
        Ok((model, body)) if model.is_heavy(&body.bytes) => heavy(ask, model, body, head.headers).await,
        Ok((model, body)) => {
            let response = ask.answer(&model, &body.bytes, &head.headers);
            response_body::hold_until_sent(response, body.held)
        }
    }
}

/// How much is left of the client's time-out.
fn granted(headers: &HeaderMap, since: Instant) -> Duration {
    let told = headers.get(TIMEOUT_HEADER).and_then(|time| time.to_str().ok()?.parse().ok());
    told.map_or(Duration::MAX, Duration::from_millis).saturating_sub(since.elapsed())
}

/// Answers on the blocking thread pool, away from the workers, if a permit is free in time.
async fn heavy(ask: Ask, model: Arc<ServedModel>, body: Taken, headers: HeaderMap) -> Response {
    let time = granted(&headers, ask.started);
    let app = ask.app.clone();
    let Ok(permit) = app.heavy().acquire(time).await else { return ask.finish(Err(Failure::Overloaded)) };
    let answering = spawn_blocking(move || {
        let response = ask.answer(&model, &body.bytes, &headers);
        drop(permit);
        response_body::hold_until_sent(response, body.held)
    });
    answering.await.unwrap_or_else(|_| answer::failure(&app, &Failure::ModelFailed))
}

/// The whole body, if it is not too long and does not take too long.
async fn take(body: Body, app: &App) -> Result<Taken, Failure> {
    let limits = app.limits();
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(Failure::TooLarge(limits.body_bytes));
    }
    let mut held = app.bodies().admit(&body.size_hint()).map_err(|_| Failure::Overloaded)?;
    match tokio::time::timeout(limits.body_timeout, collect(body, limits.body_bytes, &mut held)).await {
        Ok(collected) => collected.map(|bytes| Taken { bytes, held }),
        Err(_) => Err(Failure::TooSlow(limits.body_timeout)),
    }
}

/// A body, which counts as held until its answer was written.
struct Taken {
    bytes: Bytes,
    held: Reservation,
}

async fn collect(mut body: Body, limit: usize, held: &mut Reservation) -> Result<Bytes, Failure> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        // The client has gone, so no one reads this message.
        let frame = frame.map_err(|_| Failure::Malformed("the body ended early".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(Failure::TooLarge(limit));
        }
        held.grow(data.len()).map_err(|_| Failure::Overloaded)?;
        // Most bodies come in one piece and need no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A request for a prediction on its way to an answer.
struct Ask {
    started: Instant,
    app: App,
    span: RequestSpan,
    is_finished: bool,
}

impl Drop for Ask {
    fn drop(&mut self) {
        // Dropped on the way: the client is gone, or the code that should have answered panicked.
        if !self.is_finished {
            let panicked = std::thread::panicking();
            self.count(&if panicked { Failure::ModelFailed } else { Failure::ClientClosed });
        }
    }
}

/// What is wrong with a body that is no JSON where it is so since it is compressed. Looked at then only: no body that
/// is compressed passes for JSON.
fn rather(failure: Failure, headers: &HeaderMap) -> Failure {
    let encoding = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    match (&failure, encoding) {
        (Failure::Malformed(_), Some(encoding)) => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            Failure::Encoding(encoding.chars().take(ENCODING_MAX).collect())
        }
        _ => failure,
    }
}

impl Ask {
    fn answer(self, model: &ServedModel, body: &[u8], headers: &HeaderMap) -> Response {
        let ended = model.answer(body, &self.span).map_err(|failure| rather(failure, headers));
        self.finish(ended)
    }

    /// Counts and traces a request whose client has gone.
    fn count(&self, failure: &Failure) {
        let (status, code) = failure.ending();
        self.app.requests().finished((status, code));
        let Identity { model, version, .. } = self.app.identity();
        self.span.model(model.as_str(), version, 0);
        self.span.finish(status, (status >= 500).then_some(code.as_str()));
        self.log(None, code);
    }

    /// Every request ends here, whatever became of it: counted, traced and logged once.
    fn finish(mut self, ended: Result<Answered, Failure>) -> Response {
        self.is_finished = true;
        let answered = ended.as_ref().ok();
        let (status, code) = ended.as_ref().map_or_else(Failure::ending, |_| (200, Code::Ok));
        self.app.requests().finished((status, code));
        let Identity { model, version, .. } = self.app.identity();
        self.span.model(model.as_str(), version, answered.map_or(0, |answered| answered.rows));
        self.span.finish(status, (status >= 500).then_some(code.as_str()));
        self.log(answered, code);
        match ended {
            Ok(answered) => answer::prediction(&self.app, answered.json),
            Err(failure) => answer::failure(&self.app, &failure),
        }
    }

    fn log(&self, answered: Option<&Answered>, code: Code) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let Some(left_out) = self.app.lines().admit() else { return };
        let Identity { model, version, .. } = self.app.identity();
        let only = answered.and_then(|answered| answered.only.as_ref());
        tracing::info!(
            trace_id = %self.span.context(),
            model = model.as_str(),
            version,
            endpoint = PATH,
            features_count = answered.map(|answered| answered.features),
            rows = answered.map(|answered| answered.rows),
            prediction = only.and_then(Answer::class),
            value = only.and_then(Answer::value),
            confidence = only.and_then(Answer::confidence),
            code = code.as_str(),
            duration_ms = self.started.elapsed().as_secs_f64() * 1e3,
            left_out = (left_out > 0).then_some(left_out),
            "{}", if answered.is_some() { "predicted" } else { "not predicted" },
        );
    }
}
