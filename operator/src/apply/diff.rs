//! Comparison of a desired object with the live one, so that no write is made that changes nothing.
//!
//! Defaults of the API server, and labels and annotations that others add to an object, are not differences.
//! Annotations under `canopy.rs/` must match exactly.

use serde_json::{Map, Value, json};

const OWN_KEYS: &str = "canopy.rs/";

/// Maps of a spec that the operator owns as a whole: one additional key in a selector selects other pods, or none.
const ATOMIC_MAPS: [&str; 7] =
    ["selector", "matchLabels", "nodeSelector", "labels", "limits", "requests", "capabilities"];

/// Fields of a spec that change what runs or what is selected, and that have no default. If the operator does not set
/// them, they must not be set.
const RESERVED_FIELDS: [&str; 41] = [
    // Pods.
    "activeDeadlineSeconds",
    "affinity",
    "dnsConfig",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "runtimeClassName",
    "schedulingGates",
    "serviceAccount",
    "serviceAccountName",
    "shareProcessNamespace",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    // Containers.
    "args",
    "command",
    "env",
    "envFrom",
    "lifecycle",
    "limits",
    "livenessProbe",
    "privileged",
    "readinessProbe",
    "requests",
    "startupProbe",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
    // Services and selectors.
    "externalIPs",
    "matchExpressions",
    "ports",
    "publishNotReadyAddresses",
];

/// Whether every field of `desired` has the same value in `live`.
pub fn is_up_to_date(desired: &Value, live: &Value) -> bool {
    is_subset(desired, live) && own_annotations(desired).eq(own_annotations(live))
}

/// JSON patch operations that remove fields that others added to the spec. A server-side apply does not remove fields
/// of other managers.
pub fn removals(desired: &Value, live: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    if let (Some(desired), Some(live)) = (desired.get("spec"), live.get("spec")) {
        remove_additions(desired, live, "spec", "/spec", &mut operations);
    }
    operations
}

/// Compares the values at `path`, whose last key is `key`.
fn remove_additions(desired: &Value, live: &Value, key: &str, path: &str, operations: &mut Vec<Value>) {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            for (key_of_field, value) in live {
                let path = format!("{path}/{}", key_of_field.replace('~', "~0").replace('/', "~1"));
                match desired.get(key_of_field).filter(|desired| !desired.is_null()) {
                    Some(desired) => remove_additions(desired, value, key_of_field, &path, operations),
                    None if ATOMIC_MAPS.contains(&key) || is_forbidden(key_of_field, value) => {
                        operations.push(json!({"op": "remove", "path": path}));
                    }
                    None => {}
                }
            }
        }
        (Value::Array(desired), Value::Array(live)) if live.iter().all(Value::is_object) => {
            let partner = |live: &Value| desired.iter().find(|desired| is_same_entry(key, desired, live));
            let partners: Option<Vec<_>> = live.iter().map(partner).collect();
            match partners.filter(|_| live.len() <= desired.len()) {
                Some(partners) => {
                    for (index, (desired, live)) in partners.into_iter().zip(live).enumerate() {
                        remove_additions(desired, live, "", &format!("{path}/{index}"), operations);
                    }
                }
                None => operations.push(json!({"op": "replace", "path": path, "value": desired})),
            }
        }
        _ => {}
    }
}

fn is_forbidden(key: &str, value: &Value) -> bool {
    RESERVED_FIELDS.contains(&key) && !is_empty_value(value) && *value != json!(false)
}

/// Whether two entries of a list have the same merge key.
fn is_same_entry(list: &str, desired: &Value, live: &Value) -> bool {
    let same = |keys: &[&str]| keys.iter().all(|key| desired.get(key) == live.get(key));
    match list {
        "volumeMounts" => same(&["mountPath"]),
        "ports" => same(&["containerPort", "port"]),
        _ if desired.get("name").is_some() => same(&["name"]),
        _ => is_subset(desired, live),
    }
}

/// Annotations of the operator. An annotation that is no longer desired is a difference.
fn own_annotations(of: &Value) -> impl Iterator<Item = &String> {
    let annotations = of.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.into_iter().flat_map(Map::keys).filter(|key| key.starts_with(OWN_KEYS))
}

