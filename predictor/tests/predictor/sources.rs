//! What a spec can reach through `prepare`, and what its author can learn.

use std::net::TcpListener;

use canopy_contract::report::{Refusal, Report};
use canopy_contract::serving::ServingConfig;
use canopy_predictor::artifact;
use serde_json::{Value, json};

use crate::binary::{THIS_HOST, folder, prepare, said};
use crate::file_server::FileServer;
use crate::harness::config;

/// A word that stands in a file and nowhere else.
const SECRET: &str = "s3cr3t-0f-the-file";

fn of_uri(uri: &str, sha256: &str) -> ServingConfig {
    let download = json!({"uri": uri, "sha256": sha256, "timeoutSeconds": 20});
    let data = json!({"csv": {"source": {"download": download}, "target": "label"}});
    config(&[&json!({"train": {"data": data, "gate": null}, "features": []})])
}

/// What `prepare` reports of a file that has any digest.
fn report(uri: &str, environment: &[(&str, &str)]) -> (Option<i32>, Report) {
    let (output, report) = prepare(&folder(&of_uri(uri, &"0".repeat(64))), environment);
    (output.status.code(), report)
}

#[test]
fn an_address_of_this_host_or_of_the_api_server_is_refused_however_it_is_written() {
    let server = FileServer::http("label,a\n");
    let port = server.address.port();
    let api_server = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0x7f.0.0.1",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "user:word@127.0.0.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "localhost",
        "LocalHost.",
        "169.254.169.254",
        "[fe80::1]",
        "10.96.0.1",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local.",
    ] {
        let (status, report) = report(&format!("http://{host}:{port}/good.csv"), &[api_server]);
        let Report::Refused(Refusal { code, message }) = report else { panic!("{host}: {report:?}") };
        // It would be refused again, so it is not tried again.
        assert_eq!((status, code.as_str()), (Some(0), "data_invalid"), "{host}");
        assert!(message.contains("data must not come from this address"), "{host}: {message}");
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_redirect_is_followed_only_to_where_data_may_come_from() {
    let forbidden = TcpListener::bind("127.0.0.2:0").unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let to = forbidden.local_addr().unwrap();
    for to in [format!("http://{to}/x"), "http://localhost:1/".to_owned(), "http://[::1]:1/".to_owned()] {
        let server = FileServer::leading(to.clone());
        let (status, report) = report(&server.uri("elsewhere"), &[THIS_HOST]);
        let Report::Failed(Refusal { code, message }) = report else { panic!("{to}: {report:?}") };
        assert_eq!((status, code.as_str()), (Some(1), "data_unavailable"), "{to}");
        assert!(message.contains("no file could be read there"), "{message}");
        assert!(!message.contains(&to), "{message}");
        assert_eq!(server.asked().len(), 1);
    }
    let connected = forbidden.accept().map(|(_, from)| from);
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_denied_network_is_refused_also_where_it_is_allowed() {
    let server = FileServer::http("label,a\n");
    let denied = ("CANOPY_SOURCE_DENIED_NETWORKS", "10.0.0.0/8,127.0.0.0/8");
    let (_, report) = report(&server.uri("good.csv"), &[THIS_HOST, denied]);
    assert!(matches!(&report, Report::Refused(refusal) if refusal.code == "data_invalid"), "{report:?}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn contents_are_reported_only_for_networks_that_were_allowed_by_name() {
    let server = FileServer::http("label,a\n");
    let told = |uri: &str, environment| match report(uri, environment).1 {
        Report::Failed(Refusal { code: _, message }) => message,
        other @ (Report::Prepared(_) | Report::Refused(_)) => panic!("{other:?}"),
    };
    let named = told(&server.uri("nowhere"), &[THIS_HOST]);
    assert!(
        named.ends_with("the server responded 404 Not Found: put the file there, or correct uri"),
        "{named}"
    );
    let unknown = told("http://nowhere.invalid/a.csv?word=1", &[]);
    assert_eq!(
        unknown,
        "failed to download http://nowhere.invalid/a.csv: no file could be read there. Check the address, that its \
         server lets this cluster read the file, that it arrives within half of train.deadlineSeconds, and that the \
         operator allows its network (operator.sources of the chart)"
    );
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let proxy = FileServer::http("label,a\n");
    let uri = proxy.uri("");
    let environment = [("HTTP_PROXY", uri.as_str()), ("http_proxy", &uri), ("ALL_PROXY", &uri)];
    let (_, report) = report("http://nowhere.invalid/good.csv", &environment);
    assert!(matches!(report, Report::Failed(_)), "{report:?}");
    assert_eq!(proxy.asked().len(), 0);
}

/// Everything that `prepare` leaves for others: its log, its report, and its record.
fn left(config: &ServingConfig) -> String {
    let folder = folder(config);
    let (output, report) = prepare(&folder, &[THIS_HOST]);
    assert!(matches!(report, Report::Refused(_)), "{report:?}");
    let record = std::fs::read_to_string(folder.path().join("model/prepared.json")).unwrap();
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    format!("{out}{}{}{record}", said(&output), serde_json::to_string(&report).unwrap())
}

/// Tables with a fault each, which have the secret in the header, a cell, a label, or all of the body.
fn tables() -> Vec<(String, Value)> {
    let rows = format!("label,{SECRET}\n{SECRET}-x,1\n{SECRET}-y,2\n{SECRET}-x,3\n{SECRET}-y,4\n");
    let faulty = [
        format!("name,{SECRET}\nx,1\n"),
        format!("label,{SECRET},{SECRET}\nx,1,2\n"),
        format!("label,{SECRET}\n{SECRET},{SECRET}\n"),
        format!("label,{SECRET}\nx,inf\n"),
        format!("label,{SECRET}\nx,\n"),
        format!("label,{SECRET}\nx,1,{SECRET}\n"),
        format!("label,a\n{SECRET},1\n{SECRET},2\n"),
        format!("<html><body>{SECRET}</body></html>"),
    ];
    let faulty = faulty.into_iter().map(|table| (table, json!({})));
    let named = [
        json!({"features": [{"name": "age"}]}),
        json!({"features": [{"name": SECRET}, {"name": "age"}]}),
        json!({"classes": ["cat", "dog"]}),
        json!({"classes": [format!("{SECRET}-x")]}),
        json!({"classes": ["cat"]}),
    ];
    faulty.chain(named.into_iter().map(|names| (rows.clone(), names))).collect()
}

#[test]
fn reports_have_no_contents_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for (table, names) in tables() {
        let server = FileServer::http(&table);
        let path = folder.path().join("data.csv");
        std::fs::write(&path, &table).unwrap();
        let digest = artifact::digest(table.as_bytes());
        let local = json!({"csv": {"source": {"path": path}, "target": "label"}});
        for base in [
            of_uri(&server.uri("good.csv"), &digest),
            config(&[&json!({"train": {"data": local, "gate": null}, "features": []})]),
        ] {
            let mut changed = serde_json::to_value(&base).unwrap();
            for (key, value) in names.as_object().unwrap() {
                changed[key] = value.clone();
            }
            let left = left(&serde_json::from_value(changed).unwrap());
            // Names that the spec has are no secret.
            let spec = names.to_string();
            let told =
                if spec.contains(SECRET) { left.replace(&format!("feature {SECRET}"), "") } else { left };
            assert!(!told.contains(SECRET), "{table} with {names}: {told}");
        }
    }
}

#[test]
fn the_digest_of_another_file_is_not_reported() {
    let body = format!("label,a\n{SECRET},1\n");
    let server = FileServer::http(&body);
    let expected = "0".repeat(64);
    let left = left(&of_uri(&server.uri("good.csv"), &expected));
    assert!(left.contains("digest_mismatch") && left.contains(&expected), "{left}");
    assert!(left.contains("has another SHA-256"), "{left}");
    assert!(!left.contains(&artifact::digest(body.as_bytes())) && !left.contains(SECRET), "{left}");
}
