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

async fn keys_between(store: &Store, name: &str, low: u64, high: Option<u64>) -> (u64, Vec<u64>) {
    let file = Reader::open(store, name).await.unwrap();
    let mut rows = RowFile::<ObjectRow>::open(file, None, low, high).await.unwrap();
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
            let (first, found) = keys_between(&store, "rows", low, high).await;
            assert_eq!(found, wanted, "{low}..{high:?}");
            assert_eq!(first, keys.iter().filter(|k| **k < low).count() as u64, "{low}..{high:?}");
        }
    }
    file_of(&store, "none", &[]).await;
    assert_eq!(keys_between(&store, "none", 0, None).await, (0, vec![]));
    file_of(&store, "last", &[3, u64::MAX]).await;
    assert_eq!(keys_between(&store, "last", 4, None).await, (1, vec![u64::MAX]));
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
        files.push(RowFile::<ObjectRow>::open(file, None, 0, None).await.unwrap());
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
