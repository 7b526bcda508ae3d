#![allow(clippy::unwrap_used)]

use std::ops::Range;

use bytes::Bytes;
use object_store::memory::InMemory;

use super::failure::{Doing, failure};
use super::read::coalesced;
use super::write::PART_BYTES;
use super::*;
use crate::Kind;
use crate::fence::{Clock, Moment};

fn scratch() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("root").to_str().unwrap()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn objects_come_back_whole_and_in_ranges() {
    let (_dir, store) = scratch();
    assert!(store.get("a/b").await.unwrap().is_none());
    assert_eq!(store.list("").await.unwrap(), []);
    assert_eq!(store.children("").await.unwrap(), Children::default());

    store.put("a/b", Bytes::from_static(b"0123456789")).await.unwrap();
    let whole = store.get("a/b").await.unwrap().unwrap();
    assert_eq!((&whole.bytes[..], whole.size), (&b"0123456789"[..], 10));
    let range = async |r: Range<u64>| store.get_range("a/b", r).await.unwrap().unwrap();
    assert_eq!(&range(2..5).await.bytes[..], b"234");
    assert_eq!(range(2..5).await.version, whole.version);
    assert_eq!(&range(8..50).await.bytes[..], b"89");
    assert_eq!(&range(10..50).await.bytes[..], b"");
    assert_eq!(&range(4..4).await.bytes[..], b"");
    assert_eq!(&store.get_suffix("a/b", 3).await.unwrap().unwrap().bytes[..], b"789");
    assert_eq!(&store.get_suffix("a/b", 30).await.unwrap().unwrap().bytes[..], b"0123456789");
    let (parts, version) = store.get_ranges("a/b", &[7..9, 0..2, 9..12, 3..3]).await.unwrap().unwrap();
    assert_eq!(parts, [&b"78"[..], b"01", b"9", b""]);
    assert_eq!(version, whole.version);
    assert!(store.get_ranges("a/c", &[0..1, 2..3]).await.unwrap().is_none());
    assert!(store.get_range("a", 0..1).await.unwrap().is_none(), "a folder is not an object");
    assert!(store.get("a/b/c").await.unwrap().is_none(), "nor is there anything below an object");

    store.put("a/empty", Bytes::new()).await.unwrap();
    assert_eq!(&store.get_range("a/empty", 0..4).await.unwrap().unwrap().bytes[..], b"");
    assert_eq!(&store.get_suffix("a/empty", 4).await.unwrap().unwrap().bytes[..], b"");
}

#[tokio::test]
async fn put_new_never_replaces() {
    let (_dir, store) = scratch();
    assert!(store.put_new("receipt", Bytes::from_static(b"mine")).await.unwrap());
    assert!(!store.put_new("receipt", Bytes::from_static(b"yours")).await.unwrap());
    assert_eq!(&store.get("receipt").await.unwrap().unwrap().bytes[..], b"mine");
    store.put("receipt", Bytes::from_static(b"other")).await.unwrap();
    assert_eq!(&store.get("receipt").await.unwrap().unwrap().bytes[..], b"other");
}

#[tokio::test]
async fn an_upload_appears_when_finished_and_not_before() {
    let (dir, store) = scratch();
    let bytes: Vec<u8> = (0..PART_BYTES + 1000).map(|i| (i % 251) as u8).collect();
    let mut upload = store.upload("big").await.unwrap();
    for part in bytes.chunks(3_000_001) {
        upload.write(part).await.unwrap();
    }
    assert!(!store.exists("big").await.unwrap());
    upload.finish().await.unwrap();
    assert_eq!(&store.get("big").await.unwrap().unwrap().bytes[..], &bytes[..]);

    let mut upload = store.upload("dropped").await.unwrap();
    upload.write(b"half").await.unwrap();
    drop(upload);
    let mut upload = store.upload("aborted").await.unwrap();
    upload.write(b"half").await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(store.list("").await.unwrap().len(), 1);
    store.upload("empty").await.unwrap().finish().await.unwrap();
    assert_eq!(store.get("empty").await.unwrap().unwrap().size, 0);
    drop(dir);
}

