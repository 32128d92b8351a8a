//! The check of tokens as a layer around any service of HTTP requests: axum's and tonic's alike.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use tower::{Layer, Service};

use super::gate::Gate;
use crate::server::error::{ApiError, header_text};

/// gRPC's code for a caller that is not known.
const UNAUTHENTICATED: u16 = 16;
/// gRPC's code for a call that may be tried again.
const UNAVAILABLE: u16 = 14;

/// Lets requests with a good token through, and puts the [`super::Caller`] into their extensions. Without a gate it
/// does nothing.
#[derive(Clone)]
pub struct AuthLayer {
    gate: Option<Arc<Gate>>,
}

impl AuthLayer {
    /// Behind `gate`; None lets all through.
    pub fn new(gate: Option<Arc<Gate>>) -> Self {
        Self { gate }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner, gate: self.gate.clone() }
    }
}

/// A service behind the check.
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    gate: Option<Arc<Gate>>,
}

impl<S, B, C> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    C: HttpBody<Data = Bytes> + Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready serves the request, its copy takes the place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let gate = self.gate.clone().filter(|_| !Gate::is_open(request.uri().path()));
        Box::pin(async move {
            if let Some(gate) = gate {
                match gate.admit(request.headers()).await {
                    Ok(caller) => request.extensions_mut().insert(caller),
                    Err(refusal) => return Ok(refused(refusal, request.headers())),
                };
            }
            inner.call(request).await.map(|response| response.map(Body::new))
        })
    }
}

/// The refusal, as the request's protocol has it.
fn refused(refusal: ApiError, request: &HeaderMap) -> Response<Body> {
    let content = request.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content.starts_with(b"application/grpc") {
        return refusal.into_response();
    }
    let message = header_text(&refusal.to_string());
    let http = refusal.into_response().status();
    let code = if http == StatusCode::UNAUTHORIZED { UNAUTHENTICATED } else { UNAVAILABLE };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code.into());
    headers.insert("grpc-message", message);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::security::caller::Caller;
    use crate::server::security::gate::Way;
    use crate::server::security::metrics::SecurityMetrics;
    use crate::server::security::reload::Content;
    use crate::server::security::tokens::Tokens;
    use axum::http::HeaderName;

    const TOKEN: &str = "a-token-of-some-length";

    /// Answers with the caller's name.
    async fn whoami(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let caller = request.extensions().get::<Caller>();
        let name = caller.map_or("nobody".to_owned(), |c| format!("{} {}", c.name(), c.is_admin()));
        Ok(Response::new(Body::from(name)))
    }

    fn layer() -> AuthLayer {
        let files = vec![("/t".into(), format!("ann:{TOKEN}\nbob:{TOKEN}-2").into_bytes())];
        let tokens = Tokens::parse("/t".as_ref(), &Content { files }).expect("tokens");
        let (_, tokens) = tokio::sync::watch::channel(Arc::new(tokens));
        let metrics = SecurityMetrics::new(&prometheus::Registry::new()).expect("a fresh registry");
        AuthLayer::new(Some(Arc::new(Gate::new(Way::Static(tokens), ["bob".to_owned()], metrics))))
    }

    async fn ask(layer: &AuthLayer, path: &str, headers: &[(HeaderName, &str)]) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().expect("a path");
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        let Ok(response) = layer.layer(tower::service_fn(whoami)).call(request).await;
        response
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.expect("a body");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn http_is_answered_as_http() {
        let bearer = |token: &str| format!("Bearer {token}");
        let (ann, bob, wrong) = (bearer(TOKEN), bearer(&format!("{TOKEN}-2")), bearer("wrong"));
        for (path, authorization, status, body) in [
            ("/x", Some(&ann), 200, "ann false"),
            ("/x", Some(&bob), 200, "bob true"),
            ("/x", Some(&wrong), 401, "the token is not known, or no longer"),
            ("/x", None, 401, "a bearer token is needed"),
            ("/livez", None, 200, "nobody"),
            ("/focus-server/ack", Some(&wrong), 200, "nobody"),
        ] {
            let headers: Vec<_> =
                authorization.map(|a| (header::AUTHORIZATION, a.as_str())).into_iter().collect();
            let response = ask(&layer(), path, &headers).await;
            assert_eq!(response.status().as_u16(), status, "{path} {authorization:?}");
            let challenge = response.headers().get(header::WWW_AUTHENTICATE).is_some();
            assert_eq!(challenge, status == 401, "{path} {authorization:?}");
            let told = text(response).await;
            assert!(told.contains(body), "{path} {authorization:?}: {told}");
        }
        assert_eq!(text(ask(&AuthLayer::new(None), "/x", &[]).await).await, "nobody");
    }

    #[tokio::test]
    async fn grpc_is_answered_as_grpc() {
        let grpc = (header::CONTENT_TYPE, "application/grpc+proto");
        let response = ask(&layer(), "/s/m", std::slice::from_ref(&grpc)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(response.headers()["grpc-message"], "a bearer token is needed");
        assert_eq!(text(response).await, "");
        let good = (header::AUTHORIZATION, &*format!("Bearer {TOKEN}"));
        assert_eq!(text(ask(&layer(), "/s/m", &[grpc, good]).await).await, "ann false");
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_lets_nobody_in() {
        let refusal = || ApiError::unavailable("AuthenticationUnavailable", "no answer");
        assert_eq!(refused(refusal(), &HeaderMap::new()).status(), StatusCode::SERVICE_UNAVAILABLE);
        let grpc =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
        assert_eq!(refused(refusal(), &grpc).headers()["grpc-status"], "14");
    }
}
