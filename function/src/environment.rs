//! What AWS and the template tell a function by its environment.

use pipeline::plan::memory::Resources;
use pipeline::store::{AccessKey, Credentials, S3Settings, Stores};
use pipeline::{Error, Result, wire};

use crate::allowed::Allowed;

/// What a function knows when it starts.
pub(crate) struct Environment {
    /// Opens what calls name.
    pub(crate) stores: Stores,
    /// What it may touch.
    pub(crate) allowed: Allowed,
    /// What it computes with.
    pub(crate) resources: Resources,
}

impl Environment {
    /// Reads it; `variable` gives the value of one.
    ///
    /// # Errors
    /// Invalid, with the variable's name, when one is missing or makes no sense.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let named = |name: &str| variable(name).filter(|value| !value.is_empty());
        let list = |name: &str| -> Vec<String> {
            let text = named(name).unwrap_or_default();
            text.split([',', ' ', '\n']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let allowed = Allowed::new(&list("VOXMILL_INPUTS"), &list("VOXMILL_OUTPUTS"), &list("VOXMILL_ALLOW"))?;
        let memory = named("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
        let memory = memory
            .as_deref()
            .map_or(Some(1024), |text| text.parse().ok())
            .ok_or_else(|| Error::invalid("the function's AWS_LAMBDA_FUNCTION_MEMORY_SIZE is no number of MiB"))?;
        let mut resources = wire::resources(memory);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        resources.threads = resources.threads.min(cores);
        let settings = Self::s3(named);
        let stores = Stores::new(move || std::future::ready(settings.clone()));
        Ok(Self { stores, allowed, resources })
    }

    fn s3(named: impl Fn(&str) -> Option<String>) -> Result<S3Settings> {
        let needed = |name: &str| {
            named(name)
                .ok_or_else(|| Error::invalid(format!("the function's environment has no {name}, which AWS sets")))
        };
        let region = named("AWS_REGION").map_or_else(|| needed("AWS_DEFAULT_REGION"), Ok)?;
        let endpoint = named("AWS_ENDPOINT_URL_S3").or_else(|| named("AWS_ENDPOINT_URL"));
        let key = AccessKey {
            id: needed("AWS_ACCESS_KEY_ID")?,
            secret: needed("AWS_SECRET_ACCESS_KEY")?,
            session_token: named("AWS_SESSION_TOKEN"),
        };
        let tag_scratch = named("VOXMILL_TAG_SCRATCH").is_some();
        Ok(S3Settings { region, endpoint, credentials: Some(Credentials::fixed(key)), tag_scratch })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment> {
        let variables: Vec<(String, String)> = variables.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Environment::read(move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let full = [
            ("VOXMILL_INPUTS", "s3://lab/scans"),
            ("VOXMILL_OUTPUTS", "s3://lab/out, s3://lab/out2"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3538"),
        ];
        let environment = read(&full).unwrap();
        assert_eq!(environment.resources.memory_bytes, (3538 << 20) / 8 * 7);
        assert!(environment.stores.open("s3://lab/scans/a").await.is_ok());
        let without = read(&full[..4]).unwrap();
        let error = without.stores.open("s3://lab/scans/a").await.unwrap_err();
        assert!(error.message.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        assert!(read(&full[..1]).err().unwrap().message.contains("VOXMILL_OUTPUTS"));
        assert!(read(&[full[0], full[1], ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "much")]).is_err());
    }
}
