#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::Store;

/// The smallest node of each node's component: names are passed on along the edges until nothing changes.
fn slow(nodes: u64, edges: &[(u64, u64)]) -> Vec<u64> {
    let mut roots: Vec<u64> = (0..nodes).collect();
    loop {
        let before = roots.clone();
        for (a, b) in edges {
            let root = roots[*a as usize].min(roots[*b as usize]);
            (roots[*a as usize], roots[*b as usize]) = (root, root);
        }
        if roots == before {
            return roots;
        }
    }
}

/// What [`Roots::find`] says with so many buckets; 1 is in memory. `limit_bytes` decides how soon a bucket is written out.
async fn found(nodes: u64, edges: &[(u64, u64)], buckets: u64, limit_bytes: u64) -> Vec<u64> {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    let home = Overflow::new(&store, "overflow".into(), buckets * limit_bytes, limit_bytes);
    assert_eq!(home.count as u64, buckets);
    let shares = Shares::new(nodes, home.count);
    let mut given = home.buckets("given", 16);
    for (i, (a, b)) in edges.iter().enumerate() {
        given.push(i % home.count, &two(*a, *b)).await.unwrap();
    }
    let roots = Roots::find(&home, shares, given).await.unwrap();
    let mut all = Vec::new();
    for bucket in 0..home.count {
        all.extend(roots.of_bucket(bucket).await.unwrap());
    }
    home.clear().await.unwrap();
    assert!(store.list("").await.unwrap().is_empty(), "nothing stays behind");
    all
}

async fn agree(nodes: u64, edges: &[(u64, u64)]) {
    let expected = slow(nodes, edges);
    for buckets in [1, 2, 7, 64] {
        assert_eq!(found(nodes, edges, buckets, 4096).await, expected, "{buckets} buckets");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_no_edges_and_of_loops() {
    agree(0, &[]).await;
    agree(5, &[]).await;
    agree(3, &[(1, 1), (2, 2), (2, 2)]).await;
}

/// The longest way from end to end, with nodes in order, backwards, and so that neighbours are far apart.
#[tokio::test(flavor = "multi_thread")]
async fn of_paths() {
    let n = 200;
    let upwards: Vec<_> = (1..n).map(|i| (i - 1, i)).collect();
    let downwards: Vec<_> = upwards.iter().rev().map(|(a, b)| (*b, *a)).collect();
    let jumping: Vec<_> = (1..n).map(|i| ((i - 1) * 77 % n, i * 77 % n)).collect();
    for path in [upwards, downwards, jumping] {
        agree(n, &path).await;
        let cut: Vec<_> = path.into_iter().filter(|(a, b)| a % 10 != 3 && b % 10 != 3).collect();
        agree(n, &cut).await;
    }
}

/// One node that all others know, the first, the last or one between; and two such joined by their leaves.
#[tokio::test(flavor = "multi_thread")]
async fn of_stars() {
    let n = 150;
    for hub in [0, n / 2, n - 1] {
        let star: Vec<_> = (0..n).map(|i| (hub, i)).collect();
        agree(n, &star).await;
    }
    let two: Vec<_> = (0..n).map(|i| (if i % 2 == 0 { 149 } else { 75 }, i)).collect();
    agree(n, &two).await;
    agree(n, &[two, vec![(10, 11)]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_cliques() {
    let within = |nodes: std::ops::Range<u64>| nodes.clone().flat_map(move |a| nodes.clone().map(move |b| (b, a)));
    let cliques: Vec<_> = within(3..20).chain(within(20..23)).chain(within(30..41)).collect();
    agree(45, &cliques).await;
    agree(45, &[cliques, vec![(40, 3), (22, 29)]].concat()).await;
}

/// So many edges that buckets are written out in parts.
#[tokio::test(flavor = "multi_thread")]
async fn of_more_edges_than_stay_in_memory() {
    let n = 3000;
    let edges: Vec<_> = (0..n).map(|i| (i * 997 % n, (i * i + 1) % n)).collect();
    assert_eq!(found(n, &edges, 5, 4096).await, slow(n, &edges));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn of_random_graphs(
        (nodes, edges) in (1..80u64).prop_flat_map(|n| (Just(n), prop::collection::vec((0..n, 0..n), 0..100))),
        buckets in 2..20u64,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let expected = slow(nodes, &edges);
        prop_assert_eq!(&runtime.block_on(found(nodes, &edges, 1, 4096)), &expected);
        prop_assert_eq!(&runtime.block_on(found(nodes, &edges, buckets, 1024)), &expected);
    }
}
