//! Rows go to a predictor, predictions come back.
//!
//! Comes in: a model and rows. Goes out: answers, and the revision that gave them. Never: an answer that is
//! read with the classes of another revision than the one that gave it, nor rows that reach a third pod: they may be what
//! the first two failed of. A pod that takes long is not given up, but another one is asked as well.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use canopy_contract::code::Code;
use canopy_contract::names::REVISION_HEADER;
use canopy_contract::rows::Rows;
use canopy_contract::schema;
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
use crate::upstream::pool::{Deadline, UpstreamRequest, UpstreamResponse};

/// How often the same rows are sent to the same pod: again only where it became another in between, and once
/// more in case that takes a moment.
const SENDS_MAX: usize = 3;
/// How many pods may get the same rows.
const DELIVERIES_MAX: usize = 2;
/// How many are tried in all, those included that surely did not get the rows: a node that goes takes several with it.
const ENDPOINTS_MAX: usize = 4;
/// How much of a predictor's words a caller is told.
const DETAIL_MAX: usize = 500;

static LINES: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// What came back.
pub(crate) struct Forwarded {
    pub(crate) revision: Arc<Revision>,
    pub(crate) answers: Answers,
}

/// Asks a pod of `served` about `rows`, if they fit its model, and others if that one gives no answer.
pub(crate) async fn forward(
    model: &Model,
    rows: &Rows,
    span: &RequestSpan,
    deadline: Deadline,
) -> Result<Forwarded, ApiError> {
    let now = now();
    let _permit =
        model.concurrency.try_acquire(model.balancer.len(), now).ok_or_else(|| model.overloaded_error())?;
    let request = Call { model, rows, body: OnceLock::new(), span, deadline };
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

/// The pods that were asked about the rows of one request.
#[derive(Default)]
struct TriedEndpoints {
    balancer: Vec<Arc<Endpoint>>,
    /// How many of them surely did not get the rows.
    undelivered: usize,
}

impl TriedEndpoints {
    /// A pod failed.
    fn failed(&mut self, error: &ApiError) {
        self.undelivered += usize::from(error.is_undelivered());
    }

    /// Whether the rows may be sent to one more pod.
    fn may_go_on(&self) -> bool {
        self.balancer.len() < ENDPOINTS_MAX && self.balancer.len() - self.undelivered < DELIVERIES_MAX
    }
}

fn check(rows: &Rows, revision: &Revision) -> Result<(), ApiError> {
    schema::check(rows, &revision.description.features).map_err(ApiError::InvalidFeatures)
}

/// What one attempt came to.
enum AttemptOutcome {
    Answers(Answers),
    /// Another revision has answered than the one that the rows were checked against.
    OtherRevision(UpstreamResponse),
}

/// An attempt to get predictions, which is counted and told to the trace however it ends: also where it is dropped, since
/// another pod answered first or the client left.
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

/// Rows on their way to some pod.
struct Call<'a> {
    model: &'a Model,
    rows: &'a Rows,
    /// The rows as JSON, written once they have passed the check: rows that no pod takes cost no memory for it.
    body: OnceLock<Bytes>,
    span: &'a RequestSpan,
    deadline: Deadline,
}

