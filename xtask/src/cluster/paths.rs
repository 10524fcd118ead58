//! Where files of clusters are kept: in the user's cache folder, outside the clone, so that clones share what took long to
//! build. A folder gets its name only once it is complete.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::shell::root;

/// The folder for clusters in the cache of this user.
pub(crate) struct Paths {
    cache: PathBuf,
}

impl Paths {
    /// In `XDG_CACHE_HOME`, or `.cache` in `HOME`.
    pub(crate) fn of_this_user() -> Result<Self> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        Ok(Self { cache: cache.context("failed to find a cache folder: set HOME")?.join("canopy/cluster") })
    }

    /// Exists only while a cluster does.
    pub(crate) fn run(&self) -> PathBuf {
        self.cache.join("run")
    }

    /// The files of one cluster; exists from before the cluster is created until after it is removed.
    pub(crate) fn cluster(&self, name: &str) -> PathBuf {
        self.run().join("clusters").join(name)
    }

    /// The kubeconfig of a cluster; exists once the cluster is complete.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.cluster(name).join("kubeconfig")
    }

    /// The clusters whose creation was begun and that were not removed.
    pub(crate) fn clusters(&self) -> Vec<String> {
        let entries = fs::read_dir(self.run().join("clusters")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Temporary files.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.run().join("scratch")
    }

    /// Links to `kind`, `kubectl`, `helm` and others.
    pub(crate) fn programs(&self) -> PathBuf {
        self.run().join("bin")
    }

    /// Images of the Docker daemon that is started here.
    pub(crate) fn images(&self) -> PathBuf {
        self.cache.join("docker")
    }

    /// Waits for the lock that lets one command at a time change clusters; it is held while the value lives.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.cache)
            .with_context(|| format!("failed to create {}", self.cache.display()))?;
        let path = self.cache.join("lock");
        let lock = File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
        lock.lock().with_context(|| format!("failed to lock {}", path.display()))?;
        Ok(lock)
    }

    /// The folder `name` for `inputs`. If there is none, `build` fills it, and folders for other inputs are removed first.
    pub(crate) fn built(
        &self,
        name: &str,
        inputs: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.cache.join(format!("{name}-{inputs}"));
        if folder.is_dir() {
            return Ok(folder);
        }
        let half = self.cache.join(format!("{name}-{inputs}.half"));
        self.remove(name)?;
        fs::create_dir_all(&half).with_context(|| format!("failed to create {}", half.display()))?;
        build(&half)?;
        fs::rename(&half, &folder).with_context(|| format!("failed to name {}", folder.display()))?;
        Ok(folder)
    }

    fn remove(&self, name: &str) -> Result<()> {
        for entry in fs::read_dir(&self.cache)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("failed to remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Files of the clone by path from its root: the files of `of`, and all in its folders.
pub(crate) fn inputs(of: &[&str]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<_> = of.iter().map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        let failed = || format!("failed to read {}", path.display());
        let absolute = root().join(&path);
        if absolute.is_dir() {
            for entry in fs::read_dir(&absolute).with_context(failed)? {
                waiting.push(path.join(entry.with_context(failed)?.file_name()));
            }
        } else {
            let content = fs::read(&absolute).with_context(failed)?;
            found.insert(path, content);
        }
    }
    Ok(found)
}

/// A short digest of words, paths and contents.
pub(crate) fn key(words: &[&str], files: &BTreeMap<PathBuf, Vec<u8>>) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length: otherwise `ab`, `c` and `a`, `bc` had the same digest.
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    };
    for word in words {
        add(word.as_bytes());
    }
    for (path, content) in files {
        add(path.as_os_str().as_encoded_bytes());
        add(content);
    }
    let mut name = String::new();
    for byte in digest.finalize().iter().take(6) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str], files: &[(&str, &str)]) -> String {
        let files = files.iter().map(|(path, content)| (PathBuf::from(path), content.as_bytes().to_vec()));
        key(words, &files.collect())
    }

    #[test]
    fn equal_inputs_have_equal_keys_and_any_change_gives_another() {
        let key = of(&["x86_64"], &[("a", "1"), ("b", "2")]);
        assert_eq!(key, of(&["x86_64"], &[("b", "2"), ("a", "1")]));
        let changed = [
            of(&["aarch64"], &[("a", "1"), ("b", "2")]),
            of(&["x86_64"], &[("a", "1"), ("b", "3")]),
            of(&["x86_64"], &[("a", "1"), ("c", "2")]),
            of(&["x86_64"], &[("a", "1")]),
            of(&["x86_64"], &[("a", "1b"), ("", "2")]),
            of(&["x86_64", "a"], &[("1", "b2")]),
        ];
        assert!(changed.iter().all(|other| *other != key), "{key} is among {changed:?}");
    }

    #[test]
    fn a_folder_is_built_once_for_its_inputs_and_again_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { cache: folder.path().to_owned() };
        let build = |inputs: &str| {
            let mut built = false;
            let folder = paths.built("thing", inputs, |half| {
                built = true;
                Ok(fs::write(half.join("part"), inputs)?)
            });
            (built, fs::read_to_string(folder.unwrap().join("part")).unwrap())
        };
        assert_eq!(build("one"), (true, "one".to_owned()));
        assert_eq!(build("one"), (false, "one".to_owned()));
        assert_eq!(build("two"), (true, "two".to_owned()));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "the folder for the earlier inputs is still there"
        );
    }

    #[test]
    fn a_build_that_was_interrupted_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { cache: folder.path().to_owned() };
        let torn = paths.built("thing", "one", |half| {
            fs::write(half.join("torn"), "")?;
            anyhow::bail!("killed")
        });
        assert!(torn.is_err());
        let whole = paths.built("thing", "one", |half| Ok(fs::write(half.join("whole"), "")?)).unwrap();
        assert!(whole.join("whole").exists() && !whole.join("torn").exists());
    }
}
