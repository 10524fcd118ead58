//! Calls to the API server: the clients they are made with, and how they fail.
//!
//! Invariant: no call goes on for ever. Watches have a connection of their own, on which long silence is normal.

use std::time::Duration;

use http::Response;
use http::header::RETRY_AFTER;
use kube::client::ClientBuilder;
use kube::core::Status;
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapResultLayer;

use crate::api::fence::{Fence, FenceClosed};
use crate::reason::{Diagnosis, Reason};
use crate::tracing_spans;

/// How long the answer to one call may take. The API server itself gives a request at most a minute.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may be silent before its connection counts as dead. An API server that is asked for it sends a bookmark
/// each minute.
const WATCH_READ_TIMEOUT: Duration = Duration::from_secs(150);
/// An API server cannot put a model off for longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// The cause that the API server gives where it refuses to make an object in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// The clients of the operator.
#[derive(Clone)]
pub struct Clients {
    /// For calls: each gets an answer soon, or fails.
    pub calls: Client,
    /// For watches, which are long.
    pub watches: Client,
}

impl Clients {
    /// Clients for the API server that the environment names.
    pub async fn from_environment() -> kube::Result<Self> {
        Self::new(Config::infer().await.map_err(kube::Error::InferConfig)?)
    }

    fn new(config: Config) -> kube::Result<Self> {
        let mut calls = config.clone();
        calls.read_timeout = Some(CALL_TIMEOUT);
        calls.reset_reader_on_write = true;
        // A call that is tried again inside the client would take longer than a call may, and unseen.
        calls.default_retry = false;
        let mut watches = config;
        watches.read_timeout = Some(WATCH_READ_TIMEOUT);
        watches.reset_reader_on_write = true;
        Ok(Self { calls: client(calls)?, watches: Client::try_from(watches)? })
    }
}

fn client(config: Config) -> kube::Result<Client> {
    Ok(ClientBuilder::try_from(config)?.with_layer(&MapResultLayer::new(keep_retry_after)).build())
}

/// The API server answers for how long it wants to be left alone in a header, which kube's errors do not carry.
fn keep_retry_after<B>(result: Result<Response<B>, BoxError>) -> Result<Response<B>, BoxError> {
    let response = result?;
    let seconds = response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    match seconds {
        Some(seconds) if matches!(response.status().as_u16(), 429 | 503) => {
            Err(Box::new(RetryAfter { status: response.status().as_u16(), seconds }))
        }
        _ => Ok(response),
    }
}

/// The API server does not take a call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server answered {status} and asks for a pause of {seconds} s")]
struct RetryAfter {
    status: u16,
    seconds: u64,
}

/// What a call does, and to which object.
#[derive(Clone, Copy, Debug)]
pub struct CallTarget<'a> {
    /// What is done, such as `apply`.
    pub verb: &'static str,
    /// The kind of the object.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} {name}: {failure}")]
pub struct CallError {
    verb: &'static str,
    kind: String,
    name: String,
    failure: CallFailure,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum CallFailure {
    /// The API server said no, or could not be reached.
    #[error(transparent)]
    Kube(Box<kube::Error>),
    /// It said nothing.
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    /// It was not asked.
    #[error(transparent)]
    FenceClosed(#[from] FenceClosed),
}

/// What a call that failed means for a model.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody has to do something first: it is said in the status.
    #[error("{}", .0.message)]
    Blocked(Diagnosis),
    /// The namespace is being deleted, and the model with it: nothing is made in it any more.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The API server could not be asked; it is tried again.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Reads from the API server.
pub fn read<'a, T: 'a>(
    target: CallTarget<'a>,
    call: impl Future<Output = kube::Result<T>> + 'a,
) -> impl Future<Output = Result<T, CallError>> + 'a {
    // The futures of kube are too large to be carried about.
    let call = Box::pin(call);
    async move { with_timeout(call).await.map_err(|failure| CallError::new(target, failure)) }
}

/// Writes to the API server, while the fence is open.
pub fn write<'a, T: 'a>(
    fence: &'a Fence,
    target: CallTarget<'a>,
    call: impl Future<Output = kube::Result<T>> + 'a,
) -> impl Future<Output = Result<T, CallError>> + 'a {
    let call = Box::pin(call);
    async move {
        let guarded = async {
            fence.guard(with_timeout(call)).await.map_err(CallFailure::FenceClosed).and_then(|ended| ended)
        };
        let ended =
            tracing_spans::call(target.verb, target.kind, (target.namespace, target.name), guarded).await;
        ended.map_err(|failure| CallError::new(target, failure))
    }
}

async fn with_timeout<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallFailure> {
    let ended = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| CallFailure::TimedOut)?;
    ended.map_err(|error| CallFailure::Kube(Box::new(error)))
}

impl CallError {
    fn new(target: CallTarget<'_>, failure: CallFailure) -> Self {
        let CallTarget { verb, kind, namespace, name } = target;
        Self { verb, kind: kind.to_owned(), name: format!("{namespace}/{name}"), failure }
    }

