//! The test harness: an operator on a fake cluster, with invariants checked after each reconcile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use canopy_resource::model::PredictorModel;
use canopy_runtime::metrics::Registry;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fake_api_server::{Fault, InjectedFault, client};
use super::fake_cluster::{FakeCluster, PodBehavior, key};
use crate::api::call::CallError;
use crate::api::fence::Fence;
use crate::apply::cluster::Cluster;
use crate::caches::stores::Writers;
use crate::labels::REVISION;
use crate::metrics::Metrics;
use crate::pod::template::PredictorRuntime;
use crate::reconcile::{Context, reconcile_at, retry_delay};
use crate::spec_resolver::SpecResolver;

/// A model with synthetic data and two pods.
pub(crate) const SYNTHETIC: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: iris, namespace: shop}
spec:
  version: '1.0'
  train: {data: {synthetic: {}}, algorithm: {randomForest: {}}}
  replicas: 2
";

/// Clients of predictors.
pub(crate) const CALLERS: &str = r#"{
    "predict": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "canopy-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "canopy-gateway"}}}],
    "metrics": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]
}"#;
/// Watched kinds of children.
const KINDS: [&str; 8] = [
    "deployments",
    "controllerrevisions",
    "configmaps",
    "services",
    "endpointslices",
    "poddisruptionbudgets",
    "networkpolicies",
    "pods",
];

/// An operator on a fake cluster.
pub(crate) struct Harness {
    pub(crate) cluster: Arc<Mutex<FakeCluster>>,
    writers: Writers,
    context: Context,
    /// The revision that each Service selected at the last check.
    selected: BTreeMap<&'static str, String>,
    /// Number of switches to another revision.
    pub(crate) switches: usize,
    /// Delays after failed reconciles.
    pub(crate) delays: Vec<Duration>,
}

impl Harness {
    pub(crate) fn new(manifest: &str) -> Self {
        let cluster = Arc::new(Mutex::new(FakeCluster::new()));
        let (writers, context) = operator(&cluster, runtime("predictor:1"));
        let harness =
            Self { cluster, writers, context, selected: BTreeMap::new(), switches: 0, delays: vec![] };
        harness.apply(manifest);
        harness
    }

    /// The writer of the operator.
    pub(crate) fn apply_cluster(&self) -> Cluster {
        self.context.cluster.clone()
    }

    /// Injects a fault into the next requests of this kind.
    pub(crate) fn inject_fault(&self, method: &'static str, path: &str, times: usize, how: Fault) {
        self.cluster().injected_faults.push(InjectedFault { method, path: path.to_owned(), times, how });
    }

