//! How much memory there is: what the machine has, and what its container may use of it.

use std::path::{Path, PathBuf};

use pipeline::plan::memory::Projection;
use pipeline::{Error, Result};

use crate::units::Bytes;

/// Memory that a process may use at most, and whose limit that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    of: &'static str,
}

/// Whether a run finds room here.
///
/// # Errors
/// Invalid when it would hold more than there is.
pub(crate) fn check_room(projection: &Projection) -> Result<()> {
    match room(Path::new("/")) {
        Some(room) => room.check(projection),
        None => Ok(()),
    }
}

impl Room {
    fn check(&self, projection: &Projection) -> Result<()> {
        if projection.bytes <= self.bytes {
            return Ok(());
        }
        // Some is the system's.
        let fits = (self.bytes / 10 * 8) >> 20;
        Err(Error::invalid(format!(
            "the run may hold {}, but {} has {} of memory",
            Bytes(projection.bytes),
            self.of,
            Bytes(self.bytes)
        ))
        .hint(format!("give it less with --memory {fits}MiB, or fewer --workers")))
    }
}

/// The least of what the system tells; none where it tells nothing. `root` is where its files are.
fn room(root: &Path) -> Option<Room> {
    let read = |path: &Path| std::fs::read_to_string(root.join(path.strip_prefix("/").unwrap_or(path))).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?;
        Some(Room { bytes: kib.trim().parse::<u64>().ok()? << 10, of: "this machine" })
    });
    let limit = |path: PathBuf| {
        // `max`, or near all that a number can say, means none.
        let bytes = read(&path)?.trim().parse().ok()?;
        Some(Room { bytes, of: "this container" })
    };
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits: Vec<Room> = machine.into_iter().collect();
    for group in groups.lines() {
        // `0::/path` in the one hierarchy, `4:memory:/path` in that of memory.
        let mut fields = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // A limit holds for all groups below; a container sees its own as the root.
        let mut at = Some(Path::new(path));
        while let Some(folder) = at {
            limits.extend(limit(Path::new(base).join(folder.strip_prefix("/").unwrap_or(folder)).join(file)));
            at = folder.parent();
        }
    }
    limits.into_iter().min_by_key(|room| room.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn system(files: &[(&str, &str)]) -> Option<Room> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        room(root.path())
    }

    #[test]
    fn the_least_limit_counts() {
        let machine = ("proc/meminfo", "MemTotal:       16384000 kB\nMemFree:  1 kB\n");
        assert_eq!(system(&[]), None);
        assert_eq!(system(&[machine]).unwrap(), Room { bytes: 16_384_000 << 10, of: "this machine" });
        let one = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = [machine, one, ("sys/fs/cgroup/a/b/memory.max", "max\n")];
        assert_eq!(system(&unlimited).unwrap().of, "this machine");
        let above = [machine, one, ("sys/fs/cgroup/a/memory.max", "2147483648\n")];
        assert_eq!(system(&above).unwrap(), Room { bytes: 2 << 30, of: "this container" });
        let first_version = [
            machine,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ];
        assert_eq!(system(&first_version).unwrap().bytes, 1 << 30);
    }

    #[test]
    fn a_run_that_finds_no_room_is_refused() {
        let room = Room { bytes: 1 << 30, of: "this container" };
        let projection = |bytes| Projection { bytes, stages: Vec::new() };
        room.check(&projection(1 << 30)).unwrap();
        let error = room.check(&projection(3 << 30)).unwrap_err();
        assert_eq!(error.message, "the run may hold 3.0 GiB, but this container has 1.0 GiB of memory");
        assert_eq!(error.hint.unwrap(), "give it less with --memory 819MiB, or fewer --workers");
    }
}