fn is_subset(desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(key, desired)| {
            live.get(key).map_or(is_empty_value(desired), |live| is_subset(desired, live))
        }),
        // Kubernetes merges lists of objects by a key, so order and additional entries are ignored here.
        (Value::Array(desired), Value::Array(live)) if desired.iter().all(Value::is_object) => {
            desired.iter().all(|desired| live.iter().any(|live| is_subset(desired, live)))
        }
        (Value::Array(desired), Value::Array(live)) => {
            desired.len() == live.len() && desired.iter().zip(live).all(|(a, b)| is_subset(a, b))
        }
        (Value::Null, _) => true,
        (Value::String(desired), Value::String(live)) => {
            desired == live || quantity(desired).is_some_and(|desired| quantity(live) == Some(desired))
        }
        (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_), _) => {
            desired == live
        }
    }
}

/// Values that the API server omits when it stores an object.
fn is_empty_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty_value),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Parses a Kubernetes quantity, in thousandths. The API server rewrites `1000m` to `1` and `1.5Gi` to `1536Mi`.
fn quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let thousandths_of_one: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000_i128.pow(2),
        "M" => 1000_i128.pow(3),
        "G" => 1000_i128.pow(4),
        "T" => 1000_i128.pow(5),
        "P" => 1000_i128.pow(6),
        "E" => 1000_i128.pow(7),
        "Ki" => 1000 * 1024,
        "Mi" => 1000 * 1024_i128.pow(2),
        "Gi" => 1000 * 1024_i128.pow(3),
        "Ti" => 1000 * 1024_i128.pow(4),
        "Pi" => 1000 * 1024_i128.pow(5),
        "Ei" => 1000 * 1024_i128.pow(6),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // Values below a thousandth are rounded up, as in Kubernetes.
    let exact = digits.checked_mul(thousandths_of_one)?;
    Some(exact / scale + i128::from(exact % scale > 0))
}

