//! The memory limit of this process, from its cgroup.

use std::fs;

/// The files with the limit, in version 2 and version 1 of control groups.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The limit in bytes, if there is one.
pub(crate) fn limit() -> Option<usize> {
    LIMITS.iter().find_map(|path| fs::read_to_string(path).ok()).and_then(|text| read(&text))
}

/// Without a limit cgroup v2 has `max`, and v1 a number larger than any machine's memory.
fn read(text: &str) -> Option<usize> {
    let most = usize::MAX >> 2;
    text.trim().parse().ok().filter(|limit| *limit < most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_exceeds_any_memory_is_no_limit() {
        assert_eq!(read("268435456\n"), Some(256 << 20));
        assert_eq!(read("max\n"), None);
        assert_eq!(read("9223372036854771712\n"), None);
    }
}
