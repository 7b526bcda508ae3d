//! What Lambda says about a function and an account, in the names the API has for it.

use serde_json::{Value, json};

use crate::function::{Account, Function};
use crate::ids;

/// `GetFunctionConfiguration`. `qualifier` is how the function was asked for, `version` what that means.
pub(crate) fn configuration(function: &Function, qualifier: Option<&str>, version: &str) -> Value {
    let settings = &function.settings;
    let arn = match qualifier {
        Some(qualifier) if !qualifier.is_empty() => format!("{}:{qualifier}", function.arn()),
        _ => function.arn(),
    };
    let modified = ids::iso(settings.modified_ms);
    let variables: serde_json::Map<String, Value> =
        settings.environment.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let logging = match settings.format {
        crate::report::Format::Text => json!({ "LogFormat": "Text" }),
        crate::report::Format::Json => {
            json!({ "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO" })
        }
    };
    let mut value = json!({
        "FunctionName": settings.name,
        "FunctionArn": arn,
        "Runtime": "provided.al2023",
        "Role": format!("arn:aws:iam::{}:role/local", ids::ACCOUNT),
        "Handler": "bootstrap",
        "CodeSize": settings.code_bytes,
        "Description": "",
        "Timeout": settings.timeout.as_secs().max(1),
        "MemorySize": settings.memory_mb,
        // Without milliseconds' `Z`, as Lambda writes it.
        "LastModified": format!("{}+0000", modified.trim_end_matches('Z')),
        "CodeSha256": settings.code_sha256,
        "Version": version,
        "TracingConfig": { "Mode": "PassThrough" },
        "RevisionId": ids::uuid(),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }],
        "EphemeralStorage": { "Size": 512 },
        "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
        "LoggingConfig": logging,
    });
    value["LoggingConfig"]["LogGroup"] = json!(format!("/aws/lambda/{}", settings.name));
    if !variables.is_empty() {
        value["Environment"] = json!({ "Variables": variables });
    }
    value
}

/// `GetFunction`.
pub(crate) fn function(function: &Function, qualifier: Option<&str>, version: &str) -> Value {
    let mut value = json!({
        "Configuration": configuration(function, qualifier, version),
        "Code": { "RepositoryType": "S3", "Location": "https://example.invalid/code.zip" },
        "Tags": {},
    });
    if function.settings.reserved.is_some() {
        value["Concurrency"] = concurrency(function);
    }
    value
}

/// `GetFunctionConcurrency`: nothing at all where nothing is reserved.
pub(crate) fn concurrency(function: &Function) -> Value {
    match function.settings.reserved {
        Some(n) => json!({ "ReservedConcurrentExecutions": n }),
        None => json!({}),
    }
}

/// `GetAccountSettings`.
pub(crate) fn account<'a>(account: &Account, functions: impl Iterator<Item = &'a Function>) -> Value {
    let (mut reserved, mut count, mut bytes) = (0, 0, 0);
    for function in functions {
        reserved += function.settings.reserved.unwrap_or(0);
        count += 1;
        bytes += function.settings.code_bytes;
    }
    json!({
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800_u64,
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": account.limit,
            "UnreservedConcurrentExecutions": account.limit.saturating_sub(reserved),
        },
        "AccountUsage": { "TotalCodeSize": bytes, "FunctionCount": count },
    })
}
