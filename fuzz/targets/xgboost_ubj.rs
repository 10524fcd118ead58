//! Fuzzes the reader `xgboost_ubj`.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check("xgboost_ubj", bytes));
