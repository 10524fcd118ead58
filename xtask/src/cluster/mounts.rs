//! Where something is mounted.
//!
//! Comes in: what the kernel says of mounts. Goes out: their places, in the order of mounting. Never: a question.

use std::path::Path;

/// The fifth word of each line of `/proc/self/mountinfo`.
pub(crate) fn mount_points(mountinfo: &str) -> impl DoubleEndedIterator<Item = &Path> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_by_its_place() {
        let lines = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                     42 27 254:0 /a/b /a/b rw,relatime shared:1 - ext4 /dev/vda rw\n";
        assert_eq!(mount_points(lines).collect::<Vec<_>>(), [Path::new("/mnt2"), Path::new("/a/b")]);
    }
}
