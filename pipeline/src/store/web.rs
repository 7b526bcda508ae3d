//! What a web server needs and no disk or bucket has: it is read only, it lists nothing, and it may not know ranges.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, RetryConfig};

use crate::{Error, Result};

/// A request that failed is sent again so many times, after a tenth of a second, two tenths, four.
const RETRIES: usize = 4;

/// Nothing comes for so long: the server is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// The server's root, the path below it, and how messages name that. Nothing is asked of the server yet.
///
/// # Errors
/// Invalid for a URL without a host, with a user or password, with a query or a fragment, or with empty names.
pub(super) fn open(url: &str) -> Result<(Arc<dyn ObjectStore>, Path, String)> {
    let refused = |why: &str| Error::invalid(format!("{} can't be opened: {why}", without_secrets(url)));
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err(refused("a user and a password in a URL would be kept with the answers")
            .hint("leave them out; voxmill reads what everyone may read"));
    }
    if rest.contains('?') || rest.contains('#') {
        return Err(refused("an array has many objects below its URL, so there is no place for ? or #")
            .hint("percent-encode them if they belong to a name: %3F, %23"));
    }
    if host.is_empty() {
        return Err(refused("it names no host"));
    }
    let path = path.trim_end_matches('/');
    if path.split('/').any(|part| part.is_empty()) && !path.is_empty() {
        return Err(refused("it has an empty name between two slashes"));
    }
    let prefix = Path::from_url_path(path).map_err(|e| refused(&e.to_string()))?;
    let options = ClientOptions::new()
        .with_allow_http(scheme == "http")
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(SILENCE)
        // A large chunk over a slow line may take long, as long as something comes.
        .with_timeout_disabled();
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
    let server = HttpBuilder::new()
        .with_url(format!("{scheme}://{host}"))
        .with_client_options(options)
        .with_retry(retry)
        .build()
        .map_err(|e| refused(&e.to_string()))?;
    let shown = if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") };
    Ok((Arc::new(server), prefix, shown))
}

/// A URL as messages may show it.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match (url.split_once("://"), url.find('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://...{}", &url[at..]),
        _ => url.to_owned(),
    }
}

/// True when a server said that it won't be read this way, which the backend takes for a missing object.
pub(super) fn is_refusal(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { source, .. } => source.to_string().contains("405 Method Not Allowed"),
        _ => false,
    }
}

/// True when the answer was the whole object where a range was asked for.
pub(super) fn is_whole_for_range(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotSupported { .. })
}

/// Reads a range of an object from a server that sends objects from their first byte only: all before the range comes
/// too, and is dropped as it comes.
pub(super) async fn cut_from_whole(
    server: &dyn ObjectStore,
    at: &Path,
    range: &GetRange,
) -> object_store::Result<(ObjectMeta, Bytes)> {
    let got = server.get_opts(at, GetOptions::default()).await?;
    let meta = got.meta.clone();
    let wanted = match range {
        GetRange::Bounded(range) => range.start.min(meta.size)..range.end.min(meta.size),
        GetRange::Offset(start) => (*start).min(meta.size)..meta.size,
        GetRange::Suffix(n) => meta.size.saturating_sub(*n)..meta.size,
    };
    Ok((meta, collect(got, wanted).await?))
}

/// The bytes of a body that lie in `range`. What is set aside follows what comes, not what the server promised.
pub(super) async fn collect(got: GetResult, range: Range<u64>) -> object_store::Result<Bytes> {
    let mut body = got.into_stream();
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while seen < range.end
        && let Some(part) = body.try_next().await?
    {
        let clip = |byte: u64| byte.saturating_sub(seen).min(part.len() as u64) as usize;
        kept.extend_from_slice(&part[clip(range.start)..clip(range.end)]);
        seen += part.len() as u64;
    }
    Ok(kept.freeze())
}

#[cfg(test)]
mod tests;
