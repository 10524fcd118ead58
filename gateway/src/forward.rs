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
use crate::balance::endpoints::{Asked, Over, Pod, Wait};
use crate::error::{Failure, Trouble};
use crate::model::Served;
use crate::revision::Known;
use crate::upstream::connection::{Deadline, Question, Reply};
use crate::upstream::message::{self, Answers};

/// How often the same rows are sent to the same pod: again only where it became another in between, and once
/// more in case that takes a moment.
const SENT_MAX: usize = 3;
/// How many pods may get the same rows.
const PODS_MAX: usize = 2;
/// How many are tried in all, those included that surely did not get the rows: a node that goes takes several with it.
const TRIED_MAX: usize = 4;
/// How much of a predictor's words a caller is told.
const WORDS_MAX: usize = 500;

static LINES: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// What came back.
pub(crate) struct Forwarded {
    pub(crate) known: Arc<Known>,
    pub(crate) answers: Answers,
}

/// Asks a pod of `served` about `rows`, if they fit its model, and others if that one gives no answer.
pub(crate) async fn forward(
    served: &Served,
    rows: &Rows,
    span: &RequestSpan,
    deadline: Deadline,
) -> Result<Forwarded, Failure> {
    let now = now();
    let _at_work = served.share.take(served.pods.len(), now).ok_or_else(|| served.overloaded())?;
    let request = Call { served, rows, body: OnceLock::new(), span, deadline };
    served.retries.came(now);
    let mut pod = served.pick(&[]).ok_or_else(|| served.none_ready())?;
    let mut tried = Tried::default();
    loop {
        let failure = match request.ask_patiently(pod, &mut tried).await {
            Err(failure) if failure.is_of_one_pod() => failure,
            ended => return ended,
        };
        pod = match request.other(&tried) {
            Some(other) => other,
            None => return Err(failure),
        };
    }
}

/// The pods that were asked about the rows of one request.
#[derive(Default)]
struct Tried {
    pods: Vec<Arc<Pod>>,
    /// How many of them surely did not get the rows.
    undelivered: usize,
}

impl Tried {
    /// A pod failed.
    fn failed(&mut self, failure: &Failure) {
        self.undelivered += usize::from(failure.is_undelivered());
    }

    /// Whether the rows may be sent to one more pod.
    fn may_go_on(&self) -> bool {
        self.pods.len() < TRIED_MAX && self.pods.len() - self.undelivered < PODS_MAX
    }
}

fn check(rows: &Rows, known: &Known) -> Result<(), Failure> {
    schema::check(rows, &known.description.features).map_err(Failure::Faults)
}

/// What one attempt came to.
enum Sent {
    Answers(Answers),
    /// Another revision has answered than the one that the rows were checked against.
    Another(Reply),
}

/// An attempt to get predictions, which is counted and told to the trace however it ends: also where it is dropped, since
/// another pod answered first or the client left.
struct Attempt<'a> {
    known: &'a Known,
    span: RequestSpan,
    started: Instant,
    has_ended: bool,
}

impl Attempt<'_> {
    fn end(mut self, code: Code, status: Option<u16>, took: Duration) {
        self.has_ended = true;
        self.known.series.asked(Some(code), took, self.span.context());
        self.span.finish(status, (code != Code::Ok).then_some(code.as_str()));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.known.series.asked(None, self.started.elapsed(), self.span.context());
            self.span.cancel();
        }
    }
}

/// Rows on their way to some pod.
struct Call<'a> {
    served: &'a Served,
    rows: &'a Rows,
    /// The rows as JSON, written once they have passed the check: rows that no pod takes cost no memory for it.
    body: OnceLock<Bytes>,
    span: &'a RequestSpan,
    deadline: Deadline,
}

