//! What it means when an invocation does not give an answer: who is to do what about it.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::types::ThrottleReason;
use pipeline::{Error, cause, wire};
use serde::Deserialize;

use super::Function;
use super::report::Report;
use crate::credentials;

/// The error of an invocation that Lambda refused, or of which nothing came back.
pub(super) fn refused<R: std::fmt::Debug + Send + Sync + 'static>(
    function: &Function,
    error: SdkError<InvokeError, R>,
) -> Error {
    if let SdkError::ServiceError(service) = &error
        && let InvokeError::TooManyRequestsException(throttle) = service.err()
    {
        let why = throttle.reason().map_or("no reason given", ThrottleReason::as_str);
        let message = format!("Lambda runs no more of {function} now ({why})");
        return match throttle.reason() {
            // Not how many run is too much, but how many begin at once.
            Some(
                ThrottleReason::CallerRateLimitExceeded
                | ThrottleReason::FunctionInvocationRateLimitExceeded
                | ThrottleReason::ReservedFunctionInvocationRateLimitExceeded,
            ) => Error::too_fast(message),
            _ => Error::throttled(message),
        };
    }
    by_code(&format!("the function {function} can't be called"), "lambda:InvokeFunction", &error)
}

/// The error of a function that can't be looked up.
pub(super) fn not_found<E, R>(name: &str, region: &str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if error.code() == Some("ResourceNotFoundException") {
        return Error::invalid(format!("there is no function {name} in the region {region}")).hint(
            "deploy it (infra/README.md), or name another with --function or VOXMILL_FUNCTION; AWS_REGION says where",
        );
    }
    by_code(&format!("the function {name} can't be looked up"), "lambda:GetFunctionConfiguration", &error)
}

