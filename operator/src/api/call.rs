//! Calls to the API server: the clients for them, their timeouts, and their errors.
//!
//! Invariant: every call ends. Watches have a client of their own, because a watch may be silent for a long time.

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

/// Timeout of a call. The API server itself allows a request at most 60 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Read timeout of a watch. The API server sends a bookmark about once a minute.
const WATCH_READ_TIMEOUT: Duration = Duration::from_secs(150);
/// The longest delay accepted from a `Retry-After` header.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// The cause in the response to a request that creates an object in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// Clients of the API server.
#[derive(Clone)]
pub struct Clients {
    /// For calls, with a timeout.
    pub calls: Client,
    /// For watches, which are long-lived.
    pub watches: Client,
}

impl Clients {
    /// Clients for the API server of the environment: the in-cluster configuration or a kubeconfig.
    pub async fn from_environment() -> kube::Result<Self> {
        Self::new(Config::infer().await.map_err(kube::Error::InferConfig)?)
    }

    fn new(config: Config) -> kube::Result<Self> {
        let mut calls = config.clone();
        calls.read_timeout = Some(CALL_TIMEOUT);
        calls.reset_reader_on_write = true;
        // Retries inside the client would exceed the timeout and be invisible in metrics.
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

/// Turns a response with `Retry-After` into an error, because the errors of kube do not carry headers.
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

/// The API server asked to retry later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server responded with {status}; retry after {seconds} s")]
struct RetryAfter {
    status: u16,
    seconds: u64,
}

/// The verb of a call and the object it is about.
#[derive(Clone, Copy, Debug)]
pub struct CallTarget<'a> {
    /// The verb, such as `apply`.
    pub verb: &'static str,
    /// The kind of the object.
    pub kind: &'a str,
    /// The namespace of the object.
    pub namespace: &'a str,
    /// The name of the object.
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
    /// The API server returned an error or could not be reached.
    #[error(transparent)]
    Kube(Box<kube::Error>),
    /// There was no response within the timeout.
    #[error("no response from the API server within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    /// The call was not made or not finished, because this process is not the leader.
    #[error(transparent)]
    FenceClosed(#[from] FenceClosed),
}

/// The consequence of a failed call for a model.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The model is blocked until a user changes something. The status shows the diagnosis.
    #[error("{}", .0.message)]
    Blocked(Diagnosis),
    /// The namespace, and the model in it, is being deleted; no objects are created in it.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The call failed and is retried.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Makes a read call.
pub fn read<'a, T: 'a>(
    target: CallTarget<'a>,
    call: impl Future<Output = kube::Result<T>> + 'a,
) -> impl Future<Output = Result<T, CallError>> + 'a {
    // The futures of kube are large; boxing keeps the callers small.
    let call = Box::pin(call);
    async move { with_timeout(call).await.map_err(|failure| CallError::new(target, failure)) }
}

/// Makes a write call while the fence is open.
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
            tracing_spans::call(target.verb, target.kind, target.namespace, target.name, guarded).await;
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

    /// The consequence for the model: rejected requests block it, other failures are retried.
    pub fn into_apply_error(self) -> ApplyError {
        if self.is_namespace_terminating() {
            return ApplyError::NamespaceTerminating;
        }
        if self.is_refusal() { ApplyError::Blocked(self.to_diagnosis()) } else { ApplyError::Call(self) }
    }

    /// Whether a retry would be rejected again until a user changes something.
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| {
            // 404 not found, 409 conflict, 429 too many requests.
            (400..500).contains(&status.code) && ![404, 409, 429].contains(&status.code)
        })
    }

    /// The failure as a diagnosis for the status.
    pub fn to_diagnosis(&self) -> Diagnosis {
        let Self { verb, kind, name, failure } = self;
        let message = match self.status() {
            Some(status) if self.is_refusal() => {
                format!("the API server rejected the request to {verb} {kind} {name}: {}", status.message)
            }
            _ => format!("failed to {verb} {kind} {name}: {failure}"),
        };
        Diagnosis::new(Reason::ApplyRefused, message)
    }

    /// Whether other calls would probably fail too: the API server did not respond, or throttles requests.
    pub fn affects_all_calls(&self) -> bool {
        self.status().is_none_or(|status| status.code == 429)
    }

    /// Whether the object does not exist.
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

    /// The delay that the API server requests before a retry.
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
    async fn a_call_without_a_response_times_out() {
        let (started, fence) = (Instant::now(), Fence::default());
        fence.open_until(started + CALL_TIMEOUT * 9);
        let expected = "failed to apply Service shop/iris: no response from the API server within 30 s";
        assert_eq!(read(TARGET, pending::<kube::Result<()>>()).await.unwrap_err().to_string(), expected);
        assert_eq!(
            write(&fence, TARGET, pending::<kube::Result<()>>()).await.unwrap_err().to_string(),
            expected
        );
        assert_eq!(started.elapsed(), CALL_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_in_progress_is_aborted_when_the_fence_closes() {
        let (started, fence) = (Instant::now(), Fence::default());
        fence.open_until(started + Duration::from_secs(10));
        let error = write(&fence, TARGET, pending::<kube::Result<()>>()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to apply Service shop/iris: this operator does not hold the Lease and must not write"
        );
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        assert!(
            write(&fence, TARGET, std::future::ready(Ok(()))).await.is_err(),
            "no write starts afterwards"
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
    async fn the_retry_after_header_is_read_and_capped() {
        let error = respond(429, Some("7"), "Too many requests").await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.affects_all_calls());
        let error = respond(503, Some("100000"), "").await;
        assert_eq!(error.retry_after(), Some(RETRY_AFTER_MAX), "the delay is capped");
        assert_eq!(respond(503, Some("soon"), "").await.retry_after(), None);
        assert_eq!(respond(404, Some("7"), "").await.retry_after(), None);
    }

    #[tokio::test]
    async fn a_missing_permission_blocks_the_model_and_other_failures_are_retried() {
        let error = respond(403, None, "services \"iris\" is forbidden").await;
        assert!(!error.affects_all_calls());
        let ApplyError::Blocked(diagnosis) = error.into_apply_error() else {
            panic!("a 403 does not block the model")
        };
        assert_eq!(
            diagnosis.message,
            "the API server rejected the request to apply Service shop/iris: services \"iris\" is forbidden"
        );
        for status in [404, 409, 429, 500, 503] {
            let error = respond(status, None, "").await;
            assert!(matches!(error.into_apply_error(), ApplyError::Call(_)), "{status}");
        }
    }
}