impl Call<'_> {
    /// Another pod than those `tried`, if there is one and load allows. A prediction is a pure function: to ask twice
    /// does no harm but that.
    fn other(&self, tried: &Tried) -> Option<Asked> {
        self.other_if(tried, |served| served.retries.admit(now()))
    }

    fn other_if(&self, tried: &Tried, admits: impl FnOnce(&Served) -> bool) -> Option<Asked> {
        let other = tried.may_go_on().then(|| self.served.pick(&tried.pods)).flatten();
        other.filter(|_| admits(self.served))
    }

    /// Another pod for rows that `pod` has not answered in time. Where it answers others, both will do the work, which is
    /// charged by the row.
    fn hedge(&self, pod: &Asked, over: Over, tried: &Tried) -> Option<Asked> {
        let rows = self.rows.len();
        let waited = Duration::from_millis(now().saturating_sub(pod.at));
        match over {
            Over::Silent => {
                self.served.was_silent(pod, rows, waited);
                self.other(tried)
            }
            Over::Slow => {
                self.served.was_slow(pod, rows, waited);
                self.other_if(tried, |served| served.retries.admit_hedge(rows, now()))
            }
        }
    }

    /// What an answer of `pod` comes to, or that it takes too long.
    async fn in_patience<T>(
        &self,
        pod: &Asked,
        mut answer: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Over> {
        let rows = self.rows.len();
        let patience = self.served.patience.time(rows);
        let mut at = pod.at;
        loop {
            match pod.wait(rows, patience, at) {
                Wait::For(time) => match timeout(time, answer.as_mut()).await {
                    Ok(ended) => return Ok(ended),
                    Err(_) => at = now(),
                },
                Wait::Over(over) => return Err(over),
            }
        }
    }

    /// Asks `pod`, and another one as well if it takes too long; the first answer counts.
    async fn ask_patiently(&self, pod: Asked, tried: &mut Tried) -> Result<Forwarded, Failure> {
        // It has to outlive the first of the futures, which end together.
        let other;
        let mut first = pin!(self.ask(&pod));
        let at_first = self.in_patience(&pod, first.as_mut()).await;
        if let Ok(Ok(answered)) = at_first {
            return Ok(answered);
        }
        tried.pods.push(pod.shared());
        let over = match at_first {
            Ok(failed) => return failed.inspect_err(|failure| tried.failed(failure)),
            Err(over) => over,
        };
        other = match self.hedge(&pod, over, tried) {
            Some(other) => other,
            None => return first.await.inspect_err(|failure| tried.failed(failure)),
        };
        tried.pods.push(other.shared());
        // Seldom made, so it takes no room in the future of every request.
        let second = Box::pin(self.ask(&other));
        let (ended, rest) = match select(first, second).await {
            Either::Left((ended, rest)) => (ended, Either::Right(rest)),
            Either::Right((ended, rest)) => (ended, Either::Left(rest)),
        };
        match ended {
            Err(failure) if failure.is_of_one_pod() => {
                tried.failed(&failure);
                rest.await.inspect_err(|failure| tried.failed(failure))
            }
            ended => ended,
        }
    }

    /// The answer of `pod`, as the revision that it serves. During a change of revision each pod is one of two:
    /// what it says is read as what it is, and it is asked itself what that is, so that no request is sent to
    /// and fro between the two.
    async fn ask(&self, pod: &Asked) -> Result<Forwarded, Failure> {
        let Self { served, rows, span, deadline, .. } = *self;
        let mut known = match served.known_of(pod) {
            Some(known) => known,
            None => served.learn(pod, span, deadline).await?,
        };
        if check(rows, &known).is_err() && !pod.was_lately(&known) {
            // It may have become another, or be of another revision than the one that spoke last.
            known = served.learn(pod, span, deadline).await?;
        }
        for sent in 0..SENT_MAX {
            check(rows, &known)?;
            let started = Instant::now();
            let attempt = self.send(pod, &known).await;
            let attempt = if sent == 0 { attempt } else { attempt.map_err(Failure::after_delivery) };
            let reply = match attempt? {
                Sent::Answers(answers) => {
                    tell(self, pod, &known, &answers, started.elapsed());
                    return Ok(Forwarded { known, answers });
                }
                Sent::Another(reply) => reply,
            };
            known = match reply.revision.as_ref().and_then(|revision| served.recall(pod, revision)) {
                Some(known) => known,
                None => served.learn(pod, span, deadline).await.map_err(Failure::after_delivery)?,
            };
            check(rows, &known)?;
            // An answer of the revision that is known now is as good as one that was asked for now. A refusal is
            // not: these rows would not have been sent there unless they fit.
            if reply.status == StatusCode::OK && !is_anothers(&reply, &known) {
                let answers = self.judge(pod, &reply, &known)?;
                tell(self, pod, &known, &answers, started.elapsed());
                return Ok(Forwarded { known, answers });
            }
        }
        Err(self.trouble(pod, Trouble::Failed("its revision changed with every answer".to_owned())))
    }

    async fn send(&self, pod: &Asked, known: &Arc<Known>) -> Result<Sent, Failure> {
        let body = self.body()?;
        let span = self.span.client(&Method::POST, "/predict", pod.endpoint.url());
        span.model(self.served.model.name.as_str(), &known.description.version, self.rows.len());
        let attempt = Attempt { known, span, started: Instant::now(), has_ended: false };
        let question = Question {
            method: Method::POST,
            path: "/predict",
            body,
            trace: attempt.span.context(),
            answer_max: message::answer_max(self.rows.len()),
        };
        let (status, sent) = match pod.endpoint.ask(&question, self.deadline).await {
            Err(trouble) => (None, Err(self.trouble(pod, trouble))),
            Ok(reply) if is_anothers(&reply, known) => {
                (Some(reply.status.as_u16()), Ok(Sent::Another(reply)))
            }
            Ok(reply) => (Some(reply.status.as_u16()), self.judge(pod, &reply, known).map(Sent::Answers)),
        };
        let took = attempt.started.elapsed();
        if let Ok(Sent::Answers(_)) = &sent {
            self.served.predicted(pod, known, self.rows.len(), took);
        }
        attempt.end(sent.as_ref().err().map_or(Code::Ok, Failure::code), status, took);
        sent
    }

    fn body(&self) -> Result<Bytes, Failure> {
        if let Some(body) = self.body.get() {
            return Ok(body.clone());
        }
        let written = message::question(self.rows);
        let body = written.map_err(|_| Failure::Internal("rows cannot be written as JSON"))?;
        Ok(self.body.get_or_init(|| body).clone())
    }

    fn trouble(&self, pod: &Asked, trouble: Trouble) -> Failure {
        self.served.went_wrong(pod, &trouble);
        self.served.failure(pod, trouble)
    }

    /// The answers in `reply`, or why there are none.
    fn judge(&self, pod: &Asked, reply: &Reply, known: &Known) -> Result<Answers, Failure> {
        let rows = self.rows;
        let trouble = |kind: fn(String) -> Trouble, why: &str| {
            Err(self.trouble(pod, kind(format!("{}/predict: {why}", pod.endpoint.url()))))
        };
        match reply.status {
            StatusCode::OK if reply.revision.is_none() => {
                trouble(Trouble::Failed, &format!("its answer has no header {REVISION_HEADER}"))
            }
            StatusCode::OK => message::read(&reply.body, rows, &known.description)
                .or_else(|why| trouble(Trouble::Failed, &why)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                let member = if rows.is_single() { "features" } else { "instances" };
                Err(Failure::Refused { member, words: words(&reply.body) })
            }
            StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::TooLarge { limit: None }),
            StatusCode::SERVICE_UNAVAILABLE if reply.is_overloaded => {
                Err(self.trouble(pod, Trouble::Overloaded))
            }
            StatusCode::SERVICE_UNAVAILABLE => trouble(Trouble::NotReady, &words(&reply.body)),
            other => trouble(Trouble::Failed, &format!("it answered {other}: {}", words(&reply.body))),
        }
    }
}