    /// What the failure means for the model: the API server may have something against an object that is not the
    /// operator's or the network's fault.
    pub fn into_apply_error(self) -> ApplyError {
        if self.is_namespace_terminating() {
            return ApplyError::NamespaceTerminating;
        }
        if self.is_refusal() { ApplyError::Blocked(self.to_diagnosis()) } else { ApplyError::Call(self) }
    }

    /// Whether the API server will say the same again until somebody does something.
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| {
            // Not there, changed meanwhile, too many at once.
            (400..500).contains(&status.code) && ![404, 409, 429].contains(&status.code)
        })
    }

    /// The failure in words for the status.
    pub fn to_diagnosis(&self) -> Diagnosis {
        let Self { verb, kind, name, failure } = self;
        let message = match self.status() {
            Some(status) if self.is_refusal() => {
                format!("the API server refused {kind} {name}: {}", status.message)
            }
            _ => format!("failed to {verb} {kind} {name}: {failure}"),
        };
        Diagnosis::new(Reason::ApplyRefused, message)
    }

    /// Whether other calls would fail in the same way, so that they had better wait.
    pub fn affects_all_calls(&self) -> bool {
        self.status().is_none_or(|status| status.code == 429)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Whether the namespace is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().into_iter().flat_map(|status| &status.details);
        causes
            .flat_map(|details| &details.causes)
            .any(|status_cause| status_cause.reason == NAMESPACE_TERMINATING)
    }

    /// For how long the API server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let CallFailure::Kube(error) = &self.failure else { return None };
        let seconds = if let kube::Error::Service(source) = &**error {
            source.downcast_ref::<RetryAfter>()?.seconds
        } else {
            self.status()?.details.as_ref()?.retry_after_seconds.into()
        };
        Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX)).filter(|delay| !delay.is_zero())
    }

    fn status(&self) -> Option<&Status> {
        let CallFailure::Kube(error) = &self.failure else { return None };
        if let kube::Error::Api(status) = &**error { Some(status) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    use tokio::time::Instant;

    const TARGET: CallTarget<'_> =
        CallTarget { verb: "apply", kind: "Service", namespace: "shop", name: "iris" };

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_in_time() {
        let (started, fence) = (Instant::now(), Fence::default());
        fence.open_until(started + CALL_TIMEOUT * 9);
        let told = "failed to apply Service shop/iris: the API server did not answer within 30 s";
        assert_eq!(read(TARGET, pending::<kube::Result<()>>()).await.unwrap_err().to_string(), told);
        assert_eq!(write(&fence, TARGET, pending::<kube::Result<()>>()).await.unwrap_err().to_string(), told);
        assert_eq!(started.elapsed(), CALL_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_under_way_is_given_up_when_the_lease_may_be_anothers() {
        let (started, fence) = (Instant::now(), Fence::default());
        fence.open_until(started + Duration::from_secs(10));
        let error = write(&fence, TARGET, pending::<kube::Result<()>>()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to apply Service shop/iris: this operator does not hold the Lease, so it must not write"
        );
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        assert!(
            write(&fence, TARGET, std::future::ready(Ok(()))).await.is_err(),
            "and none begins afterwards"
        );
        assert!(error.affects_all_calls());
    }

    async fn respond(status: u16, header: Option<&str>, body: &str) -> CallError {
        let builder = Response::builder().status(status);
        let builder = header.into_iter().fold(builder, |builder, header| builder.header(RETRY_AFTER, header));
        let response = builder.body(kube::client::Body::from(body.as_bytes().to_vec())).unwrap();
        let response = std::sync::Mutex::new(Some(response));
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let response = response.lock().unwrap().take().unwrap();
            async move { keep_retry_after(Ok(response)) }
        });
        let client = Client::new(service, "default");
        let api: kube::Api<k8s_openapi::api::core::v1::Service> = kube::Api::namespaced(client, "shop");
        read(TARGET, api.get("iris")).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_pause_that_the_api_server_asks_for_is_known() {
        let error = respond(429, Some("7"), "Too many requests").await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.affects_all_calls());
        let error = respond(503, Some("100000"), "").await;
        assert_eq!(error.retry_after(), Some(RETRY_AFTER_MAX), "it cannot ask for a day");
        assert_eq!(respond(503, Some("soon"), "").await.retry_after(), None);
        assert_eq!(respond(404, Some("7"), "").await.retry_after(), None);
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_told_in_the_status_and_a_failure_is_tried_again() {
        let error = respond(403, None, "services \"iris\" is forbidden").await;
        assert!(!error.affects_all_calls());
        let ApplyError::Blocked(diagnosis) = error.into_apply_error() else {
            panic!("it is only tried again")
        };
        assert_eq!(
            diagnosis.message,
            "the API server refused Service shop/iris: services \"iris\" is forbidden"
        );
        for status in [404, 409, 429, 500, 503] {
            let error = respond(status, None, "").await;
            assert!(matches!(error.into_apply_error(), ApplyError::Call(_)), "{status}");
        }
    }
}
