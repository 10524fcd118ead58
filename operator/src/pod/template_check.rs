//! The check of pod templates that are read back from the cluster: the operator only runs templates that it could
//! have created itself, in this version or an earlier one.
//!
//! Invariant: no pod has a service account token, a host volume, privileges, another command or an additional
//! container. Unknown fields are rejected, also fields that later versions of Kubernetes add.

use canopy_contract::names::{CATALOGUE_SERVICE, ModelName};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecurityContext, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use crate::labels;
use crate::pod::diagnosis::{PREPARE, SERVE};
use crate::pod::template::{CONFIG, DATA, MODEL};

/// Identifies a revision of a model.
#[derive(Clone, Copy, Debug)]
pub struct RevisionRef<'a> {
    /// Name of the model.
    pub model: &'a ModelName,
    /// Namespace of the model.
    pub namespace: &'a str,
    /// Uid of the model.
    pub uid: &'a str,
    /// The revision.
    pub revision: &'a str,
}

/// Checks that the operator may run this template for this revision; the error says what is wrong.
pub fn check(template: &PodTemplateSpec, revision_ref: RevisionRef<'_>) -> Result<(), String> {
    let PodTemplateSpec { metadata, spec } = template.clone();
    check_metadata(metadata.unwrap_or_default(), revision_ref)?;
    let mut spec = spec.ok_or("the pod template has no spec")?;
    ensure(
        spec.hostname.take().as_deref() == Some(revision_ref.model.as_str()),
        "hostname is not the name of the model",
    )?;
    ensure(spec.subdomain.take().as_deref() == Some(CATALOGUE_SERVICE), "subdomain is not \"predictors\"")?;
    ensure(
        spec.automount_service_account_token.take() == Some(false),
        "automountServiceAccountToken is not false",
    )?;
    let usual = [
        (spec.restart_policy.take(), "Always"),
        (spec.dns_policy.take(), "ClusterFirst"),
        (spec.scheduler_name.take(), "default-scheduler"),
    ];
    for (found, usual) in usual {
        ensure(
            found.as_deref().is_none_or(|found| found == usual),
            &format!("restartPolicy, dnsPolicy or schedulerName is not {usual}"),
        )?;
    }
    check_pod_security(spec.security_context.take().unwrap_or_default())?;
    for volume in spec.volumes.take().into_iter().flatten() {
        check_volume(&volume, revision_ref)?;
    }
    let [prepare] = <[Container; 1]>::try_from(spec.init_containers.take().unwrap_or_default())
        .map_err(|_| "the pod must have exactly one init container")?;
    let [serve] = <[Container; 1]>::try_from(std::mem::take(&mut spec.containers))
        .map_err(|_| "the pod must have exactly one container")?;
    check_container(prepare, PREPARE)?;
    check_container(serve, SERVE)?;
    // Image pull secrets come from the operator's settings and give access to a registry only.
    spec.image_pull_secrets = None;
    // Fields that a model may set, or that only affect timing.
    spec.enable_service_links = None;
    spec.termination_grace_period_seconds = None;
    spec.node_selector = None;
    spec.tolerations = None;
    spec.affinity = None;
    spec.priority_class_name = None;
    spec.topology_spread_constraints = None;
    ensure_no_other_fields("the pod", &spec, &PodSpec::default())
}

fn check_metadata(mut metadata: ObjectMeta, revision_ref: RevisionRef<'_>) -> Result<(), String> {
    let found = metadata.labels.take().unwrap_or_default();
    let version = found.get(labels::VERSION).map(String::as_str).unwrap_or_default();
    let expected = labels::of_revision(revision_ref.model, revision_ref.uid, version, revision_ref.revision);
    ensure(found == expected, "the labels of the pod are not those of the revision")?;
    metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
    ensure_no_other_fields("the metadata of the pod", &metadata, &ObjectMeta::default())
}

