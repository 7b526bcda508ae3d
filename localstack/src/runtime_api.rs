//! The Runtime API, as an instance sees it: it asks for an event, and says what came of it. Each instance has a listener of
//! its own, as each has on Lambda. What it says goes to whoever drives the instance; nothing is decided here but whether
//! it may be said now.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

/// The largest answer, and what a little more is allowed for the envelope: as on Lambda.
pub(crate) const RESPONSE_LIMIT: usize = 6 * 1024 * 1024 + 100;

/// What an instance is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) request_id: String,
    pub(crate) payload: Bytes,
    /// Until when it may take, in milliseconds since 1970.
    pub(crate) deadline_ms: u64,
    pub(crate) arn: String,
    pub(crate) trace: String,
    pub(crate) client_context: Option<String>,
}

/// What an instance says.
#[derive(Debug)]
pub(crate) enum Said {
    /// It is ready for an event.
    Next(oneshot::Sender<Event>),
    /// The answer.
    Response(Bytes),
    /// The answer is over the limit.
    TooLarge,
    /// It failed, in its own words, and the type it gives for it.
    Error(Bytes, String),
    /// It could not even start.
    InitError(Bytes, String),
    /// Its process has ended.
    Exited(std::process::ExitStatus),
}

/// What the API of one instance knows.
#[derive(Debug)]
pub(crate) struct Desk {
    said: mpsc::UnboundedSender<Said>,
    /// The request that is being answered.
    current: Mutex<Option<String>>,
}

impl Desk {
    pub(crate) fn new(said: mpsc::UnboundedSender<Said>) -> Arc<Self> {
        Arc::new(Self { said, current: Mutex::new(None) })
    }

    /// Takes the request that is being answered, if it is this one.
    fn take(&self, id: &str) -> Result<(), Problem> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(now) if now == id => {
                *current = None;
                Ok(())
            }
            Some(_) => Err(Problem(StatusCode::BAD_REQUEST, "InvalidRequestID")),
            None => Err(Problem(StatusCode::FORBIDDEN, "InvalidStateTransition")),
        }
    }
}

/// What an instance said out of turn, or at too great a length.
#[derive(Debug)]
struct Problem(StatusCode, &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(status, kind) = self;
        let message = match kind {
            "InvalidRequestID" => "Invalid request ID".to_owned(),
            "InvalidStateTransition" => "State transition is not allowed".to_owned(),
            "RequestEntityTooLarge" => format!("Exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."),
            _ => "The instance has ended, or its connection has".to_owned(),
        };
        (status, json!({ "errorMessage": message, "errorType": kind }).to_string()).into_response()
    }
}

/// The answer to an instance that is done with; it is killed, so that it hardly ever hears it.
const GONE: Problem = Problem(StatusCode::GONE, "Gone");

fn accepted() -> Response {
    (StatusCode::ACCEPTED, json!({ "status": "OK" }).to_string()).into_response()
}

/// The routes of one instance.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(desk)
}

async fn next(State(desk): State<Arc<Desk>>) -> Result<Response, Problem> {
    let (send, receive) = oneshot::channel();
    desk.said.send(Said::Next(send)).map_err(|_| GONE)?;
    let event: Event = receive.await.map_err(|_| GONE)?;
    *desk.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.request_id.clone());
    let mut builder = Response::builder()
        .header("content-type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", event.request_id)
        .header("Lambda-Runtime-Deadline-Ms", event.deadline_ms)
        .header("Lambda-Runtime-Invoked-Function-Arn", event.arn)
        .header("Lambda-Runtime-Trace-Id", event.trace);
    if let Some(context) = event.client_context {
        builder = builder.header("Lambda-Runtime-Client-Context", context);
    }
    builder.body(Body::from(event.payload)).map_err(|_| Problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal"))
}

/// Reads a body; none is one over the limit. That is read all the same, a good deal of it: an answer to half a request
/// looks like a broken connection.
async fn read(body: Body) -> Result<Option<Bytes>, Problem> {
    match axum::body::to_bytes(body, 16 * RESPONSE_LIMIT).await {
        Ok(bytes) => Ok((bytes.len() <= RESPONSE_LIMIT).then_some(bytes)),
        Err(_) => Err(GONE),
    }
}

async fn response(State(desk): State<Arc<Desk>>, Path(id): Path<String>, body: Body) -> Result<Response, Problem> {
    let bytes = read(body).await?;
    desk.take(&id)?;
    let fits = bytes.is_some();
    let _ = desk.said.send(bytes.map_or(Said::TooLarge, Said::Response));
    if fits { Ok(accepted()) } else { Err(Problem(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge")) }
}

fn error_type(headers: &HeaderMap, body: &[u8]) -> String {
    let header = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
    let named = || serde_json::from_slice::<serde_json::Value>(body).ok()?["errorType"].as_str().map(str::to_owned);
    header.map(str::to_owned).or_else(named).unwrap_or_else(|| "Runtime.Unknown".to_owned())
}

async fn error(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = read(body).await?.unwrap_or_default();
    desk.take(&id)?;
    let kind = error_type(&headers, &bytes);
    let _ = desk.said.send(Said::Error(bytes, kind));
    Ok(accepted())
}

async fn init_error(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let bytes = read(body).await?.unwrap_or_default();
    let kind = error_type(&headers, &bytes);
    let _ = desk.said.send(Said::InitError(bytes, kind));
    Ok(accepted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_error_is_the_headers_else_the_bodys() {
        let mut headers = HeaderMap::new();
        assert_eq!(error_type(&headers, b"no json"), "Runtime.Unknown");
        assert_eq!(error_type(&headers, br#"{"errorType": "voxmill.Data"}"#), "voxmill.Data");
        headers.insert("lambda-runtime-function-error-type", axum::http::HeaderValue::from_static("Other"));
        assert_eq!(error_type(&headers, br#"{"errorType": "voxmill.Data"}"#), "Other");
    }

    #[test]
    fn only_the_request_at_hand_is_answered_and_once() {
        let (said, _heard) = mpsc::unbounded_channel();
        let desk = Desk::new(said);
        assert!(desk.take("a").is_err());
        *desk.current.lock().unwrap_or_else(PoisonError::into_inner) = Some("a".to_owned());
        assert!(desk.take("b").is_err());
        assert!(desk.take("a").is_ok());
        assert!(desk.take("a").is_err());
    }
}
