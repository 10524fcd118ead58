//! What the gateway knows of each model, learned from its predictor.
//!
//! Comes in: the name of a model, or the word that what is known of it is no longer true. Goes out: what is
//! known now. Never: two calls for the same lesson at once, nor a memory of failure; who asks next tries again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use canopy_contract::describe::ModelDescription;
use canopy_contract::names::ModelRef;
use canopy_runtime::budget::{Budget, LINES_PER_SECOND};
use canopy_runtime::trace::RequestSpan;
use http::{Method, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::Level;

use crate::directory::Directory;
use crate::failure::{Failure, Trouble};
use crate::known::Known;
use crate::metrics::{Metrics, Series};
use crate::upstream::{Deadline, Endpoint, Question, Reply};

/// How long the description of a model may be: thousands of features with long names.
const DESCRIPTION_MAX: usize = 4 << 20;

static LINES: Budget = Budget::new(LINES_PER_SECOND);

/// Every model there is.
pub(crate) struct Catalogue {
    models: BTreeMap<ModelRef, Arc<Served>>,
}

impl Catalogue {
    /// The models of `directory`, of which nothing is known yet.
    pub(crate) fn new(directory: &Directory, metrics: &Arc<Metrics>) -> Self {
        let served = |(model, endpoint): (&ModelRef, &Arc<Endpoint>)| {
            let served = Served {
                model: model.clone(),
                endpoint: endpoint.clone(),
                metrics: metrics.clone(),
                series: metrics.of(model, ""),
                known: ArcSwapOption::empty(),
                lessons: AtomicU64::new(0),
                last_lesson: Mutex::new(None),
            };
            (model.clone(), Arc::new(served))
        };
        Self { models: directory.models().map(served).collect() }
    }

    /// The model called `model`, where there is one.
    pub(crate) fn find(&self, model: &ModelRef) -> Option<&Arc<Served>> {
        self.models.get(model)
    }

    /// All models, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.models.values()
    }
}

/// A model, where it listens, and what is known of it.
pub(crate) struct Served {
    pub(crate) model: ModelRef,
    pub(crate) endpoint: Arc<Endpoint>,
    metrics: Arc<Metrics>,
    /// For what happens while no version is known.
    series: Series,
    known: ArcSwapOption<Known>,
    /// How many lessons have ended.
    lessons: AtomicU64,
    last_lesson: Mutex<Option<Result<Arc<Known>, Trouble>>>,
}

impl Served {
    /// What is known; if nothing is yet, the predictor is asked.
    pub(crate) async fn known(&self, span: &RequestSpan, deadline: Deadline) -> Result<Arc<Known>, Failure> {
        match self.known.load_full() {
            Some(known) => Ok(known),
            None => self.learn(span, deadline).await,
        }
    }

    /// What is known without asking.
    pub(crate) fn known_so_far(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Asks the predictor what its model is now. Whoever comes while that call is under way shares its outcome.
    pub(crate) async fn learn(&self, span: &RequestSpan, deadline: Deadline) -> Result<Arc<Known>, Failure> {
        let lesson = self.share_lesson(span, deadline).await;
        lesson.map_err(|trouble| self.failure(trouble))
    }

    /// The failure to answer for this model.
    pub(crate) fn failure(&self, trouble: Trouble) -> Failure {
        Failure::Predictor { model: self.model.clone(), trouble }
    }

    /// The series to count under while no version is known.
    pub(crate) fn series(&self) -> &Series {
        &self.series
    }

    async fn share_lesson(&self, span: &RequestSpan, deadline: Deadline) -> Result<Arc<Known>, Trouble> {
        let ended_before = self.lessons.load(Ordering::Acquire);
        let late = Trouble::Late { after: deadline.after };
        let mut last = timeout_at(deadline.at, self.last_lesson.lock()).await.map_err(|_| late)?;
        if self.lessons.load(Ordering::Acquire) != ended_before {
            match &*last {
                // Its deadline was not ours.
                None | Some(Err(Trouble::Late { .. })) => {}
                Some(shared) => return shared.clone(),
            }
        }
        let lesson = self.lesson(span, deadline).await;
        if let Ok(known) = &lesson {
            self.known.store(Some(known.clone()));
        }
        *last = Some(lesson.clone());
        self.lessons.fetch_add(1, Ordering::Release);
        lesson
    }

    async fn lesson(&self, span: &RequestSpan, deadline: Deadline) -> Result<Arc<Known>, Trouble> {
        let started = Instant::now();
        let span = span.client(&Method::GET, "/model", self.endpoint.url());
        let question = Question {
            method: Method::GET,
            path: "/model",
            body: Bytes::new(),
            trace: span.context(),
            answer_max: DESCRIPTION_MAX,
        };
        let read = self.endpoint.ask(&question, deadline).await.and_then(|reply| self.read(&reply));
        match &read {
            Ok(_) => span.finish(200, None),
            Err(trouble) => span.finish(trouble.code().status(), Some(trouble.code().as_str())),
        }
        let known = read?;
        let ModelDescription { version, revision, .. } = &known.description;
        if tracing::enabled!(Level::INFO)
            && let Some(left_out) = LINES.admit()
        {
            tracing::info!(
                trace_id = %span.context(), model = %self.model, version, revision, endpoint = self.endpoint.url(),
                duration_ms = started.elapsed().as_secs_f64() * 1000.0, left_out, "learned what the model is",
            );
        }
        Ok(known)
    }

    fn read(&self, reply: &Reply) -> Result<Arc<Known>, Trouble> {
        let url = self.endpoint.url();
        match reply.status {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE => {
                return Err(Trouble::NotReady(format!("{url} has no model to describe yet")));
            }
            other => return Err(Trouble::Failed(format!("{url}/model answered {other}"))),
        }
        let known = Known::read(&reply.body, &self.model, &self.metrics)
            .map_err(|why| Trouble::Failed(format!("{url} is no predictor of the model: {why}")))?;
        // What is the same stays the same object, with its series.
        let same = self.known.load_full().filter(|before| before.description == known.description);
        Ok(same.unwrap_or_else(|| Arc::new(known)))
    }
}
