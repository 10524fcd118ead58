//! Which endpoint of a model gets a request: power of two choices by latency, outlier detection, slow start, limits of
//! concurrency and of retries. Nothing here does I/O.

pub(crate) mod clock;
pub(crate) mod window;
pub(crate) mod outlier;
pub(crate) mod concurrency_limit;
pub(crate) mod latency;
pub(crate) mod p2c;
pub(crate) mod endpoint;
pub(crate) mod balancer;
pub(crate) mod retry_budget;
