//! The errors of the Lambda API itself: a status, a type in a header, a body of JSON.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::ids;

/// A request that comes to no invocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The name of the error, as in `x-amzn-ErrorType`.
    pub(crate) kind: &'static str,
    pub(crate) body: Value,
}

impl Refusal {
    fn new(status: u16, kind: &'static str, body: Value) -> Self {
        Self { status, kind, body }
    }

    /// 404, for a function, version or alias that is not there.
    pub(crate) fn not_found(arn: &str) -> Self {
        let message = format!("Function not found: {arn}");
        Self::new(404, "ResourceNotFoundException", json!({ "Type": "User", "Message": message }))
    }

    /// 429, with the reason a caller may go by.
    pub(crate) fn throttled(reason: &str) -> Self {
        let body = json!({ "Reason": reason, "Type": "User", "message": "Rate Exceeded." });
        Self::new(429, "TooManyRequestsException", body)
    }

    /// 413, for a payload over the limit.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
        Self::new(413, "RequestEntityTooLargeException", json!({ "Type": "User", "message": message }))
    }

    /// 413, for an event over the limit of those that are queued.
    pub(crate) fn event_too_large(bytes: usize, limit: usize) -> Self {
        let message = format!("{bytes} byte payload is too large for the Event invocation type (limit {limit} bytes)");
        Self::new(413, "RequestEntityTooLargeException", json!({ "Type": "User", "message": message }))
    }

    /// 400, for a payload that is no JSON.
    pub(crate) fn not_json(why: &str) -> Self {
        let message = format!("Could not parse request body into json: {why}");
        Self::new(400, "InvalidRequestContentException", json!({ "Type": "User", "message": message }))
    }

    /// 400, for a parameter that means nothing.
    pub(crate) fn parameter(message: &str) -> Self {
        Self::new(400, "InvalidParameterValueException", json!({ "Type": "User", "message": message }))
    }

    /// 403, for a request without a signature.
    pub(crate) fn unsigned() -> Self {
        Self::new(403, "MissingAuthenticationTokenException", json!({ "message": "Missing Authentication Token" }))
    }

    /// 403, for an access key that nobody has.
    pub(crate) fn unknown_key() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::new(403, "UnrecognizedClientException", json!({ "message": message }))
    }

    /// 403, for a signature made for another region.
    pub(crate) fn other_region(region: &str) -> Self {
        let message = format!("Credential should be scoped to a valid region, not '{region}'. ");
        Self::new(403, "InvalidSignatureException", json!({ "message": message }))
    }

    /// 403, for what this caller may not do.
    pub(crate) fn denied(action: &str, resource: &str) -> Self {
        let message = format!(
            "User: arn:aws:iam::{}:user/local is not authorized to perform: lambda:{action} on resource: {resource} because \
             no identity-based policy allows the lambda:{action} action",
            ids::ACCOUNT
        );
        Self::new(403, "AccessDeniedException", json!({ "Message": message }))
    }

    /// 500, when the service itself has failed.
    pub(crate) fn service(message: &str) -> Self {
        Self::new(500, "ServiceException", json!({ "Type": "Service", "Message": message }))
    }

    /// 404, for a path that is no operation here.
    pub(crate) fn no_operation() -> Self {
        let message = "This endpoint has no such operation.";
        Self::new(404, "UnknownOperationException", json!({ "message": message }))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.kind));
        if let Ok(id) = HeaderValue::from_str(&ids::uuid()) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}
