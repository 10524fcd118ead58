//! The ports of `canopy up`, all taken before any work is done.
//!
//! Comes in: addresses. Goes out: listeners. Never: a port that is found to be taken after minutes of training.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
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
    /// Takes the ports for so many models.
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

async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        let ip = address.ip();
        format!(
            "failed to listen on {address}; choose another address, as in {flag} {}",
            SocketAddr::new(ip, 0)
        )
    })
}

/// Where somebody on this machine reaches a listener, which may listen on every address of it.
pub(crate) fn reachable(listener: &TcpListener) -> Result<SocketAddr> {
    let listening = listener.local_addr().context("failed to read the address of a listener")?;
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Ok(SocketAddr::new(ip, listening.port()))
}
