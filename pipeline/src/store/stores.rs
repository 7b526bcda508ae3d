//! Which store a URL names: a disk, a web server, a bucket. What a bucket needs beyond its name (credentials, region,
//! endpoint) is found out by whoever runs us, and only when the first bucket is opened.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::OnceCell;

use super::{Place, Store, s3};
use crate::{Error, Result};

/// Opens stores by URL. Clones share what they have found out, and the connections to each bucket.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    find: Box<dyn Fn() -> BoxFuture<'static, Result<S3Settings>> + Send + Sync>,
    found: OnceCell<S3Settings>,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// What it takes to speak to S3, or to what speaks like it.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// Region of the buckets.
    pub region: String,
    /// Base URL of another server than AWS's; none for AWS.
    pub endpoint: Option<String>,
    /// Who asks; none reads what everyone may read.
    pub credentials: Option<Credentials>,
    /// Whether scratch is tagged, so that a rule of the bucket can delete what no run deleted. It takes a permission of its
    /// own, so it is only done where the template of `infra/` has given it.
    pub tag_scratch: bool,
}

/// Gives the credentials of a request, which may change with time: asked before each is signed.
#[derive(Clone)]
pub struct Credentials(Arc<dyn Fn() -> BoxFuture<'static, Result<AccessKey>> + Send + Sync>);

/// What a request to S3 is signed with.
#[derive(Clone)]
pub struct AccessKey {
    /// The key's id.
    pub id: String,
    /// The key.
    pub secret: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

impl Credentials {
    /// Credentials that `ask` gives.
    pub fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<AccessKey>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// Credentials that never change.
    pub fn fixed(key: AccessKey) -> Self {
        Self::new(move || std::future::ready(Ok(key.clone())))
    }

    /// What the next request is signed with.
    ///
    /// # Errors
    /// Invalid when there are none, or they are valid no longer; Unavailable when whoever knows them doesn't answer.
    pub async fn get(&self) -> Result<AccessKey> {
        (self.0)().await
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({})", self.id)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stores({:?})", self.0.found.get())
    }
}

/// Disks and web servers only.
impl Default for Stores {
    fn default() -> Self {
        Self::new(|| std::future::ready(Err(Error::invalid("no buckets can be opened here"))))
    }
}

impl Stores {
    /// Stores that ask `find` once, when the first bucket of S3 is opened.
    pub fn new<F>(find: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S3Settings>> + Send + 'static,
    {
        let find = Box::new(move || -> BoxFuture<'static, _> { Box::pin(find()) });
        Self(Arc::new(Inner { find, found: OnceCell::new(), buckets: Mutex::default() }))
    }

    /// Opens the root `url`: what [`Store::open`] opens, or `s3://` and a bucket, perhaps with a prefix. Nothing is asked
    /// of a bucket yet.
    ///
    /// # Errors
    /// Those of [`Store::open`]; Invalid for a bucket that can't be one; and what finding out its settings failed with.
    pub async fn open(&self, url: &str) -> Result<Store> {
        let Some((scheme, rest)) = url.split_once("://") else { return Store::open(url) };
        let scheme = scheme.to_ascii_lowercase();
        let built = |name: &str, feature: bool| feature && scheme == name;
        let is_bucket = built("s3", true) || built("gs", cfg!(feature = "gcs")) || built("az", cfg!(feature = "azure"));
        if !is_bucket {
            return Store::open(url);
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let refused = |why: &str| Error::invalid(format!("{url} can't be opened: {why}"));
        if bucket.is_empty() || bucket.contains(['@', '?', '#', ':']) {
            return Err(refused(&format!("a URL is {scheme}://, the name of a bucket, and perhaps a path")));
        }
        // As many tools write them: a slash at the end or two in a row mean nothing.
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| [".", ".."].contains(part)) {
            return Err(refused("`.` and `..` are no names of a path in a bucket"));
        }
        let prefix = Path::parse(parts.join("/")).map_err(|e| refused(&e.to_string()))?;
        let name = format!("{scheme}://{bucket}");
        let known = self.buckets().get(&name).cloned();
        let backend = match known {
            Some(backend) => backend,
            None => {
                let backend = self.connect(&scheme, bucket).await.map_err(|e| e.at(&name))?;
                Arc::clone(self.buckets().entry(name.clone()).or_insert(backend))
            }
        };
        let url = if prefix.is_root() { name } else { format!("{name}/{prefix}") };
        Ok(Store::at(backend, prefix, &url, Place::Bucket))
    }

    /// A client of a bucket.
    async fn connect(&self, scheme: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
        match scheme {
            #[cfg(feature = "gcs")]
            "gs" => super::others::google(bucket),
            #[cfg(feature = "azure")]
            "az" => super::others::azure(bucket),
            _ => s3::open(bucket, self.0.found.get_or_try_init(|| (self.0.find)()).await?),
        }
    }

    fn buckets(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        // Whoever panicked left a map that is whole.
        self.0.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
