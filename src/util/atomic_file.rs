//! Replacing a file as a whole: afterwards the old bytes or the new ones are there, whatever happens.
//!
//! It knows nothing of what the bytes mean.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The new files that this process is writing.
static BEING_WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// `state.json` → `state.json.lock`, in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Writes a file beside it that only its owner can read, and puts it into its place once it is on disk.
pub(crate) fn replace<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let new = NewFile::beside(path);
    let written = write_synced(&new.0, pieces).and_then(|()| fs::rename(&new.0, path)).and_then(|()| sync_folder(path));
    if written.is_err() {
        // Half a file would only eat the space that the next try needs.
        let _ = fs::remove_file(&new.0);
    }
    written.map_err(|error| named(path, &error))
}

/// A file to be written beside its target, with a name that no other write of this process uses: one that hangs and goes on
/// later stays in its own file. The first free name is taken, so that the next write replaces what a process that died has left.
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

/// The error with the file or folder that it is about.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens a file to read it. Anything else that stands in its place, such as a named pipe or a device, is refused: reading it
/// could block for ever.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}

fn write_synced<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    // A process that died may have left a file there. Nothing that stands there is written into: a named pipe would block.
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

/// The folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder and the missing ones above it, for their owner only.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    // A link to a folder that is missing, such as one on a volume that is not mounted, is in the way of nobody but its target.
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

/// Whether the file system, or a folder that may not be listed, refuses the sync itself: some network and FUSE file systems do.
/// The file is in its place then, as safe as it can be there. A failing disk says something else.
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
    fn a_folder_that_refuses_a_sync_is_no_failure_but_a_failing_disk_is() {
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
    fn a_write_that_hangs_and_goes_on_later_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (begins, begun) = std::sync::mpsc::channel();
        let (go_on, hangs) = std::sync::mpsc::channel::<()>();
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
            assert_eq!(names(folder.path()).len(), 2, "beside it only what hangs");
        }
        go_on.send(()).unwrap();
        old.join().unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old old", "whole");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind_and_frees_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::create_dir(&path).unwrap();
        replace(&path, [b"new".as_slice()]).unwrap_err();
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(NewFile::beside(&path).0, beside(&path, "new"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_not_a_file_is_neither_read_nor_written_into() {
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
