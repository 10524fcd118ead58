//! The commands of the binary: the files they leave, and their exit codes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use canopy_contract::report::{REPORT_MAX_BYTES, Report};
use canopy_contract::serving::ServingConfig;
use canopy_predictor::artifact::{self, Artifact};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{config, synthetic};

/// Lets a predictor download from the servers of these tests, and say what it saw there.
pub(crate) const THIS_HOST: (&str, &str) = ("CANOPY_SOURCE_ALLOWED_NETWORKS", "127.0.0.1/32");

/// A folder with a serving config in it.
pub(crate) fn folder(config: &ServingConfig) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
    folder
}

fn predictor(folder: &Path, command: &str) -> Command {
    let mut predictor = Command::new(env!("CARGO_BIN_EXE_canopy-predictor"));
    predictor.arg(command).env("CANOPY_CONFIG", folder.join("config.json"));
    predictor
        .env("CANOPY_MODEL_DIR", folder.join("model"))
        .env("CANOPY_LOG_FORMAT", "json")
        .stdin(Stdio::null());
    predictor
}

pub(crate) fn prepare(folder: &TempDir, environment: &[(&str, &str)]) -> (Output, Report) {
    let log = folder.path().join("termination-log");
    // As a container's: it is there, and must stay the same file.
    std::fs::write(&log, "what an earlier run left, longer than any report may be".repeat(100)).unwrap();
    let mut prepare = predictor(folder.path(), "prepare");
    let output =
        prepare.env("CANOPY_TERMINATION_LOG", &log).envs(environment.iter().copied()).output().unwrap();
    let report = std::fs::read(&log).unwrap();
    assert!(report.len() <= REPORT_MAX_BYTES, "{} bytes", report.len());
    (output, serde_json::from_slice(&report).unwrap())
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn prepare_leaves_a_model_and_its_report_and_logs_its_quality() {
    let folder = folder(&synthetic());
    let (output, report) = prepare(&folder, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let Report::Prepared(prepared) = report else { panic!("{report:?}") };
    let artifact = Artifact::read(&folder.path().join("model/model.canopy")).unwrap();
    assert_eq!(artifact.card().quality, prepared.quality);
    for told in ["\"message\":\"training\"", &prepared.digest, "precision", "on 40 held-out rows"] {
        assert!(said(&output).contains(told), "{told} is missing in {}", said(&output));
    }
}

#[test]
fn a_refusal_is_reported_and_is_no_error() {
    let folder = folder(&config(&[&json!({"train": {"gate": {"metric": "Accuracy", "min": 1.0}}})]));
    let (output, report) = prepare(&folder, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let Report::Refused(refusal) = report else { panic!("{report:?}") };
    assert_eq!(refusal.code, "gate_missed");
    assert!(said(&output).contains("\"code\":\"gate_missed\""), "{}", said(&output));
    assert!(!folder.path().join("model/model.canopy").exists());
}

#[test]
fn the_trainer_and_the_version_are_chosen_by_the_environment() {
    let digest_with = |environment| {
        let folder = folder(&synthetic());
        let (output, report) = prepare(&folder, environment);
        let Report::Prepared(prepared) = report else { panic!("{}", said(&output)) };
        let artifact = Artifact::read(&folder.path().join("model/model.canopy")).unwrap();
        (prepared.digest, artifact.card().version.clone())
    };
    let (native, version) = digest_with(&[]);
    assert_eq!(version, "1.0");
    let (linfa, version) = digest_with(&[("CANOPY_TRAINER", "linfa"), ("CANOPY_MODEL_VERSION", "2.0")]);
    assert_eq!(version, "2.0");
    assert_ne!(native, linfa);
}

#[test]
fn a_fault_that_may_pass_is_an_error_that_names_its_object() {
    let nowhere =
        json!({"train": {"data": {"csv": {"source": {"path": "/nowhere/data.csv"}, "target": "label"}}}});
    let no_data = folder(&config(&[&nowhere]));
    let no_config = tempfile::tempdir().unwrap();
    let bad_config = tempfile::tempdir().unwrap();
    std::fs::write(bad_config.path().join("config.json"), r#"{"model":"demo","colour":"red"}"#).unwrap();
    let no_folder = folder(&synthetic());
    std::fs::write(no_folder.path().join("model"), "a file where a folder belongs").unwrap();
    let never_prepared = folder(&synthetic());
    for (folder, command, words) in [
        (&no_data, "prepare", "failed to read /nowhere/data.csv: No such file"),
        (&no_config, "prepare", "config.json: No such file"),
        (&bad_config, "prepare", "is not a serving config: unknown field `colour`"),
        (&no_folder, "prepare", "failed to write"),
        (&no_config, "serve", "config.json: No such file"),
        (
            &never_prepared,
            "serve",
            "prepared.json: No such file or directory (os error 2); run prepare first",
        ),
    ] {
        let mut command = predictor(folder.path(), command);
        let output =
            command.env("CANOPY_LISTEN", "127.0.0.1:0").env("CANOPY_ADMIN", "127.0.0.1:0").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(words), "{words} is missing in {}", said(&output));
    }
}

#[test]
fn a_config_or_data_of_another_digest_is_not_used() {
    let rows: Vec<_> = (0..40).map(|row| format!("{},{}.5", ["cat", "emu"][row % 2], row % 2 * 10)).collect();
    let (table, other) = (format!("label,weight\n{}\n", rows.join("\n")), "0".repeat(64));
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("data.csv");
    std::fs::write(&path, &table).unwrap();
    let source = json!({"csv": {"source": {"path": path}, "target": "label"}});
    let config = config(&[&json!({"train": {"data": source, "gate": null}, "features": []})]);
    let text = serde_json::to_vec(&config).unwrap();
    let (of_config, of_data) = (artifact::digest(&text), artifact::digest(table.as_bytes()));

    let folder = folder(&config);
    let (output, report) =
        prepare(&folder, &[("CANOPY_CONFIG_SHA256", &of_config), ("CANOPY_DATA_SHA256", &other)]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let Report::Failed(failure) = report else { panic!("{report:?}") };
    assert_eq!(failure.code, "data_unavailable");
    let words = format!("its SHA-256 must be {other}, got {of_data}");
    assert!(failure.message.contains(&words), "{}", failure.message);

    let (output, report) =
        prepare(&folder, &[("CANOPY_CONFIG_SHA256", &of_config), ("CANOPY_DATA_SHA256", &of_data)]);
    assert!(matches!(report, Report::Prepared(_)), "{}", said(&output));
    for command in ["prepare", "serve"] {
        let mut command = predictor(folder.path(), command);
        command.env("CANOPY_LISTEN", "127.0.0.1:0").env("CANOPY_ADMIN", "127.0.0.1:0");
        let output = command.env("CANOPY_CONFIG_SHA256", &other).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let words = format!("its SHA-256 must be {other}, got {of_config}");
        assert!(said(&output).contains(&words), "{}", said(&output));
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_to_choose_another() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = folder(&synthetic());
    for (variable, flag) in [("CANOPY_LISTEN", "--listen"), ("CANOPY_ADMIN", "--admin")] {
        let mut serve = predictor(folder.path(), "serve");
        serve.env("CANOPY_LISTEN", "127.0.0.1:0").env("CANOPY_ADMIN", "127.0.0.1:0").env(variable, &address);
        let output = serve.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let words = format!(
            "failed to listen on {address}: Address already in use (os error 98); choose another address with {flag} or {variable}"
        );
        assert!(said(&output).contains(&words), "{}", said(&output));
    }
}

#[test]
fn serve_leaves_the_reason_of_a_bad_artifact_where_the_operator_looks_and_ends() {
    let folder = folder(&synthetic());
    let (output, _) = prepare(&folder, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let log = folder.path().join("termination-log");
    std::fs::write(&log, "").unwrap();
    std::fs::write(folder.path().join("model/model.canopy"), "nothing").unwrap();
    let mut serve = predictor(folder.path(), "serve");
    serve.env("CANOPY_LISTEN", "127.0.0.1:0").env("CANOPY_ADMIN", "127.0.0.1:0");
    let output =
        serve.env("CANOPY_TERMINATION_LOG", &log).env("CANOPY_REFUSAL_SECONDS", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
    let Report::Refused(refusal) = report else { panic!("{report:?}") };
    assert_eq!(refusal.code, "artifact_corrupt");
    assert!(said(&output).contains("will not serve"), "{}", said(&output));
}
