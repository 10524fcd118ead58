//! Binds all ports of a command before any model is trained or imported.

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
        let predictors = predictors(arguments.predictor, models, "--predictor").await?;
        Ok(Self { gateway, admin, predictors })
    }
}

/// Binds the ports of `models` predictors: the first at `first`, which `flag` sets, and others at free ports of the same IP
/// address.
pub(crate) async fn predictors(
    first: SocketAddr,
    models: usize,
    flag: &'static str,
) -> Result<Vec<TcpListener>> {
    let mut predictors = Vec::with_capacity(models);
    for model in 0..models {
        let port = if model == 0 { first.port() } else { 0 };
        predictors.push(listen(SocketAddr::new(first.ip(), port), flag).await?);
    }
    Ok(predictors)
}

/// The address at which this machine reaches a listener.
pub(crate) fn reachable(listener: &TcpListener) -> Result<SocketAddr> {
    let listening = listener.local_addr().context("failed to read the address of a listener")?;
    Ok(listen::reachable(listening))
}
