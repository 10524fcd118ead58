//! The diagnosis of pods and Deployments from their status, and the reports of `prepare` and `serve` in termination
//! messages.
//!
//! Without evidence of a problem there is no diagnosis.

use canopy_contract::report::{Refusal, Report};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;
use serde_json::Value;

use crate::reason::{Diagnosis, Reason};

/// Name of the init container that trains.
pub const PREPARE: &str = "prepare";
/// Name of the container that serves.
pub const SERVE: &str = "serve";

/// Longest quotation of a message from Kubernetes or a container, in characters.
const QUOTE_MAX: usize = 400;

/// The reason why no pods can be created for a Deployment, such as a quota.
pub fn replica_failure(status: &DeploymentStatus) -> Option<String> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let failure = conditions.iter().find(|condition| equals(condition.type_.as_deref(), "ReplicaFailure"));
    let failure = failure.filter(|condition| equals(condition.status.as_deref(), "True"))?;
    Some(quote(failure.message.as_deref().unwrap_or("no message")))
}

/// The message of a Deployment that exceeded its progress deadline.
pub fn stalled(status: &DeploymentStatus) -> Option<String> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let stalled = conditions.iter().find(|condition| equals(condition.type_.as_deref(), "Progressing"))?;
    let is_late = equals(stalled.reason.as_deref(), "ProgressDeadlineExceeded");
    is_late.then(|| quote(stalled.message.as_deref().unwrap_or("no message")))
}

/// Whether a pod belongs to a `ReplicaSet` of a Deployment and has the two containers of a predictor. A pod that only
/// carries the labels says nothing about a model.
pub fn is_created_by(pod: &Pod, deployment: &Deployment) -> bool {
    let selector = deployment.spec.selector.match_labels.iter().flatten();
    let is_selected = selector.into_iter().all(|(label, value)| pod.labels().get(label) == Some(value));
    let name_prefix = format!("{}-", deployment.name_any());
    let is_owned = pod.owner_references().iter().any(|owner| {
        let is_set = owner.api_version == "apps/v1" && owner.kind == "ReplicaSet";
        owner.controller == Some(true) && is_set && owner.name.starts_with(&name_prefix)
    });
    let spec = pod.spec.as_ref();
    let prepares = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let serves = spec.map(|spec| &spec.containers).into_iter().flatten();
    let runs = prepares.into_iter().any(|container| container.name == PREPARE)
        && serves.into_iter().any(|container| container.name == SERVE);
    is_selected && is_owned && runs
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// The report of `prepare`, unless `prepare` failed and is retried.
pub fn report(pod: &Pod) -> Option<Report> {
    let terminated = prepare(pod)?.state.as_ref()?.terminated.as_ref()?;
    let report = serde_json::from_str(terminated.message.as_deref()?).ok()?;
    (!matches!(report, Report::Failed(_))).then_some(report)
}

/// The time since which `prepare` is running, if it is.
pub fn preparing_since(pod: &Pod) -> Option<Timestamp> {
    let running = prepare(pod)?.state.as_ref()?.running.as_ref()?;
    running.started_at.as_ref().map(|time| time.0)
}

/// The time of the last step of a pod towards readiness.
pub fn last_progress(pod: &Pod) -> Option<Timestamp> {
    let created = pod.metadata.creation_timestamp.as_ref();
    let states = [prepare(pod), container(pod, SERVE)].into_iter().flatten().filter_map(|c| c.state.as_ref());
    let steps = states.flat_map(|state| {
        let started = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        [started, state.terminated.as_ref().and_then(|terminated| terminated.finished_at.as_ref())]
    });
    steps.chain([created]).flatten().map(|time| time.0).max()
}

/// A refusal from which a pod does not recover by itself, because `prepare` runs once per pod and the artifact does
/// not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The step that refused.
    pub by: Step,
    /// The time of the refusal.
    pub since: Timestamp,
}

/// A step that can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `prepare`, because of the spec or the data.
    Prepare,
    /// `serve`, because of the artifact or its self-test.
    Serve,
}