#[tokio::test]
async fn listing_and_deleting_stay_below_the_prefix() {
    let (dir, store) = scratch();
    for key in ["out/a", "out/b/c", "outer", "out.zarr/x"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let keys = |entries: Vec<Entry>| entries.into_iter().map(|e| e.key).collect::<Vec<_>>();
    assert_eq!(keys(store.list("out").await.unwrap()), ["out/a", "out/b/c"]);
    assert_eq!(keys(store.child("out").unwrap().list("").await.unwrap()), ["a", "b/c"]);
    let children = store.children("").await.unwrap();
    assert_eq!((children.folders, children.objects), (vec!["out".into(), "out.zarr".into()], vec!["outer".into()]));

    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("kept"), b"x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("root/out/link")).unwrap();
    store.delete_prefix("out").await.unwrap();
    store.delete_prefix("out").await.unwrap();
    assert!(elsewhere.join("kept").exists(), "links are not followed");
    assert_eq!(keys(store.list("").await.unwrap()), ["out.zarr/x", "outer"]);
    store.delete("outer").await.unwrap();
    store.delete("outer").await.unwrap();
    store.delete_prefix("out.zarr/x").await.unwrap();
    assert_eq!(keys(store.list("").await.unwrap()), ["out.zarr/x"], "an object is not a prefix");
}

#[tokio::test]
async fn sweeping_takes_staged_files_only() {
    let (dir, store) = scratch();
    store.put("a/whole", Bytes::from_static(b"x")).await.unwrap();
    let root = dir.path().join("root");
    for name in ["a/c#1", "a/c#12", "top#3", "a/not#", "a/not#1x", "a/no#1#2", "a/12"] {
        std::fs::write(root.join(name), b"x").unwrap();
    }
    std::fs::create_dir(root.join("folder#1")).unwrap();
    assert_eq!(store.sweep_staged("a").await.unwrap(), 2);
    assert_eq!(store.sweep_staged("").await.unwrap(), 1);
    assert_eq!(store.sweep_staged("absent").await.unwrap(), 0);
    for kept in ["a/whole", "a/not#", "a/not#1x", "a/no#1#2", "a/12", "folder#1"] {
        assert!(root.join(kept).exists(), "{kept}");
    }
}

#[tokio::test]
async fn keys_stay_below_the_root() {
    let (_dir, store) = scratch();
    for key in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "c#1", "c#1/a", "a\u{0}b"] {
        assert_eq!(store.get(key).await.unwrap_err().kind, Kind::Invalid, "{key:?}");
        assert_eq!(store.put(key, Bytes::new()).await.unwrap_err().kind, Kind::Invalid, "{key:?}");
        assert_eq!(store.delete_prefix(key).await.unwrap_err().kind, Kind::Invalid, "{key:?}");
        assert!(store.child(key).is_err(), "{key:?}");
    }
    for key in ["a b", "Größe", "50%", "a#b", "x..y", "a?b", "[0]"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
        assert!(store.exists(key).await.unwrap(), "{key}");
        assert!(store.list("").await.unwrap().iter().any(|e| e.key == key), "{key}");
    }
}

