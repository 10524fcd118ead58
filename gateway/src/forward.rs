//! Forwards a request to a predictor, with retries and hedging. A slow attempt is not cancelled: a hedge goes to a second endpoint,
//! and the first response wins.
//!
//! A response is interpreted with the description of the revision that gave it. Rows reach at most two endpoints, since they may
//! be what made those fail.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use canopy_contract::body::Body;
use canopy_contract::code::Code;
use canopy_contract::fault::{FEATURES, INSTANCES};
use canopy_contract::names::REVISION_HEADER;
use canopy_runtime::telemetry::log_limit::{LINES_PER_SECOND, LogLimit};
use canopy_runtime::trace::RequestSpan;
use futures_util::future::{Either, select};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::Level;

use crate::balance::clock::now;
use crate::balance::endpoint::{Endpoint, HedgeDecision, HedgeReason, InFlight};
use crate::error::{ApiError, UpstreamError};
use crate::model::Model;
use crate::revision::Revision;
use crate::upstream::message::{self, Answers};
use crate::upstream::outgoing_rows::OutgoingRows;
use crate::upstream::pool::{Deadline, UpstreamRequest, UpstreamResponse};

/// How often the same rows are sent to one endpoint: again only if its revision changed, and once more in case that is still in
/// progress.
const SENDS_MAX: usize = 3;
/// How many endpoints may receive the same rows.
const DELIVERIES_MAX: usize = 2;
/// How many endpoints are tried, including those that did not receive the rows: several may disappear with one node.
const ENDPOINTS_MAX: usize = 4;
/// How many characters of a predictor's error a client gets.
const DETAIL_MAX: usize = 500;

static LINES: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// A response and the revision that gave it.
pub(crate) struct Forwarded {
    pub(crate) revision: Arc<Revision>,
    pub(crate) answers: Answers,
}

/// Sends the rows of `body` to an endpoint of `model`, and to another one if that fails.
pub(crate) async fn forward(
    model: &Model,
    body: &Body,
    span: &RequestSpan,
    deadline: Deadline,
) -> Result<Forwarded, ApiError> {
    let now = now();
    let _permit =
        model.concurrency.try_acquire(model.balancer.len(), now).ok_or_else(|| model.overloaded_error())?;
    let request = Call { model, body, rows: OutgoingRows::new(body), span, deadline };
    model.retry_budget.record_request(now);
    let mut endpoint = model.pick(&[]).ok_or_else(|| model.not_ready_error())?;
    let mut tried = TriedEndpoints::default();
    loop {
        let error = match request.ask_with_hedge(endpoint, &mut tried).await {
            Err(error) if error.is_retryable() => error,
            ended => return ended,
        };
        endpoint = match request.other(&tried) {
            Some(other) => other,
            None => return Err(error),
        };
    }
}

/// The endpoints tried for one request.
#[derive(Default)]
struct TriedEndpoints {
    endpoints: Vec<Arc<Endpoint>>,
    /// How many of them certainly did not receive the rows.
    undelivered: usize,
}

impl TriedEndpoints {
    /// Records a failure.
    fn failed(&mut self, error: &ApiError) {
        self.undelivered += usize::from(error.is_undelivered());
    }

    /// Whether the rows may be sent to one more endpoint.
    fn may_continue(&self) -> bool {
        self.endpoints.len() < ENDPOINTS_MAX && self.endpoints.len() - self.undelivered < DELIVERIES_MAX
    }
}

/// The result of one attempt.
enum AttemptOutcome {
    Answers(Answers),
    /// The response is of another revision than the rows were validated for.
    OtherRevision(UpstreamResponse),
}

/// An attempt, counted and traced whatever its outcome, also if it is dropped because another endpoint responded first or the
/// client disconnected.
struct Attempt<'a> {
    revision: &'a Revision,
    span: RequestSpan,
    started: Instant,
    has_ended: bool,
}

