//! The API of Lambda, as far as whoever invokes functions needs it: Invoke, and the questions about a function and an
//! account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;

use crate::describe;
use crate::faults::{Fate, Faults, Kind};
use crate::function::{Account, Call, Function, Outcome};
use crate::ids;
use crate::listener::Peer;
use crate::log::Log;
use crate::refusal::Refusal;
use crate::report;

/// The largest payload of a request that is waited for.
const REQUEST_LIMIT: usize = 6 * 1024 * 1024;
/// The largest payload of an event that is queued.
const EVENT_LIMIT: usize = 1024 * 1024;

/// What all requests share.
pub(crate) struct Service {
    pub(crate) region: String,
    /// The access keys that are known.
    pub(crate) keys: Vec<String>,
    pub(crate) functions: BTreeMap<String, Arc<Function>>,
    pub(crate) account: Arc<Account>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) log: Arc<Log>,
    /// How long an event that failed waits for its second and its third try.
    pub(crate) event_pauses: [Duration; 2],
}

/// The routes of the API.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .route("/2015-03-31/functions/{name}/configuration", get(configuration))
        .route("/2015-03-31/functions/{name}", get(function))
        .route("/2019-09-30/functions/{name}/concurrency", get(concurrency))
        .route("/2016-08-19/account-settings", get(account_settings))
        .route("/2016-08-19/account-settings/", get(account_settings))
        .fallback(|| async { Refusal::no_operation() })
        .with_state(service)
}

impl Service {
    /// Who asks, and whether they may. The signature itself isn't computed: this says who is known, not who is honest.
    fn authorise(&self, headers: &HeaderMap, action: &str) -> Result<(), Refusal> {
        let header =
            headers.get("authorization").and_then(|value| value.to_str().ok()).ok_or_else(Refusal::unsigned)?;
        let scope = header
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .and_then(|rest| rest.split(',').find_map(|part| part.trim().strip_prefix("Credential=")))
            .ok_or_else(Refusal::unsigned)?;
        let mut parts = scope.split('/');
        let key = parts.next().unwrap_or_default();
        if !self.keys.iter().any(|known| known == key) {
            return Err(Refusal::unknown_key());
        }
        let region = parts.nth(1).unwrap_or_default();
        if region != self.region {
            return Err(Refusal::other_region(region));
        }
        if self.faults.denies(action) {
            return Err(Refusal::denied(action, "*"));
        }
        Ok(())
    }

    /// The function and version a name and a qualifier mean; also how it was qualified, if it was.
    fn find(&self, name: &str, query: Option<&str>) -> Result<(&Arc<Function>, Option<String>, String), Refusal> {
        let asked =
            Name::parse(name).ok_or_else(|| Refusal::parameter(&format!("'{name}' is no name of a function")))?;
        let given = parameter(query, "Qualifier");
        let qualifier = match (asked.qualifier, given) {
            (Some(a), Some(b)) if a != b => {
                let message = "The derived qualifier from the function name does not match the specified qualifier.";
                return Err(Refusal::parameter(message));
            }
            (a, b) => a.or(b),
        };
        let arn = || {
            let suffix = qualifier.as_ref().map(|q| format!(":{q}")).unwrap_or_default();
            format!("arn:aws:lambda:{}:{}:function:{}{suffix}", self.region, ids::ACCOUNT, asked.name)
        };
        let here = asked.region.as_ref().is_none_or(|region| *region == self.region);
        let function = self.functions.get(&asked.name).filter(|_| here).ok_or_else(|| Refusal::not_found(&arn()))?;
        let version = function.resolve(qualifier.as_deref())?;
        Ok((function, qualifier, version))
    }
}

/// A function's name as it may be written: plain, with a qualifier, part of an ARN, or all of one.
#[derive(Debug, PartialEq)]
struct Name {
    region: Option<String>,
    name: String,
    qualifier: Option<String>,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (region, rest) = match parts.as_slice() {
            ["arn", _, "lambda", region, _, "function", rest @ ..] => (Some((*region).to_owned()), rest),
            [_, "function", rest @ ..] => (None, rest),
            rest => (None, rest),
        };
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some((*qualifier).to_owned())),
            _ => return None,
        };
        (!name.is_empty()).then(|| Self { region, name: name.to_owned(), qualifier })
    }
}

/// A parameter of a query.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(decode(value))
}

/// Takes the percent signs out of a part of a URL.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer of JSON.
pub(crate) fn answer(value: Value) -> Response {
    let headers = [("content-type", "application/json".to_owned()), ("x-amzn-requestid", ids::uuid())];
    (headers, value.to_string()).into_response()
}

async fn configuration(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    service.authorise(&headers, "GetFunctionConfiguration")?;
    let (function, qualifier, version) = service.find(&name, query.as_deref())?;
    Ok(answer(describe::configuration(function, qualifier.as_deref(), &version)))
}

async fn function(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    service.authorise(&headers, "GetFunction")?;
    let (function, qualifier, version) = service.find(&name, query.as_deref())?;
    Ok(answer(describe::function(function, qualifier.as_deref(), &version)))
}

async fn concurrency(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    service.authorise(&headers, "GetFunctionConcurrency")?;
    let (function, _, _) = service.find(&name, None)?;
    Ok(answer(describe::concurrency(function)))
}

