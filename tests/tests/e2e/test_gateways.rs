//! Gateways of one test: those of the chart with other settings, in the namespace of the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::api;
use canopy_tests::forward::Forward;
use canopy_tests::http::{client, send};
use canopy_tests::namespace::Namespace;
use canopy_tests::wait::until;
use serde_json::{Value, json};

use crate::canopy::SYSTEM;
use crate::model::{State, TIMEOUT, pod_states};

/// The label `app.kubernetes.io/name` of their pods.
pub(crate) const NAME: &str = "test-gateway";
const ADMIN_PORT: u16 = 9000;
/// The number of answers in a row that shows that every gateway knows the model.
const ENOUGH: usize = 40;

/// Two gateways behind a Service.
pub(crate) struct TestGateways<'a> {
    pub(crate) namespace: &'a Namespace,
    /// The address of the Service.
    pub(crate) address: SocketAddr,
}

impl<'a> TestGateways<'a> {
    /// Starts them, perhaps all on one node; [`Self::rolled_out`] waits until they are ready.
    pub(crate) fn start(
        namespace: &'a Namespace,
        settings: &[(&str, &str)],
        node: Option<&str>,
    ) -> Result<Self> {
        let installed = api::get("deployments", SYSTEM, "canopy-gateway")?;
        let labels = json!({"app.kubernetes.io/name": NAME});
        let mut spec = installed["spec"].clone();
        spec["replicas"] = json!(2);
        spec["selector"] = json!({"matchLabels": labels});
        spec["template"]["metadata"] = json!({"labels": labels});
        for rule in spec["template"]["spec"]["topologySpreadConstraints"].as_array_mut().into_iter().flatten()
        {
            rule["labelSelector"] = json!({"matchLabels": labels});
        }
        if let Some(node) = node {
            spec["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        let environment = spec["template"]["spec"]["containers"][0]["env"].as_array_mut();
        let environment = environment.context("the gateway has an environment")?;
        environment.retain(|set| settings.iter().all(|(name, _)| set["name"] != *name));
        environment.extend(settings.iter().map(|(name, value)| json!({"name": name, "value": value})));
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "labels": labels}, "spec": spec});
        namespace.apply(&deployment.to_string())?;
        Ok(Self { namespace, address: service(namespace, NAME, &labels)? })
    }

    /// Returns when all of them are ready and up to date.
    pub(crate) fn rolled_out(&self) -> Result<()> {
        self.namespace.kubectl(&["rollout", "status", "deployment", NAME, "--timeout", "120s"]).map(drop)
    }

    /// Replaces them one after the other.
    pub(crate) fn restart(&self) -> Result<()> {
        let before = self.pods()?;
        self.namespace.kubectl(&["rollout", "restart", "deployment", NAME])?;
        self.rolled_out()?;
        let after = self.pods()?;
        ensure!(after.iter().all(|pod| !before.contains(pod)), "{before:?} are still among {after:?}");
        Ok(())
    }

    /// Returns when a model answers at every gateway.
    pub(crate) async fn wait_until_known(&self, model: &str, features: &[f64]) -> Result<()> {
        self.answers(self.address, model, features).await
    }

    /// Creates a Service for each gateway; returns their addresses.
    pub(crate) async fn each(&self, model: &str, features: &[f64]) -> Result<Vec<SocketAddr>> {
        let mut all = Vec::new();
        for (number, pod) in self.pods()?.iter().enumerate() {
            let (name, label) = (format!("{NAME}-{number}"), format!("only={number}"));
            self.namespace.kubectl(&["label", "pod", pod, &label])?;
            let address = service(self.namespace, &name, &json!({"only": number.to_string()}))?;
            self.answers(address, model, features).await?;
            all.push(address);
        }
        ensure!(all.len() == 2, "expected two gateways, got {all:?}");
        Ok(all)
    }

    async fn answers(&self, address: SocketAddr, model: &str, features: &[f64]) -> Result<()> {
        let body = json!({"features": features}).to_string();
        until(&format!("predictions of {model} from {address}"), TIMEOUT, async || {
            for _ in 0..ENOUGH {
                // A new client each time, so that it opens a new connection.
                let request = client()?.post(format!("http://{address}/api/models/{model}/predict"));
                let request = request.header("content-type", "application/json").body(body.clone());
                let reply = send(request).await?;
                ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            }
            Ok(())
        })
        .await
    }

    /// Starts another pod like theirs, with other labels, without probes, and with its container changed by `edit`; returns when
    /// it runs.
    pub(crate) fn start_pod(&self, name: &str, labels: &Value, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let mut spec = self.namespace.json("deployments", NAME)?["spec"]["template"]["spec"].take();
        spec["topologySpreadConstraints"] = json!([]);
        let container = &mut spec["containers"][0];
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            container[probe] = Value::Null;
        }
        edit(container);
        let metadata = json!({"name": name, "labels": labels});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        self.namespace.apply(&pod.to_string())?;
        let pod = format!("pod/{name}");
        self.namespace.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout", "60s"]).map(drop)
    }

    /// The states of their pods, by name.
    pub(crate) fn states(&self) -> Result<BTreeMap<String, State>> {
        pod_states(self.namespace, &selector())
    }

    /// The addresses of their pods.
    pub(crate) fn addresses(&self) -> Result<Vec<String>> {
        let pods = self.namespace.list("pods", &selector())?;
        let address = |pod: &Value| pod["status"]["podIP"].as_str().map(str::to_owned);
        pods.iter().map(|pod| address(pod).context("a pod has no address")).collect()
    }

    /// A tunnel to the admin port of each.
    pub(crate) async fn admin(&self) -> Result<Vec<Forward>> {
        let mut all = Vec::new();
        for pod in self.pods()? {
            all.push(Forward::open(&self.namespace.name, &pod, ADMIN_PORT).await?);
        }
        Ok(all)
    }

    /// The names of their pods.
    pub(crate) fn pods(&self) -> Result<Vec<String>> {
        let pods = self.namespace.list("pods", &selector())?;
        let stay = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods
            .iter()
            .filter(stay)
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }
}

/// The selector of their pods.
fn selector() -> String {
    format!("app.kubernetes.io/name={NAME}")
}

/// Creates a Service of the type `NodePort`; returns its address.
fn service(namespace: &Namespace, name: &str, selector: &Value) -> Result<SocketAddr> {
    let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": selector, "ports": [{"port": 80, "targetPort": "http"}]}});
    namespace.apply(&manifest.to_string())?;
    let made = namespace.json("services", name)?;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().context("the Service has a port of the node")?;
    let nodes = api::list("nodes", None, "node-role.kubernetes.io/control-plane")?;
    let node = nodes.first().context("the cluster has no control plane")?;
    let addresses = node["status"]["addresses"].as_array().context("a node has addresses")?;
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
    let ip = internal.and_then(|address| address["address"].as_str()).context("a node has an address")?;
    Ok(SocketAddr::new(ip.parse()?, u16::try_from(port)?))
}