#[tokio::test]
async fn roots_are_absolute_and_know_their_parent() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let store = Store::open(&format!("file://{root}/x/./y/../z/")).unwrap();
    assert_eq!(store.url(), format!("{root}/x/z"));
    assert_eq!(store.display("c/0"), format!("{root}/x/z/c/0"));
    let (above, name) = store.parent().unwrap();
    assert_eq!((above.url(), &*name), (&*format!("{root}/x"), "z"));
    assert_eq!(store.child("a/b").unwrap().url(), format!("{root}/x/z/a/b"));
    for same in [format!("file://localhost{root}/x%2Fz/"), format!("FILE://{root}/x/z//"), format!("{root}/./x/z/")] {
        assert_eq!(Store::open(&same).unwrap().url(), store.url());
    }
    assert_eq!(Store::open("/50%20").unwrap().url(), "/50%20");
    assert_eq!(Store::open("file:///a%20b%").unwrap().url(), "/a b%");
    let top = Store::open("/").unwrap();
    assert_eq!((top.url(), top.display("a")), ("/", "/a".to_owned()));
    assert!(top.parent().is_none());
    assert_eq!(Store::open("/a").unwrap().parent().unwrap().0.url(), "/");

    std::fs::write(dir.path().join("scan.tif"), b"II*").unwrap();
    assert!(Store::open(&format!("{root}/scan.tif")).unwrap().is_object().await.unwrap());
    assert!(!Store::open(root).unwrap().is_object().await.unwrap());

    let s3 = Store::open("s3://lab/foam.zarr").unwrap_err();
    assert_eq!(s3.message, "a bucket can't be used here: s3://lab/foam.zarr");
    assert_eq!(Store::open("").unwrap_err().kind, Kind::Invalid);
    assert_eq!(Store::open("ftp://x/y").unwrap_err().kind, Kind::Invalid);
    assert_eq!(Store::open("file://host/y").unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn failures_say_what_to_do_and_are_never_taken_for_absence() {
    let (dir, store) = scratch();
    // A link to itself can't be opened, by anyone; a denied read would not be denied to a privileged test run.
    std::fs::create_dir(dir.path().join("root")).unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("root/loop")).unwrap();
    assert_eq!(store.get("loop").await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(store.exists("loop").await.unwrap_err().kind, Kind::Unavailable);

    store.put("file", Bytes::from_static(b"x")).await.unwrap();
    let blocked = store.put("file/below", Bytes::new()).await.unwrap_err();
    assert_eq!(
        (blocked.kind, blocked.message),
        (Kind::Invalid, format!("can't write {}: a file is in the way of a folder", store.display("file/below")))
    );

    for (kind, expected, message) in [
        (std::io::ErrorKind::PermissionDenied, Kind::Invalid, "no permission to write /x"),
        (std::io::ErrorKind::ReadOnlyFilesystem, Kind::Invalid, "can't write /x: the file system is read-only"),
        (std::io::ErrorKind::StorageFull, Kind::Unavailable, "can't write /x: the disk is full"),
        (std::io::ErrorKind::QuotaExceeded, Kind::Unavailable, "can't write /x: the disk quota is used up"),
    ] {
        let wrapped =
            object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(std::io::Error::from(kind)) };
        let error = failure(Doing::Write, "/x", &wrapped);
        assert_eq!((error.kind, &*error.message), (expected, message));
    }
}

