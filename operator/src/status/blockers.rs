//! The one thing that keeps a model from being ready: of all that may be wrong, what people should look at first.
//!
//! Comes in: the facts. Goes out: nothing, or a cause. Never: more than one; a list of symptoms hides the reason.

use crate::reason::{Reason, Trouble};
use crate::rollout::progress;
use crate::state::{DeploymentSeen, Reach};
use crate::status::facts::{Facts, Outcome};

/// What keeps a model from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It only needs time.
    Time(Trouble),
    /// Somebody has to do something, or wants it so.
    Fault(Trouble),
}

impl Cause {
    /// In words.
    pub fn told(&self) -> &Trouble {
        let (Self::Time(trouble) | Self::Fault(trouble)) = self;
        trouble
    }
}

/// The cause, in order of what to look at first.
pub fn of(facts: &Facts<'_>) -> Option<Cause> {
    let fault =
        unreached(facts).or_else(|| hindrance(facts)).or_else(|| refusal(facts)).or_else(|| asleep(facts));
    fault.or_else(|| pods_in_trouble(facts)).map(Cause::Fault).or_else(|| wait(facts).map(Cause::Time))
}

fn unreached(facts: &Facts<'_>) -> Option<Trouble> {
    let revision = facts.observed.selected.as_deref()?;
    let service = facts.plan.name.endpoints_service();
    let message = format!(
        "Service {service} has no ready endpoint although pods of revision {revision} are ready, so gateways do not find \
         the model: see kubectl get endpointslices, and whether kube-controller-manager, which writes them, runs"
    );
    let is_lost = facts.plan.replicas > 0 && facts.observed.reach == Reach::Lost;
    is_lost.then(|| Trouble::new(Reason::NoEndpoints, message))
}

fn hindrance(facts: &Facts<'_>) -> Option<Trouble> {
    if let Outcome::Hindered(trouble) = facts.outcome {
        return Some(trouble.clone());
    }
    let target = match &facts.plan.target {
        Err(trouble) => return Some(trouble.clone()),
        Ok(target) => &target.revision,
    };
    let is_old = facts.serving().is_some_and(|serving| serving != target);
    let waits = *facts.outcome == Outcome::Paused && (is_old || wait(facts).is_some());
    waits.then(|| Trouble::new(Reason::Paused, format!("revision {target} waits until spec.paused is false")))
}

fn refusal(facts: &Facts<'_>) -> Option<Trouble> {
    let refused = facts.refused?;
    Some(Trouble::new(Reason::of_refusal(&refused.reason), refused.message.clone()))
}

fn asleep(facts: &Facts<'_>) -> Option<Trouble> {
    let message = "spec.replicas is 0: raise it, or kubectl scale, to serve again";
    (facts.plan.replicas == 0).then(|| Trouble::new(Reason::ScaledToZero, message))
}

fn pods_in_trouble(facts: &Facts<'_>) -> Option<Trouble> {
    let target = &facts.target()?.revision;
    let name = facts.plan.name.revision_object(target);
    let refusal = facts.deployment(target).and_then(|deployment| deployment.refusal.as_ref());
    let refusal = refusal.map(|why| {
        let hint = hint(why);
        Trouble::new(Reason::PodsRefused, format!("Deployment {name} may not have its pods: {why}{hint}"))
    });
    let mut unready = facts.pods(target).iter().filter(|pod| !pod.ready);
    let told = refusal.or_else(|| unready.find_map(|pod| pod.trouble.clone()));
    told.or_else(|| progress::trouble(facts.plan, facts.observed, facts.now))
}

/// Where to look, if Kubernetes refuses pods for what they ask for: it names its own limit, but no field of the model.
fn hint(why: &str) -> &'static str {
    let is_of_amounts = ["per Container", "per Pod", "quota"].iter().any(|word| why.contains(word));
    if is_of_amounts { "; see spec.resources and spec.train.resources" } else { "" }
}

fn wait(facts: &Facts<'_>) -> Option<Trouble> {
    let revision = &facts.target()?.revision;
    let DeploymentSeen { ready, wanted, is_current, .. } =
        facts.deployment(revision).cloned().unwrap_or_default();
    let replicas = facts.plan.replicas;
    let serves = facts.serving() == Some(revision);
    if serves && is_current && wanted == replicas && ready >= replicas {
        let message = match facts.misdirected(revision) {
            Some(service) => format!("Service {service} does not select the pods of revision {revision} yet"),
            None if !facts.is_reached(facts.was_ready) => {
                let service = facts.plan.name.endpoints_service();
                format!("Service {service} has no ready endpoint of revision {revision} yet")
            }
            None => return None,
        };
        return Some(Trouble::new(Reason::Starting, message));
    }
    if ready == 0 && facts.prepared(revision).is_none() {
        let name = facts.plan.name.revision_object(revision);
        let message = format!("revision {revision} is being trained in the first pod of Deployment {name}");
        return Some(Trouble::new(Reason::Preparing, message));
    }
    let message = format!("{ready} of {replicas} pods of revision {revision} are ready");
    Some(Trouble::new(Reason::Starting, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_amounts_names_the_fields_of_the_model() {
        let told = "; see spec.resources and spec.train.resources";
        for (why, expected) in [
            ("pods \"a\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m", told),
            ("pods \"a\" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 2Gi", told),
            ("pods \"a\" is forbidden: exceeded quota: team, requested: pods=1", told),
            ("pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"", ""),
        ] {
            assert_eq!(hint(why), expected, "{why}");
        }
    }
}
