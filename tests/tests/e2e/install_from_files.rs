//! Installs Canopy from its two files instead of with helm, uses it, removes it, and installs it with helm again.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{helm, kubectl};
use canopy_tests::namespace::in_namespace;
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
    with_cleanup(used(), async || {
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
    in_namespace("e2e-file", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        tiny.ready()?;
        for gateway in gateways().await? {
            // Nobody listed this namespace for the gateways: it is as if it were not there.
            let reply = gateway.predict(&tiny.full_name(), &[1.0; 4]).await?;
            ensure!(
                reply.status == 404,
                "a namespace that is not served answered {}: {}",
                reply.status,
                reply.text
            );
        }
        let domain = "CANOPY_NAMESPACES=canopy-system,default,e2e-file";
        kubectl(&["set", "env", "deployment/canopy-gateway", "--namespace", SYSTEM, domain])?;
        rolled_out()?;
        for gateway in gateways().await? {
            tiny.predict_until(&gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;
        }
        namespace.kubectl(&["delete", "predictormodel", "tiny"]).map(drop)
    })
    .await
}
