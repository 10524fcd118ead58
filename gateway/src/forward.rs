//! Rows go to a predictor, predictions come back.
//!
//! Comes in: a model and rows. Goes out: answers, and the revision that gave them. Never: an answer that is
//! read with the classes of another revision than the one that gave it, nor rows sent to a third pod after two that
//! could be reached. Who is silent is not given up, but another pod is asked as well.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use canopy_contract::code::Code;
use canopy_contract::names::REVISION_HEADER;
use canopy_contract::rows::Rows;
use canopy_contract::schema;
use canopy_runtime::budget::{Budget, LINES_PER_SECOND};
use canopy_runtime::trace::RequestSpan;
use futures_util::future::{Either, select};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::Level;

use crate::answer::{self, Answers};
use crate::clock::now;
use crate::failure::{Failure, Trouble};
use crate::known::Known;
use crate::pods::{Asked, Pod};
use crate::served::Served;
use crate::upstream::{Deadline, Question, Reply};

/// How often the same rows are sent to the same pod: again only where it became another in between, and once
/// more in case that takes a moment.
const SENT_MAX: usize = 3;
/// How many pods are asked about the same rows.
const PODS_MAX: usize = 2;
/// How many while none of them can be reached: a node that goes takes several with it.
const LOST_MAX: usize = 4;
/// How much of a predictor's words a caller is told.
const WORDS_MAX: usize = 500;

static LINES: Budget = Budget::new(LINES_PER_SECOND);

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
    let mut tried = Vec::new();
    loop {
        let failure = match request.ask_patiently(pod, &mut tried).await {
            Err(failure) if failure.is_of_one_pod() => failure,
            ended => return ended,
        };
        let may_go_on = tried.len() < if failure.is_of_a_lost_pod() { LOST_MAX } else { PODS_MAX };
        pod = match request.other(&tried, may_go_on) {
            Some(other) => other,
            None => return Err(failure),
        };
    }
}

/// What an answer of `pod` comes to; nothing once the pod has been silent for too long.
async fn unless_silent<T>(
    pod: &Pod,
    patience: Duration,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let asked = now();
    let mut left = pod.patience_left(patience, asked, asked);
    while !left.is_zero() {
        match timeout(left, answer.as_mut()).await {
            Ok(ended) => return Some(ended),
            Err(_) => left = pod.patience_left(patience, asked, now()),
        }
    }
    None
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
    fn other(&self, tried: &[Arc<Pod>], may_go_on: bool) -> Option<Asked> {
        self.served.pick(tried).filter(|_| may_go_on && self.served.retries.admit(now()))
    }

    /// Asks `pod`, and another one as well if it is silent for too long; the first answer counts.
    async fn ask_patiently(&self, pod: Asked, tried: &mut Vec<Arc<Pod>>) -> Result<Forwarded, Failure> {
        let patience = self.served.patience.time();
        // It has to outlive the first of the futures, which end together.
        let other;
        let mut first = pin!(self.ask(&pod));
        let started = Instant::now();
        let at_first = unless_silent(&pod, patience, first.as_mut()).await;
        if let Some(Ok(answered)) = at_first {
            return Ok(answered);
        }
        tried.push(pod.shared());
        if let Some(failed) = at_first {
            return failed;
        }
        self.served.was_silent(&pod, started.elapsed());
        other = match self.other(tried, tried.len() < PODS_MAX) {
            Some(other) => other,
            None => return first.await,
        };
        tried.push(other.shared());
        let started = Instant::now();
        // Seldom made, so it takes no room in the future of every request.
        let mut second = Box::pin(self.ask(&other));
        let (ended, rest, given_up) = match select(first, second.as_mut()).await {
            Either::Left((ended, rest)) => (ended, rest, &other),
            Either::Right((ended, rest)) => (ended, rest, &pod),
        };
        if ended.as_ref().is_err_and(Failure::is_of_one_pod) {
            return rest.await;
        }
        self.served.gave_up(given_up, started.elapsed(), self.span.context());
        ended
    }

    /// The answer of `pod`, as the revision that it serves. During a change of revision each pod is one of two:
    /// what it says is read as what it is, and it is asked itself what that is, so that no request is sent to
    /// and fro between the two.
    async fn ask(&self, pod: &Pod) -> Result<Forwarded, Failure> {
        let Self { served, rows, span, deadline, .. } = *self;
        let mut known = match served.known_of(pod) {
            Some(known) => known,
            None => served.learn(pod, span, deadline).await?,
        };
        if check(rows, &known).is_err() && !pod.was_lately(&known) {
            // It may have become another, or be of another revision than the one that spoke last.
            known = served.learn(pod, span, deadline).await?;
        }
        for _ in 0..SENT_MAX {
            check(rows, &known)?;
            let started = Instant::now();
            let reply = match self.send(pod, &known).await? {
                Sent::Answers(answers) => {
                    tell(self, pod, &known, &answers, started.elapsed());
                    return Ok(Forwarded { known, answers });
                }
                Sent::Another(reply) => reply,
            };
            known = match reply.revision.as_ref().and_then(|revision| served.recall(pod, revision)) {
                Some(known) => known,
                None => served.learn(pod, span, deadline).await?,
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

    async fn send(&self, pod: &Pod, known: &Arc<Known>) -> Result<Sent, Failure> {
        let started = Instant::now();
        let span = self.span.client(&Method::POST, "/predict", pod.endpoint.url());
        span.model(self.served.model.name.as_str(), &known.description.version, self.rows.len());
        let question = Question {
            method: Method::POST,
            path: "/predict",
            body: self.body()?,
            trace: span.context(),
            answer_max: answer::answer_max(self.rows.len()),
        };
        let (status, sent) = match pod.endpoint.ask(&question, self.deadline).await {
            Err(trouble) => (None, Err(self.trouble(pod, trouble))),
            Ok(reply) if is_anothers(&reply, known) => {
                (Some(reply.status.as_u16()), Ok(Sent::Another(reply)))
            }
            Ok(reply) => (Some(reply.status.as_u16()), self.judge(pod, &reply, known).map(Sent::Answers)),
        };
        let took = started.elapsed();
        if let Ok(Sent::Answers(_)) = &sent {
            self.served.predicted(pod, known, took);
        }
        let code = sent.as_ref().err().map_or(Code::Ok, Failure::code);
        known.series.asked(code, took, span.context());
        span.finish(status, (code != Code::Ok).then_some(code.as_str()));
        sent
    }

    fn body(&self) -> Result<Bytes, Failure> {
        if let Some(body) = self.body.get() {
            return Ok(body.clone());
        }
        let written = answer::question(self.rows);
        let body = written.map_err(|_| Failure::Internal("rows cannot be written as JSON"))?;
        Ok(self.body.get_or_init(|| body).clone())
    }

    fn trouble(&self, pod: &Pod, trouble: Trouble) -> Failure {
        self.served.went_wrong(pod, &trouble);
        self.served.failure(pod, trouble)
    }

    /// The answers in `reply`, or why there are none.
    fn judge(&self, pod: &Pod, reply: &Reply, known: &Known) -> Result<Answers, Failure> {
        let rows = self.rows;
        let trouble = |kind: fn(String) -> Trouble, why: &str| {
            Err(self.trouble(pod, kind(format!("{}/predict: {why}", pod.endpoint.url()))))
        };
        match reply.status {
            StatusCode::OK if reply.revision.is_none() => {
                trouble(Trouble::Failed, &format!("its answer has no header {REVISION_HEADER}"))
            }
            StatusCode::OK => answer::read(&reply.body, rows, &known.description)
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
