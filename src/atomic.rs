//! Replacing a file as a whole: afterwards the old bytes or the new ones are there, whatever happens.
//!
//! It knows nothing of what the bytes mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `state.json` → `state.json.lock`, in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Writes a file beside it that only its owner can read, and puts it into its place once it is on disk.
pub(crate) fn replace<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let new = beside(path, "new");
    let written = write_synced(&new, pieces).and_then(|()| fs::rename(&new, path)).and_then(|()| sync_folder(path));
    if written.is_err() {
        // Half a file would only eat the space that the next try needs.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_synced<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