#[tokio::test]
async fn a_denied_read_or_write_names_the_path() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = scratch();
    store.put("closed/file", Bytes::from_static(b"x")).await.unwrap();
    let folder = dir.path().join("root/closed");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root is denied nothing, and CI may be root.
    if std::fs::read(folder.join("file")).is_err() {
        let name = store.display("closed/file");
        for (error, verb) in [
            (store.get("closed/file").await.unwrap_err(), "read"),
            (store.exists("closed/file").await.unwrap_err(), "read"),
            (store.put("closed/file", Bytes::new()).await.unwrap_err(), "write"),
            (store.put_new("closed/file", Bytes::new()).await.unwrap_err(), "write"),
            (store.delete("closed/file").await.unwrap_err(), "delete"),
        ] {
            assert_eq!((error.kind, error.message), (Kind::Invalid, format!("no permission to {verb} {name}")));
        }
        assert_eq!(store.list("").await.unwrap_err().kind, Kind::Invalid);
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn neighbouring_ranges_are_one_request() {
    let (_dir, store) = scratch();
    store.put("a", vec![7; 2 << 20].into()).await.unwrap();
    let before = store.requests();
    store.get_ranges("a", &[0..10, 10..20, 1000..1010, 1 << 20..(1 << 20) + 5]).await.unwrap().unwrap();
    let after = store.requests();
    assert_eq!((after.gets - before.gets, after.bytes_in - before.bytes_in), (2, 1015));
    assert_eq!((after.puts, after.bytes_out), (1, 2 << 20));
    assert_eq!(coalesced(&[5..9, 0..6, 3..3]), vec![Range { start: 0, end: 9 }]);
}

#[tokio::test]
async fn versions_of_all_are_those_of_each() {
    let (_dir, store) = scratch();
    for key in ["a/c/0/0", "a/zarr.json", "b/c/1"] {
        store.put(key, Bytes::from(key.as_bytes().to_vec())).await.unwrap();
    }
    let bucket = Store::over(Arc::new(InMemory::new()), "memory");
    bucket.put("a/c/0/0", Bytes::from_static(b"x")).await.unwrap();
    for (store, keys) in [(store, 2), (bucket, 1)] {
        let versions = store.child("a").unwrap().versions("").await.unwrap();
        assert_eq!(versions.len(), keys);
        for (key, version) in versions {
            assert_eq!(store.get(&format!("a/{key}")).await.unwrap().unwrap().version, version);
        }
        assert_eq!(store.versions("a").await.unwrap().len(), keys);
        assert!(store.versions("nothing").await.unwrap().is_empty());
    }
}

#[test]
fn versions_travel_as_json() {
    for (version, json) in [
        (Version::ETag { e_tag: "\"abc\"".into() }, r#"{"e_tag":"\"abc\""}"#),
        (Version::File { size: 3, mtime_us: 17 }, r#"{"size":3,"mtime_us":17}"#),
    ] {
        assert_eq!(serde_json::to_string(&version).unwrap(), json);
        assert_eq!(serde_json::from_str::<Version>(json).unwrap(), version);
    }
}

/// Nothing of an attempt that is too late gets through, whatever it does, and what it had begun doesn't appear.
#[tokio::test]
async fn a_closed_fence_lets_nothing_through() {
    let (dir, store) = scratch();
    store.put("there", Bytes::from_static(b"before")).await.unwrap();
    let now = Arc::new(AtomicU64::new(10));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || Moment(clock.load(Ordering::Relaxed)));
    let late = store.fenced(Fence { clock, not_after: Moment(20) });
    late.put("in-time", Bytes::from_static(b"x")).await.unwrap();
    let mut begun = late.upload("begun").await.unwrap();
    begun.write(b"half").await.unwrap();
    let finished = late.upload("finished").await.unwrap();
    now.store(21, Ordering::Relaxed);
    let bytes = || Bytes::from_static(b"late");
    let refused = [
        late.put("there", bytes()).await.unwrap_err(),
        late.put_new("new", bytes()).await.unwrap_err(),
        late.upload("upload").await.unwrap_err(),
        late.delete("there").await.unwrap_err(),
        late.delete_prefix("there").await.unwrap_err(),
        late.child("folder").unwrap().put("below", bytes()).await.unwrap_err(),
        begun.write(b"more").await.unwrap_err(),
        finished.finish().await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.message.contains("writes nothing more"), "{error}");
    }
    drop(begun);
    let keys: Vec<String> = store.list("").await.unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["in-time", "there"]);
    assert_eq!(&store.get("there").await.unwrap().unwrap().bytes[..], b"before");
    drop(dir);
}

/// A shard may say that a chunk has no bytes, anywhere.
#[tokio::test]
async fn empty_ranges_are_empty_wherever_they_are() {
    let (_dir, store) = scratch();
    store.put("shard", Bytes::from_static(b"0123456789")).await.unwrap();
    let (parts, _) = store.get_ranges("shard", &[2..2, 5..8, 9..9, 0..0, 10..10]).await.unwrap().unwrap();
    assert_eq!(parts, [&b""[..], b"567", b"", b"", b""]);
}

/// What a bucket is asked for: one request for what is small, and a part for each part of what is not.
#[tokio::test]
async fn an_upload_costs_as_few_requests_as_it_can() {
    for (bytes, puts) in [(0, 1), (1, 1), (PART_BYTES, 1), (PART_BYTES + 1, 4), (3 * PART_BYTES, 5)] {
        let store = Store::over(Arc::new(InMemory::new()), "memory");
        let content: Vec<u8> = (0..bytes).map(|i| (i / 1000) as u8).collect();
        let mut upload = store.upload("object").await.unwrap();
        for piece in content.chunks(3 << 20) {
            upload.write(piece).await.unwrap();
        }
        let uploaded = upload.finish().await.unwrap();
        assert_eq!((uploaded.bytes, uploaded.crc32c), (bytes as u64, crc32c::crc32c(&content)));
        assert_eq!(store.requests().puts, puts, "{bytes} bytes");
        assert_eq!(store.requests().bytes_out, bytes as u64);
        assert!(store.get("object").await.unwrap().unwrap().bytes == content, "{bytes} bytes");
    }
    let store = Store::over(Arc::new(InMemory::new()), "memory");
    let large = Bytes::from(vec![7; (64 << 20) + 1]);
    store.put("large", large.clone()).await.unwrap();
    assert_eq!(store.requests().puts, 7, "five parts, and two requests around them");
    assert!(store.get("large").await.unwrap().unwrap().bytes == large);
}
