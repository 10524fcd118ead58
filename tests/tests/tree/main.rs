//! The rules of the source tree, as tests. Each rule is also tried on an example that breaks it.

#![expect(clippy::expect_used, reason = "a test that cannot continue panics with the reason")]

mod tokens;
mod sources;
mod order;
mod shape;
mod doors;
mod packages;
mod vocabulary;
mod dashboards;

use std::collections::{BTreeMap, BTreeSet};

use canopy_contract::code::Code;
use doors::Door;

/// The crates that each crate may depend on. The crates in `FREE` may depend on all.
const EDGES: [(&str, &[&str]); 9] = [
    ("canopy-contract", &[]),
    ("canopy-runtime", &[]),
    ("canopy-forest", &[]),
    ("canopy-onnx", &[]),
    ("canopy-resource", &["canopy-contract"]),
    ("canopy-predictor", &["canopy-contract", "canopy-forest", "canopy-onnx", "canopy-runtime"]),
    ("canopy-gateway", &["canopy-contract", "canopy-runtime"]),
    ("canopy-operator", &["canopy-contract", "canopy-resource", "canopy-runtime"]),
    (
        "canopy",
        &[
            "canopy-contract",
            "canopy-forest",
            "canopy-gateway",
            "canopy-predictor",
            "canopy-resource",
            "canopy-runtime",
        ],
    ),
];
const FREE: [&str; 3] = ["canopy-tests", "canopy-bench", "xtask"];

/// Packages that must not be compiled into a program.
const NOT_COMPILED_INTO: [(&str, &[&str]); 3] = [
    ("canopy-gateway", &["kube", "kube-core", "kube-client", "k8s-openapi"]),
    ("canopy-predictor", &["kube", "kube-core", "kube-client", "k8s-openapi"]),
    ("canopy", &["kube-client"]),
];

/// Packages that must not be in Cargo.lock: the only TLS stack is rustls with ring, which needs no C library.
const NOT_LOCKED: [&str; 4] = ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys"];

/// Licences of dependencies that allow any use of Canopy.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The files that may do each kind of input and output.
const DOORS: [Door; 11] = [
    Door {
        kind: "files",
        words: &["std::fs", "tokio::fs"],
        files: &["crates/runtime/src/server/memory_limit.rs", "predictor/src/files.rs"],
    },
    Door {
        kind: "SQL",
        words: &["sea_orm", "sea_orm_migration", "sqlx"],
        files: &[
            "gateway/src/store.rs",
            "gateway/src/store/address.rs",
            "gateway/src/store/feedback.rs",
            "gateway/src/store/predictions.rs",
            "gateway/src/store/migration.rs",
            "gateway/src/store/prediction.rs",
            "gateway/src/store/revision.rs",
            "gateway/src/store/user.rs",
        ],
    },
    Door {
        kind: "connections to others",
        words: &["TcpStream::connect", "hyper::client"],
        files: &["gateway/src/upstream/pool.rs", "predictor/src/serving/self_test.rs"],
    },
    Door { kind: "DNS", words: &["hickory_resolver"], files: &["gateway/src/discovery/dns.rs"] },
    Door {
        kind: "listening",
        words: &["TcpListener::bind"],
        files: &["crates/runtime/src/server/listen.rs"],
    },
    Door {
        kind: "export of traces",
        words: &["opentelemetry_sdk", "opentelemetry_otlp"],
        files: &["crates/runtime/src/telemetry.rs"],
    },
    Door {
        kind: "requests with a client that speaks TLS",
        words: &["reqwest"],
        files: &["crates/runtime/src/telemetry.rs", "predictor/src/sources/download.rs"],
    },
    Door {
        kind: "the environment",
        words: &["env::var", "env::vars"],
        files: &["crates/runtime/src/telemetry.rs"],
    },
    Door {
        kind: "standard streams",
        words: &["io::stdin", "io::stdout", "io::stderr"],
        files: &["cli/src/console.rs", "crates/runtime/src/telemetry.rs"],
    },
    Door {
        kind: "chance",
        words: &["fastrand", "Uuid::now_v7", "rand::thread_rng"],
        files: &[
            "crates/runtime/src/trace.rs",
            "gateway/src/discovery/registry.rs",
            "gateway/src/balance/balancer.rs",
            "gateway/src/balance/endpoint.rs",
            "gateway/src/routes/predict.rs",
        ],
    },
    Door { kind: "other programs", words: &["process::Command"], files: &[] },
];

