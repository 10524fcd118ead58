//! Whether an object already is what it should be, so that nothing is written that would not change.
//!
//! Comes in: what the operator would apply, and the object as the API server shows it. Goes out: yes or no, and what
//! others added where nothing may be added. Never: an objection to the API server's defaults, or to labels and annotations
//! that people give the object itself. Under `canopy.rs/` alone nothing may stand that is not wanted.

use serde_json::{Map, Value, json};

const OWN_KEYS: &str = "canopy.rs/";

/// Maps of a spec that are the operator's as a whole: one key more selects other pods, or none.
const WHOLE: [&str; 7] =
    ["selector", "matchLabels", "nodeSelector", "labels", "limits", "requests", "capabilities"];

/// Fields of a spec that change what runs or what is selected, and for which the API server has no default: where the
/// operator does not set one, it must not be set.
const RESERVED: [&str; 41] = [
    // Of pods.
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
    // Of containers.
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
    // Of Services, and of selectors.
    "externalIPs",
    "matchExpressions",
    "ports",
    "publishNotReadyAddresses",
];

/// Whether every field of `wanted` stands in `found` with the same value.
pub fn holds(wanted: &Value, found: &Value) -> bool {
    is_within(wanted, found) && own_annotations(wanted).eq(own_annotations(found))
}

/// The operations of a JSON patch that take away what others added to the spec: a server-side apply leaves alone what
/// another manager owns.
pub fn removals(wanted: &Value, found: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    if let (Some(wanted), Some(found)) = (wanted.get("spec"), found.get("spec")) {
        remove_additions(wanted, found, ("spec", "/spec".to_owned()), &mut operations);
    }
    operations
}

/// What stands at `path`, which ends in `key`.
fn remove_additions(wanted: &Value, found: &Value, (key, path): (&str, String), operations: &mut Vec<Value>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key_of_field, value) in found {
                let path = format!("{path}/{}", key_of_field.replace('~', "~0").replace('/', "~1"));
                match wanted.get(key_of_field).filter(|wanted| !wanted.is_null()) {
                    Some(wanted) => remove_additions(wanted, value, (key_of_field, path), operations),
                    None if WHOLE.contains(&key) || is_forbidden(key_of_field, value) => {
                        operations.push(json!({"op": "remove", "path": path}));
                    }
                    None => {}
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) if found.iter().all(Value::is_object) => {
            let partner = |found: &Value| wanted.iter().find(|wanted| is_same_entry(key, wanted, found));
            let partners: Option<Vec<_>> = found.iter().map(partner).collect();
            match partners.filter(|_| found.len() <= wanted.len()) {
                Some(partners) => {
                    for (index, (wanted, found)) in partners.into_iter().zip(found).enumerate() {
                        remove_additions(wanted, found, ("", format!("{path}/{index}")), operations);
                    }
                }
                None => operations.push(json!({"op": "replace", "path": path, "value": wanted})),
            }
        }
        _ => {}
    }
}

fn is_forbidden(key: &str, value: &Value) -> bool {
    RESERVED.contains(&key) && !is_nothing(value) && *value != json!(false)
}

/// Whether two entries of a list are about the same thing, as Kubernetes tells them apart.
fn is_same_entry(list: &str, wanted: &Value, found: &Value) -> bool {
    let same = |keys: &[&str]| keys.iter().all(|key| wanted.get(key) == found.get(key));
    match list {
        "volumeMounts" => same(&["mountPath"]),
        "ports" => same(&["containerPort", "port"]),
        _ if wanted.get("name").is_some() => same(&["name"]),
        _ => is_within(wanted, found),
    }
}

/// What the operator said of an object besides its fields: a stamp that is no longer wanted is a change.
fn own_annotations(of: &Value) -> impl Iterator<Item = &String> {
    let annotations = of.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.into_iter().flat_map(Map::keys).filter(|key| key.starts_with(OWN_KEYS))
}

fn is_within(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).map_or(is_nothing(wanted), |found| is_within(wanted, found))),
        // Kubernetes keeps lists of objects by a key: order and additions are not ours to judge.
        (Value::Array(wanted), Value::Array(found)) if wanted.iter().all(Value::is_object) => {
            wanted.iter().all(|wanted| found.iter().any(|found| is_within(wanted, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| is_within(a, b))
        }
        (Value::Null, _) => true,
        (Value::String(wanted), Value::String(found)) => {
            wanted == found || quantity(wanted).is_some_and(|wanted| quantity(found) == Some(wanted))
        }
        (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_), _) => {
            wanted == found
        }
    }
}