impl Attempt<'_> {
    fn end(mut self, code: Code, status: Option<u16>, took: Duration) {
        self.has_ended = true;
        self.revision.series.record_attempt(Some(code), took, self.span.context());
        self.span.finish(status, (code != Code::Ok).then_some(code.as_str()));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.revision.series.record_attempt(None, self.started.elapsed(), self.span.context());
            self.span.cancel();
        }
    }
}

/// A request in progress.
struct Call<'a> {
    model: &'a Model,
    body: &'a Body,
    rows: OutgoingRows<'a>,
    span: &'a RequestSpan,
    deadline: Deadline,
}

impl Call<'_> {
    /// Another endpoint for a retry, within the retry budget. A prediction has no side effects, so it can be repeated.
    fn other(&self, tried: &TriedEndpoints) -> Option<InFlight> {
        self.other_if(tried, |model| model.retry_budget.try_retry(now()))
    }

    fn other_if(&self, tried: &TriedEndpoints, allows: impl FnOnce(&Model) -> bool) -> Option<InFlight> {
        let other = tried.may_continue().then(|| self.model.pick(&tried.endpoints)).flatten();
        other.filter(|_| allows(self.model))
    }

    /// Another endpoint for a hedge. If the first endpoint is working, both do the work, which is charged to the budget by rows.
    fn hedge(&self, endpoint: &InFlight, reason: HedgeReason, tried: &TriedEndpoints) -> Option<InFlight> {
        let rows = self.body.len();
        let waited = Duration::from_millis(now().saturating_sub(endpoint.at));
        match reason {
            HedgeReason::Unresponsive => {
                self.model.record_unresponsive(endpoint, rows, waited);
                self.other(tried)
            }
            HedgeReason::Slow => {
                self.model.record_slow(endpoint, rows, waited);
                self.other_if(tried, |model| model.retry_budget.try_hedge(rows, now()))
            }
        }
    }

    /// Awaits the response, or returns the reason to hedge.
    async fn within_hedge_delay<T>(
        &self,
        endpoint: &InFlight,
        mut answer: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, HedgeReason> {
        let rows = self.body.len();
        let hedge_delay = self.model.hedge_delay.for_rows(rows);
        let mut at = endpoint.at;
        loop {
            match endpoint.hedge_decision(rows, hedge_delay, at) {
                HedgeDecision::Wait(time) => match timeout(time, answer.as_mut()).await {
                    Ok(ended) => return Ok(ended),
                    Err(_) => at = now(),
                },
                HedgeDecision::Hedge(reason) => return Err(reason),
            }
        }
    }

    /// Sends the request to `endpoint`, and to another one as well if that is slow. The first response wins.
    async fn ask_with_hedge(
        &self,
        endpoint: InFlight,
        tried: &mut TriedEndpoints,
    ) -> Result<Forwarded, ApiError> {
        // Declared first, because the futures below borrow it.
        let other;
        let mut first = pin!(self.ask_endpoint(&endpoint));
        let first_outcome = self.within_hedge_delay(&endpoint, first.as_mut()).await;
        if let Ok(Ok(response)) = first_outcome {
            return Ok(response);
        }
        tried.endpoints.push(endpoint.endpoint());
        let reason = match first_outcome {
            Ok(failed) => return failed.inspect_err(|error| tried.failed(error)),
            Err(reason) => reason,
        };
        other = match self.hedge(&endpoint, reason, tried) {
            Some(other) => other,
            None => return first.await.inspect_err(|error| tried.failed(error)),
        };
        tried.endpoints.push(other.endpoint());
        // Rare, so it is boxed to keep the future of every request small.
        let second = Box::pin(self.ask_endpoint(&other));
        let (ended, rest) = match select(first, second).await {
            Either::Left((ended, rest)) => (ended, Either::Right(rest)),
            Either::Right((ended, rest)) => (ended, Either::Left(rest)),
        };
        match ended {
            Err(error) if error.is_retryable() => {
                tried.failed(&error);
                rest.await.inspect_err(|error| tried.failed(error))
            }
            ended => ended,
        }
    }

    /// The response of `endpoint`. During a rollout endpoints serve different revisions: the response is interpreted with the revision
    /// that it names, and the endpoint itself is asked to describe it.
    async fn ask_endpoint(&self, endpoint: &InFlight) -> Result<Forwarded, ApiError> {
        let Self { model, span, deadline, .. } = *self;
        let mut revision = match model.revision_of(endpoint) {
            Some(revision) => revision,
            None => model.describe_endpoint(endpoint, span, deadline).await?,
        };
        if self.rows.check(&revision).is_err() && !endpoint.was_recently(&revision) {
            // The endpoint may have changed its revision, or never had the one described last.
            revision = model.describe_endpoint(endpoint, span, deadline).await?;
        }
        for sent in 0..SENDS_MAX {
            self.rows.check(&revision)?;
            let started = Instant::now();
            let attempt = self.send(endpoint, &revision).await;
            let attempt = if sent == 0 { attempt } else { attempt.map_err(ApiError::after_delivery) };
            let response = match attempt? {
                AttemptOutcome::Answers(answers) => {
                    log_prediction(self, endpoint, &revision, &answers, started.elapsed());
                    return Ok(Forwarded { revision, answers });
                }
                AttemptOutcome::OtherRevision(response) => response,
            };
            let before = revision;
            revision =
                match response.revision.as_ref().and_then(|revision| model.find_revision(endpoint, revision))
                {
                    Some(revision) => revision,
                    None => model
                        .describe_endpoint(endpoint, span, deadline)
                        .await
                        .map_err(ApiError::after_delivery)?,
                };
            self.rows.check(&revision)?;
            // A prediction of the revision now known is valid, since the rows are valid for it, unless their names gave other numbers
            // for the revision before. A refusal may be due to the rows being validated for another revision. The rows are then
            // sent again.
            let is_valid =
                self.rows.has_same_numbers(&before, &revision) && !is_other_revision(&response, &revision);
            if response.status == StatusCode::OK && is_valid {
                let answers = self.interpret(endpoint, &response, &revision)?;
                log_prediction(self, endpoint, &revision, &answers, started.elapsed());
                return Ok(Forwarded { revision, answers });
            }
        }
        Err(self.upstream_error(
            endpoint,
            UpstreamError::Failed("its revision changed with every response".to_owned()),
        ))
    }

    async fn send(&self, endpoint: &InFlight, revision: &Arc<Revision>) -> Result<AttemptOutcome, ApiError> {
        let body = self.rows.encode(revision)?;
        let span = self.span.client(&Method::POST, "/predict", endpoint.pool.url());
        span.model(self.model.id.name.as_str(), &revision.description.version, self.body.len());
        let attempt = Attempt { revision, span, started: Instant::now(), has_ended: false };
        let request = UpstreamRequest {
            method: Method::POST,
            path: "/predict",
            body,
            trace: attempt.span.context(),
            response_max: message::response_max(self.body.len(), revision.outputs(self.body.probabilities)),
        };
        let (status, sent) = match endpoint.pool.send(&request, self.deadline).await {
            Err(error) => (None, Err(self.upstream_error(endpoint, error))),
            Ok(response) if is_other_revision(&response, revision) => {
                (Some(response.status.as_u16()), Ok(AttemptOutcome::OtherRevision(response)))
            }
            Ok(response) => (
                Some(response.status.as_u16()),
                self.interpret(endpoint, &response, revision).map(AttemptOutcome::Answers),
            ),
        };
        let took = attempt.started.elapsed();
        if let Ok(AttemptOutcome::Answers(_)) = &sent {
            self.model.record_prediction(endpoint, revision, self.body.len(), took);
        }
        attempt.end(sent.as_ref().err().map_or(Code::Ok, ApiError::code), status, took);
        sent
    }

    fn upstream_error(&self, endpoint: &InFlight, error: UpstreamError) -> ApiError {
        self.model.record_failure(endpoint, &error);
        self.model.error_at(endpoint, error)
    }

    /// The predictions in `response`, or its error.
    fn interpret(
        &self,
        endpoint: &InFlight,
        response: &UpstreamResponse,
        revision: &Revision,
    ) -> Result<Answers, ApiError> {
        let error = |kind: fn(String) -> UpstreamError, why: &str| {
            Err(self.upstream_error(endpoint, kind(format!("{}/predict: {why}", endpoint.pool.url()))))
        };
        match response.status {
            StatusCode::OK if response.revision.is_none() => {
                error(UpstreamError::Failed, &format!("the response lacks the header {REVISION_HEADER}"))
            }
            StatusCode::OK => message::decode_response(&response.body, self.body, &revision.description)
                .or_else(|why| error(UpstreamError::Failed, &why)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                let member = if self.body.is_single() { FEATURES } else { INSTANCES };
                Err(ApiError::RefusedByPredictor { member, words: detail(&response.body) })
            }
            StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::BodyTooLarge { limit: None }),
            StatusCode::SERVICE_UNAVAILABLE if response.is_overloaded => {
                Err(self.upstream_error(endpoint, UpstreamError::Overloaded))
            }
            StatusCode::SERVICE_UNAVAILABLE => error(UpstreamError::NotReady, &detail(&response.body)),
            other => error(UpstreamError::Failed, &format!("status {other}: {}", detail(&response.body))),
        }
    }
}