/// The dashboards, each with its variables in order.
const DASHBOARDS: [(&str, &[&str]); 3] = [
    ("model", &["datasource", "namespace", "model", "version"]),
    ("operator", &["datasource"]),
    ("overview", &["datasource", "namespace", "model"]),
];

/// Series that dashboards may query although Canopy does not declare them: those of the crate `prometheus`, and the alerts
/// of Prometheus.
const FROM_OTHERS: [&str; 4] =
    ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "ALERTS"];

#[test]
fn a_module_names_only_what_is_declared_above_it() {
    let sources = sources::read();
    let is_root = |file: &&String| file.ends_with("/src/lib.rs") || file.ends_with("/src/main.rs");
    let roots: Vec<_> = sources.keys().filter(is_root).collect();
    assert!(roots.len() > EDGES.len(), "only {} crates were found: {roots:?}", roots.len());
    assert_none(roots.into_iter().flat_map(|root| order::breaches(&sources, root)));
}

#[test]
fn every_file_has_a_header_and_is_short() {
    assert_none(sources::read().iter().flat_map(|(path, text)| shape::breaches(path, text)));
}

#[test]
fn each_kind_of_input_and_output_is_in_the_listed_files_only() {
    assert_none(doors::breaches(&sources::read(), &DOORS).into_iter());
}

#[test]
fn crates_depend_only_on_the_listed_crates() {
    let metadata = packages::metadata();
    let mut found = packages::edges(&metadata);
    found.retain(|name, _| !FREE.contains(name));
    let meant: BTreeMap<_, BTreeSet<_>> = EDGES.map(|(of, to)| (of, to.iter().copied().collect())).into();
    assert_eq!(found, meant);
}

#[test]
fn programs_that_need_no_kubernetes_client_are_compiled_without_one() {
    for (package, banned) in NOT_COMPILED_INTO {
        let compiled = packages::compiled_into(package);
        assert!(
            compiled.contains("serde"),
            "expected serde among the dependencies of {package}, got {compiled:?}"
        );
        let found: Vec<_> = banned.iter().filter(|name| compiled.contains(**name)).collect();
        assert!(found.is_empty(), "{package} is compiled with {found:?}");
    }
}

#[test]
fn one_tls_stack_is_locked_and_it_is_ring() {
    let lock = sources::text(&sources::root().join("Cargo.lock"));
    let locked = |name: &str| lock.contains(&format!("name = \"{name}\"\n"));
    assert!(locked("ring"), "Cargo.lock has no ring");
    let found: Vec<_> = NOT_LOCKED.iter().filter(|name| locked(name)).collect();
    assert!(found.is_empty(), "Cargo.lock has {found:?}");
}

#[test]
fn every_dependency_has_a_listed_licence() {
    let metadata = packages::metadata();
    assert_none(metadata.packages.iter().filter_map(|package| {
        let licence = package.license.as_deref().unwrap_or("a file of its own");
        let terms =
            licence.split(|c: char| c.is_whitespace() || "()/".contains(c)).filter(|term| !term.is_empty());
        let mut names = terms.filter(|term| !["AND", "OR", "WITH", "LLVM-exception"].contains(term));
        let name = &package.name;
        (!names.all(|term| LICENCES.contains(&term))).then(|| format!("{name} has the licence {licence}"))
    }));
}

#[test]
fn every_crate_uses_the_lints_of_the_workspace() {
    for package in packages::metadata().workspace_packages() {
        let manifest = sources::text(package.manifest_path.as_std_path());
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{} has lints of its own",
            package.manifest_path
        );
    }
}

