//! Connected components of a graph whose edges may not fit in memory.
//!
//! In memory it is union-find. Beyond, it is the alternation of large-star and small-star of Kiveris, Lattanzi,
//! Mirrokni, Rastogi and Vassilvitskii, "Connected Components in MapReduce and Beyond" (2014): every round sends each
//! node's larger neighbours, then its smaller ones, to the smallest node it knows of, until every component is a star
//! around its smallest node. A round holds one number per node of one bucket, never a neighbour list, so a hub with a
//! million neighbours costs no more than any other node.

use voxel::DisjointSets;

use super::records::{of_two, two};
use crate::Result;
use crate::buckets::{Buckets, Overflow};

/// Which bucket a node belongs to: consecutive numbers, equal shares.
#[derive(Clone, Copy)]
pub(crate) struct Shares {
    /// Nodes in all.
    pub(crate) nodes: u64,
    /// Nodes in a bucket.
    share: u64,
}

impl Shares {
    pub(crate) fn new(nodes: u64, buckets: usize) -> Self {
        Self { nodes, share: nodes.div_ceil(buckets as u64).max(1) }
    }

    pub(crate) fn bucket(&self, node: u64) -> usize {
        (node / self.share) as usize
    }

    /// The nodes of a bucket.
    pub(crate) fn range(&self, bucket: usize) -> std::ops::Range<u64> {
        let start = (bucket as u64 * self.share).min(self.nodes);
        start..(start + self.share).min(self.nodes)
    }
}

/// The components of a graph, as the smallest node of each node's component.
pub(crate) struct Roots<'a> {
    shares: Shares,
    /// (node, root) for every node that is not a root, in the node's bucket.
    stars: Buckets<'a>,
}

impl<'a> Roots<'a> {
    /// Finds the components of `shares.nodes` nodes joined by `edges` (pairs of nodes, in any bucket).
    pub(crate) async fn find(home: &'a Overflow, shares: Shares, edges: Buckets<'a>) -> Result<Self> {
        let stars = if home.count == 1 {
            in_memory(home, shares, &edges).await?
        } else {
            in_rounds(home, shares, edges).await?
        };
        Ok(Self { shares, stars })
    }

    /// The root of every node of a bucket, in the order of `shares.range(bucket)`.
    pub(crate) async fn of_bucket(&self, bucket: usize) -> Result<Vec<u64>> {
        let range = self.shares.range(bucket);
        let mut roots: Vec<u64> = range.clone().collect();
        self.stars
            .for_each(bucket, |record| {
                let (node, root) = of_two(record);
                roots[(node - range.start) as usize] = root;
            })
            .await?;
        Ok(roots)
    }
}

async fn in_memory<'a>(home: &'a Overflow, shares: Shares, edges: &Buckets<'a>) -> Result<Buckets<'a>> {
    let mut sets = DisjointSets::new(shares.nodes as u32);
    edges
        .for_each(0, |record| {
            let (a, b) = of_two(record);
            sets.union(a as u32, b as u32);
        })
        .await?;
    let mut stars = home.buckets("stars", 16);
    for node in 0..shares.nodes as u32 {
        let root = sets.find(node);
        if root != node {
            stars.push(0, &two(u64::from(node), u64::from(root))).await?;
        }
    }
    Ok(stars)
}

async fn in_rounds<'a>(home: &'a Overflow, shares: Shares, edges: Buckets<'a>) -> Result<Buckets<'a>> {
    // Each edge is kept once, in its larger end's bucket, as (larger, smaller).
    let mut kept = home.buckets("edges", 16);
    for bucket in 0..home.count {
        for part in 0..edges.parts(bucket) {
            for record in edges.part(bucket, part).await?.chunks_exact(16) {
                let (a, b) = of_two(record);
                if a != b {
                    kept.push(shares.bucket(a.max(b)), &two(a.max(b), a.min(b))).await?;
                }
            }
        }
    }
    for round in 0.. {
        let mut mirrored = home.buckets(format!("round-{round}-mirrored"), 16);
        for bucket in 0..home.count {
            for part in 0..kept.parts(bucket) {
                for record in kept.part(bucket, part).await?.chunks_exact(16) {
                    let (large, small) = of_two(record);
                    mirrored.push(bucket, record).await?;
                    mirrored.push(shares.bucket(small), &two(small, large)).await?;
                }
            }
        }
        // Large-star: a node sends its larger neighbours to the smallest it knows, itself included.
        let (mut changed, mut starred) = (false, home.buckets(format!("round-{round}-large"), 16));
        for bucket in 0..home.count {
            let (start, least) = (shares.range(bucket).start, least_neighbours(&mirrored, bucket, shares).await?);
            for part in 0..mirrored.parts(bucket) {
                for record in mirrored.part(bucket, part).await?.chunks_exact(16) {
                    let (node, other) = of_two(record);
                    if other > node {
                        let center = least[(node - start) as usize];
                        changed |= center != node;
                        starred.push(shares.bucket(other), &two(other, center)).await?;
                    }
                }
            }
        }
        // Small-star: a node sends its smaller neighbours, and itself, to the smallest of them.
        kept = home.buckets(format!("round-{round}-small"), 16);
        for bucket in 0..home.count {
            let (start, least) = (shares.range(bucket).start, least_neighbours(&starred, bucket, shares).await?);
            for part in 0..starred.parts(bucket) {
                for record in starred.part(bucket, part).await?.chunks_exact(16) {
                    let (node, other) = of_two(record);
                    let center = least[(node - start) as usize];
                    if other != center {
                        changed = true;
                        kept.push(shares.bucket(other), &two(other, center)).await?;
                    }
                }
            }
            for (i, center) in least.into_iter().enumerate() {
                let node = start + i as u64;
                if center != node {
                    kept.push(bucket, &two(node, center)).await?;
                }
            }
        }
        if !changed {
            break;
        }
    }
    Ok(kept)
}

/// The smallest of each node of a bucket and its neighbours.
async fn least_neighbours(edges: &Buckets<'_>, bucket: usize, shares: Shares) -> Result<Vec<u64>> {
    let range = shares.range(bucket);
    let mut least: Vec<u64> = range.clone().collect();
    edges
        .for_each(bucket, |record| {
            let (node, other) = of_two(record);
            let slot = &mut least[(node - range.start) as usize];
            *slot = other.min(*slot);
        })
        .await?;
    Ok(least)
}

#[cfg(test)]
mod tests;