impl Call<'_> {
    /// Another pod than those `tried`, if there is one and load allows. A prediction is a pure function: to ask twice
    /// does no harm but that.
    fn other(&self, tried: &TriedEndpoints) -> Option<InFlight> {
        self.other_if(tried, |model| model.retry_budget.try_retry(now()))
    }

    fn other_if(&self, tried: &TriedEndpoints, admits: impl FnOnce(&Model) -> bool) -> Option<InFlight> {
        let other = tried.may_go_on().then(|| self.model.pick(&tried.balancer)).flatten();
        other.filter(|_| admits(self.model))
    }

    /// Another pod for rows that `pod` has not answered in time. Where it answers others, both will do the work, which is
    /// charged by the row.
    fn hedge(&self, endpoint: &InFlight, reason: HedgeReason, tried: &TriedEndpoints) -> Option<InFlight> {
        let rows = self.rows.len();
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

    /// What an answer of `pod` comes to, or that it takes too long.
    async fn within_hedge_delay<T>(
        &self,
        endpoint: &InFlight,
        mut answer: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, HedgeReason> {
        let rows = self.rows.len();
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

    /// Asks `pod`, and another one as well if it takes too long; the first answer counts.
    async fn ask_with_hedge(
        &self,
        endpoint: InFlight,
        tried: &mut TriedEndpoints,
    ) -> Result<Forwarded, ApiError> {
        // It has to outlive the first of the futures, which end together.
        let other;
        let mut first = pin!(self.ask_endpoint(&endpoint));
        let at_first = self.within_hedge_delay(&endpoint, first.as_mut()).await;
        if let Ok(Ok(answered)) = at_first {
            return Ok(answered);
        }
        tried.balancer.push(endpoint.endpoint());
        let reason = match at_first {
            Ok(failed) => return failed.inspect_err(|error| tried.failed(error)),
            Err(reason) => reason,
        };
        other = match self.hedge(&endpoint, reason, tried) {
            Some(other) => other,
            None => return first.await.inspect_err(|error| tried.failed(error)),
        };
        tried.balancer.push(other.endpoint());
        // Seldom made, so it takes no room in the future of every request.
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

    /// The answer of `pod`, as the revision that it serves. During a change of revision each pod is one of two:
    /// what it says is read as what it is, and it is asked itself what that is, so that no request is sent to
    /// and fro between the two.
    async fn ask_endpoint(&self, endpoint: &InFlight) -> Result<Forwarded, ApiError> {
        let Self { model, rows, span, deadline, .. } = *self;
        let mut revision = match model.revision_of(endpoint) {
            Some(revision) => revision,
            None => model.describe_endpoint(endpoint, span, deadline).await?,
        };
        if check(rows, &revision).is_err() && !endpoint.was_recently(&revision) {
            // It may have become another, or be of another revision than the one that spoke last.
            revision = model.describe_endpoint(endpoint, span, deadline).await?;
        }
        for sent in 0..SENDS_MAX {
            check(rows, &revision)?;
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
            revision =
                match response.revision.as_ref().and_then(|revision| model.find_revision(endpoint, revision))
                {
                    Some(revision) => revision,
                    None => model
                        .describe_endpoint(endpoint, span, deadline)
                        .await
                        .map_err(ApiError::after_delivery)?,
                };
            check(rows, &revision)?;
            // An answer of the revision that is known now is as good as one that was asked for now. A refusal is
            // not: these rows would not have been sent there unless they fit.
            if response.status == StatusCode::OK && !is_other_revision(&response, &revision) {
                let answers = self.interpret(endpoint, &response, &revision)?;
                log_prediction(self, endpoint, &revision, &answers, started.elapsed());
                return Ok(Forwarded { revision, answers });
            }
        }
        Err(self.error(endpoint, UpstreamError::Failed("its revision changed with every answer".to_owned())))
    }

    async fn send(&self, endpoint: &InFlight, revision: &Arc<Revision>) -> Result<AttemptOutcome, ApiError> {
        let body = self.body()?;
        let span = self.span.client(&Method::POST, "/predict", endpoint.pool.url());
        span.model(self.model.id.name.as_str(), &revision.description.version, self.rows.len());
        let attempt = Attempt { revision, span, started: Instant::now(), has_ended: false };
        let request = UpstreamRequest {
            method: Method::POST,
            path: "/predict",
            body,
            trace: attempt.span.context(),
            response_max: message::response_max(self.rows.len()),
        };
        let (status, sent) = match endpoint.pool.send(&request, self.deadline).await {
            Err(error) => (None, Err(self.error(endpoint, error))),
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
            self.model.record_prediction(endpoint, revision, self.rows.len(), took);
        }
        attempt.end(sent.as_ref().err().map_or(Code::Ok, ApiError::code), status, took);
        sent
    }

    fn body(&self) -> Result<Bytes, ApiError> {
        if let Some(body) = self.body.get() {
            return Ok(body.clone());
        }
        let written = message::encode_request(self.rows);
        let body = written.map_err(|_| ApiError::Internal("rows cannot be written as JSON"))?;
        Ok(self.body.get_or_init(|| body).clone())
    }

    fn error(&self, endpoint: &InFlight, error: UpstreamError) -> ApiError {
        self.model.record_failure(endpoint, &error);
        self.model.error_at(endpoint, error)
    }

    /// The answers in `reply`, or why there are none.
    fn interpret(
        &self,
        endpoint: &InFlight,
        response: &UpstreamResponse,
        revision: &Revision,
    ) -> Result<Answers, ApiError> {
        let rows = self.rows;
        let error = |kind: fn(String) -> UpstreamError, why: &str| {
            Err(self.error(endpoint, kind(format!("{}/predict: {why}", endpoint.pool.url()))))
        };
        match response.status {
            StatusCode::OK if response.revision.is_none() => {
                error(UpstreamError::Failed, &format!("its answer has no header {REVISION_HEADER}"))
            }
            StatusCode::OK => message::decode_response(&response.body, rows, &revision.description)
                .or_else(|why| error(UpstreamError::Failed, &why)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                let member = if rows.is_single() { "features" } else { "instances" };
                Err(ApiError::RefusedByPredictor { member, words: detail(&response.body) })
            }
            StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::BodyTooLarge { limit: None }),
            StatusCode::SERVICE_UNAVAILABLE if response.is_overloaded => {
                Err(self.error(endpoint, UpstreamError::Overloaded))
            }
            StatusCode::SERVICE_UNAVAILABLE => error(UpstreamError::NotReady, &detail(&response.body)),
            other => {
                error(UpstreamError::Failed, &format!("it answered {other}: {}", detail(&response.body)))
            }
        }
    }
}

/// Whether `reply` comes from another revision, which may take other rows. A failure is one whoever it is from.
fn is_other_revision(response: &UpstreamResponse, revision: &Revision) -> bool {
    let is_about_rows = matches!(
        response.status,
        StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    );
    is_about_rows && response.revision.as_ref().is_some_and(|header| *header != revision.header)
}

/// What a predictor's error body says: `{"detail": "…"}`, or `{"detail": [{"msg": "…"}, …]}`.
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
        _ if detail.is_empty() => "the predictor gave no reason".to_owned(),
        Some((cut, _)) => format!("{}…", &detail[..cut]),
        None => detail,
    }
}