/// The refusal of a pod that will never become ready.
pub fn stuck(pod: &Pod) -> Option<Stuck> {
    let at = |terminated: &ContainerStateTerminated| terminated.finished_at.as_ref().map(|time| time.0);
    if matches!(report(pod), Some(Report::Refused(_))) {
        let terminated = prepare(pod)?.state.as_ref()?.terminated.as_ref()?;
        return Some(Stuck { by: Step::Prepare, since: at(terminated)? });
    }
    let serve = container(pod, SERVE)?;
    let ends = [&serve.state, &serve.last_state].into_iter().flatten().filter_map(|s| s.terminated.as_ref());
    let refused = |terminated: &&ContainerStateTerminated| {
        let report = terminated.message.as_deref().and_then(|message| serde_json::from_str(message).ok());
        matches!(report, Some(Report::Refused(_)))
    };
    let terminated = ends.filter(refused).max_by_key(|terminated| at(terminated))?;
    Some(Stuck { by: Step::Serve, since: at(terminated)? })
}

/// The reason why a pod is not ready.
pub fn of_pod(pod: &Pod) -> Option<Diagnosis> {
    let name = pod.name_any();
    let mut containers = prepare(pod).into_iter().chain(container(pod, SERVE));
    let of_containers = || containers.find_map(|container| of_container(container, &name));
    unscheduled(pod, &name).or_else(|| of_report(pod, &name)).or_else(of_containers)
}

fn of_report(pod: &Pod, name: &str) -> Option<Diagnosis> {
    let Some(Report::Refused(Refusal { code, message })) = report(pod) else { return None };
    let message = format!("pod {name} cannot serve and will be replaced after a delay: {}", quote(&message));
    Some(Diagnosis { reason: Reason::from_refusal_code(&code), message })
}

fn unscheduled(pod: &Pod, name: &str) -> Option<Diagnosis> {
    let (_, message) = condition(pod, "PodScheduled").filter(|(status, _)| *status == "False")?;
    let message = format!(
        "pod {name} cannot be scheduled: {}; check spec.resources and spec.scheduling",
        quote(message)
    );
    Some(Diagnosis { reason: Reason::Unschedulable, message })
}

fn of_container(container: &ContainerStatus, pod: &str) -> Option<Diagnosis> {
    let state = container.state.clone().unwrap_or_default();
    let waiting = state.waiting.unwrap_or_default();
    let detail = quote(waiting.message.as_deref().unwrap_or_default());
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            let image = &container.image;
            let message = format!(
                "pod {pod} cannot pull image {image}: {detail}; check the operator setting CANOPY_PREDICTOR_IMAGE and the image pull secrets"
            );
            return Some(Diagnosis { reason: Reason::ImageUnavailable, message });
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let message = format!("container {} of pod {pod} failed to start: {detail}", container.name);
            return Some(Diagnosis { reason: Reason::PodsNotReady, message });
        }
        _ => {}
    }
    // During a retry the previous run explains the failure; after a success it no longer matters.
    let last = container.last_state.clone().unwrap_or_default();
    of_terminated(container, &state.terminated.or(last.terminated)?, pod)
}

fn of_terminated(
    container: &ContainerStatus,
    terminated: &ContainerStateTerminated,
    pod: &str,
) -> Option<Diagnosis> {
    if terminated.exit_code == 0 {
        return None;
    }
    let name = container.name.as_str();
    if equals(terminated.reason.as_deref(), "OOMKilled") {
        // Without the spec it is not known whether the model is trained.
        let field = if name == PREPARE {
            "spec.train.resources.limits.memory, or spec.resources.limits.memory of a model with artifact"
        } else {
            "spec.resources.limits.memory"
        };
        let message = format!("container {name} of pod {pod} exceeded its memory limit: raise {field}");
        return Some(Diagnosis { reason: Reason::OutOfMemory, message });
    }
    let (code, detail) = parse_termination_message(terminated.message.as_deref().unwrap_or_default());
    let reason = if name == PREPARE { Reason::PrepareFailed } else { Reason::PodsNotReady };
    let reason =
        code.map(|code| Reason::from_refusal_code(&code)).filter(|r| *r != Reason::Refused).unwrap_or(reason);
    let status = terminated.exit_code;
    let message = format!("container {name} of pod {pod} exited with status {status}: {}", quote(&detail));
    Some(Diagnosis { reason, message })
}

/// The error code and the message of a termination message: of a report, or of the last line of the log, which
/// Kubernetes copies if there is no report.
fn parse_termination_message(message: &str) -> (Option<String>, String) {
    if let Ok(Report::Failed(refusal) | Report::Refused(refusal)) = serde_json::from_str(message) {
        let Refusal { code, message } = refusal;
        return (Some(code), message);
    }
    let last = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no termination message");
    match serde_json::from_str::<Value>(last) {
        Ok(line) => {
            let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
            (text("code"), text("message").unwrap_or_else(|| last.to_owned()))
        }
        Err(_) => (None, last.to_owned()),
    }
}

