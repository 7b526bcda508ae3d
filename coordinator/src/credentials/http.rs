//! How the SDK reaches AWS: by the HTTP client that reads buckets, too. One stack is in the program, and its connections
//! stay alive while an invocation computes: what stands between may drop one that is silent for 350 seconds.

use std::sync::Mutex;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

/// Between two signs of life.
const ALIVE: Duration = Duration::from_secs(60);
/// An unused connection is kept for so long.
const IDLE: Duration = Duration::from_secs(90);

/// Makes connectors for the SDK; those of equal settings share their connections.
#[derive(Debug, Default)]
pub(super) struct Http(Mutex<Vec<(Limits, reqwest::Client)>>);

/// How long is waited for a connection, and for an answer.
type Limits = (Option<Duration>, Option<Duration>);

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let limits = (settings.connect_timeout(), settings.read_timeout());
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, client)) = known.iter().find(|(its, _)| *its == limits) {
            return SharedHttpConnector::new(Connector(Ok(client.clone())));
        }
        let mut builder = reqwest::Client::builder().tcp_keepalive(ALIVE).pool_idle_timeout(IDLE);
        if let Some(limit) = limits.0 {
            builder = builder.connect_timeout(limit);
        }
        if let Some(limit) = limits.1 {
            builder = builder.read_timeout(limit);
        }
        let client = builder.build().map_err(|e| e.to_string());
        if let Ok(client) = &client {
            known.push((limits, client.clone()));
        }
        SharedHttpConnector::new(Connector(client))
    }
}

/// Sends one request at a time; what could not be set up is told when it is used.
#[derive(Clone, Debug)]
struct Connector(Result<reqwest::Client, String>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.send(request).await })
    }
}

impl Connector {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let client = self.0.map_err(|e| ConnectorError::user(e.into()))?;
        let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
        // The requests of this program are small; none comes as a stream.
        let (parts, body) = request.into_parts();
        let body = body.bytes().map(<[u8]>::to_vec).ok_or_else(|| ConnectorError::user("a streamed request".into()))?;
        let mut asked = client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        if let Some(limit) = parts.extensions.get::<Duration>() {
            asked = asked.timeout(*limit);
        }
        let answer = asked.send().await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(failed)?;
        let mut response = HttpResponse::new(status.into(), SdkBody::from(body));
        for (name, value) in &headers {
            response
                .headers_mut()
                .try_append(name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
                .map_err(|e| ConnectorError::other(e.into(), None))?;
        }
        Ok(response)
    }
}

fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        return ConnectorError::timeout(error.into());
    }
    if error.is_connect() || error.is_request() || error.is_body() {
        return ConnectorError::io(error.into());
    }
    ConnectorError::other(error.into(), None)
}
