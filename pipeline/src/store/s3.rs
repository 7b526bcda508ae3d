//! S3, and what speaks like it: how requests are signed, how long an answer is waited for, and what a refusal means.
//!
//! The backend tells of refusals in words only, and takes a missing bucket for a missing object. So every answer passes
//! [`Watched`] first, which turns a refusal that is no matter of one object into a [`Refusal`] with S3's own code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, RetryConfig};

use super::stores::{Credentials, S3Settings};
use crate::{Error, Result};

/// Requests that failed for a while are sent again so often, some ten seconds in all; beyond that it is the task that is
/// tried again.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
    max_retries: 7,
    retry_timeout: Duration::from_secs(60),
};

/// Nobody there answers faster than light, and nobody alive slower.
const CONNECT: Duration = Duration::from_secs(5);

/// An answer is waited for so long, and for longer when much was sent: at least so many bytes a second go through.
const ANSWER: Duration = Duration::from_secs(30);
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;

/// No refusal is longer.
const REFUSAL_BYTES_MOST: usize = 64 << 10;

/// How long a request may take that moves so many bytes.
pub(super) fn patience(bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// A client of one bucket.
pub(super) fn open(bucket: &str, settings: &S3Settings) -> Result<Arc<dyn ObjectStore>> {
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT)
        // The limits are ours: they grow with what is moved.
        .with_timeout_disabled()
        .with_user_agent(USER_AGENT);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_retry(RETRY)
        .with_disable_tagging(!settings.tag_scratch)
        .with_http_connector(Connector)
        .with_client_options(options);
    builder = match &settings.endpoint {
        Some(endpoint) => {
            builder.with_endpoint(endpoint.trim_end_matches('/')).with_allow_http(endpoint.starts_with("http://"))
        }
        // A name with dots has no certificate.
        None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
    };
    builder = match &settings.credentials {
        Some(credentials) => builder.with_credentials(Arc::new(Signing(credentials.clone()))),
        None => builder.with_skip_signature(true),
    };
    Ok(Arc::new(builder.build().map_err(|e| Error::invalid(format!("the bucket can't be opened: {e}")))?))
}

const USER_AGENT: object_store::HeaderValue =
    object_store::HeaderValue::from_static(concat!("voxmill/", env!("CARGO_PKG_VERSION")));

/// Our credentials as the backend takes them.
#[derive(Debug)]
struct Signing(Credentials);

#[async_trait]
impl CredentialProvider for Signing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let key = self.0.get().await.map_err(|e| object_store::Error::Generic { store: "S3", source: e.into() })?;
        Ok(Arc::new(AwsCredential { key_id: key.id, secret_key: key.secret, token: key.session_token }))
    }
}

/// Connects as usual, and watches.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watched(ReqwestConnector::default().connect(options)?)))
    }
}

/// A client whose answers are looked at.
#[derive(Debug)]
struct Watched(HttpClient);

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = patience(request.body().content_length() as u64);
        let is_conditional = request.headers().contains_key("if-none-match");
        let answer = tokio::time::timeout(limit, self.0.execute(request));
        let answer = answer.await.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))??;
        let status = answer.status();
        if status.is_success() || status.is_informational() || status.as_u16() == 304 {
            return Ok(answer);
        }
        // Another create of the same object was under way, and S3 asks to try again; the backend would say that the
        // object is there.
        if status.as_u16() == 409 && is_conditional {
            return Err(HttpError::new(HttpErrorKind::Request, Refusal::new("ConditionalRequestConflict", 409)));
        }
        let (parts, body) = answer.into_parts();
        let text = tokio::time::timeout(ANSWER, body.bytes());
        let text = text.await.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))??;
        let region = parts.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
        match Refusal::of(status.as_u16(), &text, region) {
            Some(refusal) if refusal.is_final() => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
            _ => Ok(HttpResponse::from_parts(parts, text.into())),
        }
    }
}

/// What S3 answered instead of doing what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("S3 says {code} ({status}) {message}")]
pub(super) struct Refusal {
    code: String,
    status: u16,
    message: String,
    /// Where the bucket is, if that is told.
    region: Option<String>,
}

impl Refusal {
    fn new(code: &str, status: u16) -> Self {
        Self { code: code.to_owned(), status, message: String::new(), region: None }
    }

    /// Reads the document of a refusal.
    fn of(status: u16, body: &Bytes, region: Option<&str>) -> Option<Self> {
        let text = std::str::from_utf8(body.get(..REFUSAL_BYTES_MOST).unwrap_or(body)).unwrap_or_default();
        let field = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
        };
        let code = match field("Code") {
            Some(code) => code,
            None if status == 301 || status == 307 => "PermanentRedirect".to_owned(),
            None => return None,
        };
        let region = region.map(str::to_owned).or_else(|| field("Region"));
        Some(Self { code, status, message: field("Message").unwrap_or_default(), region })
    }

    /// True when nothing about one object is said, and asking again would not help.
    fn is_final(&self) -> bool {
        self.meaning("", "").is_some()
    }

    /// The error that this refusal to `verb` the object `name` is for the user.
    pub(super) fn meaning(&self, verb: &str, name: &str) -> Option<Error> {
        let bucket = name.split('/').take(3).collect::<Vec<_>>().join("/");
        let why = |why: &str| Error::invalid(format!("can't {verb} {name}: {why}"));
        Some(match self.code.as_str() {
            "NoSuchBucket" => Error::invalid(format!("can't {verb} {name}: there is no bucket {bucket}"))
                .hint("check its name, and that AWS_ENDPOINT_URL_S3, where it is set, names the server it is on"),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                match &self.region {
                    Some(region) => why(&format!("the bucket {bucket} is in the region {region}"))
                        .hint(format!("set AWS_REGION={region}")),
                    None => why(&format!("the bucket {bucket} is in another region")).hint("set AWS_REGION to it"),
                }
            }
            "InvalidAccessKeyId" => why("S3 doesn't know the access key")
                .hint("check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            "SignatureDoesNotMatch" => {
                why("the secret access key is not the one of the access key").hint("check AWS_SECRET_ACCESS_KEY")
            }
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => why("the credentials have expired").hint(
                "log in again (as with `aws sso login`) and run the same command again: a run goes on where it stopped",
            ),
            "RequestTimeTooSkewed" => why("the clock of this machine is wrong").hint("set it, and try again"),
            "InvalidObjectState" => why("the object is in an archive (Glacier)")
                .hint("restore it first, or copy it to another storage class"),
            "AccountProblem" | "AllAccessDisabled" | "NotSignedUp" => why(&self.message),
            code if code.starts_with("KMS.") => why(&format!("its encryption key can't be used ({code})")),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
