//! Installs Canopy from its two files instead of with helm, uses it, removes it, and installs it with helm again.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{helm, kubectl};
use canopy_tests::namespace::{Namespace, in_namespace};
use serde_json::json;

use crate::canopy::{SYSTEM, exclusive, gateways, install, rolled_out};
use crate::model::{Model, small};

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crd.yaml");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");
const DEFINED: &str = "predictormodels.canopy.rs";

#[tokio::test]
async fn two_files_install_canopy_its_gateways_serve_their_own_namespaces_only_and_models_outlive_it()
-> Result<()> {
    let _lock = exclusive().await?;
    helm(&["uninstall", "canopy", "--namespace", SYSTEM, "--wait"])?;
    let defined = || kubectl(&["get", "crd", DEFINED, "--output", "jsonpath={.metadata.uid}"]);
    let before = defined()?;
    kubectl(&["apply", "--filename", DEFINITION, "--filename", FILE])?;
    with_cleanup(Box::pin(used()), async || {
        kubectl(&["delete", "--filename", FILE, "--ignore-not-found"])?;
        let after = defined();
        install()?;
        let after = after?;
        ensure!(
            after == before,
            "the definition was deleted, and every model with it: {before} is now {after}"
        );
        Ok(())
    })
    .await
}

async fn used() -> Result<()> {
    rolled_out()?;
    let default = Namespace { name: "default".to_owned() };
    let test = in_namespace("e2e-file", async |namespace| {
        let manifest = small("tiny", &json!({"replicas": 1}));
        let (served, tiny) = (Model { namespace: &default, name: "tiny" }, Model { namespace, name: "tiny" });
        default.apply(&manifest)?;
        namespace.apply(&manifest)?;
        served.ready()?;
        tiny.ready()?;
        for gateway in gateways().await? {
            served.predict_until(&gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;
            // Without a list, gateways serve their own namespace and that of the default model.
            let reply = gateway.predict(&tiny.full_name(), &[1.0; 4]).await?;
            ensure!(
                reply.status == 404,
                "expected 404 for a namespace that is not served, got {}: {}",
                reply.status,
                reply.text
            );
        }
        Ok(())
    });
    with_cleanup(test, async || {
        default.kubectl(&["delete", "predictormodel", "tiny", "--ignore-not-found"]).map(drop)
    })
    .await
}
