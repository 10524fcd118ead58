//! Chance that a seed decides.
