//! Binds all ports of `canopy up` before any model is trained.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use canopy_runtime::server::listen::{self, listen};
use tokio::net::TcpListener;

use crate::arguments::UpArguments;

/// Everything that `canopy up` listens on.
pub(crate) struct Ports {
    pub(crate) gateway: TcpListener,
    pub(crate) admin: TcpListener,
    /// One per model, in their order.
    pub(crate) predictors: Vec<TcpListener>,
}

impl Ports {
    /// Binds the ports of the gateway, the admin port and `models` predictors.
    pub(crate) async fn take(arguments: &UpArguments, models: usize) -> Result<Self> {
        let gateway = listen(arguments.gateway, "--gateway").await?;
        let admin = listen(arguments.admin, "--admin").await?;
        let mut predictors = Vec::new();
        for model in 0..models {
            let port = if model == 0 { arguments.predictor.port() } else { 0 };
            predictors.push(listen(SocketAddr::new(arguments.predictor.ip(), port), "--predictor").await?);
        }
        Ok(Self { gateway, admin, predictors })
    }
}

/// The address at which this machine reaches a listener.
pub(crate) fn reachable(listener: &TcpListener) -> Result<SocketAddr> {
    let listening = listener.local_addr().context("failed to read the address of a listener")?;
    Ok(listen::reachable(listening))
}