#[test]
fn metrics_are_named_in_one_file_of_each_crate_and_documented() {
    let sources = sources::read();
    let code = vocabulary::metrics_in_code(&sources);
    assert_none(code.iter().filter(|(_, file)| !file.ends_with("/src/metrics.rs")).map(|(word, file)| {
        format!("{file}: names the metric {word}, which only the metrics.rs of the crate may do")
    }));
    let explained = sources::text(&sources::root().join("docs/metrics.md"));
    let named: BTreeSet<_> = code.into_iter().map(|(word, _)| word).collect();
    assert_eq!(vocabulary::metrics_in_text(&explained), named, "docs/metrics.md (left) and the code (right)");
}

#[test]
fn the_runbook_has_a_heading_for_each_code_and_alert() {
    let runbook = sources::text(&sources::root().join("docs/runbook.md"));
    let words = Code::ALL.iter().map(|code| code.as_str().to_owned());
    let words: BTreeSet<_> = words.chain(vocabulary::alerts(&rules())).collect();
    assert_eq!(vocabulary::headings(&runbook), words, "docs/runbook.md (left), Code::ALL and alerts (right)");
}

fn rules() -> String {
    sources::text(&sources::root().join("charts/canopy/files/rules.yaml"))
}

#[test]
fn every_alert_is_tested_firing_and_not_firing_and_links_to_its_heading() {
    let (rules, tests) = (rules(), sources::text(&sources::root().join("tests/alerts/rules.test.yaml")));
    let alerts = vocabulary::alerts(&rules);
    assert!(!alerts.is_empty(), "there are no alerts");
    for alert in alerts {
        let [fires, is_quiet] = vocabulary::is_tested_both_ways(&tests, &alert);
        assert!(fires && is_quiet, "{alert}: tested firing: {fires}, tested not firing: {is_quiet}");
        let link = format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} has no {link}");
    }
}

#[test]
fn rules_query_only_existing_metrics() {
    let sources = sources::read();
    let named: BTreeSet<_> =
        vocabulary::metrics_in_code(&sources).into_iter().map(|(word, _)| word).collect();
    let unknown: Vec<_> = vocabulary::metrics_in_text(&rules()).difference(&named).cloned().collect();
    assert!(unknown.is_empty(), "charts/canopy/files/rules.yaml queries {unknown:?}");
}

#[test]
fn dashboards_are_complete_and_query_only_existing_metrics() {
    let explained = sources::text(&sources::root().join("docs/metrics.md"));
    let others = FROM_OTHERS.map(str::to_owned);
    let known: BTreeSet<_> = vocabulary::series_in_tables(&explained)
        .into_iter()
        .chain(vocabulary::recorded(&rules()))
        .chain(others)
        .collect();
    assert_none(
        DASHBOARDS
            .iter()
            .flat_map(|(name, variables)| dashboards::breaches(name, &dashboard(name), variables, &known)),
    );
}

#[test]
fn every_dashboard_is_listed() {
    let files = sources::root().join("charts/canopy/files/dashboards");
    let files = files.read_dir().expect("a folder of dashboards");
    let files: BTreeSet<_> = files
        .map(|file| file.expect("a readable folder").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, DASHBOARDS.map(|(name, _)| format!("{name}.json")).into());
}

#[test]
fn every_metric_is_on_a_dashboard_or_in_a_rule() {
    let explained = sources::text(&sources::root().join("docs/metrics.md"));
    let asked = DASHBOARDS.iter().flat_map(|(name, _)| dashboards::asked_for(&dashboard(name)));
    let asked = asked.flat_map(|name| vocabulary::metrics_in_text(&name));
    let seen: BTreeSet<_> = asked.chain(vocabulary::metrics_in_text(&rules())).collect();
    let unseen: Vec<_> = vocabulary::metrics_in_text(&explained).difference(&seen).cloned().collect();
    assert!(unseen.is_empty(), "no dashboard and no rule queries {unseen:?}");
}

fn dashboard(name: &str) -> serde_json::Value {
    let path = sources::root().join(format!("charts/canopy/files/dashboards/{name}.json"));
    let text = sources::text(&path);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{} is not JSON: {error}", path.display()))
}

#[track_caller]
fn assert_none(breaches: impl Iterator<Item = String>) {
    let breaches: Vec<_> = breaches.collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}