/// What the API server leaves out when it stores an object.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A Kubernetes quantity in thousandths: the API server rewrites `1000m` to `1` and `1.5Gi` to `1536Mi`.
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
    // What is finer than a thousandth is rounded up, as Kubernetes does.
    let exact = digits.checked_mul(thousandths_of_one)?;
    Some(exact / scale + i128::from(exact % scale > 0))
}

/// Whether each field of the spec that is wanted is just as it is wanted, without additions.
pub fn has_exactly(wanted: &Value, found: &Value) -> bool {
    let fields = wanted["spec"].as_object().into_iter().flatten();
    fields.into_iter().all(|(field, wanted)| {
        let found = &found["spec"][field];
        // The API server leaves out an empty list.
        found == wanted || (found.is_null() && is_nothing(wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &str, found: &str, expected: bool) {
        let parse = |text| serde_saphyr::from_str(text).unwrap();
        assert_eq!(holds(&parse(wanted), &parse(found)), expected, "{wanted} in {found}");
    }

    #[test]
    fn additions_of_others_are_no_difference() {
        check("{a: 1}", "{a: 1, b: 2}", true);
        check("{ports: [{name: x}]}", "{ports: [{name: y}, {name: x, protocol: TCP}]}", true);
        check("{metadata: {annotations: {}}}", "{metadata: {annotations: {team: red}}}", true);
        check("{emptyDir: {}, affinity: {nodeAffinity: {}}, tolerations: []}", "{emptyDir: {}}", true);
        check("{a: null}", "{}", true);
    }

    #[test]
    fn a_value_that_differs_or_is_gone_is_a_difference() {
        check("{a: 1}", "{a: 2}", false);
        check("{a: 1}", "{}", false);
        check("{a: \"\"}", "{}", false);
        check("{args: [serve]}", "{args: [serve, --fast]}", false);
        check("{args: [a, b]}", "{args: [b, a]}", false);
        check("{ports: [{name: x, port: 80}]}", "{ports: [{name: x, port: 81}]}", false);
        check("{replicas: 0}", "{}", false);
    }

    /// The operations, each as its word and path, and the object that they leave.
    #[track_caller]
    fn check_removals(wanted: &str, found: &str, expected: &[&str]) {
        let parse = |text: &str| json!({"spec": serde_saphyr::from_str::<Value>(text).unwrap()});
        let operations = removals(&parse(wanted), &parse(found));
        let told: Vec<_> = operations
            .iter()
            .map(|operation| {
                format!("{} {}", operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap())
            })
            .collect();
        assert_eq!(told, expected, "{wanted} in {found}");
    }

    #[test]
    fn what_is_added_to_a_selector_is_removed() {
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
    fn what_is_added_to_pods_is_removed_and_defaults_stay() {
        let template = |metadata: &str, pod: &str| {
            format!("{{template: {{metadata: {{labels: {{a: b}}{metadata}}}, spec: {{{pod}}}}}}}")
        };
        let wanted = template(
            "",
            "containers: [{name: serve, args: [serve], volumeMounts: [{name: model, mountPath: /m}]}], volumes: [{name: model, emptyDir: {}}]",
        );
        let check = |found: &str, expected: &[&str]| check_removals(&wanted, found, expected);
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
    fn what_is_wanted_exactly_has_no_additions() {
        let is_exact = |wanted: &str, found: &str| {
            let read = |text: &str| serde_saphyr::from_str(&format!("{{spec: {text}}}")).unwrap();
            has_exactly(&read(wanted), &read(found))
        };
        assert!(is_exact("{a: {b: c}, list: []}", "{a: {b: c}, more: 1}"));
        assert!(!is_exact("{a: {b: c}}", "{a: {b: c, d: e}}"));
        assert!(!is_exact("{a: [{}]}", "{a: [{}, {}]}"));
        assert!(!is_exact("{a: []}", "{a: [{}]}"));
        assert!(!is_exact("{a: {}}", "{a: [{}]}"));
    }

    #[test]
    fn quantities_are_compared_by_what_they_mean() {
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
    fn a_stamp_of_ours_that_is_no_longer_wanted_is_a_difference() {
        let stamped = "{metadata: {annotations: {canopy.rs/retired-at: now, team: red}}}";
        check("{metadata: {name: a}}", "{metadata: {name: a, annotations: {team: red}}}", true);
        check("{metadata: {}}", stamped, false);
        check("{metadata: {annotations: {canopy.rs/retired-at: now}}}", stamped, true);
    }
}