fn prepare(pod: &Pod) -> Option<&ContainerStatus> {
    let containers = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == PREPARE)
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == name)
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

fn equals(word: Option<&str>, expected: &str) -> bool {
    word == Some(expected)
}

fn quote(detail: &str) -> String {
    let detail = detail.trim().trim_end_matches('.');
    match detail.char_indices().nth(QUOTE_MAX) {
        Some((cut, _)) => format!("{}…", &detail[..cut]),
        None => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &str, expected: Option<(Reason, &str)>) {
        let pod: Pod =
            serde_saphyr::from_str(&format!("{{metadata: {{name: iris-1}}, status: {status}}}")).unwrap();
        let found = of_pod(&pod);
        assert_eq!(found.as_ref().map(|t| (t.reason, t.message.as_str())), expected);
    }

    fn container(kind: &str, name: &str, state: &str) -> String {
        format!(
            "{{{kind}: [{{name: {name}, image: 'predictor:1', imageID: '', ready: false, restartCount: 0, {state}}}]}}"
        )
    }

    #[test]
    fn a_starting_pod_has_no_diagnosis() {
        check("{}", None);
        check("{conditions: [{type: PodScheduled, status: 'True'}]}", None);
        check(&container("containerStatuses", "serve", "state: {waiting: {reason: PodInitializing}}"), None);
        check(&container("initContainerStatuses", "prepare", "state: {running: {}}"), None);
        check(&container("initContainerStatuses", "prepare", "state: {terminated: {exitCode: 0}}"), None);
    }

    #[test]
    fn each_diagnosis_says_what_to_do() {
        check(
            "{conditions: [{type: PodScheduled, status: 'False', message: '0/1 nodes are available.'}]}",
            Some((
                Reason::Unschedulable,
                "pod iris-1 cannot be scheduled: 0/1 nodes are available; check spec.resources and spec.scheduling",
            )),
        );
        check(
            &container(
                "initContainerStatuses",
                "prepare",
                "state: {waiting: {reason: ErrImagePull, message: gone}}",
            ),
            Some((
                Reason::ImageUnavailable,
                "pod iris-1 cannot pull image predictor:1: gone; check the operator setting CANOPY_PREDICTOR_IMAGE and the image pull secrets",
            )),
        );
        check(
            &container(
                "initContainerStatuses",
                "prepare",
                "state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}",
            ),
            Some((
                Reason::OutOfMemory,
                "container prepare of pod iris-1 exceeded its memory limit: raise spec.train.resources.limits.memory, or spec.resources.limits.memory of a model with artifact",
            )),
        );
        check(
            &container(
                "containerStatuses",
                "serve",
                "state: {waiting: {reason: RunContainerError, message: why}}",
            ),
            Some((Reason::PodsNotReady, "container serve of pod iris-1 failed to start: why")),
        );
    }

    #[test]
    fn a_container_without_a_report_is_diagnosed_from_its_log() {
        let terminated = |message: &str| {
            let state = format!("state: {{terminated: {{exitCode: 1, message: '{message}'}}}}");
            container("initContainerStatuses", "prepare", &state)
        };
        let message =
            |detail: &str| format!("container prepare of pod iris-1 exited with status 1: {detail}");
        let known = r#"{"level":"ERROR","message":"failed to read x","code":"data_unavailable"}"#;
        check(&terminated(known), Some((Reason::DataUnavailable, &message("failed to read x"))));
        let reported =
            r#"{"failed":{"code":"data_unavailable","message":"failed to download http://x/y: gone"}}"#;
        check(
            &terminated(reported),
            Some((Reason::DataUnavailable, &message("failed to download http://x/y: gone"))),
        );
        check(
            &terminated(r#"{"message":"gone","code":"new"}"#),
            Some((Reason::PrepareFailed, &message("gone"))),
        );
        check(&terminated("plain words."), Some((Reason::PrepareFailed, &message("plain words"))));
        check(&terminated(""), Some((Reason::PrepareFailed, &message("no termination message"))));
    }

    #[test]
    fn a_failure_is_shown_during_retries_and_not_after_a_success() {
        let failed = "lastState: {terminated: {exitCode: 1, message: plain}}";
        let expected =
            Some((Reason::PrepareFailed, "container prepare of pod iris-1 exited with status 1: plain"));
        for (state, expected) in [
            ("state: {waiting: {reason: CrashLoopBackOff}}", expected),
            ("state: {running: {}}", expected),
            ("state: {terminated: {exitCode: 0}}", None),
        ] {
            check(&container("initContainerStatuses", "prepare", &format!("{state}, {failed}")), expected);
        }
    }

    #[test]
    fn a_report_is_read_from_the_termination_message_of_a_finished_prepare() {
        let pod = |state: &str| -> Pod {
            let status = container("initContainerStatuses", "prepare", state);
            serde_saphyr::from_str(&format!("{{metadata: {{name: iris-1}}, status: {status}}}")).unwrap()
        };
        let refused = r#"state: {terminated: {exitCode: 0, message: '{"refused":{"code":"gate_missed","message":"low"}}'}}"#;
        assert!(matches!(report(&pod(refused)), Some(Report::Refused(refusal)) if refusal.message == "low"));
        assert_eq!(report(&pod("state: {terminated: {exitCode: 0, message: 'not JSON'}}")), None);
        let failed = r#"state: {terminated: {exitCode: 1, message: '{"failed":{"code":"data_unavailable","message":"gone"}}'}}"#;
        assert_eq!(report(&pod(failed)), None);
        assert_eq!(report(&pod("state: {running: {}}")), None);
    }

    const CORRUPT: &str = r#"'{"refused":{"code":"artifact_corrupt","message":"no"}}'"#;

    #[test]
    fn refusals_of_both_steps_are_diagnosed() {
        let refused = r#"state: {terminated: {exitCode: 0, message: '{"refused":{"code":"digest_mismatch","message":"another"}}'}}"#;
        check(
            &container("initContainerStatuses", "prepare", refused),
            Some((
                Reason::DigestMismatch,
                "pod iris-1 cannot serve and will be replaced after a delay: another",
            )),
        );
        let terminated = format!("lastState: {{terminated: {{exitCode: 1, message: {CORRUPT}}}}}");
        check(
            &container("containerStatuses", "serve", &format!("state: {{running: {{}}}}, {terminated}")),
            Some((Reason::ArtifactCorrupt, "container serve of pod iris-1 exited with status 1: no")),
        );
    }

    #[test]
    fn a_pod_is_stuck_since_its_latest_refusal() {
        let pod = |kind: &str, name: &str, state: &str| -> Pod {
            let status = container(kind, name, state);
            serde_saphyr::from_str(&format!("{{metadata: {{name: iris-1}}, status: {status}}}")).unwrap()
        };
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let terminated = |seconds: i64, message: &str| {
            format!("{{terminated: {{exitCode: 0, finishedAt: '{}', message: {message}}}}}", at(seconds))
        };
        let prepare = pod("initContainerStatuses", "prepare", &format!("state: {}", terminated(5, CORRUPT)));
        assert_eq!(stuck(&prepare), Some(Stuck { by: Step::Prepare, since: at(5) }));
        let both = format!("state: {}, lastState: {}", terminated(9, CORRUPT), terminated(7, CORRUPT));
        let serve = pod("containerStatuses", "serve", &both);
        assert_eq!(stuck(&serve), Some(Stuck { by: Step::Serve, since: at(9) }));
        assert_eq!(last_progress(&serve), Some(at(9)));
        let other = pod("containerStatuses", "serve", &format!("state: {}", terminated(9, "plain")));
        assert_eq!(stuck(&other), None);
        assert_eq!(stuck(&pod("containerStatuses", "serve", "state: {running: {}}")), None);
    }

    #[test]
    fn an_exceeded_progress_deadline_is_reported() {
        let status =
            |condition: &str| serde_saphyr::from_str(&format!("{{conditions: [{condition}]}}")).unwrap();
        let late = status(
            "{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded, message: timed out.}",
        );
        assert_eq!(stalled(&late).as_deref(), Some("timed out"));
        assert_eq!(
            stalled(&status("{type: Progressing, status: 'True', reason: NewReplicaSetAvailable}")),
            None
        );
    }

    #[test]
    fn a_replica_failure_is_reported() {
        let status =
            |condition: &str| serde_saphyr::from_str(&format!("{{conditions: [{condition}]}}")).unwrap();
        let refused = status("{type: ReplicaFailure, status: 'True', message: exceeded quota.}");
        assert_eq!(replica_failure(&refused).as_deref(), Some("exceeded quota"));
        assert_eq!(replica_failure(&status("{type: Available, status: 'False'}")), None);
        assert_eq!(replica_failure(&DeploymentStatus::default()), None);
    }
}
