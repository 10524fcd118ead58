//! The `canopy` program as people and scripts meet it: what it prints, serves and writes, and how it ends.
//!
//! Comes in: the program that cargo built for these tests. Goes out: sentences that hold. Never: a fixed port, a
//! file outside a folder of the test's own, or a process that outlives its test.

mod program;
mod up;
mod stops;
mod files;
mod outputs;
mod remote;
mod prints;
