//! Tests of whole processes on this machine. One binary: the linker runs once, and waits of one test overlap with others.

mod bad_predictors;
mod drain;
mod drift;
mod exemplars;
mod flags;
mod flood;
mod log;
mod measurements;
mod traces;
