#![allow(clippy::unwrap_used)]
//! Rows written in pages come back by range, and merge by key.

use voxel::Merge;

use super::*;
use crate::store::Store;

fn row(key: u64) -> ObjectRow {
    ObjectRow { key, voxels: 1, ..ObjectRow::identity() }
}

async fn file_of(store: &Store, name: &str, keys: &[u64]) {
    let mut out = Writer::create(store, name).await.unwrap();
    let mut pages = PageWriter::new(Tag::Closed, None);
    for key in keys {
        pages.push(&row(*key), &mut out).await.unwrap();
    }
    let pages = pages.finish(&mut out).await.unwrap();
    assert_eq!(pages.rows, keys.len() as u64);
    write_closed_keys(&pages, &mut out).await.unwrap();
    out.finish().await.unwrap();
}

async fn keys_between(store: &Store, name: &str, low: u64, high: Option<u64>, at_once: u64) -> (u64, Vec<u64>) {
    let file = Reader::open(store, name).await.unwrap();
    let mut rows = RowFile::<ObjectRow>::open(file, None, low, high, at_once).await.unwrap();
    let first = rows.first_row;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        keys.push(row.key);
    }
    (first, keys)
}

#[tokio::test]
async fn a_range_is_found_wherever_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    // Three pages, with keys that repeat over a page's edge.
    let keys: Vec<u64> = (0..200).map(|i| i / 3 * 10).collect();
    file_of(&store, "rows", &keys).await;
    for low in [0, 5, 200, 210, 220, 640, 660, 1000] {
        for high in [None, Some(low + 1), Some(low + 300)] {
            let inside = |k: &u64| *k >= low && high.is_none_or(|h| *k < h);
            let wanted: Vec<u64> = keys.iter().copied().filter(inside).collect();
            for at_once in [1, 2, 3, 100] {
                let (first, found) = keys_between(&store, "rows", low, high, at_once).await;
                assert_eq!(found, wanted, "{low}..{high:?} by {at_once}");
                assert_eq!(first, keys.iter().filter(|k| **k < low).count() as u64, "{low}..{high:?} by {at_once}");
            }
        }
    }
    file_of(&store, "none", &[]).await;
    assert_eq!(keys_between(&store, "none", 0, None, 2).await, (0, vec![]));
    file_of(&store, "last", &[3, u64::MAX]).await;
    assert_eq!(keys_between(&store, "last", 4, None, 2).await, (1, vec![u64::MAX]));
}

#[tokio::test]
async fn a_request_reads_as_many_pages_as_it_may_and_none_beyond_the_range() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let keys: Vec<u64> = (0..20 * PAGE_ROWS as u64).collect();
    file_of(&store, "rows", &keys).await;
    let page_bytes = (PAGE_ROWS * ObjectRow::bytes(None)) as u64;
    // Pages 3 to 12, where a page more than is needed is read at the start; the last pages lie in the tail.
    let (low, high) = (4 * PAGE_ROWS as u64, 13 * PAGE_ROWS as u64);
    for (at_once, reads) in [(1, 10), (3, 4), (4, 3), (100, 1)] {
        let before = store.requests();
        let found = keys_between(&store, "rows", low, Some(high), at_once).await;
        assert_eq!(found, (low, (low..high).collect()));
        let after = store.requests();
        assert_eq!(after.gets - before.gets, 1 + reads, "by {at_once}: one for the end");
        assert_eq!(after.bytes_in - before.bytes_in, (16 << 10) + 10 * page_bytes, "by {at_once}");
    }
}

#[tokio::test]
async fn files_merge_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let contents: [Vec<u64>; 4] =
        [(0..150).map(|i| i * 4).collect(), (0..90).map(|i| i * 7 + 1).collect(), vec![], vec![2, 2, 600]];
    let mut files = Vec::new();
    for (i, keys) in contents.iter().enumerate() {
        file_of(&store, &i.to_string(), keys).await;
        let file = Reader::open(&store, &i.to_string()).await.unwrap();
        files.push(RowFile::<ObjectRow>::open(file, None, 0, None, 1 + i as u64).await.unwrap());
    }
    let mut wanted: Vec<(u64, usize)> =
        contents.iter().enumerate().flat_map(|(i, keys)| keys.iter().map(move |k| (*k, i))).collect();
    wanted.sort_unstable();
    let (mut merge, mut found) = (RowMerge::new(files).await.unwrap(), Vec::new());
    while let Some((from, row)) = merge.next().await.unwrap() {
        found.push((row.key, from));
    }
    assert_eq!(found, wanted);
}
