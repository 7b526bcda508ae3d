//! What is deleted is deleted in an order that leaves nothing half true: an output is cleared until the store fails, after
//! every number of deletions, and looked at.

use std::collections::BTreeSet;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pipeline::checkpoint::Checkpoint;
use pipeline::plan::Plan;
use pipeline::store::Store;
use pipeline::{layout, publish};
use voxel::Dtype;

use crate::support::image::{Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::wait;

/// Deletes so many objects, and no more.
#[derive(Debug)]
struct Tired {
    inner: InMemory,
    deletions: Arc<AtomicI64>,
}

impl std::fmt::Display for Tired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a tired store")
    }
}

#[async_trait]
impl ObjectStore for Tired {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, bytes, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let left = Arc::clone(&self.deletions);
        let tired = move |at: Result<Path>| match left.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => at,
            false => Err(Error::Generic { store: "Tired", source: "no more today".into() }),
        };
        self.inner.delete_stream(at.map(tired).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A finished run that was kept, with a checkpoint as an unfinished one has it.
async fn kept(folder: &FsPath, plan: &Plan) -> Vec<(String, bytes::Bytes)> {
    let store = Store::open(&folder.to_string_lossy()).unwrap();
    let checkpoint =
        Checkpoint { plan: plan.id.clone(), lease: 1, stage: 0, units: vec![1], done: vec![(0, 1)].into() };
    checkpoint.write(&store).await.unwrap();
    let mut objects = Vec::new();
    for entry in store.list("").await.unwrap() {
        objects.push((entry.key.clone(), store.get(&entry.key).await.unwrap().unwrap().bytes));
    }
    objects
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Erase,
    Withdraw,
    Clean,
}

#[test]
fn whoever_stops_half_way_leaves_nothing_that_claims_too_much() {
    let image = Recipe { extent: volume([8, 8, 9]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 3 }.image();
    let lab = Lab::with(&image);
    let (job, cut) = (lab.job("threshold above=100 | label", [4, 4, 9]), Cut::blocks([4, 4, 9]));
    let output = lab.new_output();
    lab.attempt_and_keep(&job, &cut, &output).unwrap();
    wait(cleared_after_every_deletion(&lab.plan(&job, &cut), &output));
}

async fn cleared_after_every_deletion(plan: &Plan, output: &FsPath) {
    let objects = kept(output, plan).await;
    let keys = |part: &str| objects.iter().map(|(key, _)| key.clone()).filter(|key| key.contains(part)).collect();
    let (data, scratch): (BTreeSet<String>, BTreeSet<String>) = (keys("/c/"), keys(layout::SCRATCH));
    let (metadata, receipts): (BTreeSet<String>, BTreeSet<String>) = (keys("zarr.json"), keys(layout::RECEIPTS));
    assert!(data.len() >= 4 && scratch.len() >= 4 && metadata.len() >= 2, "{objects:?}");

    for way in [Way::Erase, Way::Withdraw, Way::Clean] {
        let mut stops = 0;
        loop {
            let deletions = Arc::new(AtomicI64::new(stops));
            let backend = Tired { inner: InMemory::new(), deletions: Arc::clone(&deletions) };
            for (key, bytes) in &objects {
                // What is withdrawn is no finished run.
                if key != layout::MANIFEST || !matches!(way, Way::Withdraw) {
                    backend.inner.put(&Path::parse(key).unwrap(), bytes.clone().into()).await.unwrap();
                }
            }
            let store = Store::over(Arc::new(backend), "memory://lab");
            let ended = match way {
                Way::Erase => publish::erase(&store, plan).await,
                Way::Clean => publish::clean(&store).await,
                Way::Withdraw => {
                    async {
                        publish::disavow(&store).await?;
                        publish::withdraw(&store, plan).await?;
                        publish::clean(&store).await
                    }
                    .await
                }
            };
            let left: BTreeSet<String> = store.list("").await.unwrap().into_iter().map(|entry| entry.key).collect();
            let has = |part: &str| left.iter().any(|key| key.starts_with(part));
            let whole = |all: &BTreeSet<String>| all.is_subset(&left);
            let after = format!("{way:?} after {stops} deletions: {left:#?}");
            assert!(!has(layout::CHECKPOINTS) || whole(&receipts), "{after}");
            assert!(!has(layout::RECEIPTS) || (whole(&data) && whole(&scratch)), "{after}");
            assert!(!metadata.iter().any(|key| left.contains(key)) || whole(&data), "{after}");
            assert!(!has(layout::MANIFEST) || (whole(&metadata) && whole(&data)), "{after}");
            if ended.is_ok() {
                assert!(!has(layout::PLAN) && !has(layout::SCRATCH), "{after}");
                break;
            }
            stops += 1;
        }
        assert!(stops > 10, "{way:?}");
    }
}