/// One line for a call that was answered, if there is room for it; a failure is told where its request ends.
fn log_prediction(
    call: &Call<'_>,
    endpoint: &Endpoint,
    revision: &Revision,
    answers: &Answers,
    took: Duration,
) {
    // Not asked where nobody reads: a line that is not written must not use up another's place.
    let Some(left_out) = tracing::enabled!(Level::INFO).then(|| LINES.admit()).flatten() else { return };
    let one = answers.one();
    tracing::info!(
        trace_id = %call.span.context(),
        model = call.model.id.name.as_str(),
        namespace = call.model.id.namespace,
        version = revision.description.version,
        endpoint = endpoint.pool.url(),
        rows = answers.as_slice().len(),
        features_count = revision.description.features.len(),
        prediction = one.map(|one| one.prediction),
        confidence = one.map(|one| one.confidence),
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
    fn a_predictors_words_are_found_and_cut() {
        let check = |body: &str, expected: &str| assert_eq!(detail(body.as_bytes()), expected, "{body}");
        check(r#"{"detail":"Invalid features: too few"}"#, "Invalid features: too few");
        check(r#"{"detail":[{"msg":"a","loc":["body"]},{"msg":"b"},{}]}"#, "a; b");
        for none in ["", "<html>", "[]", "{}", r#"{"detail":7}"#, r#"{"detail":""}"#, r#"{"detail":[{}]}"#] {
            check(none, "the predictor gave no reason");
        }
        check(&format!(r#"{{"detail":"{}"}}"#, "é".repeat(501)), &("é".repeat(500) + "…"));
    }
}
