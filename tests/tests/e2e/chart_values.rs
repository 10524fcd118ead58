//! The manifests of the chart: invalid values are refused by name, and missing values get the defaults of the chart.
//!
//! These tests only run helm; the cluster is not changed.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::helm;
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/canopy");

/// Renders the chart.
pub(crate) fn render(words: &[&str]) -> Result<String> {
    helm(&[&["template", "canopy", CHART, "--namespace", "canopy-system"], words].concat())
}

/// The objects of rendered manifests.
pub(crate) fn objects(text: &str) -> Result<Vec<Value>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn object(objects: &[Value], kind: &str, name: &str) -> Result<Value> {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.cloned().with_context(|| format!("no {kind} {name}"))
}

/// The value of a variable of the only container of a Deployment.
fn variable(deployment: &Value, name: &str) -> Option<String> {
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    let found = variables.iter().find(|variable| variable["name"] == name)?;
    found["value"].as_str().map(str::to_owned)
}

#[test]
fn unknown_and_invalid_values_are_refused_by_name() -> Result<()> {
    for (set, reason) in [
        ("gateway.replica=3", "'replica' not allowed"),
        ("nosuch.key=1", "'nosuch' not allowed"),
        ("tracing.ratio=7", "/tracing/ratio"),
        ("operator.replicas=0", "/operator/replicas"),
        ("gateway.replicas=-1", "/gateway/replicas"),
        ("gateway.defaultModel=UPPER", "/gateway/defaultModel"),
        ("gateway.namespaces={Shop}", "/gateway/namespaces/0"),
        ("operator.namespaces={*}", "/operator/namespaces/0"),
        ("gateway.service.nodePort=30080", "/gateway/service/nodePort"),
        ("images.digests.gateway=9f86", "/images/digests/gateway"),
        ("predictor.resources.serve.limit.memory=1Gi", "'limit' not allowed"),
        ("networkPolicy.predictors.extraFrom[0].podSelector.matchLables.a=b", "'matchLables' not allowed"),
        ("networkPolicy.prometheus.selector.a=b", "'selector' not allowed"),
    ] {
        let refused = render(&["--set", set]);
        let why = refused.err().with_context(|| format!("{set} was accepted"))?.to_string();
        ensure!(why.contains(reason), "{set}: expected {reason:?}, got {why}");
    }
    Ok(())
}

#[test]
fn missing_values_get_the_defaults_of_this_chart() -> Result<()> {
    let values: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(Path::new(CHART).join("values.yaml"))?)?;
    let expected = render(&[])?;
    let sections = values.as_object().context("values have sections")?;
    for (section, keys) in sections {
        let keys = keys.as_object().context("a section has keys")?.keys();
        // A null removes a value, as --reuse-values does for values that an earlier chart did not have.
        let missing = keys.map(|key| format!("{section}.{key}=null")).chain([format!("{section}=null")]);
        for missing in missing {
            let rendered = render(&["--set", &missing])?;
            ensure!(rendered == expected, "{missing} renders other manifests");
        }
    }
    Ok(())
}

#[test]
fn the_grace_period_of_a_gateway_covers_its_time_limits() -> Result<()> {
    let grace = |drain: u32, body: u32, upstream: u32| -> Result<u64> {
        let set = format!(
            "gateway.drainSeconds={drain},gateway.bodyTimeoutSeconds={body},gateway.upstreamTimeoutSeconds={upstream}"
        );
        let gateway = object(&objects(&render(&["--set", &set])?)?, "Deployment", "canopy-gateway")?;
        ensure!(variable(&gateway, "CANOPY_DRAIN_SECONDS") == Some(drain.to_string()), "{gateway}");
        ensure!(variable(&gateway, "CANOPY_BODY_TIMEOUT") == Some(format!("{body}s")), "{gateway}");
        ensure!(variable(&gateway, "CANOPY_UPSTREAM_TIMEOUT") == Some(format!("{upstream}s")), "{gateway}");
        let grace = &gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        grace.as_u64().with_context(|| format!("{grace} is no number"))
    };
    // The rest is for the database and the last spans; a test of the gateway checks it.
    let rest = grace(10, 10, 30)? - 50;
    for (drain, body, upstream) in [(0, 1, 1), (25, 10, 30), (10, 60, 30), (10, 10, 3600)] {
        let expected = u64::from(drain + body + upstream) + rest;
        ensure!(grace(drain, body, upstream)? == expected, "{drain} {body} {upstream}");
    }
    Ok(())
}

