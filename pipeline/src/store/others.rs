//! Google's and Azure's buckets, for who builds with them. Their settings are read from the environment as their library
//! does it; nothing of ours tests them against a server.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::{Error, Result};

/// A bucket of Google Cloud Storage, with application default credentials.
#[cfg(feature = "gcs")]
pub(super) fn google(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let client = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).build().map_err(unusable)?;
    Ok(Arc::new(client))
}

/// A container of Azure Blob Storage; the account is AZURE_STORAGE_ACCOUNT_NAME.
#[cfg(feature = "azure")]
pub(super) fn azure(container: &str) -> Result<Arc<dyn ObjectStore>> {
    use object_store::azure::MicrosoftAzureBuilder;
    let client = MicrosoftAzureBuilder::from_env().with_container_name(container).with_disable_tagging(true);
    Ok(Arc::new(client.build().map_err(unusable)?))
}

fn unusable(error: object_store::Error) -> Error {
    Error::invalid(format!("the bucket can't be opened: {error}"))
}
