//! The predictor's files: the only place that reads or writes one.
//!
//! Comes in: paths and bytes. Goes out: bytes, or an error that names the file and the system's reason. Never:
//! half a file under its final name; and no more is read than the caller allows.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is longer than any file of its kind should be.
    #[error("failed to read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// It could not be written.
    #[error("failed to write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
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

/// Writes a file whole or not at all: a reader, and a machine that fails meanwhile, sees the old one or the new.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        // The first error is the one to tell; a draft that stays behind is overwritten next time.
        drop(fs::remove_file(&draft));
        FileError::Write { path: path.to_owned(), source }
    })
}

/// Writes into a file that must stay the same file: a termination log is mounted into its container.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Makes a folder, and those above it, where they are not there yet.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["a longer first text", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path, 100).unwrap(), text.as_bytes());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
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
