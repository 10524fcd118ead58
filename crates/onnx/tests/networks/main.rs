//! Networks of other libraries, and files that are made to be wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
#![expect(clippy::float_cmp, reason = "the numbers are exact")]

mod vectors;
mod write;
mod golden;
mod graphs;
mod hostile;
