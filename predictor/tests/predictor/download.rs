//! Preparation of models whose table is downloaded.

use std::path::Path;

use canopy_contract::report::{Refusal, Report};
use canopy_contract::serving::{Download, ServingConfig};
use canopy_predictor::artifact;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::sources::download::{DownloadError, fetch};
use canopy_predictor::sources::networks::Sources;
use canopy_predictor::training::prepare::{PrepareError, prepare};
use serde_json::json;

use crate::binary::{THIS_HOST, folder, prepare as run, said};
use crate::file_server::FileServer;
use crate::harness::config;

/// Forty rows of two classes that are easily told apart.
fn table() -> String {
    let rows: Vec<_> = (0..40).map(|row| format!("{},{}.5", ["cat", "emu"][row % 2], row % 2 * 10)).collect();
    format!("label,weight\n{}\n", rows.join("\n"))
}

fn digest() -> String {
    artifact::digest(table().as_bytes())
}

/// A config of the table at `uri`, with the digest of the table or another.
fn of_uri(uri: &str, sha256: &str, timeout_seconds: u32) -> ServingConfig {
    let download = json!({"uri": uri, "sha256": sha256, "timeoutSeconds": timeout_seconds});
    let data = json!({"csv": {"source": {"download": download}, "target": "label"}});
    config(&[&json!({"train": {"data": data, "gate": null}, "features": []})])
}

fn of_file(path: &Path) -> ServingConfig {
    let data = json!({"csv": {"source": {"path": path}, "target": "label"}});
    config(&[&json!({"train": {"data": data, "gate": null}, "features": []})])
}

/// What is said where the table at `uri` may come later.
#[track_caller]
fn check_unavailable(uri: &str, timeout_seconds: u32, expected: &str) {
    match prepare(&of_uri(uri, &digest(), timeout_seconds), Trainer::Native, &|_, _| ()) {
        Err(PrepareError::Unavailable(why)) => {
            assert_eq!(why, format!("failed to download {uri}: {expected}"));
        }
        other => panic!("{expected:?} was expected, but there is {other:?}"),
    }
}

#[track_caller]
fn refusal(config: &ServingConfig) -> Refusal {
    match prepare(config, Trainer::Native, &|_, _| ()) {
        Err(PrepareError::Refused(refused)) => refused.full,
        other => panic!("a refusal was expected, but there is {other:?}"),
    }
}

#[test]
fn a_table_from_another_machine_makes_the_model_that_it_makes_from_a_disk() {
    let server = FileServer::http(&table());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.csv");
    std::fs::write(&path, table()).unwrap();
    let local = prepare(&of_file(&path), Trainer::Native, &|_, _| ()).unwrap();
    for name in ["good.csv", "moved", "good.csv?v=2"] {
        let config = of_uri(&server.uri(name), &digest(), 20);
        let remote = prepare(&config, Trainer::Native, &|_, _| ()).unwrap();
        assert_eq!(remote.artifact, local.artifact, "{name}");
    }
}

#[tokio::test]
async fn it_comes_too_where_the_caller_is_in_a_runtime_of_its_own() {
    let server = FileServer::http(&table());
    assert!(prepare(&of_uri(&server.uri("good.csv"), &digest(), 20), Trainer::Native, &|_, _| ()).is_ok());
}

#[test]
fn a_request_has_a_user_agent_and_no_referer_after_a_redirect() {
    let server = FileServer::http(&table());
    let uri = server.uri("moved?signature=secret");
    prepare(&of_uri(&uri, &digest(), 20), Trainer::Native, &|_, _| ()).unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    for headers in asked {
        assert!(headers["user-agent"].to_str().unwrap().starts_with("canopy/"), "{headers:?}");
        assert!(!headers.contains_key("referer"), "{headers:?}");
    }
}

#[test]
fn a_file_with_another_digest_is_refused_without_repeating_a_secret() {
    let server = FileServer::http(&table());
    let expected = "0".repeat(64);
    let uri = server.uri("good.csv?signature=secret").replace("http://", "http://user:secret@");
    let Refusal { code, message } = refusal(&of_uri(&uri, &expected, 20));
    assert_eq!(code, "digest_mismatch");
    assert_eq!(
        message,
        format!(
            "{} has the SHA-256 {}, but sha256 is {expected}: set sha256 to the new digest if the new \
             file is meant, or restore the old file and set the annotation canopy.rs/restartedAt",
            server.uri("good.csv"),
            digest()
        )
    );
}

#[test]
fn a_file_that_is_not_a_table_is_refused_although_its_digest_is_right() {
    let server = FileServer::http(&table());
    let page = artifact::digest(b"<html><body>Please sign in</body></html>");
    let Refusal { code, message } = refusal(&of_uri(&server.uri("page"), &page, 20));
    assert_eq!(code, "data_invalid");
    assert!(
        message.starts_with("target column \"label\" is not in the header, which has \"<html>"),
        "{message}"
    );
}

#[test]
fn temporary_errors_say_what_to_do() {
    let server = FileServer::http(&table());
    let check = |name: &str, expected: &str| check_unavailable(&server.uri(name), 20, expected);
    check("nowhere", "the server responded 404 Not Found: put the file there, or correct uri");
    check("gone", "the server responded 410 Gone: put the file there, or correct uri");
    check("forbidden", "the server responded 403 Forbidden: let the file be read, or correct uri");
    check("broken", "the server responded 500 Internal Server Error: check the logs of the server");
    check("loop", "it was redirected more than 5 times");
    check_unavailable(
        &server.uri("slow"),
        1,
        "it did not arrive within 1 s: raise train.deadlineSeconds, half of which is for the download",
    );
}

