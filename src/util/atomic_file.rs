//! Replaces a file atomically: after a crash it holds either the old bytes or the new ones.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Temporary files that this process is writing.
static BEING_WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Returns the path of a companion file in the same folder: `state.json` → `state.json.lock`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Replaces a file: writes a temporary file beside it that only its owner can read, syncs it, and renames it.
pub(crate) fn replace<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let new = NewFile::beside(path);
    let written = write_synced(&new.0, pieces).and_then(|()| fs::rename(&new.0, path)).and_then(|()| sync_folder(path));
    if written.is_err() {
        // A partial file would use the space that the next attempt needs.
        let _ = fs::remove_file(&new.0);
    }
    written.map_err(|error| named(path, &error))
}

/// A temporary file beside its target, under a name that no other write of this process uses: a write that hangs and continues
/// later stays in its own file. The first free name is used, so that a leftover of a crashed process is replaced.
struct NewFile(PathBuf);

impl NewFile {
    fn beside(target: &Path) -> Self {
        let mut written = BEING_WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut path, mut number) = (beside(target, "new"), 1_usize);
        while !written.insert(path.clone()) {
            number += 1;
            path = beside(target, &format!("new{number}"));
        }
        Self(path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        BEING_WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Adds the path of the file or folder to an error.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens a regular file for reading. Fails for anything else, such as a named pipe or a device: reading it could block forever.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}

fn write_synced<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    // A crashed process may have left a file. Whatever is there is replaced, not written to: a named pipe would block.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.sync_all()
}

/// Returns the folder of a file; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder and its missing parents, with access for the owner only.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    // For a symbolic link to a missing folder, such as one on an unmounted volume, the target is created.
    let target = fs::read_link(folder).ok().map(|target| folder_of(folder).join(target));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(target.as_deref().unwrap_or(folder));
    made.map_err(|error| named(folder, &error))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        Err(error) if cannot_be_synced(&error) => Ok(()),
        synced => synced,
    }
}

/// Returns `true` if syncing a folder is not supported or not permitted, as on some network and FUSE file systems. The file has
/// been renamed by then and is as safe as it can be there. A failing disk reports other errors.
fn cannot_be_synced(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_folder_sync_is_no_failure_but_a_failing_disk_is() {
        let refused = |errno| cannot_be_synced(&io::Error::from_raw_os_error(errno));
        // EINVAL, EOPNOTSUPP, ENOSYS, EACCES, EISDIR
        for errno in [22, 95, 38, 13, 21] {
            assert!(refused(errno), "{}", io::Error::from_raw_os_error(errno));
        }
        // EIO, ENOSPC, EROFS, EDQUOT, ENOENT, EMFILE, ESTALE
        for errno in [5, 28, 30, 122, 2, 24, 116] {
            assert!(!refused(errno), "{}", io::Error::from_raw_os_error(errno));
        }
    }

    #[test]
    fn a_file_in_a_folder_that_may_not_be_listed_is_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = folder.path().join("file");
        mode(0o300);
        replace(&path, [b"new".as_slice()]).unwrap();
        mode(0o700);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_write_that_hangs_and_continues_later_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (begins, begun) = std::sync::mpsc::channel();
        let (resume, hangs) = std::sync::mpsc::channel::<()>();
        let old = std::thread::spawn({
            let path = path.clone();
            move || {
                let second = std::iter::once_with(move || {
                    begins.send(()).unwrap();
                    hangs.recv().unwrap();
                    b" old".as_slice()
                });
                replace(&path, std::iter::once(b"old".as_slice()).chain(second))
            }
        });
        begun.recv().unwrap();
        for new in [b"new".as_slice(), b"newer"] {
            replace(&path, [new]).unwrap();
            assert_eq!(fs::read(&path).unwrap(), new);
            assert_eq!(names(folder.path()).len(), 2, "only the hanging write has a temporary file");
        }
        resume.send(()).unwrap();
        old.join().unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old old", "the late write is complete");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_failed_write_leaves_no_file_and_frees_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::create_dir(&path).unwrap();
        replace(&path, [b"new".as_slice()]).unwrap_err();
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(NewFile::beside(&path).0, beside(&path, "new"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn anything_but_a_regular_file_is_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
        pipe(&path);
        pipe(&beside(&path, "new"));
        assert_eq!(open_file(&path).unwrap_err().to_string(), "it is not a regular file");
        replace(&path, [b"new".as_slice()]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(open_file(&path).is_ok() && open_file(folder.path()).is_err());
    }
}