    pub(crate) fn cluster(&self) -> MutexGuard<'_, FakeCluster> {
        self.cluster.lock().unwrap()
    }

    /// `kubectl apply`.
    pub(crate) fn apply(&self, manifests: &str) {
        for manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
            let plural = if manifest["kind"] == "ConfigMap" { "configmaps" } else { "predictormodels" };
            let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
            self.cluster().store(key(plural, "shop", &name), manifest);
        }
    }

    /// `kubectl edit`.
    pub(crate) fn edit(&self, plural: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut cluster = self.cluster();
        let mut object = cluster.get(plural, name).unwrap().clone();
        edit(&mut object);
        cluster.store(key(plural, "shop", name), object);
    }

    pub(crate) fn edit_spec(&self, edit: impl FnOnce(&mut Value)) {
        self.edit("predictormodels", "iris", |model| edit(&mut model["spec"]));
    }

    /// `kubectl delete`.
    pub(crate) fn delete(&self, plural: &str, name: &str) {
        self.cluster().remove(&key(plural, "shop", name)).unwrap();
    }

    /// Sets the behaviour of the pods of the target revision.
    pub(crate) fn set_next_behavior(&self, behavior: PodBehavior) {
        let revision = self.target_revision();
        self.cluster().behaviors.insert(revision, behavior);
    }

    /// The target revision.
    pub(crate) fn target_revision(&self) -> String {
        let model = self.model();
        let mut data = canopy_resource::manifest::ConfigMaps::default();
        for config_map in self.cluster().of_kind("configmaps") {
            data.add(serde_json::from_value(config_map.clone()).unwrap()).unwrap();
        }
        crate::spec::ResolvedSpec::new(&model, &data).unwrap().config.revision
    }

    pub(crate) fn model(&self) -> PredictorModel {
        serde_json::from_value(self.cluster().get("predictormodels", "iris").unwrap().clone()).unwrap()
    }

    /// Restarts the operator with another predictor image.
    pub(crate) fn restart_operator(&mut self, image: &str) {
        self.restart_operator_with_runtime(runtime(image));
    }

    /// Restarts the operator with other settings of predictors.
    pub(crate) fn restart_operator_with_runtime(&mut self, runtime: PredictorRuntime) {
        (self.writers, self.context) = operator(&self.cluster, runtime);
    }

    /// Restarts the operator with or without restricted clients.
    pub(crate) fn restart_operator_with_callers(&mut self, callers: Option<&str>) {
        self.restart_operator("predictor:1");
        self.context.callers = callers.map(|callers| callers.parse().unwrap());
    }

    /// Reconciles after all watches have caught up.
    pub(crate) async fn reconcile(&mut self) -> Result<Option<Duration>, CallError> {
        self.watch(&KINDS);
        self.reconcile_without_watch_events().await
    }

    /// Reconciles with the state that the watches delivered last.
    pub(crate) async fn reconcile_without_watch_events(&mut self) -> Result<Option<Duration>, CallError> {
        let now = self.cluster().now;
        let ended = match self.context.stores.models.state().first() {
            Some(model) => {
                let model = model.as_ref();
                let ended = Box::pin(reconcile_at(model, &self.context, now)).await;
                let uid = model.metadata.uid.as_deref().unwrap_or_default();
                match &ended {
                    Ok(_) => self.context.failures.reset(uid),
                    Err(error) => self.delays.push(retry_delay(model, error, &self.context)),
                }
                ended
            }
            None => Ok(None),
        };
        self.check_invariants();
        ended
    }

    /// Lets the watches of models and of these kinds catch up.
    pub(crate) fn watch(&mut self, plurals: &[&str]) {
        let cluster = self.cluster.clone();
        let cluster = cluster.lock().unwrap();
        let Writers {
            models,
            deployments,
            controller_revisions,
            config_maps,
            services,
            slices,
            disruption_budgets,
            network_policies,
            pods,
            undecodable: _,
        } = &mut self.writers;
        fill(models, "predictormodels", &cluster);
        for plural in plurals {
            match *plural {
                "deployments" => fill(deployments, plural, &cluster),
                "controllerrevisions" => fill(controller_revisions, plural, &cluster),
                "configmaps" => {
                    fill(config_maps, plural, &cluster);
                    list(&self.context.spec_resolver, &cluster);
                }
                "services" => fill(services, plural, &cluster),
                "endpointslices" => fill(slices, plural, &cluster),
                "poddisruptionbudgets" => fill(disruption_budgets, plural, &cluster),
                "networkpolicies" => fill(network_policies, plural, &cluster),
                "pods" => fill(pods, plural, &cluster),
                other => panic!("{other} are not watched"),
            }
        }
    }

    /// Reconciles and advances the cluster until nothing changes, at a fixed time.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..50 {
            let before = self.cluster().objects.clone();
            // A failed reconcile is retried.
            let passed = self.reconcile().await.is_ok();
            self.cluster().step();
            self.check_invariants();
            if passed && self.cluster().objects == before {
                return;
            }
        }
        panic!("nothing settles: {:#?}", self.cluster().writes);
    }

    /// Checks that a ready revision is only replaced by one with all replicas ready.
    fn check_invariants(&mut self) {
        for service in ["iris-pods", "iris"] {
            let Some(selected) = self.selected_by(service) else { continue };
            let before = self.selected.insert(service, selected.clone());
            let Some(before) = before.filter(|before| *before != selected) else { continue };
            self.switches += usize::from(service == "iris-pods");
            let cluster = self.cluster();
            let ready = |revision: &str| {
                let deployment = cluster.get("deployments", &format!("iris-{revision}"));
                deployment.and_then(|deployment| deployment["status"]["readyReplicas"].as_i64()).unwrap_or(0)
            };
            if ready(&before) > 0 {
                let model = cluster.get("predictormodels", "iris").unwrap();
                let replicas = model["spec"]["replicas"].as_i64().unwrap();
                assert!(
                    ready(&selected) >= replicas,
                    "{service}: {selected} took over from {before} too early"
                );
            }
        }
    }

    pub(crate) fn assert_no_repair_event(&self) {
        let cluster = self.cluster();
        assert!(!cluster.events.iter().any(|event| event.contains("Repaired")), "{:?}", cluster.events);
    }

    pub(crate) fn selected_by(&self, service: &str) -> Option<String> {
        let cluster = self.cluster();
        let service = cluster.get("services", service)?;
        Some(service["spec"]["selector"][REVISION].as_str()?.to_owned())
    }

    /// Desired and ready replicas by revision.
    pub(crate) fn revisions(&self) -> BTreeMap<String, (i64, i64)> {
        let cluster = self.cluster();
        let deployments = cluster.of_kind("deployments").map(|deployment| {
            let revision = deployment["metadata"]["labels"][REVISION].as_str().unwrap().to_owned();
            let ready = deployment["status"]["readyReplicas"].as_i64().unwrap_or(0);
            (revision, (deployment["spec"]["replicas"].as_i64().unwrap(), ready))
        });
        deployments.collect()
    }

    /// The conditions, one line each.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let status = self.model().status.unwrap_or_default();
        let line = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            format!("{} {} {}: {}", c.type_, c.status, c.reason, c.message)
        };
        status.conditions.iter().map(line).collect()
    }
}

