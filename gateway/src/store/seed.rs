//! The example users: the first rows of a new database, and the fixed list without a database.

/// Ids, names and email addresses.
pub(super) const SEED: [(i64, &str, &str); 2] = [(1, "Alice", "alice@test.com"), (2, "Bob", "bob@test.com")];