/// Whether `reply` comes from another revision, which may take other rows. A failure is one whoever it is from.
fn is_anothers(reply: &Reply, known: &Known) -> bool {
    let is_about_rows =
        matches!(reply.status, StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    is_about_rows && reply.revision.as_ref().is_some_and(|revision| *revision != known.revision)
}

/// What a predictor's error body says: `{"detail": "…"}`, or `{"detail": [{"msg": "…"}, …]}`.
fn words(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = match &body["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            items.iter().filter_map(|item| item["msg"].as_str()).collect::<Vec<_>>().join("; ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    };
    match words.char_indices().nth(WORDS_MAX) {
        _ if words.is_empty() => "the predictor gave no reason".to_owned(),
        Some((cut, _)) => format!("{}…", &words[..cut]),
        None => words,
    }
}

/// One line for a call that was answered, if there is room for it; a failure is told where its request ends.
fn tell(call: &Call<'_>, pod: &Pod, known: &Known, answers: &Answers, took: Duration) {
    // Not asked where nobody reads: a line that is not written must not use up another's place.
    let Some(left_out) = tracing::enabled!(Level::INFO).then(|| LINES.admit()).flatten() else { return };
    let one = answers.one();
    tracing::info!(
        trace_id = %call.span.context(),
        model = call.served.model.name.as_str(),
        namespace = call.served.model.namespace,
        version = known.description.version,
        endpoint = pod.endpoint.url(),
        rows = answers.as_slice().len(),
        features_count = known.description.features.len(),
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
        let check = |body: &str, expected: &str| assert_eq!(words(body.as_bytes()), expected, "{body}");
        check(r#"{"detail":"Invalid features: too few"}"#, "Invalid features: too few");
        check(r#"{"detail":[{"msg":"a","loc":["body"]},{"msg":"b"},{}]}"#, "a; b");
        for none in ["", "<html>", "[]", "{}", r#"{"detail":7}"#, r#"{"detail":""}"#, r#"{"detail":[{}]}"#] {
            check(none, "the predictor gave no reason");
        }
        check(&format!(r#"{{"detail":"{}"}}"#, "é".repeat(501)), &("é".repeat(500) + "…"));
    }
}
