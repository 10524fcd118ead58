//! The pod template of predictors. It satisfies the `restricted` Pod Security Standard.
//!
//! It contains no service account token. It depends only on its inputs, because it is stored with the revision and
//! never changes.

use canopy_contract::duration::{PREDICTOR_DRAIN_SECONDS, PREDICTOR_GRACE_SECONDS};
use canopy_contract::names::{
    CATALOGUE_SERVICE, PORT_NAME, PREDICTOR_ADMIN_PORT, PREDICTOR_PORT, SOURCE_ALLOWED_NETWORKS,
    SOURCE_DENIED_NETWORKS,
};
use canopy_contract::serving::ServingConfig;
use canopy_resource::model::PredictorModelSpec;
use canopy_resource::placement::Scheduling;
use canopy_runtime::telemetry::{FLUSH_TIMEOUT, LINES_TIMEOUT};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    HTTPGetAction, KeyToPath, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::labels::Labels;
use crate::pod::diagnosis::{PREPARE, SERVE};
use crate::settings::default_resources::DefaultResources;

/// Mount path of the serving config.
const CONFIG_FOLDER: &str = "/etc/canopy/config";
/// Mount path of the data.
pub const DATA_FOLDER: &str = "/etc/canopy/data";
/// Directory of the artifact: `prepare` writes it, `serve` reads it.
const MODEL_FOLDER: &str = "/var/lib/canopy";
/// Size limit of that volume, so that one model cannot fill the disk of a node.
const MODEL_SIZE_MAX: &str = "4Gi";
/// File with the termination message, which Kubernetes copies into the status of the pod.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Key in the `ConfigMap` with the serving config, and so the name of the file in the pod.
pub const SERVING_KEY: &str = "serving.json";
/// Volume of the serving config.
pub const CONFIG: &str = "config";
/// Volume of the data.
pub const DATA: &str = "data";
/// Volume of the artifact.
pub const MODEL: &str = "model";
/// Environment variable of both containers: the SHA-256 of the serving config. Tenants cannot write the object that
/// holds the template, so pods reject a serving config that was replaced.
const CONFIG_SHA256: &str = "CANOPY_CONFIG_SHA256";
/// Environment variable of `prepare`: the SHA-256 of each file from a `ConfigMap`, separated by commas.
const DATA_SHA256: &str = "CANOPY_DATA_SHA256";
const ADMIN_PORT_NAME: &str = "admin";

/// The uid and gid `nonroot`, which owns no files on nodes.
const USER: i64 = 65532;
/// Time for Kubernetes' own steps at the end of a pod.
const RESERVE_SECONDS: u32 = 2;

/// Settings of predictor pods that are the same for all models.
#[derive(Clone, Debug, Default)]
pub struct PredictorRuntime {
    /// The predictor image.
    pub image: String,
    /// Environment variables, with values: trace export, and the networks that `prepare` may download from.
    pub variables: Vec<(&'static str, String)>,
    /// Names of image pull secrets.
    pub pull_secrets: Vec<String>,
    /// Resources for models that set none.
    pub default_resources: DefaultResources,
}

/// Inputs of the template.
#[derive(Clone, Copy, Debug)]
pub struct TemplateInputs<'a> {
    /// Settings for all models.
    pub runtime: &'a PredictorRuntime,
    /// The serving config.
    pub serving: &'a ServingConfig,
    /// The SHA-256 of the serving config as text.
    pub config_sha256: &'a str,
    /// The SHA-256 of each file that comes from a `ConfigMap`.
    pub data_sha256: &'a [&'a str],
    /// The spec, for resources and scheduling.
    pub spec: &'a PredictorModelSpec,
    /// The labels of the pods.
    pub labels: &'a Labels,
}

/// The template of the pods of one revision.
pub fn template(inputs: TemplateInputs<'_>) -> PodTemplateSpec {
    let TemplateInputs { runtime: _, serving, config_sha256: _, data_sha256, spec, labels } = inputs;
    let has_data = !data_sha256.is_empty();
    let scheduling = spec.scheduling.clone().unwrap_or_default();
    let Scheduling { node_selector, tolerations, affinity, priority_class_name, topology_spread_constraints } =
        scheduling;
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            // With hostname and subdomain the pod has a record in the DNS answer of the discovery Service.
            hostname: Some(serving.model.to_string()),
            subdomain: Some(CATALOGUE_SERVICE.to_owned()),
            init_containers: Some(vec![prepare(inputs)]),
            containers: vec![serve(inputs)],
            image_pull_secrets: pull_secrets(inputs.runtime),
            volumes: Some(volumes(serving, has_data)),
            security_context: Some(pod_security()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(grace_seconds()),
            node_selector,
            tolerations,
            affinity,
            priority_class_name,
            topology_spread_constraints,
            ..PodSpec::default()
        }),
    }
}

