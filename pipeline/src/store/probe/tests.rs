#![allow(clippy::unwrap_used)]
//! Stores that lack one ability each: all are refused, and told so.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::store::Store;
use crate::{Kind, layout};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lack {
    Nothing,
    /// `If-None-Match` is overlooked: the second create replaces the first.
    Create,
    /// The second create says that it did nothing, and replaces the first.
    KeepingWhatIsThere,
    /// A create is a request the store doesn't know.
    KnowingCreates,
    /// A replaced object is read as it was before.
    Replace,
    /// Ranges are one byte late.
    Range,
    /// A range beyond the end gives the last bytes.
    Beyond,
    /// The last bytes are the first.
    Suffix,
    /// Listings are empty.
    List,
    /// Deleted objects stay.
    Delete,
}

#[derive(Debug)]
struct Lacking {
    inner: InMemory,
    lack: Lack,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lacking {:?}", self.lack)
    }
}

impl Lacking {
    fn changed(&self, range: GetRange, size: u64) -> GetRange {
        match (self.lack, range) {
            (Lack::Range, GetRange::Bounded(Range { start, end })) => GetRange::Bounded(start + 1..end + 1),
            (Lack::Beyond, GetRange::Bounded(Range { start, .. })) if start >= size => GetRange::Suffix(2),
            (Lack::Suffix, GetRange::Suffix(n)) => GetRange::Bounded(0..n),
            (_, range) => range,
        }
    }
}

#[async_trait]
impl ObjectStore for Lacking {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let created = opts.mode == PutMode::Create;
        let there = self.inner.get_opts(at, GetOptions::default()).await.is_ok();
        match self.lack {
            Lack::KnowingCreates if created => {
                return Err(object_store::Error::NotImplemented {
                    operation: "PutMode::Create".into(),
                    implementer: "it".into(),
                });
            }
            Lack::Create => opts.mode = PutMode::Overwrite,
            Lack::KeepingWhatIsThere if created && there => {
                self.inner.put_opts(at, bytes.clone(), PutOptions::default()).await?;
            }
            Lack::Replace if !created && there => {
                return self.inner.put_opts(at, bytes, PutMode::Create.into()).await.or(Ok(PutResult {
                    e_tag: None,
                    version: None,
                    extensions: Default::default(),
                }));
            }
            _ => {}
        }
        self.inner.put_opts(at, bytes, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, mut options: GetOptions) -> Result<GetResult> {
        if let Some(range) = options.range.take() {
            let size = self.inner.get_opts(at, GetOptions::default()).await?.meta.size;
            options.range = Some(self.changed(range, size));
        }
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.lack == Lack::Delete { at } else { self.inner.delete_stream(at) }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.lack == Lack::List { stream::empty().boxed() } else { self.inner.list(prefix) }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn lacking(lack: Lack) -> Store {
    Store::over(Arc::new(Lacking { inner: InMemory::new(), lack }), "memory://lab")
}

#[tokio::test]
async fn a_store_that_can_do_it_all_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Store::open(folder.path().to_str().unwrap()).unwrap();
    for store in [lacking(Lack::Nothing), disk] {
        // Left by one that was killed.
        store.put(layout::PROBE_OBJECT, "half a probe".into()).await.unwrap();
        let before = store.requests();
        store.probe().await.unwrap();
        store.probe().await.unwrap();
        let (after, left) = (store.requests(), store.list("").await.unwrap());
        assert!(left.is_empty(), "{left:?}");
        assert!(after.gets + after.puts + after.lists + after.deletes < 40 + before.puts, "{after:?}");
    }
    assert!(!folder.path().join(layout::PROBE).exists());
}

#[tokio::test]
async fn a_store_that_lacks_one_ability_is_refused() {
    for (lack, missing) in [
        (Lack::Create, "create an object only where there is none"),
        (Lack::KeepingWhatIsThere, "create an object only where there is none"),
        (Lack::KnowingCreates, "create an object only where there is none"),
        (Lack::Replace, "read what was written last"),
        (Lack::Range, "read a range of an object"),
        (Lack::Beyond, "say that a range lies beyond the end of an object"),
        (Lack::Suffix, "read the end of an object"),
        (Lack::List, "list what is there"),
        (Lack::Delete, "delete an object"),
    ] {
        let error = lacking(lack).probe().await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{lack:?}: {error}");
        let told = format!("memory://lab can't hold a run: the store there doesn't {missing}");
        assert!(error.message.starts_with(&told), "{lack:?}: {error}");
        assert!(error.hint.is_some());
    }
}
