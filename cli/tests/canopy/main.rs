//! Tests of the `canopy` program: what it prints, serves and writes, and its exit codes.
//!
//! Tests use free ports and temporary folders, and end the processes that they start.

mod program;
mod up;
mod stops;
mod files;
mod outputs;
mod serve;
mod golden;
mod remote;
mod prints;
