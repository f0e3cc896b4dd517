//! Files that a configuration was read from, so that a running service notices changes. Only digests of the contents are
//! kept, since files of secrets are among them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files of a configuration with a digest of each content. Two of them are equal if the contents were the same.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, [u8; 32]>);

/// Metadata of files, which differs when one of them was saved, replaced or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Device and inode, time of the last change in seconds and nanoseconds, and size. Links are followed.
type Stamp = (u64, u64, i64, i64, u64);

/// Shows the paths only, since a short secret could be guessed from its digest.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Sources {
    /// Records a file with its content, or with the reason why it cannot be used.
    pub(super) fn note(&mut self, path: &Path, content: &[u8]) {
        self.0.insert(path.to_owned(), Sha256::digest(content).into());
    }

    /// Returns the current metadata of these files, without reading them.
    pub fn stamps(&self) -> Stamps {
        Stamps(self.0.keys().map(|path| (path.clone(), stamp(path))).collect())
    }
}

impl Stamps {
    /// Keeps the files that are also in `sources`.
    #[must_use]
    pub fn within(mut self, sources: &Sources) -> Self {
        self.0.retain(|path, _| sources.0.contains_key(path));
        self
    }
}

#[cfg(unix)]
fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

#[cfg(not(unix))]
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    let changed = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((0, 0, i64::try_from(changed.as_secs()).ok()?, changed.subsec_nanos().into(), metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_saved_replaced_or_removed_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "one").unwrap();
        let mut sources = Sources::default();
        sources.note(&path, b"one");
        let first = sources.stamps();
        assert_eq!(first, sources.stamps());
        std::fs::write(&path, "three").unwrap();
        let second = sources.stamps();
        std::fs::write(&other, "seven").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let third = sources.stamps();
        std::fs::remove_file(&path).unwrap();
        let fourth = sources.stamps();
        assert!(first != second && second != third && third != fourth);
        assert_eq!(fourth.within(&Sources::default()), Stamps::default());
        assert!(!format!("{sources:?}").contains("one"));
    }
}
