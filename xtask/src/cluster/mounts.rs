//! Mount points of this machine.

use std::path::Path;

/// The fifth field of each line of `/proc/self/mountinfo`, in the order of mounting.
pub(crate) fn mount_points(mountinfo: &str) -> impl DoubleEndedIterator<Item = &Path> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_in_order() {
        let lines = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                     42 27 254:0 /a/b /a/b rw,relatime shared:1 - ext4 /dev/vda rw\n";
        assert_eq!(mount_points(lines).collect::<Vec<_>>(), [Path::new("/mnt2"), Path::new("/a/b")]);
    }
}
