//! The template of a predictor's pods.
//!
//! Comes in: a serving config, the settings, and what the spec says of resources and nodes. Goes out: a template
//! that the restricted Pod Security Standard admits. Never: a token, a privilege, a writable root; and nothing
//! that changes from pass to pass, since a template is frozen with its revision.

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

/// Where pods find the serving config.
const CONFIG_FOLDER: &str = "/etc/canopy/config";
/// Where pods find a copy of the data.
pub const DATA_FOLDER: &str = "/etc/canopy/data";
/// Where `prepare` leaves the artifact for `serve`.
const MODEL_FOLDER: &str = "/var/lib/canopy";
/// The most that a pod may write there, so that one model cannot fill the node's disk.
const MODEL_SIZE_MAX: &str = "4Gi";
/// Where Kubernetes takes a container's last words from, to show them in the status of its pod.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// The key of the `ConfigMap` with the serving config, and so the name of the file that pods read.
pub const SERVING_KEY: &str = "serving.json";
/// The volume with the serving config.
pub const CONFIG: &str = "config";
/// The volume with the copy of the data.
pub const DATA: &str = "data";
/// The volume with the artifact.
pub const MODEL: &str = "model";
/// In the environment of both containers: what the serving config must be. The template is kept where tenants cannot
/// write, so a pod refuses a config that was exchanged.
const CONFIG_SHA256: &str = "CANOPY_CONFIG_SHA256";
/// In the environment of `prepare`: what the copy of the data must be.
const DATA_SHA256: &str = "CANOPY_DATA_SHA256";
const ADMIN_PORT_NAME: &str = "admin";

/// A user that no image and no node has: nothing belongs to it.
const USER: i64 = 65532;
/// What Kubernetes' own steps at the end of a pod may take.
const RESERVE_SECONDS: u32 = 2;

/// What predictors run, whatever their model.
#[derive(Clone, Debug, Default)]
pub struct PredictorRuntime {
    /// The image of the predictor.
    pub image: String,
    /// Variables of its environment, with their values: where its traces go, and which of them; and from which networks
    /// `prepare` may download.
    pub variables: Vec<(&'static str, String)>,
    /// The names of Secrets with which the image is pulled.
    pub pull_secrets: Vec<String>,
    /// What its containers get where the model does not say.
    pub default_resources: DefaultResources,
}

/// What the template is made from.
#[derive(Clone, Copy, Debug)]
pub struct TemplateInputs<'a> {
    /// What the pods run.
    pub runtime: &'a PredictorRuntime,
    /// What the predictor reads.
    pub serving: &'a ServingConfig,
    /// The SHA-256 of the serving config's text.
    pub config_sha256: &'a str,
    /// The SHA-256 of the copy of the data, where the pods need one.
    pub data_sha256: Option<&'a str>,
    /// What people ask of nodes and resources.
    pub spec: &'a PredictorModelSpec,
    /// The labels of the pods.
    pub labels: &'a Labels,
}

/// The template of the pods of one revision.
pub fn template(inputs: TemplateInputs<'_>) -> PodTemplateSpec {
    let TemplateInputs { runtime: _, serving, config_sha256: _, data_sha256, spec, labels } = inputs;
    let has_data = data_sha256.is_some();
    let scheduling = spec.scheduling.clone().unwrap_or_default();
    let Scheduling { node_selector, tolerations, affinity, priority_class_name, topology_spread_constraints } =
        scheduling;
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            // These two make the model appear in the answer for the Service that lists all models.
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

/// The predictor's drain, the longest request, and time to send the last spans.
fn grace_seconds() -> i64 {
    let serving = i64::from(PREDICTOR_DRAIN_SECONDS + PREDICTOR_GRACE_SECONDS + RESERVE_SECONDS);
    serving + i64::try_from((FLUSH_TIMEOUT + LINES_TIMEOUT).as_secs()).unwrap_or_default()
}

/// The digest of the serving config that a template was made with; none where an earlier operator made it.
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
    if let Some(sha256) = data_sha256 {
        mounts.push(mount(DATA, DATA_FOLDER, true));
        variables.push(variable(DATA_SHA256, sha256));
    }
    variables.extend(environment(runtime, is_of_prepare));
    Container {
        env: Some(variables),
        args: Some(arguments("prepare", &["--termination-log", TERMINATION_LOG])),
        resources: Some(
            spec.train.resources.as_ref().unwrap_or(&runtime.default_resources.prepare).clone().into(),
        ),
        volume_mounts: Some(mounts),
        // Where it ends before it can report, the last lines of its log say why.
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

/// To prepare is not traced, and to serve is to download nothing.
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
