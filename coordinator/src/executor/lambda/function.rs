//! What is deployed under a function's name, and how much of it may run at once.

use std::fmt;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{Region, StalledStreamProtectionConfig};
use aws_sdk_lambda::types::{Architecture, State};
use pipeline::plan::memory::Resources;
use pipeline::{Error, Result, wire};

use super::refusal;
use crate::credentials;

/// The variable that names the function.
pub const FUNCTION_VARIABLE: &str = "VOXMILL_FUNCTION";

/// Instances at once where AWS does not tell how many it would allow: what every account has that has asked once.
const UNKNOWN_LIMIT: usize = 100;

/// More connections than that one machine should not hold.
const MOST_AT_ONCE: usize = 1000;

/// A function that is there.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) client: Client,
    /// Its name or ARN, without a qualifier.
    pub name: String,
    /// The published version that is invoked, so that no task of a run meets another code; `$LATEST` where none is.
    pub version: String,
    /// SHA-256 of its code, as AWS has it.
    pub code_sha256: String,
    /// Memory of an instance, in MiB.
    pub memory_mib: u64,
    /// How long an invocation may take.
    pub timeout: Duration,
    /// x86_64 or arm64.
    pub architecture: String,
    /// Where it is.
    pub region: String,
    /// Instances that may run at once, as far as AWS tells.
    pub at_once: usize,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

impl Function {
    /// Finds out what is deployed as `name`, perhaps with a version or an alias after a colon.
    ///
    /// # Errors
    /// Invalid when there is no such function, or it may not be looked at; Unavailable when AWS does not answer or the
    /// function is just being made.
    pub async fn find(name: &str) -> Result<Self> {
        let config = credentials::aws().await;
        let region = config.region().cloned().unwrap_or(Region::from_static(credentials::REGION));
        let lambda = aws_sdk_lambda::config::Builder::from(&config)
            .region(region.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(Duration::from_secs(10)).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let client = Client::from_conf(lambda);
        let (bare, qualifier) = split(name);
        let found = client.get_function_configuration().function_name(bare).set_qualifier(qualifier.map(str::to_owned));
        let found = found.send().await.map_err(|e| refusal::not_found(name, region.as_ref(), e))?;
        if let Some(state @ (State::Pending | State::Failed)) = found.state() {
            let why = found.state_reason().unwrap_or("AWS does not say why");
            let hint = "wait until it is, or look at it in the console";
            return Err(
                Error::unavailable(format!("the function {name} is not ready ({}): {why}", state.as_str())).hint(hint)
            );
        }
        let version = found.version().unwrap_or("$LATEST").to_owned();
        let told = |name: &str| Error::unavailable(format!("AWS does not tell the {name} of the function"));
        let mut function = Self {
            client,
            name: bare.to_owned(),
            version,
            code_sha256: found.code_sha256().ok_or_else(|| told("code"))?.to_owned(),
            memory_mib: found.memory_size().and_then(|mib| u64::try_from(mib).ok()).ok_or_else(|| told("memory"))?,
            timeout: Duration::from_secs(
                found.timeout().and_then(|s| u64::try_from(s).ok()).ok_or_else(|| told("timeout"))?,
            ),
            architecture: found.architectures().first().unwrap_or(&Architecture::X8664).as_str().to_owned(),
            region: region.to_string(),
            at_once: UNKNOWN_LIMIT,
        };
        function.at_once = function.limit().await?;
        Ok(function)
    }

    /// What an instance computes with.
    pub fn resources(&self) -> Resources {
        wire::resources(self.memory_mib)
    }

    /// True when its code may change while a run uses it.
    pub fn is_latest(&self) -> bool {
        self.version == "$LATEST"
    }

    /// Instances that may run at once: what is reserved for it, else what the account has left.
    async fn limit(&self) -> Result<usize> {
        let reserved = self.client.get_function_concurrency().function_name(&self.name).send().await;
        match reserved {
            Ok(found) => {
                if let Some(reserved) = found.reserved_concurrent_executions() {
                    return match usize::try_from(reserved) {
                        Ok(reserved @ 1..) => Ok(reserved.min(MOST_AT_ONCE)),
                        _ => Err(Error::invalid(format!(
                            "the function {self} may not run: its reserved concurrency is {reserved}"
                        ))
                        .hint("raise ReservedConcurrency, or take it away")),
                    };
                }
            }
            Err(error) => tracing::info!(%error, "the function's reserved concurrency is not told"),
        }
        match self.client.get_account_settings().send().await {
            Ok(found) => {
                let left = found.account_limit().and_then(|limit| limit.unreserved_concurrent_executions());
                Ok(left
                    .and_then(|left| usize::try_from(left).ok())
                    .map_or(UNKNOWN_LIMIT, |left| left.clamp(1, MOST_AT_ONCE)))
            }
            Err(error) => {
                tracing::info!(%error, "the account's concurrency is not told");
                Ok(UNKNOWN_LIMIT)
            }
        }
    }
}

/// A function's name or ARN, and its qualifier.
fn split(name: &str) -> (&str, Option<&str>) {
    // arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER], or ACCOUNT:function:NAME[:QUALIFIER].
    let colons = match name.starts_with("arn:") {
        true => 7,
        false if name.contains(":function:") => 3,
        false => 1,
    };
    match name.match_indices(':').nth(colons - 1) {
        Some((at, _)) => (&name[..at], Some(&name[at + 1..]).filter(|qualifier| !qualifier.is_empty())),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_qualifiers_or_not() {
        for (name, bare, qualifier) in [
            ("voxmill", "voxmill", None),
            ("voxmill:7", "voxmill", Some("7")),
            ("voxmill:live", "voxmill", Some("live")),
            ("voxmill:", "voxmill", None),
            ("123:function:voxmill", "123:function:voxmill", None),
            ("123:function:voxmill:7", "123:function:voxmill", Some("7")),
            ("arn:aws:lambda:eu-west-1:123:function:voxmill", "arn:aws:lambda:eu-west-1:123:function:voxmill", None),
            (
                "arn:aws:lambda:eu-west-1:123:function:voxmill:7",
                "arn:aws:lambda:eu-west-1:123:function:voxmill",
                Some("7"),
            ),
        ] {
            assert_eq!(split(name), (bare, qualifier), "{name}");
        }
    }
}