fn check_pod_security(mut found: PodSecurityContext) -> Result<(), String> {
    ensure(found.run_as_non_root.take() == Some(true), "runAsNonRoot is not true")?;
    for id in [found.run_as_user.take(), found.run_as_group.take(), found.fs_group.take()] {
        ensure(id.is_some_and(|id| id > 0), "runAsUser, runAsGroup and fsGroup must be greater than 0")?;
    }
    let seccomp = found.seccomp_profile.take();
    let expected = SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None };
    ensure(seccomp == Some(expected), "seccompProfile is not RuntimeDefault")?;
    ensure_no_other_fields("the pod's securityContext", &found, &PodSecurityContext::default())
}

fn check_volume(volume: &Volume, revision_ref: RevisionRef<'_>) -> Result<(), String> {
    let Volume { name, config_map, empty_dir, .. } = volume.clone();
    let own = match name.as_str() {
        CONFIG => Some(revision_ref.model.revision_object(revision_ref.revision)),
        DATA => Some(revision_ref.model.data_object(revision_ref.revision)),
        MODEL => None,
        other => return Err(format!("volume {other} is not allowed")),
    };
    ensure(
        config_map.as_ref().map(|source| &source.name) == own.as_ref(),
        &format!("volume {name} does not use the ConfigMap of the revision"),
    )?;
    ensure(own.is_some() || empty_dir.is_some(), &format!("volume {name} is not an emptyDir"))?;
    let expected = Volume {
        name: name.clone(),
        config_map,
        empty_dir: empty_dir.filter(|_| own.is_none()),
        ..Volume::default()
    };
    ensure_no_other_fields(&format!("volume {name}"), volume, &expected)
}

fn check_container(mut found: Container, name: &str) -> Result<(), String> {
    ensure(std::mem::take(&mut found.name) == name, &format!("container {name} is missing"))?;
    ensure(
        found.image.take().is_some_and(|image| !image.is_empty()),
        &format!("container {name} has no image"),
    )?;
    let command = found.args.take().unwrap_or_default();
    ensure(
        command.first().is_some_and(|first| first == name),
        &format!("the first argument of container {name} is not {name}"),
    )?;
    for EnvVar { name: variable, value: _, value_from } in found.env.take().into_iter().flatten() {
        ensure(
            value_from.is_none(),
            &format!("variable {variable} of container {name} must not use valueFrom"),
        )?;
    }
    for probe in [found.readiness_probe.take(), found.liveness_probe.take()].into_iter().flatten() {
        check_probe(&probe, name)?;
    }
    for mount in found.volume_mounts.take().into_iter().flatten() {
        let is_plain =
            mount.mount_propagation.is_none() && mount.sub_path.is_none() && mount.sub_path_expr.is_none();
        ensure(is_plain, &format!("container {name} has a volume mount with a subPath or mountPropagation"))?;
    }
    for port in found.ports.take().into_iter().flatten() {
        let is_plain = port.host_port.is_none() && port.host_ip.is_none();
        ensure(is_plain, &format!("container {name} uses a hostPort"))?;
    }
    let security = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    };
    ensure(
        found.security_context.take() == Some(security),
        &format!("container {name} has a different securityContext"),
    )?;
    let claims = found.resources.take().unwrap_or_default().claims;
    ensure(claims.is_none(), &format!("container {name} has resource claims"))?;
    found.termination_message_path = None;
    found.termination_message_policy = None;
    found.image_pull_policy = None;
    ensure_no_other_fields(&format!("container {name}"), &found, &Container::default())
}

/// Checks that a probe is an HTTP request to the pod itself. A probe of another host would make the kubelet send
/// requests on behalf of the tenant.
fn check_probe(probe: &Probe, container: &str) -> Result<(), String> {
    let is_own_http_get =
        probe.http_get.as_ref().is_some_and(|get| get.host.is_none() && get.http_headers.is_none());
    let has_other_handler = probe.exec.is_some() || probe.grpc.is_some() || probe.tcp_socket.is_some();
    ensure(
        is_own_http_get && !has_other_handler,
        &format!("a probe of container {container} is not an HTTP request to the pod itself"),
    )
}

