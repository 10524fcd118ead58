//! The blocker: the one reason why a model is not ready. A list of symptoms would hide the cause, so only the first
//! is shown.

use crate::reason::{Diagnosis, Reason};
use crate::rollout::progress;
use crate::state::{ObservedDeployment, Reach};
use crate::status::inputs::{ApplyOutcome, StatusInputs};

/// Why a model is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// It is in progress.
    InProgress(Diagnosis),
    /// A user must act, or has chosen this state.
    Failed(Diagnosis),
}

impl Blocker {
    /// The diagnosis.
    pub fn diagnosis(&self) -> &Diagnosis {
        let (Self::InProgress(diagnosis) | Self::Failed(diagnosis)) = self;
        diagnosis
    }
}

/// Finds the blocker. The most important one comes first.
pub fn find(inputs: &StatusInputs<'_>) -> Option<Blocker> {
    let fault = unreachable(inputs)
        .or_else(|| blocked(inputs))
        .or_else(|| refused(inputs))
        .or_else(|| scaled_to_zero(inputs));
    fault
        .or_else(|| unready_pods(inputs))
        .map(Blocker::Failed)
        .or_else(|| in_progress(inputs).map(Blocker::InProgress))
}

fn unreachable(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    let revision = inputs.observed.selected.as_deref()?;
    let service = inputs.desired.name.endpoints_service();
    let message = format!(
        "Service {service} has no ready endpoint although pods of revision {revision} are ready, so gateways cannot \
         discover them; check that kube-controller-manager, which writes EndpointSlices, is running, and list them with: \
         kubectl get endpointslices --selector kubernetes.io/service-name={service}"
    );
    let is_lost = inputs.desired.replicas > 0 && inputs.observed.reach == Reach::Lost;
    is_lost.then(|| Diagnosis::new(Reason::NoEndpoints, message))
}

fn blocked(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    if let ApplyOutcome::Blocked(diagnosis) = inputs.outcome {
        return Some(diagnosis.clone());
    }
    let target = match &inputs.desired.target {
        Err(diagnosis) => return Some(diagnosis.clone()),
        Ok(target) => &target.revision,
    };
    let is_old = inputs.serving().is_some_and(|serving| serving != target);
    let waits = *inputs.outcome == ApplyOutcome::Paused && (is_old || in_progress(inputs).is_some());
    waits.then(|| {
        Diagnosis::new(
            Reason::Paused,
            format!("spec.paused is true: revision {target} is not rolled out until it is false"),
        )
    })
}

fn refused(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    let refused = inputs.refused?;
    Some(Diagnosis::new(Reason::from_refusal_code(&refused.reason), refused.message.clone()))
}

fn scaled_to_zero(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    let message = "spec.replicas is 0; set it to 1 or more to serve";
    (inputs.desired.replicas == 0).then(|| Diagnosis::new(Reason::ScaledToZero, message))
}

fn unready_pods(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    let target = &inputs.target()?.revision;
    let name = inputs.desired.name.revision_object(target);
    let refusal = inputs.deployment(target).and_then(|deployment| deployment.refusal.as_ref());
    let refusal = refusal.map(|why| {
        let hint = hint(why);
        Diagnosis::new(Reason::PodsRefused, format!("Deployment {name} failed to create pods: {why}{hint}"))
    });
    let mut unready = inputs.pods(target).iter().filter(|pod| !pod.ready);
    let diagnosis = refusal.or_else(|| unready.find_map(|pod| pod.diagnosis.clone()));
    diagnosis.or_else(|| progress::diagnose(inputs.desired, inputs.observed, inputs.now))
}

/// A hint for refusals of resource amounts, because Kubernetes names its limit but no field of the model.
fn hint(why: &str) -> &'static str {
    let is_of_amounts = ["per Container", "per Pod", "quota"].iter().any(|word| why.contains(word));
    if is_of_amounts { "; check spec.resources and spec.train.resources" } else { "" }
}

fn in_progress(inputs: &StatusInputs<'_>) -> Option<Diagnosis> {
    let revision = &inputs.target()?.revision;
    let ObservedDeployment { ready, desired_replicas, is_current, .. } =
        inputs.deployment(revision).cloned().unwrap_or_default();
    let replicas = inputs.desired.replicas;
    let serves = inputs.serving() == Some(revision);
    if serves && is_current && desired_replicas == replicas && ready >= replicas {
        let message = match inputs.misdirected(revision) {
            Some(service) => format!("Service {service} does not select the pods of revision {revision} yet"),
            None if !inputs.is_reached(inputs.was_ready) => {
                let service = inputs.desired.name.endpoints_service();
                format!("Service {service} has no ready endpoint of revision {revision} yet")
            }
            None => return None,
        };
        return Some(Diagnosis::new(Reason::Starting, message));
    }
    if ready == 0 && inputs.prepared(revision).is_none() {
        let name = inputs.desired.name.revision_object(revision);
        let is_trained = inputs.target()?.config.train.is_some();
        let step = if is_trained { "is training" } else { "is read from its file" };
        let message = format!("revision {revision} {step} in the first pod of Deployment {name}");
        return Some(Diagnosis::new(Reason::Preparing, message));
    }
    let message = format!("{ready} of {replicas} pods of revision {revision} are ready");
    Some(Diagnosis::new(Reason::Starting, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_resources_names_the_fields_of_the_model() {
        let expected_hint = "; check spec.resources and spec.train.resources";
        for (why, expected) in [
            (
                "pods \"a\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m",
                expected_hint,
            ),
            ("pods \"a\" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 2Gi", expected_hint),
            ("pods \"a\" is forbidden: exceeded quota: team, requested: pods=1", expected_hint),
            ("pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"", ""),
        ] {
            assert_eq!(hint(why), expected, "{why}");
        }
    }
}