/// What the code says that comes with a refusal, or that none came.
fn by_code<E, R>(what: &str, permission: &str, error: &SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if let Some(credentials) = cause::<CredentialsError>(error) {
        return credentials::unusable(credentials);
    }
    let said = error.message().unwrap_or("no reason given");
    match error.code() {
        Some("ResourceNotFoundException") => Error::invalid(format!("{what}: it is gone"))
            .hint("deploy it again, or name another with --function or VOXMILL_FUNCTION"),
        Some("AccessDeniedException" | "AccessDenied") => Error::invalid(format!("{what}: no permission"))
            .hint(format!("allow {permission} on it to whoever runs voxmill")),
        Some("UnrecognizedClientException" | "InvalidClientTokenId") => {
            Error::invalid(format!("{what}: AWS does not know the credentials"))
                .hint("check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        }
        Some("InvalidSignatureException" | "SignatureDoesNotMatch") => {
            Error::invalid(format!("{what}: AWS does not take the signature ({said})"))
                .hint("check AWS_SECRET_ACCESS_KEY, AWS_REGION, and the clock of this machine")
        }
        Some("ExpiredTokenException" | "ExpiredToken") => Error::invalid(format!(
            "{what}: the credentials have expired"
        ))
        .hint("log in again (as with `aws sso login`) and run the same command again: a run goes on where it stopped"),
        Some("RequestTooLargeException" | "RequestEntityTooLargeException" | "InvalidRequestContentException") => {
            Error::internal(format!("{what}: {said}"))
        }
        Some("TooManyRequestsException" | "ThrottlingException") => Error::too_fast(format!("{what}: {said}")),
        Some(
            code @ ("InvalidRuntimeException"
            | "InvalidZipFileException"
            | "KMSAccessDeniedException"
            | "KMSDisabledException"
            | "KMSNotFoundException"
            | "InvalidParameterValueException"
            | "ValidationException"),
        ) => Error::invalid(format!("{what}: {said} ({code})")).hint("deploy it again (infra/README.md)"),
        Some(code) => Error::unavailable(format!("{what}: {said} ({code})")),
        None => Error::unavailable(format!("{what}, and no answer came: {}", in_short(error)))
            .hint("if this goes on: check AWS_REGION, and AWS_ENDPOINT_URL_LAMBDA where it is set"),
    }
}

/// The error of a function that was called and did not do it. `payload` is what it, or what ran it, said.
pub(super) fn failed(function: &Function, payload: &[u8], report: Option<&Report>) -> Error {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Said {
        error_type: String,
        error_message: String,
    }
    let Said { error_type, error_message } = serde_json::from_slice(payload).unwrap_or_default();
    if let Some(error) = wire::error_of(&error_type, &error_message) {
        return error;
    }
    let full = report.is_some_and(Report::memory_was_full);
    let killed = error_message.contains("signal: killed");
    if error_type == "Runtime.OutOfMemory" || killed && full {
        let mib = function.memory_mib;
        return Error::invalid(format!("the function {function} ran out of its {mib} MiB of memory"))
            .hint("give it more (MemorySize), or a smaller --block");
    }
    if error_type == "Sandbox.Timedout" || error_message.contains("Task timed out") {
        let seconds = function.timeout.as_secs();
        return Error::unavailable(format!("the function {function} was stopped after its {seconds} s"))
            .hint("give it more time (Timeout), or a smaller --block");
    }
    if matches!(error_type.as_str(), "Runtime.InvalidEntrypoint" | "Runtime.InvalidWorkingDir" | "Runtime.Unknown") {
        return Error::invalid(format!("the function {function} can't start: {error_message}"))
            .hint("deploy what infra/build makes, for the architecture it was built for");
    }
    match error_type.is_empty() {
        true => Error::unavailable(format!("the function {function} died without a word")),
        false => Error::unavailable(format!("the function {function} died: {error_message} ({error_type})")),
    }
}

/// What is at the bottom of it.
fn in_short(error: &(dyn std::error::Error + 'static)) -> String {
    const CHARS: usize = 200;
    let mut bottom = error;
    while let Some(inner) = bottom.source() {
        bottom = inner;
    }
    bottom.to_string().lines().next().unwrap_or_default().chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_lambda::config::{BehaviorVersion, Region};
    use aws_sdk_lambda::error::ErrorMetadata;
    use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationError;
    use aws_sdk_lambda::types::error::TooManyRequestsException;
    use pipeline::{Kind, Throttled};
    use serde_json::json;

    use super::*;

    fn function() -> Function {
        let config = aws_sdk_lambda::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .build();
        Function {
            client: aws_sdk_lambda::Client::from_conf(config),
            name: "voxmill".into(),
            version: "7".into(),
            code_sha256: "x".into(),
            memory_mib: 2048,
            timeout: Duration::from_secs(900),
            architecture: "arm64".into(),
            region: "eu-west-1".into(),
            at_once: 10,
        }
    }

    #[test]
    fn a_crash_is_not_full_memory_nor_a_timeout() {
        let report = |peak_mib| Report { memory_mib: 2048, peak_mib, ..Report::default() };
        let said = |error_type: &str, message: &str, report: Option<&Report>| {
            let payload = json!({ "errorType": error_type, "errorMessage": message }).to_string();
            failed(&function(), payload.as_bytes(), report)
        };
        let killed = "RequestId: 8f5 Error: Runtime exited with error: signal: killed";
        let full = said("Runtime.ExitError", killed, Some(&report(2048)));
        assert_eq!(full.kind, Kind::Invalid);
        assert_eq!(full.message, "the function voxmill:7 ran out of its 2048 MiB of memory");
        // Somebody else killed it, or nobody knows.
        for report in [Some(&report(300)), None] {
            assert_eq!(said("Runtime.ExitError", killed, report).kind, Kind::Unavailable);
        }
        assert_eq!(said("Runtime.OutOfMemory", "", None).kind, Kind::Invalid);
        let late = said("Sandbox.Timedout", "2026-11-23T10:00:00.000Z 8f5 Task timed out after 900.00 seconds", None);
        assert_eq!((late.kind, late.hint.is_some()), (Kind::Unavailable, true));
        assert_eq!(said("Runtime.InvalidEntrypoint", "no such file", None).kind, Kind::Invalid);
        for payload in [&b""[..], b"{}", b"not json", b"[1]"] {
            assert_eq!(failed(&function(), payload, None).kind, Kind::Unavailable);
        }
        let ours = serde_json::to_string(&Error::data("a chunk is damaged").hint("look at it")).unwrap_or_default();
        assert_eq!(said("voxmill.Data", &ours, None), Error::data("a chunk is damaged").hint("look at it"));
    }

    #[test]
    fn a_throttle_says_of_what_there_was_too_much() {
        let refused = |reason: Option<ThrottleReason>| {
            let throttle = TooManyRequestsException::builder().set_reason(reason).build();
            refused(&function(), SdkError::service_error(InvokeError::TooManyRequestsException(throttle), ()))
        };
        for (reason, throttled) in [
            (Some(ThrottleReason::ConcurrentInvocationLimitExceeded), Throttled::AtOnce),
            (Some(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded), Throttled::AtOnce),
            (None, Throttled::AtOnce),
            (Some(ThrottleReason::CallerRateLimitExceeded), Throttled::TooFast),
            (Some(ThrottleReason::FunctionInvocationRateLimitExceeded), Throttled::TooFast),
        ] {
            let error = refused(reason);
            assert_eq!((error.kind, error.throttled), (Kind::Unavailable, Some(throttled)));
        }
    }

    #[test]
    fn codes_say_who_is_to_do_something() {
        let refused = |code: &str| {
            let error = InvokeError::generic(ErrorMetadata::builder().code(code).message("no").build());
            refused(&function(), SdkError::service_error(error, ()))
        };
        for (code, kind) in [
            ("AccessDeniedException", Kind::Invalid),
            ("ExpiredTokenException", Kind::Invalid),
            ("UnrecognizedClientException", Kind::Invalid),
            ("ResourceNotFoundException", Kind::Invalid),
            ("KMSDisabledException", Kind::Invalid),
            ("RequestTooLargeException", Kind::Internal),
            ("ServiceException", Kind::Unavailable),
            ("ResourceConflictException", Kind::Unavailable),
            ("SomethingNew", Kind::Unavailable),
        ] {
            assert_eq!(refused(code).kind, kind, "{code}");
        }
        let missing = ErrorMetadata::builder().code("ResourceNotFoundException").build();
        let missing = SdkError::service_error(GetFunctionConfigurationError::generic(missing), ());
        let error = not_found("voxmill:7", "eu-west-1", missing);
        assert_eq!(error.message, "there is no function voxmill:7 in the region eu-west-1");
    }
}