fn operator(cluster: &Arc<Mutex<FakeCluster>>, runtime: PredictorRuntime) -> (Writers, Context) {
    let writers = Writers::default();
    let (stores, metrics) = (writers.stores(), Metrics::register(&Registry::new()).unwrap());
    let fence = Fence::default();
    fence.open_until(Instant::now() + Duration::from_hours(24));
    let apply_cluster = Cluster::new(client(cluster.clone()), fence, metrics.clone(), stores.clone());
    let callers = Some(CALLERS.parse().unwrap());
    (
        writers,
        Context { callers, ..Context::new(runtime, stores, apply_cluster, metrics, SpecResolver::default()) },
    )
}

fn runtime(image: &str) -> PredictorRuntime {
    PredictorRuntime { image: image.to_owned(), ..PredictorRuntime::default() }
}

/// Delivers a list of the `ConfigMap`s of users.
fn list(spec_resolver: &SpecResolver, cluster: &FakeCluster) {
    spec_resolver.list_started();
    for object in cluster.of_kind("configmaps") {
        if object["metadata"]["labels"]["canopy.rs/model-uid"].is_null() {
            spec_resolver.config_map_seen(&serde_json::from_value(object["metadata"].clone()).unwrap());
        }
    }
    spec_resolver.list_finished();
}

fn fill<K>(writer: &mut Writer<K>, plural: &str, cluster: &FakeCluster)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    for object in cluster.of_kind(plural) {
        // The operator watches its own objects and all models.
        let label = &object["metadata"]["labels"]["app.kubernetes.io/managed-by"];
        if plural == "predictormodels" || *label == json!("canopy-operator") {
            let object = serde_json::from_value(object.clone()).unwrap();
            writer.apply_watcher_event(&Event::InitApply(object));
        }
    }
    writer.apply_watcher_event(&Event::InitDone);
}