/// Whether `response` is of another revision, which may accept other rows. Server errors do not depend on the revision.
fn is_other_revision(response: &UpstreamResponse, revision: &Revision) -> bool {
    let is_about_rows = matches!(
        response.status,
        StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    );
    is_about_rows && response.revision.as_ref().is_some_and(|header| *header != revision.header)
}

/// The reason in a predictor's error body: `{"detail": "…"}` or `{"detail": [{"msg": "…"}, …]}`.
fn detail(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = match &body["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            items.iter().filter_map(|item| item["msg"].as_str()).collect::<Vec<_>>().join("; ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    };
    match detail.char_indices().nth(DETAIL_MAX) {
        _ if detail.is_empty() => "the predictor returned no reason".to_owned(),
        Some((cut, _)) => format!("{}…", &detail[..cut]),
        None => detail,
    }
}

/// Logs a prediction, within the log limit. Failures are logged at the end of the request.
fn log_prediction(
    call: &Call<'_>,
    endpoint: &Endpoint,
    revision: &Revision,
    answers: &Answers,
    took: Duration,
) {
    // A line that is not written must not use up the limit.
    let Some(left_out) = tracing::enabled!(Level::INFO).then(|| LINES.admit()).flatten() else { return };
    let one = answers.one();
    tracing::info!(
        trace_id = %call.span.context(),
        model = call.model.id.name.as_str(),
        namespace = call.model.id.namespace,
        version = revision.description.version,
        endpoint = endpoint.pool.url(),
        rows = answers.rows(),
        features_count = revision.description.features.len(),
        prediction = one.map(|one| one.prediction),
        confidence = one.map(|one| one.confidence),
        value = answers.only_value(),
        code = Code::Ok.as_str(),
        duration_ms = took.as_secs_f64() * 1000.0,
        left_out,
        "predicted",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_predictor_is_extracted_and_shortened() {
        let check = |body: &str, expected: &str| assert_eq!(detail(body.as_bytes()), expected, "{body}");
        check(r#"{"detail":"Invalid features: too few"}"#, "Invalid features: too few");
        check(r#"{"detail":[{"msg":"a","loc":["body"]},{"msg":"b"},{}]}"#, "a; b");
        for none in ["", "<html>", "[]", "{}", r#"{"detail":7}"#, r#"{"detail":""}"#, r#"{"detail":[{}]}"#] {
            check(none, "the predictor returned no reason");
        }
        check(&format!(r#"{{"detail":"{}"}}"#, "é".repeat(501)), &("é".repeat(500) + "…"));
    }
}