fn ensure(condition: bool, message: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message.to_owned()) }
}

/// Checks that no other field is set; the error names the fields that differ.
fn ensure_no_other_fields<T: Serialize + PartialEq>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let members = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let expected = members(expected);
    let more = members(found).into_iter().filter(|(name, value)| expected.get(name) != Some(value));
    let more: Vec<_> = more.map(|(name, _)| name).collect();
    Err(format!("{what} has fields that the operator does not set: {}", more.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_resource::manifest::{self, ConfigMaps};
    use canopy_resource::resolve::ResolvedModel;
    use serde_json::json;
    use std::path::Path;

    use crate::pod::template::{self, PredictorRuntime};

    const MANIFEST: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: iris, namespace: shop}
spec:
  version: '1.0'
  train:
    data: {synthetic: {}}
    algorithm: {randomForest: {}}
    resources: {requests: {cpu: '1'}}
  resources: {limits: {memory: 64Mi}}
  scheduling:
    nodeSelector: {disk: ssd}
    tolerations: [{key: gpu, operator: Exists}]
    affinity: {podAntiAffinity: {}}
    priorityClassName: high
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
";

    /// A template from the operator with all fields that a model may set.
    fn template() -> Value {
        let model = manifest::read(MANIFEST).unwrap().models.remove(0);
        let config = ResolvedModel::new(&model, &ConfigMaps::default(), Path::new("/data")).unwrap().config;
        let runtime = PredictorRuntime {
            image: "predictor:1".to_owned(),
            variables: vec![("A", "b".to_owned())],
            pull_secrets: vec!["registry".to_owned()],
            ..PredictorRuntime::default()
        };
        let template = template::template(template::TemplateInputs {
            runtime: &runtime,
            serving: &config,
            config_sha256: "1",
            data_sha256: &["2"],
            spec: &model.spec,
            labels: &labels::of_revision(&config.model, "u1", "1.0", &config.revision),
        });
        serde_json::to_value(template).unwrap()
    }

    fn checked(template: &Value) -> Result<(), String> {
        let revision = template["metadata"]["labels"][labels::REVISION].as_str().unwrap_or_default();
        let model = "iris".parse().unwrap();
        let revision_ref = RevisionRef { model: &model, namespace: "shop", uid: "u1", revision };
        check(&serde_json::from_value(template.clone()).unwrap(), revision_ref)
    }

    #[test]
    fn templates_of_the_operator_pass_with_and_without_defaults_of_the_api_server() {
        let mut template = template();
        assert_eq!(checked(&template), Ok(()));
        template["metadata"]["creationTimestamp"] = Value::Null;
        let pod = &mut template["spec"];
        pod["restartPolicy"] = "Always".into();
        pod["dnsPolicy"] = "ClusterFirst".into();
        pod["schedulerName"] = "default-scheduler".into();
        pod["volumes"][0]["configMap"]["defaultMode"] = 420.into();
        for container in ["containers", "initContainers"] {
            pod[container][0]["terminationMessagePath"] = "/dev/termination-log".into();
            pod[container][0]["imagePullPolicy"] = "IfNotPresent".into();
        }
        pod["containers"][0]["readinessProbe"]["successThreshold"] = 1.into();
        pod["containers"][0]["readinessProbe"]["httpGet"]["scheme"] = "HTTP".into();
        assert_eq!(checked(&template), Ok(()));
    }

    #[test]
    fn additional_or_changed_pod_fields_are_refused() {
        let container = json!({"name": "more", "image": "evil"});
        check_refused([
            ("/metadata/labels/canopy.rs~1model-uid", json!("u2")),
            ("/metadata/labels/app", json!("another")),
            (
                "/metadata/annotations",
                json!({"container.apparmor.security.beta.kubernetes.io/serve": "unconfined"}),
            ),
            ("/spec/hostname", json!("other")),
            ("/spec/subdomain", json!("other")),
            ("/spec/serviceAccountName", json!("admin")),
            ("/spec/serviceAccount", json!("admin")),
            ("/spec/automountServiceAccountToken", json!(true)),
            ("/spec/hostPID", json!(true)),
            ("/spec/hostIPC", json!(true)),
            ("/spec/hostNetwork", json!(true)),
            ("/spec/hostUsers", json!(true)),
            ("/spec/shareProcessNamespace", json!(true)),
            ("/spec/nodeName", json!("node")),
            ("/spec/runtimeClassName", json!("other")),
            ("/spec/restartPolicy", json!("Never")),
            ("/spec/ephemeralContainers", json!([container])),
            ("/spec/containers/1", container.clone()),
            ("/spec/initContainers/1", container.clone()),
            ("/spec/securityContext/runAsUser", json!(0)),
            ("/spec/securityContext/runAsNonRoot", json!(false)),
            ("/spec/securityContext/supplementalGroups", json!([0])),
            ("/spec/securityContext/sysctls", json!([{"name": "a", "value": "b"}])),
            ("/spec/securityContext/seccompProfile/type", json!("Unconfined")),
            ("/spec/volumes/0", json!({"name": "config", "hostPath": {"path": "/"}})),
            ("/spec/volumes/0", json!({"name": "config", "secret": {"secretName": "s"}})),
            ("/spec/volumes/0/configMap/name", json!("kube-root-ca.crt")),
            ("/spec/volumes/1", json!({"name": "model", "persistentVolumeClaim": {"claimName": "c"}})),
            ("/spec/volumes/1/hostPath", json!({"path": "/"})),
            ("/spec/volumes/3", json!({"name": "more", "emptyDir": {}})),
        ]);
    }

    #[test]
    fn additional_or_changed_container_fields_are_refused() {
        let mount = json!({"name": "config", "mountPath": "/", "mountPropagation": "Bidirectional"});
        check_refused([
            ("/spec/containers/0/name", json!("other")),
            ("/spec/containers/0/image", json!("")),
            ("/spec/containers/0/command", json!(["sh"])),
            ("/spec/containers/0/args/0", json!("prepare")),
            ("/spec/containers/0/env/0/valueFrom", json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            ("/spec/containers/0/envFrom", json!([{"secretRef": {"name": "s"}}])),
            ("/spec/containers/0/lifecycle", json!({"preStop": {"exec": {"command": ["sh"]}}})),
            ("/spec/containers/0/livenessProbe", json!({"exec": {"command": ["sh"]}})),
            ("/spec/containers/0/livenessProbe/httpGet/host", json!("169.254.169.254")),
            ("/spec/containers/0/startupProbe", json!({"httpGet": {"port": 1}})),
            ("/spec/containers/0/securityContext/privileged", json!(true)),
            ("/spec/containers/0/securityContext/runAsUser", json!(0)),
            ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
            ("/spec/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"])),
            ("/spec/containers/0/securityContext/procMount", json!("Unmasked")),
            ("/spec/containers/0/ports/0/hostPort", json!(80)),
            ("/spec/containers/0/volumeMounts/0", mount),
            ("/spec/containers/0/volumeDevices", json!([{"name": "d", "devicePath": "/d"}])),
            ("/spec/containers/0/resources/claims", json!([{"name": "gpu"}])),
            ("/spec/containers/0/restartPolicy", json!("Always")),
        ]);
    }

    #[track_caller]
    fn check_refused<const N: usize>(forgeries: [(&str, Value); N]) {
        for (pointer, value) in forgeries {
            let mut template = template();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = template.pointer_mut(parent).unwrap();
            if let Some(entries) = parent.as_array_mut() {
                let place = key.parse::<usize>().unwrap();
                entries.splice(place..entries.len().min(place + 1), [value]);
            } else {
                parent[key.replace("~1", "/")] = value;
            }
            assert!(checked(&template).is_err(), "{pointer} is admitted");
        }
    }
}
