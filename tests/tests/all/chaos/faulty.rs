//! A store that fails in every way a bucket can, but never lies about what it holds for longer than a listing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::seed::Dice;

/// What went wrong, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Tally {
    pub(super) fn count(&self, fault: &'static str) {
        *self.0.lock().unwrap().entry(fault).or_default() += 1;
    }

    pub(super) fn of(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap().clone()
    }
}

/// A store in memory, with faults.
#[derive(Clone, Debug)]
pub(super) struct Faulty {
    inner: Arc<InMemory>,
    dice: Arc<Dice>,
    tally: Tally,
    weather: Weather,
    view: View,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Of a thousand requests, so many go wrong.
    pub(super) per_mille: u64,
    /// Times that the client sends a request before it reports that it failed, as those of buckets do.
    pub(super) tries: usize,
}

/// Who looks at the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Anybody,
    /// A worker that dies before the last thing it does: its receipts and states are refused.
    Doomed,
    /// A worker whose time is over: whatever it writes is too late.
    TooLate,
}

impl Faulty {
    pub(super) fn new(inner: Arc<InMemory>, seed: u64, weather: Weather, tally: Tally) -> Self {
        Self { inner, dice: Arc::new(Dice::new(seed)), tally, weather, view: View::Anybody }
    }

    /// The same store as a worker sees it that dies before its receipt.
    pub(super) fn doomed(&self) -> Self {
        Self { view: View::Doomed, ..self.clone() }
    }

    /// The same store as a worker sees it whose time is over.
    pub(super) fn too_late(&self) -> Self {
        Self { view: View::TooLate, ..self.clone() }
    }

    /// Which of these faults a request ends with, all its tries counted.
    fn fault(&self, request: &str, at: impl fmt::Display, faults: &[&'static str]) -> Option<&'static str> {
        let (mut last, mut lost) = (None, false);
        for _ in 0..self.weather.tries {
            last = self.one_fault(request, &at, faults);
            match last {
                // One that worked after one that had worked finds its own work there.
                None => return (lost && faults.contains(&CONFLICT)).then_some(CONFLICT),
                Some(SLOW | CONFLICT | STALE) => return last,
                Some(fault) => lost |= fault == LOST,
            }
        }
        if lost { Some(LOST) } else { last }
    }

    fn one_fault(&self, request: &str, at: impl fmt::Display, faults: &[&'static str]) -> Option<&'static str> {
        let drawn = self.dice.draw(&format!("{request} {at}"));
        if drawn % 1000 >= self.weather.per_mille {
            return None;
        }
        let fault = faults[(drawn / 1000) as usize % faults.len()];
        self.tally.count(fault);
        Some(fault)
    }
}

/// What must not happen.
pub(super) const WRITTEN_LATE: &str = "written after not_after";

pub(super) const ERROR: &str = "error before the request";
pub(super) const THROTTLED: &str = "503 slow down";
pub(super) const SLOW: &str = "slow";
pub(super) const TORN: &str = "torn connection";
pub(super) const LOST: &str = "reply lost after success";
pub(super) const CONFLICT: &str = "conflict with our own create";
pub(super) const STALE: &str = "stale list";

/// All faults of a store.
pub(super) const ALL: [&str; 7] = [ERROR, THROTTLED, SLOW, TORN, LOST, CONFLICT, STALE];

fn error(what: &'static str) -> Error {
    let text = match what {
        THROTTLED => "Server returned non-2xx status code: 503 Service Unavailable: SlowDown",
        other => other,
    };
    Error::Generic { store: "faulty", source: text.into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        match self.view {
            View::Doomed if creates => return Err(error("the worker is dead")),
            View::TooLate => self.tally.count(WRITTEN_LATE),
            _ => {}
        }
        let faults: &[_] = match creates {
            true => &[ERROR, THROTTLED, SLOW, LOST, CONFLICT],
            false => &[ERROR, THROTTLED, SLOW, LOST],
        };
        let fault = self.fault("put", at, faults);
        match fault {
            Some(before @ (ERROR | THROTTLED)) => return Err(error(before)),
            Some(SLOW) => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => {}
        }
        let done = self.inner.put_opts(at, payload, options).await?;
        match fault {
            Some(LOST) => Err(error(LOST)),
            // The client asked again by itself when the reply was lost.
            Some(CONFLICT) => Err(Error::AlreadyExists { path: at.to_string(), source: CONFLICT.into() }),
            _ => Ok(done),
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if self.view == View::TooLate {
            self.tally.count(WRITTEN_LATE);
        }
        if let Some(fault) = self.fault("upload", at, &[ERROR, THROTTLED]) {
            return Err(error(fault));
        }
        let inner = self.inner.put_multipart_opts(at, options).await?;
        Ok(Box::new(FaultyUpload { inner, store: self.clone(), at: at.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.fault("get", at, &[ERROR, THROTTLED, SLOW, TORN]);
        match fault {
            Some(before @ (ERROR | THROTTLED)) => return Err(error(before)),
            Some(SLOW) => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => {}
        }
        let mut got = self.inner.get_opts(at, options).await?;
        if fault == Some(TORN) {
            let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
            let bytes = got.bytes().await?;
            let half = bytes.slice(..bytes.len() / 2);
            let torn = futures::stream::iter([Ok(half), Err(error(TORN))]).boxed();
            let payload = GetResultPayload::Stream(torn);
            got = GetResult { payload, meta, range, attributes, extensions: Default::default() };
        }
        Ok(got)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(fault) = self.fault("get", at, &[ERROR, THROTTLED]) {
            return Err(error(fault));
        }
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.and_then(move |at| {
            let store = store.clone();
            async move {
                let fault = store.fault("delete", &at, &[ERROR, THROTTLED, LOST]);
                if let Some(before @ (ERROR | THROTTLED)) = fault {
                    return Err(error(before));
                }
                let one = futures::stream::once(async { Ok(at) }).boxed();
                let done = store.inner.delete_stream(one).try_collect::<Vec<Path>>().await?;
                match (fault, done.into_iter().next()) {
                    (None, Some(at)) => Ok(at),
                    _ => Err(error(LOST)),
                }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fault("list", prefix.unwrap_or(&Path::default()), &[ERROR, THROTTLED, STALE, TORN]) {
            Some(STALE) => self.inner.list(prefix).skip(1).boxed(),
            Some(TORN) => self.inner.list(prefix).take(1).chain(futures::stream::iter([Err(error(TORN))])).boxed(),
            Some(fault) => futures::stream::iter([Err(error(fault))]).boxed(),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.fault("list", prefix.unwrap_or(&Path::default()), &[ERROR, THROTTLED, STALE]);
        let mut found = match fault {
            Some(before @ (ERROR | THROTTLED)) => return Err(error(before)),
            _ => self.inner.list_with_delimiter(prefix).await?,
        };
        if fault == Some(STALE) {
            found.objects.pop();
        }
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload whose parts and end may fail.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: Faulty,
    at: Path,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.store.fault("part", &self.at, &[ERROR, THROTTLED]) {
            Some(fault) => Box::pin(async move { Err(error(fault)) }),
            None => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.fault("complete", &self.at, &[ERROR, THROTTLED, LOST]);
        if let Some(before @ (ERROR | THROTTLED)) = fault {
            return Err(error(before));
        }
        let done = self.inner.complete().await?;
        match fault {
            Some(LOST) => Err(error(LOST)),
            _ => Ok(done),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
