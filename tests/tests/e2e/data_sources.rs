//! Downloaded data: addresses that a spec cannot reach, and models whose file changes or is lost.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{apply, on_node};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::canopy::shared;
use crate::failures::{ROWS, csv_model, still_serves};
use crate::files;
use crate::model::{Model, TIMEOUT, revision};

const REFUSED: &str = "data must not come from this address";
pub(crate) const NO_DETAILS: &str = "no file could be read there";

/// The SHA-256 of a text, in hexadecimal.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn downloads_from_protected_addresses_are_refused() -> Result<()> {
    const FILES: &str = "e2e-files-refused";
    let _lock = shared().await?;
    let host = "redirect http://127.0.0.1:10248/healthz";
    let api_server = "redirect https://kubernetes.default.svc/version";
    let base = files::serve(FILES, &[("host", host), ("api", api_server)])?;
    // A Service of the tenant that resolves to the API server.
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"},
        "spec": {"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local"}});
    apply(FILES, &alias.to_string())?;
    let test = in_namespace("e2e-refused-addresses", async |namespace| {
        for (name, uri, reason, words) in [
            ("metadata", "http://169.254.169.254/latest/meta-data/".to_owned(), "DataInvalid", REFUSED),
            ("mapped", "http://[::ffff:169.254.169.254]/".to_owned(), "DataInvalid", REFUSED),
            ("loopback", "http://0x7f.1:9001/metrics".to_owned(), "DataInvalid", REFUSED),
            ("api", "https://kubernetes.default.svc/version".to_owned(), "DataInvalid", REFUSED),
            ("alias", format!("https://alias.{FILES}.svc/version"), "DataUnavailable", NO_DETAILS),
            ("to-host", format!("{base}/host"), "DataUnavailable", NO_DETAILS),
            ("to-api", format!("{base}/api"), "DataUnavailable", NO_DETAILS),
            ("absent", format!("{base}/absent.csv"), "DataUnavailable", NO_DETAILS),
            ("closed", format!("{base}:9/rows.csv"), "DataUnavailable", NO_DETAILS),
        ] {
            namespace.apply(&csv_model(name, &json!({"uri": uri, "sha256": "0".repeat(64)})))?;
            let model = Model { namespace, name };
            let message = model.condition_with("Ready", "False", reason, &[words]).await?;
            for detail in ["404", "refused (os", "certificate", "127.0.0.1:10248"] {
                ensure!(
                    !message.contains(detail),
                    "the message of {name} must not have {detail:?}: {message}"
                );
            }
            namespace.kubectl(&["delete", "predictormodel", name])?;
        }
        Ok(())
    });
    with_cleanup(test, async || files::stop(FILES)).await
}

#[tokio::test]
async fn a_model_recovers_by_itself_once_its_file_is_back() -> Result<()> {
    const FILES: &str = "e2e-files-swapped";
    let _lock = shared().await?;
    let base = files::serve(FILES, &[("rows.csv", ROWS)])?;
    let test = in_namespace("e2e-swapped", async |namespace| {
        let source = json!({"uri": format!("{base}/rows.csv"), "sha256": digest(ROWS)});
        namespace.apply(&csv_model("tiny", &source))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        tiny.scale(2)?;
        tiny.has_pods(&serving, 2).await?;

        files::serve(FILES, &[("rows.csv", &ROWS.replace("-3,0", "-4,0"))])?;
        let lost = tiny.pods(&serving)?.into_keys().next().context("there are no pods")?;
        namespace.kubectl(&["delete", "pod", &lost])?;
        let message = tiny.condition_with("Ready", "False", "DigestMismatch", &["another SHA-256"]).await?;
        tiny.has_event("DigestMismatch", &message).await?;
        still_serves(&tiny, &[2.0, 1.0], &serving).await?;

        files::serve(FILES, &[("rows.csv", ROWS)])?;
        tiny.has_pods(&serving, 2).await?;
        let model = tiny.ready()?;
        ensure!(revision(&model)? == serving, "expected revision {serving}, got {model}");
        Ok(())
    });
    with_cleanup(test, async || files::stop(FILES)).await
}

/// Ends the sandbox of the pod with a uid, as a restart of its node does: its containers start again with the same volumes,
/// `prepare` first.
const RESTART: &str = r#"crictl stopp "$(crictl pods --quiet --label "io.kubernetes.pod.uid=$1")""#;

#[tokio::test]
async fn a_pod_that_starts_again_needs_no_file_server() -> Result<()> {
    const FILES: &str = "e2e-files-gone";
    let _lock = shared().await?;
    let base = files::serve(FILES, &[("rows.csv", ROWS)])?;
    in_namespace("e2e-gone", async |namespace| {
        let source = json!({"uri": format!("{base}/rows.csv"), "sha256": digest(ROWS)});
        namespace.apply(&csv_model("tiny", &source))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        files::stop(FILES)?;

        let (name, before) = tiny.pods(&serving)?.into_iter().next().context("there are no pods")?;
        on_node(&before.node, RESTART, &[&before.uid])?;
        until(&format!("{name} to be ready again"), TIMEOUT, async || {
            let now = tiny.pods(&serving)?;
            let now = now.get(&name).context("the pod is gone")?;
            ensure!(
                now.uid == before.uid && now.restarts > before.restarts && now.is_ready,
                "expected a restarted and ready pod {}, got {now:?}",
                before.uid
            );
            Ok(())
        })
        .await?;
        let log = namespace.kubectl(&["logs", &name, "--container", "prepare"])?;
        ensure!(log.contains("prepared before, and kept"), "{log}");
        still_serves(&tiny, &[2.0, 1.0], &serving).await
    })
    .await
}
