//! Reads and writes files. Only this module does.
//!
//! Invariants: no more bytes are read than the caller allows, and a file is complete when it gets its final name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The number of symbolic links that Linux follows.
const LINKS_MAX: usize = 40;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is larger than the limit.
    #[error("failed to read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file could not be written.
    #[error("failed to write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Replaces a file atomically: after a crash, and for every reader, it is the old or the new file. The mode of an existing
/// file is kept.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let draft = draft(path);
    let write = || {
        let old = fs::metadata(path).ok().map(|old| old.permissions());
        let mode = old.as_ref().map_or(0o666, |old| old.mode() & 0o777);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        if let Some(old) = old {
            file.set_permissions(old)?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        // The first error is returned. If the draft cannot be removed, the next call overwrites it.
        drop(fs::remove_file(&draft));
        FileError::Write { path: path.to_owned(), source }
    })
}

/// The destination of a result, which is checked before the result is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A regular file, which may not exist yet. It is replaced atomically; links that lead to it stay.
    File(PathBuf),
    /// A pipe or a device, into which the result is written.
    Stream(PathBuf),
}

impl Destination {
    /// The destination at `path`; an error if it cannot be written.
    pub fn new(path: &Path) -> Result<Self, FileError> {
        let refused = |source| FileError::Write { path: path.to_owned(), source };
        let file = match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(found) if found.is_file() => {
                OpenOptions::new().append(true).open(path).and_then(|_| fs::canonicalize(path))
            }
            // Opening a pipe would wait for its reader.
            Ok(_) => return Ok(Self::Stream(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => target(path),
            Err(error) => Err(error),
        };
        let file = file.map_err(refused)?;
        try_draft(&file).map_err(refused)?;
        Ok(Self::File(file))
    }

    /// Whether it is the same file as `path`, also if their names differ.
    pub fn is(&self, path: &Path) -> bool {
        let Self::File(file) = self else { return false };
        let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        identity(file).is_some_and(|of| identity(path) == Some(of))
    }

    /// Writes the result.
    pub fn write(&self, bytes: &[u8]) -> Result<(), FileError> {
        match self {
            Self::File(path) => replace(path, bytes),
            Self::Stream(path) => OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut stream| stream.write_all(bytes))
                .map_err(|source| FileError::Write { path: path.clone(), source }),
        }
    }
}

/// The file to which the symbolic links at `path` lead; it may not exist yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                let next = fs::read_link(&target)?;
                target = target.parent().unwrap_or(Path::new("")).join(next);
            }
            Ok(_) => return Ok(target),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(target),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("more than {LINKS_MAX} symbolic links")))
}

/// Returns the error that writing `path` would return.
fn try_draft(path: &Path) -> io::Result<()> {
    let draft = draft(path);
    File::create(&draft)?;
    fs::remove_file(draft)
}

fn draft(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    draft.into()
}

/// Writes into an existing file without replacing it, because a termination log is mounted into its container.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// A lock on a file, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Locks the file at `path` against other processes; `None` if another process has locked it.
pub fn lock(path: &Path) -> Result<Option<Lock>, FileError> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let locked = open().and_then(|file| match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    locked.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Creates a folder and its parents if they do not exist.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["a longer first text", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path, 100).unwrap(), text.as_bytes());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn the_mode_of_a_replaced_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for mode in [0o600, 0o640, 0o666] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Destination::new(&path).unwrap().write(b"new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{mode:o}");
            assert_eq!(read(&path, 100).unwrap(), b"new");
        }
    }

    #[test]
    fn a_destination_is_recognized_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::write(path("other"), "").unwrap();
        fs::hard_link(path("file"), path("hard")).unwrap();
        std::os::unix::fs::symlink("file", path("soft")).unwrap();
        let destination = Destination::new(&path("soft")).unwrap();
        let is = |name: &str| destination.is(&path(name));
        assert!(is("file") && is("hard") && is("soft") && !is("other") && !is("missing"));
        assert!(!Destination::new(&path("new")).unwrap().is(&path("missing")));
    }

    #[test]
    fn a_locked_file_cannot_be_locked_again_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock(&path).unwrap();
        assert!(first.is_some() && lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_behind_links_is_replaced_and_the_links_stay() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("second", path("first")).unwrap();
        symlink(path("file"), path("second")).unwrap();
        for text in ["made", "replaced"] {
            let destination = Destination::new(&path("first")).unwrap();
            assert!(matches!(&destination, Destination::File(found) if found.ends_with("file")));
            destination.write(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path("file")).unwrap(), text);
        }
        for link in ["first", "second"] {
            assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    }

    #[test]
    fn a_device_is_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;
        let destination = Destination::new(Path::new("/dev/null")).unwrap();
        assert_eq!(destination, Destination::Stream("/dev/null".into()));
        destination.write(b"x").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn an_unwritable_destination_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        for (name, why) in [
            ("no/such/file", "No such file or directory"),
            ("", "is a directory"),
            ("loop", "Too many levels of symbolic links"),
        ] {
            let path = folder.path().join(name);
            let error = Destination::new(&path).unwrap_err().to_string();
            let expected = format!("failed to write {}: {why}", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/file");
        let expected = format!("failed to read {}: No such file", path.display());
        assert!(read(&path, 1).unwrap_err().to_string().starts_with(&expected));
        let expected = format!("failed to write {}: ", path.display());
        assert!(replace(&path, b"x").unwrap_err().to_string().starts_with(&expected));
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        overwrite(&path, &[7; 11]).unwrap();
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        let error = read(&path, 10).unwrap_err().to_string();
        assert!(error.ends_with("it is larger than 10 bytes"), "{error}");
    }
}