/// Whether each field of the desired spec is equal in the live spec, without additions.
pub fn spec_equals(desired: &Value, live: &Value) -> bool {
    let fields = desired["spec"].as_object().into_iter().flatten();
    fields.into_iter().all(|(field, desired)| {
        let live = &live["spec"][field];
        // The API server omits empty lists.
        live == desired || (live.is_null() && is_empty_value(desired))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(desired: &str, live: &str, expected: bool) {
        let parse = |text| serde_saphyr::from_str(text).unwrap();
        assert_eq!(is_up_to_date(&parse(desired), &parse(live)), expected, "{desired} in {live}");
    }

    #[test]
    fn fields_added_by_others_are_not_a_difference() {
        check("{a: 1}", "{a: 1, b: 2}", true);
        check("{ports: [{name: x}]}", "{ports: [{name: y}, {name: x, protocol: TCP}]}", true);
        check("{metadata: {annotations: {}}}", "{metadata: {annotations: {team: red}}}", true);
        check("{emptyDir: {}, affinity: {nodeAffinity: {}}, tolerations: []}", "{emptyDir: {}}", true);
        check("{a: null}", "{}", true);
    }

    #[test]
    fn a_changed_or_missing_value_is_a_difference() {
        check("{a: 1}", "{a: 2}", false);
        check("{a: 1}", "{}", false);
        check("{a: \"\"}", "{}", false);
        check("{args: [serve]}", "{args: [serve, --fast]}", false);
        check("{args: [a, b]}", "{args: [b, a]}", false);
        check("{ports: [{name: x, port: 80}]}", "{ports: [{name: x, port: 81}]}", false);
        check("{replicas: 0}", "{}", false);
    }

    /// Checks the operations, as verb and path.
    #[track_caller]
    fn check_removals(desired: &str, live: &str, expected: &[&str]) {
        let parse = |text: &str| json!({"spec": serde_saphyr::from_str::<Value>(text).unwrap()});
        let operations = removals(&parse(desired), &parse(live));
        let described: Vec<_> = operations
            .iter()
            .map(|operation| {
                format!("{} {}", operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap())
            })
            .collect();
        assert_eq!(described, expected, "{desired} in {live}");
    }

    #[test]
    fn fields_added_to_selectors_are_removed() {
        let service = "{selector: {canopy.rs/revision: a}}";
        check_removals(service, "{selector: {canopy.rs/revision: a}, clusterIP: None}", &[]);
        check_removals(
            service,
            "{selector: {canopy.rs/revision: b, x: y, a/b: ''}, externalIPs: [10.0.0.1]}",
            &["remove /spec/externalIPs", "remove /spec/selector/a~1b", "remove /spec/selector/x"],
        );
        check_removals(
            "{selector: {matchLabels: {a: b}}}",
            "{selector: {matchLabels: {a: b, c: d}, matchExpressions: [{key: a, operator: Exists}]}}",
            &["remove /spec/selector/matchExpressions", "remove /spec/selector/matchLabels/c"],
        );
        check_removals(
            "{ports: [{name: http, port: 80}]}",
            "{ports: [{name: http, port: 80, protocol: TCP}, {name: b, port: 81}]}",
            &["replace /spec/ports"],
        );
        check_removals(
            "{ports: [{name: http, port: 80}]}",
            "{ports: [{name: http, port: 81}]}",
            &["replace /spec/ports"],
        );
    }

    #[test]
    fn fields_added_to_pods_are_removed_and_defaults_stay() {
        let template = |metadata: &str, pod: &str| {
            format!("{{template: {{metadata: {{labels: {{a: b}}{metadata}}}, spec: {{{pod}}}}}}}")
        };
        let desired = template(
            "",
            "containers: [{name: serve, args: [serve], volumeMounts: [{name: model, mountPath: /m}]}], volumes: [{name: model, emptyDir: {}}]",
        );
        let check = |live: &str, expected: &[&str]| check_removals(&desired, live, expected);
        let serve = "name: serve, args: [serve], imagePullPolicy: Always, resources: {}, terminationMessagePath: /dev/termination-log";
        let mount = "volumeMounts: [{name: model, mountPath: /m}]";
        let volume = "volumes: [{name: model, emptyDir: {}}], restartPolicy: Always, dnsPolicy: ClusterFirst, hostNetwork: false";
        check(
            &template(
                ", annotations: {kubectl.kubernetes.io/restartedAt: now}",
                &format!("containers: [{{{serve}, {mount}}}], {volume}"),
            ),
            &[],
        );
        check(
            &template("", &format!("containers: [{{{serve}, {mount}}}, {{name: sidecar}}], {volume}")),
            &["replace /spec/template/spec/containers"],
        );
        check(
            &template(
                "",
                &format!("containers: [{{{serve}, {mount}, env: [{{name: X, value: y}}]}}], {volume}"),
            ),
            &["remove /spec/template/spec/containers/0/env"],
        );
        check(
            &template(
                "",
                &format!(
                    "containers: [{{{serve}, volumeMounts: [{{name: model, mountPath: /m}}, {{name: model, mountPath: /n}}]}}], {volume}"
                ),
            ),
            &["replace /spec/template/spec/containers/0/volumeMounts"],
        );
        check(
            "{template: {metadata: {labels: {a: b, c: d}}, spec: {nodeSelector: {disk: ssd}, hostNetwork: true, serviceAccountName: admin, initContainers: [{name: x}]}}}",
            &[
                "remove /spec/template/metadata/labels/c",
                "remove /spec/template/spec/hostNetwork",
                "remove /spec/template/spec/initContainers",
                "remove /spec/template/spec/nodeSelector",
                "remove /spec/template/spec/serviceAccountName",
            ],
        );
    }

    #[test]
    fn an_exact_spec_has_no_additional_fields() {
        let is_exact = |desired: &str, live: &str| {
            let read = |text: &str| serde_saphyr::from_str(&format!("{{spec: {text}}}")).unwrap();
            spec_equals(&read(desired), &read(live))
        };
        assert!(is_exact("{a: {b: c}, list: []}", "{a: {b: c}, more: 1}"));
        assert!(!is_exact("{a: {b: c}}", "{a: {b: c, d: e}}"));
        assert!(!is_exact("{a: [{}]}", "{a: [{}, {}]}"));
        assert!(!is_exact("{a: []}", "{a: [{}]}"));
        assert!(!is_exact("{a: {}}", "{a: [{}]}"));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        check("{cpu: 1000m}", "{cpu: '1'}", true);
        check("{memory: 1.5Gi}", "{memory: 1536Mi}", true);
        check("{memory: 0.5G}", "{memory: 500M}", true);
        check("{cpu: 0.0001}", "{cpu: 1m}", false);
        check("{cpu: '0.0001'}", "{cpu: 1m}", true);
        check("{cpu: 1000m}", "{cpu: 1001m}", false);
        check("{memory: 64Mi}", "{memory: 64M}", false);
        check("{name: a}", "{name: b}", false);
        check("{name: 1-x}", "{name: 1-y}", false);
    }

    #[test]
    fn an_obsolete_annotation_of_the_operator_is_a_difference() {
        let annotated = "{metadata: {annotations: {canopy.rs/retired-at: now, team: red}}}";
        check("{metadata: {name: a}}", "{metadata: {name: a, annotations: {team: red}}}", true);
        check("{metadata: {}}", annotated, false);
        check("{metadata: {annotations: {canopy.rs/retired-at: now}}}", annotated, true);
    }
}
