//! What AWS doesn't have: faults on demand, and a look at what ran. Whoever can reach the endpoint may use it, which is
//! why it listens on this machine only.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::api::{Service, answer, parameter};
use crate::faults::Config;

/// The routes of it.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/_control", get(standing))
        .route("/_control/log", get(log).delete(clear))
        .route("/_control/faults", get(faults).put(set).delete(unset))
        .route("/_control/instances", axum::routing::delete(end))
        .with_state(service)
}

async fn standing(State(service): State<Arc<Service>>) -> Response {
    let functions: Vec<Value> = service.functions.values().map(|function| function.standing()).collect();
    let (config, struck) = service.faults.now();
    answer(json!({
        "pid": std::process::id(),
        "functions": functions,
        "faults": config,
        "struck": struck,
        "invocations": service.log.len(),
    }))
}

async fn log(State(service): State<Arc<Service>>, RawQuery(query): RawQuery) -> Response {
    let from = match parameter(query.as_deref(), "from").map(|text| text.parse::<usize>()) {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => return problem("'from' is the number of records to leave out"),
    };
    answer(json!({ "from": from, "invocations": service.log.since(from) }))
}

async fn clear(State(service): State<Arc<Service>>) -> StatusCode {
    service.log.clear();
    StatusCode::NO_CONTENT
}

async fn faults(State(service): State<Arc<Service>>) -> Response {
    let (config, struck) = service.faults.now();
    answer(json!({ "faults": config, "struck": struck }))
}

async fn set(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Config>(&body) {
        Ok(config) => {
            service.faults.set(config);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => problem(&format!("these are no faults: {e}")),
    }
}

async fn unset(State(service): State<Arc<Service>>) -> StatusCode {
    service.faults.set(Config::default());
    StatusCode::NO_CONTENT
}

/// Ends the instances that wait, or with `?all=true` also those at work.
async fn end(State(service): State<Arc<Service>>, RawQuery(query): RawQuery) -> StatusCode {
    let all = parameter(query.as_deref(), "all").is_some_and(|value| value == "true");
    for function in service.functions.values() {
        function.end(all);
    }
    StatusCode::NO_CONTENT
}

fn problem(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, answer(json!({ "message": message }))).into_response()
}
