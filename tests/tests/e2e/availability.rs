//! Availability under load: one fault or change at a time, while 200 requests arrive per second, each sent once.
//!
//! Each test waits until its fault has had its effect.

mod changes;
mod restarts;
mod faults;
mod gateway_faults;
mod repair;
mod operators;
mod control_plane;
mod dns;
mod evictions;
mod overload;
mod soak;
mod nodes;

use anyhow::Result;
use canopy_tests::load::{Load, Plan};
use canopy_tests::namespace::Namespace;
use serde_json::Value;

use crate::model::{Model, small};
use crate::test_gateways::TestGateways;

/// A row of class 1, and one of class 0, for a model of four features.
const ROWS: [(&[f64], u64); 2] = [(&[1.0; 4], 1), (&[-1.0; 4], 0)];

/// A model that serves behind gateways of its own.
struct Scene<'a> {
    model: Model<'a>,
    gateways: TestGateways<'a>,
}

impl<'a> Scene<'a> {
    /// Makes it: a small model with `more` in its spec, and gateways with `settings`.
    async fn new(namespace: &'a Namespace, more: &Value, settings: &[(&str, &str)]) -> Result<Self> {
        Self::with(namespace, more, TestGateways::start(namespace, settings, None)?).await
    }

    /// The same, with both gateways on one node.
    async fn on(namespace: &'a Namespace, more: &Value, node: &str) -> Result<Self> {
        Self::with(namespace, more, TestGateways::start(namespace, &[], Some(node))?).await
    }

    /// The model starts while the gateways do.
    async fn with(namespace: &'a Namespace, more: &Value, gateways: TestGateways<'a>) -> Result<Self> {
        namespace.apply(&small("tiny", more))?;
        let model = Model { namespace, name: "tiny" };
        gateways.rolled_out()?;
        model.ready()?;
        gateways.wait_until_known("tiny", ROWS[0].0).await?;
        Ok(Self { model, gateways })
    }

    /// Requests for both classes, from before anything happens.
    async fn load(&self) -> Result<Load> {
        let mut load = Load::start(Plan::predictions(self.gateways.address, "tiny", &ROWS))?;
        load.calm("before").await?;
        Ok(load)
    }
}
