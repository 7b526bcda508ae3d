//! A lock file on a disk, freed by the system when its process is gone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use pipeline::{Error, Result, layout};

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the output in `folder`, which is made if need be.
    ///
    /// # Errors
    /// Invalid when another process holds it, or the folder can't be written.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(layout::LOCK);
        let denied = |what: &str, e: std::io::Error| {
            let full = e.kind() == std::io::ErrorKind::StorageFull;
            let error = if full { Error::unavailable } else { Error::invalid };
            error(format!("{} can't be {what}: {e}", path.display()))
                .hint("choose an output you may write to, with -o or `output`")
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| denied("made", e))?;
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(|e| denied("opened for writing", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to name the process; who can't read it is still told that there is one.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::invalid(format!(
                    "{} is busy: another voxmill ({}) is working on it",
                    folder.display(),
                    holder.trim()
                ))
                .hint("wait for it, or stop it and run the same command again: it resumes"));
            }
            Err(TryLockError::Error(e)) => return Err(denied("locked", e)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(|e| denied("written", e))?;
        write!(file, "process {}", std::process::id()).map_err(|e| denied("written", e))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it would let two others lock two different files of the same name.
        let _ = self.file.unlock();
    }
}