/// The drain period, the longest request, and time to export the last spans.
fn grace_seconds() -> i64 {
    let serving = i64::from(PREDICTOR_DRAIN_SECONDS + PREDICTOR_GRACE_SECONDS + RESERVE_SECONDS);
    serving + i64::try_from((FLUSH_TIMEOUT + LINES_TIMEOUT).as_secs()).unwrap_or_default()
}

/// The SHA-256 of the serving config in a template; `None` for templates of earlier versions.
pub fn config_sha256(template: &PodTemplateSpec) -> Option<&str> {
    let serve = template.spec.as_ref()?.containers.first()?;
    let variable = serve.env.iter().flatten().find(|variable| variable.name == CONFIG_SHA256)?;
    variable.value.as_deref()
}

fn prepare(
    TemplateInputs { runtime, config_sha256, data_sha256, spec, .. }: TemplateInputs<'_>,
) -> Container {
    let mut mounts = vec![mount(CONFIG, CONFIG_FOLDER, true), mount(MODEL, MODEL_FOLDER, false)];
    let mut variables = vec![variable(CONFIG_SHA256, config_sha256)];
    if !data_sha256.is_empty() {
        mounts.push(mount(DATA, DATA_FOLDER, true));
        variables.push(variable(DATA_SHA256, &data_sha256.join(",")));
    }
    variables.extend(environment(runtime, is_of_prepare));
    let resources = match &spec.train {
        Some(train) => train.resources.as_ref(),
        // A model from a file takes about as much when it is read as when it serves.
        None => spec.resources.as_ref(),
    };
    Container {
        env: Some(variables),
        args: Some(arguments("prepare", &["--termination-log", TERMINATION_LOG])),
        resources: Some(resources.unwrap_or(&runtime.default_resources.prepare).clone().into()),
        volume_mounts: Some(mounts),
        // If the container ends without a report, Kubernetes uses the end of its log.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..container(PREPARE, &runtime.image)
    }
}

fn serve(TemplateInputs { runtime, config_sha256, spec, .. }: TemplateInputs<'_>) -> Container {
    let variables = environment(runtime, |name| !is_of_prepare(name));
    Container {
        args: Some(arguments("serve", &["--termination-log", TERMINATION_LOG])),
        env: Some([variable(CONFIG_SHA256, config_sha256)].into_iter().chain(variables).collect()),
        resources: Some(spec.resources.as_ref().unwrap_or(&runtime.default_resources.serve).clone().into()),
        ports: Some(vec![port(PORT_NAME, PREDICTOR_PORT), port(ADMIN_PORT_NAME, PREDICTOR_ADMIN_PORT)]),
        readiness_probe: Some(probe("/ready", 2, 2)),
        liveness_probe: Some(probe("/live", 10, 3)),
        volume_mounts: Some(vec![mount(CONFIG, CONFIG_FOLDER, true), mount(MODEL, MODEL_FOLDER, true)]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..container(SERVE, &runtime.image)
    }
}

/// Whether only `prepare` needs a variable. `prepare` exports no traces, and `serve` downloads nothing.
fn is_of_prepare(name: &str) -> bool {
    [SOURCE_ALLOWED_NETWORKS, SOURCE_DENIED_NETWORKS].contains(&name)
}

fn environment(runtime: &PredictorRuntime, is_for: impl Fn(&str) -> bool) -> Vec<EnvVar> {
    let variables = runtime.variables.iter().filter(|(name, _)| is_for(name));
    variables.map(|(name, value)| variable(name, value)).collect()
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn arguments(command: &str, more: &[&str]) -> Vec<String> {
    let config = format!("{CONFIG_FOLDER}/{SERVING_KEY}");
    let both = [command, "--config", &config, "--dir", MODEL_FOLDER];
    both.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

fn container(name: &str, image: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn pull_secrets(runtime: &PredictorRuntime) -> Option<Vec<LocalObjectReference>> {
    let secrets: Vec<_> =
        runtime.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

fn volumes(serving: &ServingConfig, has_data: bool) -> Vec<Volume> {
    let config_map = |name: String, items: Option<Vec<KeyToPath>>| ConfigMapVolumeSource {
        name,
        items,
        ..ConfigMapVolumeSource::default()
    };
    let serving_only =
        vec![KeyToPath { key: SERVING_KEY.to_owned(), path: SERVING_KEY.to_owned(), ..KeyToPath::default() }];
    let config = serving.model.revision_object(&serving.revision);
    let mut volumes = vec![
        Volume {
            name: CONFIG.to_owned(),
            config_map: Some(config_map(config, Some(serving_only))),
            ..Volume::default()
        },
        Volume {
            name: MODEL.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(MODEL_SIZE_MAX.to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    if has_data {
        let data = serving.model.data_object(&serving.revision);
        let source = Some(config_map(data, None));
        volumes.push(Volume { name: DATA.to_owned(), config_map: source, ..Volume::default() });
    }
    volumes
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}
