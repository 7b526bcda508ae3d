//! Records: small JSON objects in the store. One place for how they are written and what is said of damaged ones.
//!
//! A record ends with a checksum of all that comes before it, as its last key: a flipped bit in a number would else be
//! taken for another number, and what a receipt says is never computed again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::{Error, Result};

/// A record as the bytes of an object.
pub(crate) fn json(record: &impl Serialize) -> Result<Bytes> {
    let mut bytes =
        serde_json::to_vec(record).map_err(|e| Error::internal(format!("a record can't be written: {e}")))?;
    if bytes.pop() != Some(b'}') || bytes.len() < 2 {
        return Err(Error::internal("a record can't be written: it has no keys"));
    }
    let seal = seal(&bytes);
    bytes.extend_from_slice(seal.as_bytes());
    Ok(bytes.into())
}

/// How a record ends that begins with `head`.
fn seal(head: &[u8]) -> String {
    format!(",\"crc32c\":{}}}", crc32c::crc32c(head))
}

/// The inverse of [`json`].
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(store: &Store, key: &str, bytes: &[u8]) -> Result<T> {
    let head = bytes.iter().rposition(|byte| *byte == b',').unwrap_or(0);
    let (head, end) = bytes.split_at(head);
    if end != seal(head).as_bytes() {
        return Err(unusable(store, key, "it fails its checksum"));
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Kind;
    use crate::state::State;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let store = Store::open("/nowhere").unwrap();
        let state = State { units: 12, missing_chunks: 3, ..State::default() };
        let whole = json(&state).unwrap();
        assert_eq!(parse::<State>(&store, "state", &whole).unwrap(), state);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                assert_eq!(parse::<State>(&store, "state", &flipped).unwrap_err().kind, Kind::Data, "{at} {bit}");
            }
            assert_eq!(parse::<State>(&store, "state", &whole[..at]).unwrap_err().kind, Kind::Data, "cut at {at}");
        }
    }
}
