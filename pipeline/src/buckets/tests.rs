#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn overflow(folder: &TempDir, buckets: u64) -> Overflow {
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    // So small that a bucket is written out at every kibibyte.
    Overflow::new(&store, "overflow".into(), buckets * 1024, 1024)
}

/// Records of 100 bytes, about ten to a part, so that most buckets have several.
fn record(key: u16) -> Vec<u8> {
    let mut record = key.to_be_bytes().to_vec();
    record.resize(100, key as u8);
    record
}

async fn pushed<'a>(home: &'a Overflow, keys: &[Vec<u16>]) -> Buckets<'a> {
    let mut buckets = home.buckets("keys", 100);
    for (bucket, keys) in keys.iter().enumerate() {
        for key in keys {
            buckets.push(bucket, &record(*key)).await.unwrap();
        }
    }
    buckets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_pushed_comes_back_in_order(
        mut keys in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..60), 1..6)
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = TempDir::new().unwrap();
        let home = overflow(&folder, keys.len() as u64);
        runtime.block_on(async {
            let buckets = pushed(&home, &keys).await;
            for (bucket, keys) in keys.iter().enumerate() {
                let mut back = Vec::new();
                buckets.for_each(bucket, |r| back.push(r.to_vec())).await.unwrap();
                assert_eq!(back, keys.iter().map(|key| record(*key)).collect::<Vec<_>>());
                assert_eq!(buckets.len(bucket), keys.len() as u64);
            }
            home.clear().await.unwrap();

            keys.iter_mut().for_each(|keys| keys.sort_unstable());
            let buckets = pushed(&home, &keys).await;
            let (mut merged, mut back) = (buckets.merge().await.unwrap(), Vec::new());
            while let Some(record) = merged.next().await.unwrap() {
                back.push(record.to_vec());
            }
            let mut all: Vec<Vec<u8>> = keys.concat().into_iter().map(record).collect();
            all.sort();
            assert_eq!(back, all);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bucket_never_leaves_memory() {
    let folder = TempDir::new().unwrap();
    let home = overflow(&folder, 1);
    let buckets = pushed(&home, &[(0..1000).collect()]).await;
    assert_eq!((buckets.len(0), buckets.parts(0)), (1000, 1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
