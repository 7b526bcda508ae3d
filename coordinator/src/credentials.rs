//! Who asks AWS, and where: settings and credentials as every AWS tool finds them (environment, profiles, single sign-on,
//! web identity, roles, the machine's own), by the SDK's own chain. The only place beside the Lambda executor that names
//! the SDK. Nothing is looked for until the first bucket or function is used.

mod http;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use pipeline::store::{AccessKey, Credentials, S3Settings, Stores};
use pipeline::{Error, Result};

/// The region of buckets and functions where nobody names one: AWS's own first.
pub(crate) const REGION: &str = "us-east-1";

/// Stores that find AWS's settings when the first bucket is opened.
pub(crate) fn stores() -> Stores {
    Stores::new(s3)
}

/// What the SDK's chain finds.
pub(crate) async fn aws() -> SdkConfig {
    let connect = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::Http::default())
        .timeout_config(connect)
        .retry_config(RetryConfig::standard())
        .load()
        .await
}

async fn s3() -> Result<S3Settings> {
    let config = aws().await;
    let region = config.region().map_or(REGION, |region| region.as_ref()).to_owned();
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // The SDK keeps the endpoints of single services to itself.
    let endpoint = named("AWS_ENDPOINT_URL_S3").or_else(|| config.endpoint_url().map(str::to_owned));
    let anonymous = ["AWS_SKIP_SIGNATURE", "AWS_NO_SIGN_REQUEST"]
        .into_iter()
        .filter_map(named)
        .any(|value| ["1", "true", "yes"].contains(&value.to_ascii_lowercase().as_str()));
    let credentials = match (anonymous, config.credentials_provider()) {
        (true, _) => None,
        (false, Some(provider)) => Some(provided_by(provider)),
        (false, None) => return Err(none_found("no provider")),
    };
    Ok(S3Settings { region, endpoint, credentials, tag_scratch: false })
}

fn provided_by(provider: SharedCredentialsProvider) -> Credentials {
    let provider = std::sync::Arc::new(Cached { provider, last: tokio::sync::Mutex::new(None) });
    Credentials::new(move || {
        let provider = std::sync::Arc::clone(&provider);
        async move { provider.get().await }
    })
}

/// The chain is asked when what it said last is about to expire, not at each request.
struct Cached {
    provider: SharedCredentialsProvider,
    last: tokio::sync::Mutex<Option<aws_credential_types::Credentials>>,
}

impl Cached {
    /// Credentials are renewed so long before they expire: a request may take a while.
    const AHEAD: Duration = Duration::from_secs(300);

    async fn get(&self) -> Result<AccessKey> {
        let mut last = self.last.lock().await;
        let soon = std::time::SystemTime::now() + Self::AHEAD;
        let found = match last.as_ref() {
            Some(known) if known.expiry().is_none_or(|expiry| expiry > soon) => known.clone(),
            _ => self.provider.provide_credentials().await.map_err(|e| unusable(&e))?,
        };
        let key = AccessKey {
            id: found.access_key_id().to_owned(),
            secret: found.secret_access_key().to_owned(),
            session_token: found.session_token().map(str::to_owned),
        };
        *last = Some(found);
        Ok(key)
    }
}

/// What is said of credentials that can't be had.
pub(crate) fn unusable(error: &CredentialsError) -> Error {
    let said = aws_smithy_types::error::display::DisplayErrorContext(error).to_string();
    match error {
        CredentialsError::CredentialsNotLoaded(_) => none_found(&said),
        // The machine's own are what is asked for last; most machines have none.
        _ if said.contains("IMDS") => none_found(&said),
        CredentialsError::ProviderTimedOut(_) => Error::unavailable("whoever knows the AWS credentials doesn't answer")
            .hint("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        _ => Error::invalid(format!("the AWS credentials can't be used: {}", in_short(&said)))
            .hint("if they have expired, log in again (as with `aws sso login`) and run the same command again"),
    }
}

fn none_found(said: &str) -> Error {
    tracing::info!(said, "no credentials");
    Error::invalid("there are no AWS credentials").hint(
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (`aws sso login`); \
         AWS_NO_SIGN_REQUEST=true reads what is public",
    )
}

fn in_short(said: &str) -> String {
    const CHARS: usize = 200;
    let line = said.lines().next().unwrap_or_default();
    line.chars().take(CHARS).collect()
}