async fn account_settings(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Response, Refusal> {
    service.authorise(&headers, "GetAccountSettings")?;
    Ok(answer(describe::account(&service.account, service.functions.values().map(|f| &**f))))
}

/// What a request to invoke asks for.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // All of it is read, whatever becomes of it: an answer to half a request looks like a broken connection.
    let body = axum::body::to_bytes(body, 16 * REQUEST_LIMIT).await.map_err(|_| Refusal::too_large(REQUEST_LIMIT))?;
    service.authorise(&headers, "InvokeFunction")?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = match text("x-amz-invocation-type") {
        None | Some("RequestResponse") => Asked::RequestResponse,
        Some("Event") => Asked::Event,
        Some("DryRun") => Asked::DryRun,
        Some(other) => return Err(Refusal::parameter(&format!("'{other}' is no invocation type"))),
    };
    let with_log = match text("x-amz-log-type") {
        None | Some("None") => false,
        Some("Tail") => true,
        Some(other) => return Err(Refusal::parameter(&format!("'{other}' is no log type"))),
    };
    let (function, qualifier, version) = service.find(&name, query.as_deref())?;
    if asked == Asked::DryRun {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if body.len() > REQUEST_LIMIT {
        return Err(Refusal::too_large(REQUEST_LIMIT));
    }
    if asked == Asked::Event && body.len() > EVENT_LIMIT {
        return Err(Refusal::event_too_large(body.len(), EVENT_LIMIT));
    }
    let payload = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        return Err(Refusal::not_json(&e.to_string()));
    }
    if service.faults.strikes(Kind::DropBefore) {
        peer.cut();
        return Ok(StatusCode::OK.into_response());
    }
    if service.faults.strikes(Kind::ServerError) {
        return Err(Refusal::service("The service encountered an internal error."));
    }
    let call = Call {
        request_id: ids::uuid(),
        version,
        arn: qualifier.map_or_else(|| function.arn(), |q| format!("{}:{q}", function.arn())),
        payload,
        trace: text("x-amzn-trace-id").map_or_else(ids::trace, str::to_owned),
        client_context: text("x-amz-client-context").map(str::to_owned),
        kind: if asked == Asked::Event { "Event" } else { "RequestResponse" },
        attempt: 1,
        fate: Fate::Arrives,
    };
    if asked == Asked::Event {
        let (function, request_id) = (function.clone(), call.request_id.clone());
        tokio::spawn(queue(function, call, service.event_pauses));
        return Ok((StatusCode::ACCEPTED, [("x-amzn-requestid", request_id)]).into_response());
    }
    if let Some(reason) = service.faults.throttles() {
        return Err(Refusal::throttled(&reason));
    }
    let permit = function.admit()?;
    let call = Call { fate: service.faults.fate(), ..call };
    // On its own, so that a caller who goes away doesn't stop it: on Lambda it would not, either.
    let running = tokio::spawn(function.clone().run(permit, call.clone()));
    let outcome = running.await.map_err(|e| Refusal::service(&e.to_string()))?;
    match call.fate {
        Fate::Arrives => {}
        Fate::Late(by) => tokio::time::sleep(by).await,
        Fate::BadGateway => return Ok((StatusCode::BAD_GATEWAY, "<html>502 Bad Gateway</html>").into_response()),
        Fate::Lost => {
            peer.cut();
            return Ok(StatusCode::OK.into_response());
        }
    }
    Ok(respond(&call, outcome, with_log))
}

fn respond(call: &Call, outcome: Outcome, with_log: bool) -> Response {
    let log = with_log.then(|| report::tail(&outcome.log));
    let mut response = Response::new(Body::from(outcome.payload));
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("content-type", "application/json");
    put("x-amzn-requestid", &call.request_id);
    put("x-amzn-trace-id", call.trace.split(';').next().unwrap_or_default());
    put("x-amz-executed-version", &call.version);
    put("x-amzn-remapped-content-length", "0");
    if outcome.failed {
        put("x-amz-function-error", "Unhandled");
    }
    if let Some(log) = log {
        put("x-amz-log-result", &log);
    }
    response
}

/// An event that nobody waits for: throttled, it waits; failed, it is tried twice more.
async fn queue(function: Arc<Function>, call: Call, pauses: [Duration; 2]) {
    for attempt in 1.. {
        let permit = loop {
            match function.admit() {
                Ok(permit) => break permit,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let outcome = function.clone().run(permit, Call { attempt, ..call.clone() }).await;
        match pauses.get(attempt as usize - 1) {
            Some(pause) if outcome.failed => tokio::time::sleep(*pause).await,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_several_names() {
        let name = |region: Option<&str>, qualifier: Option<&str>| {
            let owned = |text: &str| text.to_owned();
            Some(Name { region: region.map(owned), name: owned("voxmill"), qualifier: qualifier.map(owned) })
        };
        assert_eq!(Name::parse("voxmill"), name(None, None));
        assert_eq!(Name::parse("voxmill:live"), name(None, Some("live")));
        assert_eq!(Name::parse("000000000000:function:voxmill"), name(None, None));
        assert_eq!(
            Name::parse("arn:aws:lambda:us-east-1:000000000000:function:voxmill:1"),
            name(Some("us-east-1"), Some("1"))
        );
        assert_eq!(Name::parse("arn:aws:lambda:us-east-1:0:function:voxmill:1:2"), None);
        assert_eq!(Name::parse(""), None);
    }

    #[test]
    fn parameters_of_a_query_are_decoded() {
        assert_eq!(parameter(Some("a=b&Qualifier=%24LATEST"), "Qualifier").as_deref(), Some("$LATEST"));
        assert_eq!(parameter(Some("Qualifier=100%"), "Qualifier").as_deref(), Some("100%"));
        assert_eq!(parameter(None, "Qualifier"), None);
    }
}
