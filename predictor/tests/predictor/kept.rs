//! `prepare` in a folder that has a model already, as when a container restarts.

use std::path::Path;

use canopy_contract::report::{Prepared, Report};
use canopy_contract::serving::ServingConfig;
use canopy_predictor::artifact;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{THIS_HOST, folder, prepare, said};
use crate::file_server::FileServer;
use crate::harness::{config, synthetic};

fn table() -> String {
    let rows: Vec<_> = (0..40).map(|row| format!("{},{}.5", ["cat", "emu"][row % 2], row % 2 * 10)).collect();
    format!("label,weight\n{}\n", rows.join("\n"))
}

fn of_source(source: &Value) -> ServingConfig {
    let data = json!({"csv": {"source": source, "target": "label"}});
    config(&[&json!({"train": {"data": data, "gate": null}, "features": []})])
}

/// A model whose data come from a server, which was prepared once.
fn prepared() -> (FileServer, TempDir, Prepared) {
    let server = FileServer::http(&table());
    let digest = artifact::digest(table().as_bytes());
    let download = json!({"uri": server.uri("good.csv"), "sha256": digest, "timeoutSeconds": 20});
    let folder = folder(&of_source(&json!({"download": download})));
    let report = again(&folder);
    assert_eq!(server.asked().len(), 1);
    (server, folder, report)
}

#[track_caller]
fn again(folder: &TempDir) -> Prepared {
    let (output, report) = prepare(folder, &[THIS_HOST]);
    assert!(output.status.success(), "{}", said(&output));
    let Report::Prepared(prepared) = report else { panic!("{report:?}") };
    prepared
}

fn change(folder: &TempDir, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.path().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn change_json(folder: &TempDir, name: &str, change: impl FnOnce(&mut Value)) {
    self::change(folder, name, |bytes| {
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        *bytes = value.to_string().into_bytes();
    });
}

#[test]
fn a_model_that_is_there_is_kept_without_its_data() {
    let (server, folder, first) = prepared();
    // To the last bit, the time that it took included: it was not made again.
    assert_eq!(again(&folder), first);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_model_that_is_not_the_prepared_one_is_prepared_again() {
    type Change = fn(&TempDir);
    let changes: [Change; 6] = [
        |folder| change(folder, "model/model.canopy", |bytes| bytes[100] ^= 1),
        |folder| change(folder, "model/model.canopy", |bytes| bytes.truncate(50)),
        |folder| std::fs::remove_file(folder.path().join("model/model.canopy")).unwrap(),
        |folder| change(folder, "model/prepared.json", |bytes| bytes.truncate(50)),
        |folder| change_json(folder, "model/prepared.json", |r| r["prepared"]["made_from"] = Value::Null),
        |folder| {
            change_json(folder, "model/prepared.json", |record| {
                record["prepared"]["golden"]["answer"]["prediction"] = 7.into();
            });
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (server, folder, first) = prepared();
        change(&folder);
        let second = again(&folder);
        assert_eq!(server.asked().len(), 2, "change {number}");
        assert_eq!((&second.digest, second.samples), (&first.digest, first.samples), "change {number}");
        assert_eq!(again(&folder), second);
        assert_eq!(server.asked().len(), 2, "change {number}");
    }
}

#[test]
fn a_model_of_another_config_or_trainer_is_made_anew() {
    let folder = folder(&synthetic());
    let first = again(&folder);
    change_json(&folder, "config.json", |config| {
        config["train"]["algorithm"]["randomForest"]["seed"] = 8.into();
    });
    let second = again(&folder);
    assert_ne!(second.digest, first.digest);
    let (_, report) = prepare(&folder, &[("CANOPY_TRAINER", "linfa")]);
    let Report::Prepared(third) = report else { panic!("{report:?}") };
    assert_ne!(third.digest, second.digest);
}

#[test]
fn a_model_of_a_file_that_was_changed_is_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let path: &Path = &data.path().join("data.csv");
    std::fs::write(path, table()).unwrap();
    let folder = folder(&of_source(&json!({ "path": path })));
    let first = again(&folder);
    assert_eq!(again(&folder), first);
    std::fs::write(path, table().replace("10.5", "11.5")).unwrap();
    assert_ne!(again(&folder).digest, first.digest);
}

#[test]
fn a_refusal_is_thought_over() {
    let server = FileServer::http(&table());
    let download = json!({"uri": server.uri("good.csv"), "sha256": "0".repeat(64), "timeoutSeconds": 20});
    let folder = folder(&of_source(&json!({"download": download})));
    for asked in 1..=2 {
        let (_, report) = prepare(&folder, &[THIS_HOST]);
        assert!(matches!(report, Report::Refused(_)), "{report:?}");
        assert_eq!(server.asked().len(), asked);
    }
}
