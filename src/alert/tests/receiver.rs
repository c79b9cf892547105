//! Somebody who is told: a small web server on the loopback interface that answers as it is told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// One request that came.
#[derive(Clone, Debug)]
pub(in crate::alert) struct Received {
    pub(in crate::alert) path: String,
    pub(in crate::alert) headers: HeaderMap,
    pub(in crate::alert) body: String,
}

impl Received {
    pub(in crate::alert) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    pub(in crate::alert) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// See the module. Answers 200 once it has said what it was told to say.
#[derive(Default)]
pub(in crate::alert) struct Receiver {
    answers: Mutex<VecDeque<(u16, String)>>,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    /// Starts one; its URL has no path.
    pub(in crate::alert) async fn start() -> (Arc<Self>, String) {
        let receiver = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&receiver);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let receiver = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let receiver = Arc::clone(&receiver);
                    async move { Ok::<_, Infallible>(receiver.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (receiver, url)
    }

    pub(in crate::alert) fn then(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back((status, body.to_owned()));
    }

    pub(in crate::alert) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
        let body = String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        self.received.lock().unwrap().push(Received { path, headers, body });
        let (status, body) = self.answers.lock().unwrap().pop_front().unwrap_or((200, String::new()));
        let location = if (300..400).contains(&status) { "/elsewhere" } else { "" };
        Response::builder().status(status).header("location", location).body(Full::from(body)).unwrap()
    }
}