#[test]
fn a_truncated_download_is_retried() {
    let server = FileServer::http(&table());
    match fetch(&download(&server.uri("cut")), 1 << 20, &Sources::Anywhere) {
        Err(DownloadError::Failed { uri, why }) => {
            assert_eq!(uri, server.uri("cut"));
            assert!(why.contains("EOF") || why.contains("closed"), "{why}");
        }
        other => panic!("it was cut, but there is {other:?}"),
    }
}

#[test]
fn a_refused_connection_is_reported_with_the_systems_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    match fetch(&download(&format!("http://{free}/a.csv")), 1 << 20, &Sources::Anywhere) {
        Err(DownloadError::Failed { uri: _, why }) => {
            assert!(why.ends_with("Connection refused (os error 111)"), "{why}");
        }
        other => panic!("nobody is there, but there is {other:?}"),
    }
}

fn download(uri: &str) -> Download {
    Download { uri: uri.to_owned(), sha256: digest(), timeout_seconds: 20 }
}

#[test]
fn no_more_is_taken_than_is_allowed() {
    let server = FileServer::http(&table());
    let limit = table().len() as u64;
    assert_eq!(
        fetch(&download(&server.uri("good.csv")), limit, &Sources::Anywhere),
        Ok(table().into_bytes())
    );
    // One tells its length before, the other never ends.
    for (name, limit) in [("good.csv", limit - 1), ("endless", 1 << 20)] {
        let uri = server.uri(name);
        let error = fetch(&download(&uri), limit, &Sources::Anywhere).unwrap_err();
        assert_eq!(error, DownloadError::TooLarge { uri: uri.clone(), limit });
        // It would be as large the next time.
        let told = PrepareError::from(error);
        let PrepareError::Refused(refused) = told else { panic!("{told:?}") };
        let Refusal { code, message } = refused.told;
        assert_eq!(code, "data_invalid");
        assert_eq!(message, format!("failed to download {uri}: it is larger than {limit} bytes"));
    }
}

#[test]
fn a_missing_table_ends_prepare_with_an_error_and_its_reason_where_the_operator_looks() {
    let server = FileServer::http(&table());
    let folder = folder(&of_uri(&server.uri("nowhere?signature=secret"), &digest(), 20));
    let (output, report) = run(&folder, &[THIS_HOST]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let Report::Failed(Refusal { code, message }) = report else { panic!("{report:?}") };
    assert_eq!(code, "data_unavailable");
    assert!(message.contains("/nowhere: the server responded 404 Not Found"), "{message}");
    let lines = said(&output);
    assert!(lines.contains("\"code\":\"data_unavailable\"") && lines.contains("404 Not Found"), "{lines}");
    assert!(!format!("{lines}{message}").contains("secret"), "{lines}");
    assert_eq!(lines.lines().count(), 1, "it is told once: {lines}");
}

#[test]
fn another_file_ends_prepare_well_since_trying_again_would_not_help() {
    let server = FileServer::http(&table());
    let folder = folder(&of_uri(&server.uri("good.csv"), &"0".repeat(64), 20));
    let (output, report) = run(&folder, &[THIS_HOST]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let Report::Refused(Refusal { code, message: _ }) = report else { panic!("{report:?}") };
    assert_eq!(code, "digest_mismatch");
}

/// Where a program that must not find the system's certificates looks for them.
const NO_CERTIFICATES: [(&str, &str); 3] =
    [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere"), THIS_HOST];

#[test]
fn without_a_bundle_of_certificates_plain_http_works_and_tls_says_what_is_missing() {
    let server = FileServer::http(&table());
    let (output, report) = run(&folder(&of_uri(&server.uri("good.csv"), &digest(), 20)), &NO_CERTIFICATES);
    assert!(matches!(report, Report::Prepared(_)), "{}", said(&output));

    let uri = server.uri("good.csv").replace("http:", "https:");
    let (_, report) = run(&folder(&of_uri(&uri, &digest(), 20)), &NO_CERTIFICATES);
    let Report::Failed(Refusal { code: _, message }) = report else { panic!("{report:?}") };
    assert!(message.contains("No CA certificates were loaded"), "{message}");
    assert!(message.contains("SSL_CERT_FILE"), "{message}");
}

#[test]
fn tls_needs_a_certificate_that_is_trusted_and_does_not_end_half_way() {
    let plain = FileServer::http(&table());
    let server = FileServer::https(&table(), plain.uri("good.csv?signature=secret"));
    let certificates = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&certificates, server.certificate.as_ref().unwrap()).unwrap();
    let trusted = [("SSL_CERT_FILE", certificates.path().to_str().unwrap()), THIS_HOST];
    let outcome = |name: &str, environment: &[(&str, &str)]| {
        run(&folder(&of_uri(&server.uri(name), &digest(), 20)), environment).1
    };
    for name in ["good.csv", "moved"] {
        let report = outcome(name, &trusted);
        assert!(matches!(report, Report::Prepared(_)), "{name}: {report:?}");
    }

    let Report::Failed(Refusal { code: _, message }) = outcome("elsewhere", &trusted) else {
        panic!("a table came over plain HTTP though TLS was asked for")
    };
    let expected = format!(
        "it was redirected from https to {}, which is not encrypted: use an https uri",
        plain.uri("good.csv")
    );
    assert!(message.ends_with(&expected), "{message}");
    assert_eq!(plain.asked().len(), 0);

    let Report::Failed(Refusal { code: _, message }) = outcome("good.csv", &[THIS_HOST]) else {
        panic!("a certificate was trusted that nobody knows")
    };
    assert!(message.contains("UnknownIssuer"), "{message}");
}
