//! Records: small JSON objects in the store. One place for how they are written and what is said of damaged ones.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::{Error, Result};

/// A record as the bytes of an object.
pub(crate) fn json(record: &impl Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::internal(format!("a record can't be written: {e}")))?;
    Ok(bytes.into())
}

/// The inverse of [`json`].
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(store: &Store, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| unusable(store, key, &e.to_string()))
}

/// Writes a record unless one is there already, and gives the one that stands. A store may have written ours and lost
/// the reply: the second request then finds it there.
pub(crate) async fn create<T: Serialize + for<'a> Deserialize<'a>>(store: &Store, key: &str, record: T) -> Result<T> {
    if store.put_new(key, json(&record)?).await? {
        return Ok(record);
    }
    let object = store.get(key).await?;
    let object = object.ok_or_else(|| Error::unavailable(format!("{} came and went", store.display(key))))?;
    parse(store, key, &object.bytes)
}

/// The error of a record that is not what its writer left.
pub(crate) fn unusable(store: &Store, key: &str, why: &str) -> Error {
    Error::data(format!("the record {} can't be used: {why}", store.display(key)))
        .hint("run again with --overwrite to compute everything anew")
}
