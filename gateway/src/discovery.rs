//! Which models exist and where their endpoints are: by DNS in a cluster, by configuration on a laptop.

pub(crate) mod dns;
pub(crate) mod refresh;
pub(crate) mod registry;
pub(crate) mod static_models;
pub(crate) mod catalogue;
pub(crate) mod listing;
pub(crate) mod series_retirement;
