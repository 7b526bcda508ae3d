//! What a disk needs and no bucket has: absolute paths, left-over staged files, folders.

use std::io;
use std::path::{Component, Path, PathBuf};

use tokio::runtime::Handle;

use super::failure::{Doing, io_failure};
use crate::{Error, Result};

/// The absolute path of `url` (a path, or `file://` and one), without `.` and `..`. Need not exist.
pub(super) fn absolute(url: &str) -> Result<String> {
    let path = match url.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("file")) {
        // `file://localhost/` is this machine, too (RFC 8089).
        Some((_, path)) => unescaped(path.strip_prefix("localhost").unwrap_or(path)),
        None => url.to_owned(),
    };
    if path.is_empty() {
        return Err(Error::invalid("an empty path names nothing"));
    }
    if path != url && !path.starts_with('/') {
        return Err(Error::invalid(format!("{url} names a host; a file URL is file:// and an absolute path")));
    }
    let given = std::path::absolute(&path).map_err(|e| io_failure(Doing::Read, &path, &e))?;
    let mut clean = PathBuf::new();
    for part in given.components() {
        match part {
            // `link/..` is where the link leads to, so `..` can only be taken on a resolved path.
            Component::ParentDir => {
                clean = std::fs::canonicalize(&clean).unwrap_or(clean);
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean.into_os_string().into_string().map_err(|path| Error::invalid(format!("{} is not UTF-8", path.display())))
}

/// A path with its `%20` and the like undone. What is no such escape stays as it is.
fn unescaped(path: &str) -> String {
    let hex = |at: Option<&u8>| at.and_then(|b| char::from(*b).to_digit(16)).map(|digit| digit as u8);
    let (bytes, mut out, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

/// True for names the backend gives to files it is still writing: something, `#`, and a number. It cuts at the first
/// `#`, and so do we.
pub(super) fn is_staged_name(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes staged files below `folder`, links not followed.
pub(super) fn sweep_staged(folder: &Path) -> Result<usize> {
    let failed = |path: &Path, e: &io::Error| Err(io_failure(Doing::Delete, &path.display().to_string(), e));
    let mut swept = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return failed(&folder, &e),
        };
        for entry in entries {
            let (path, kind) = match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok(entry) => entry,
                Err(e) => return failed(&folder, &e),
            };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(is_staged_name) {
                match std::fs::remove_file(&path) {
                    Ok(()) => swept += 1,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return failed(&path, &e),
                }
            }
        }
    }
    Ok(swept)
}

/// Removes staged files of the object `path`: those in its folder that are named like it, with `#` and a number.
pub(super) fn sweep_staged_of(path: &Path) -> Result<usize> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Ok(0) };
    let mut swept = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let staged = found.to_str().filter(|n| is_staged_name(n)).and_then(|n| n.split_once('#'));
        if staged.is_some_and(|(of, _)| of == name) {
            std::fs::remove_file(entry.path())
                .map_err(|e| io_failure(Doing::Delete, &entry.path().display().to_string(), &e))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Removes empty folders from `folder` down, itself included. One that can't be removed stays, which harms nobody.
pub(super) fn prune(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            prune(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// The error of a file that can't be found although its name is there: a link that leads nowhere, perhaps to a disk that
/// is not mounted. A folder of that name is no file, as in a bucket.
pub(super) fn broken_link(path: &Path) -> Option<Error> {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink());
    is_link.then(|| Error::unavailable(format!("can't read {}: it is a link that leads nowhere", path.display())))
}

/// Removes a folder and all below it, links not followed.
pub(super) fn delete_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(e) => Err(io_failure(Doing::Delete, &folder.display().to_string(), &e)),
    }
}

/// Files below a folder: path relative to it, length, time of the last change in microseconds. Links are followed. What
/// can't be looked at is left out: whoever reads it will hear of it.
pub(super) fn files(folder: &Path) -> Vec<(String, u64, i64)> {
    /// Deeper than any array; links may lead in circles.
    const DEPTH_MOST: usize = 32;
    let (mut files, mut folders) = (Vec::new(), vec![(folder.to_owned(), String::new(), 0)]);
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(found) = std::fs::metadata(entry.path()) else { continue };
            if found.is_dir() && depth < DEPTH_MOST {
                folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            } else if found.is_file() && !is_staged_name(&name) {
                let since = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                files.push((format!("{prefix}{name}"), found.len(), since.unwrap_or_default().as_micros() as i64));
            }
        }
    }
    files
}

/// Asks the system to have a file in memory soon. It does so while others compute, and doesn't say when, or whether at all.
#[cfg(target_os = "linux")]
pub(super) fn want_soon(path: &Path) {
    use std::os::fd::AsRawFd;
    let Ok(file) = std::fs::File::open(path) else { return };
    // SAFETY: the file is open as long as the call takes, which touches no memory of this process.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED) };
}

/// Other systems read ahead as they see fit.
#[cfg(not(target_os = "linux"))]
pub(super) fn want_soon(_: &Path) {}

/// Runs file work off the async threads; on a thread that is none of them, at once, as the backend does.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match Handle::try_current() {
        Ok(runtime) => {
            let done = runtime.spawn_blocking(work).await;
            done.unwrap_or_else(|e| Err(Error::internal(format!("file work failed: {e}"))))
        }
        Err(_) => work(),
    }
}