#[test]
fn values_reach_their_fields() -> Result<()> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let set = format!(
        "images.registry=registry.example/,images.pullSecrets={{registry}},images.digests.predictor={digest},\
         operator.log=debug,operator.nodeSelector.disk=ssd,gateway.priorityClassName=high,\
         gateway.service.type=NodePort,gateway.service.nodePort=30080,\
         gateway.ingress.enabled=true,gateway.ingress.host=models.example,gateway.ingress.tlsSecretName=cert"
    );
    let from = r#"networkPolicy.predictors.extraFrom=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]"#;
    let any = r#"networkPolicy.prometheus={"namespaceSelector":{}}"#;
    let rendered = objects(&render(&["--set", &set, "--set-json", from, "--set-json", any])?)?;
    let operator = object(&rendered, "Deployment", "canopy-operator")?;
    let gateway = object(&rendered, "Deployment", "canopy-gateway")?;
    let image = format!("registry.example/canopy-predictor:0.1.0@{digest}");
    ensure!(variable(&operator, "CANOPY_PREDICTOR_IMAGE") == Some(image), "{operator}");
    ensure!(
        variable(&operator, "CANOPY_PREDICTOR_PULL_SECRETS").as_deref() == Some("registry"),
        "{operator}"
    );
    ensure!(variable(&operator, "RUST_LOG").as_deref() == Some("debug"), "{operator}");
    let (of_operator, of_gateway) =
        (&operator["spec"]["template"]["spec"], &gateway["spec"]["template"]["spec"]);
    ensure!(of_operator["nodeSelector"] == json!({"disk": "ssd"}), "{of_operator}");
    ensure!(of_gateway["imagePullSecrets"] == json!([{"name": "registry"}]), "{of_gateway}");
    ensure!(of_gateway["priorityClassName"] == "high", "{of_gateway}");
    let service = object(&rendered, "Service", "canopy-gateway")?;
    ensure!(service["spec"]["ports"][0]["nodePort"] == 30080, "{service}");
    let ingress = object(&rendered, "Ingress", "canopy-gateway")?;
    ensure!(ingress["spec"]["rules"][0]["host"] == "models.example", "{ingress}");
    ensure!(ingress["spec"]["tls"][0]["secretName"] == "cert", "{ingress}");

    let callers = variable(&operator, "CANOPY_PREDICTOR_CALLERS").context("predictors have callers")?;
    let callers: Value = serde_json::from_str(&callers)?;
    ensure!(callers["predict"][1] == json!({"ipBlock": {"cidr": "10.0.0.0/8"}}), "{callers}");
    let prometheus = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}});
    ensure!(callers["metrics"] == json!([prometheus]), "{callers}");
    let policy = object(&rendered, "NetworkPolicy", "canopy-gateway")?;
    ensure!(policy["spec"]["ingress"][1]["from"] == json!([prometheus]), "{policy}");
    Ok(())
}

#[test]
fn disabled_parts_are_not_rendered() -> Result<()> {
    let off = "networkPolicy.enabled=false,rbac.aggregate=false";
    let rendered = objects(&render(&["--set", off])?)?;
    let is_left =
        |object: &Value| object["kind"] == "NetworkPolicy" || object["metadata"]["name"] == "canopy-edit";
    ensure!(!rendered.iter().any(is_left), "{rendered:?}");
    let operator = object(&rendered, "Deployment", "canopy-operator")?;
    ensure!(variable(&operator, "CANOPY_PREDICTOR_CALLERS").is_none(), "{operator}");
    Ok(())
}

#[test]
fn an_operator_of_some_namespaces_has_roles_there_and_no_cluster_role() -> Result<()> {
    let of_kind = |objects: &[Value], kind: &str| -> Vec<Value> {
        objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
    };
    let is_operators = |object: &&Value| object["metadata"]["name"] == "canopy-operator";
    let everywhere = objects(&render(&[])?)?;
    let rules = object(&everywhere, "ClusterRole", "canopy-operator")?["rules"].clone();
    let operator = object(&everywhere, "Deployment", "canopy-operator")?;
    ensure!(variable(&operator, "CANOPY_NAMESPACES").is_none(), "{operator}");
    ensure!(
        !of_kind(&everywhere, "Role").iter().any(|role| is_operators(&role)),
        "it has both kinds of roles"
    );

    let limited = objects(&render(&["--set", "operator.namespaces={shop,fraud}"])?)?;
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        ensure!(!of_kind(&limited, kind).iter().any(|role| is_operators(&role)), "it has a {kind}");
    }
    for kind in ["Role", "RoleBinding"] {
        let all = of_kind(&limited, kind);
        let own: Vec<_> =
            all.iter().filter(is_operators).map(|role| &role["metadata"]["namespace"]).collect();
        ensure!(own == ["shop", "fraud"], "{kind}s of the operator are in {own:?}");
    }
    for role in of_kind(&limited, "Role").iter().filter(is_operators) {
        ensure!(role["rules"] == rules, "{role}");
    }
    for binding in of_kind(&limited, "RoleBinding").iter().filter(is_operators) {
        let subject =
            json!([{"kind": "ServiceAccount", "name": "canopy-operator", "namespace": "canopy-system"}]);
        ensure!(binding["subjects"] == subject && binding["roleRef"]["kind"] == "Role", "{binding}");
    }
    let operator = object(&limited, "Deployment", "canopy-operator")?;
    ensure!(variable(&operator, "CANOPY_NAMESPACES").as_deref() == Some("shop,fraud"), "{operator}");
    Ok(())
}
