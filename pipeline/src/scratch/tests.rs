#![allow(clippy::unwrap_used)]
//! Sections come back as they went in, and no damage goes unnoticed.

use super::*;
use crate::Kind;

async fn written(folder: &tempfile::TempDir, sections: &[(Tag, u64, Vec<u8>)]) -> (Store, std::path::PathBuf) {
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let mut out = Writer::create(&store, "unit").await.unwrap();
    for (tag, index, bytes) in sections {
        out.section(*tag, *index, bytes).await.unwrap();
    }
    out.finish().await.unwrap();
    (store, folder.path().join("unit"))
}

fn some_sections() -> Vec<(Tag, u64, Vec<u8>)> {
    vec![
        (Tag::Open, 1, b"second page".to_vec()),
        // Longer than what is read with the table.
        (Tag::Runs, 0, (0..TAIL_BYTES * 2).map(|i| (i * 7) as u8).collect()),
        (Tag::Open, 0, b"first page".to_vec()),
        (Tag::Counts, 0, Vec::new()),
    ]
}

#[tokio::test]
async fn sections_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let sections = some_sections();
    let (store, _) = written(&folder, &sections).await;
    let file = Reader::open(&store, "unit").await.unwrap();
    for (tag, index, bytes) in &sections {
        assert_eq!(file.require(*tag, *index).await.unwrap(), bytes);
        assert_eq!(file.length(*tag, *index), bytes.len() as u64);
    }
    assert_eq!(file.indices(Tag::Open).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(file.get(Tag::Pairs, 0).await.unwrap(), None);
}

#[tokio::test]
async fn sections_side_by_side_come_in_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let page = |i: u64| vec![i as u8; 5000];
    let mut sections: Vec<_> = (0..8).map(|i| (Tag::Closed, i, page(i))).collect();
    // The last two come with the end of the object.
    sections.insert(6, (Tag::Runs, 0, vec![7; 1 << 20]));
    let (store, path) = written(&folder, &sections).await;
    let file = Reader::open(&store, "unit").await.unwrap();
    for (indices, requests) in [(0..6, 1), (2..3, 1), (3..8, 1), (6..8, 0), (4..4, 0)] {
        let before = store.requests().gets;
        let wanted: Vec<Vec<u8>> = indices.clone().map(page).collect();
        assert_eq!(file.require_all(Tag::Closed, indices.clone()).await.unwrap(), wanted);
        assert_eq!(store.requests().gets - before, requests, "{indices:?}");
    }
    let missing = file.require_all(Tag::Closed, 5..9).await.unwrap_err();
    assert!(missing.message.contains("section Closed 8 is missing"), "{missing}");
    // Each section's own checksum is looked at.
    let mut whole = std::fs::read(&path).unwrap();
    whole[2 * 5000 + 17] ^= 1;
    std::fs::write(&path, &whole).unwrap();
    let damaged = file.require_all(Tag::Closed, 0..5).await.unwrap_err();
    assert!(damaged.message.contains("section Closed 2 fails its checksum"), "{damaged}");
    file.require_all(Tag::Closed, 3..6).await.unwrap();
}

#[tokio::test]
async fn a_table_longer_than_the_tail_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let sections: Vec<_> = (0..2000u64).map(|i| (Tag::Closed, i, i.to_le_bytes().to_vec())).collect();
    let (store, _) = written(&folder, &sections).await;
    let file = Reader::open(&store, "unit").await.unwrap();
    for i in [0u64, 999, 1999] {
        assert_eq!(file.require(Tag::Closed, i).await.unwrap(), i.to_le_bytes().as_slice());
    }
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let sections = vec![(Tag::Open, 0, b"a page".to_vec()), (Tag::Counts, 0, vec![1, 2, 3])];
    let (store, path) = written(&folder, &sections).await;
    let whole = std::fs::read(&path).unwrap();
    let read_all = || async {
        let file = Reader::open(&store, "unit").await?;
        for (tag, index, _) in &sections {
            file.require(*tag, *index).await?;
        }
        Ok::<_, Error>(())
    };
    read_all().await.unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        let error = read_all().await.expect_err("a flipped bit is found");
        assert_eq!(error.kind, Kind::Data, "byte {byte}: {error}");
        assert!(error.message.contains("unit"), "{error}");
        std::fs::write(&path, &whole[..byte]).unwrap();
        assert_eq!(read_all().await.expect_err("a cut is found").kind, Kind::Data, "cut at {byte}");
    }
}
