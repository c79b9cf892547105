//! An upstream that says exactly the bytes it is told to, for answers that the simulator is too well-behaved to give.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::rig::{Plan, Rig};

/// What to answer to a request (head and body as text). Each part is one TCP write.
type Reply = dyn Fn(&str) -> Vec<Vec<u8>> + Send + Sync;

/// One connection for each request, closed after the answer.
pub(crate) struct Canned {
    pub(crate) addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Canned {
    pub(crate) async fn start(reply: impl Fn(&str) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, reply): (_, Arc<Reply>) = (Arc::clone(&requests), Arc::new(reply));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&seen), Arc::clone(&reply)));
            }
        });
        Self { addr, requests, task }
    }

    /// The requests so far, each as head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A proxy in front of it.
    pub(crate) async fn rig(&self) -> Rig {
        let url = format!("http://{}/v1", self.addr);
        let change = move |config: &mut remora::config::Config| config.upstream.url.clone_from(&url);
        Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
    }
}

async fn answer(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>, reply: Arc<Reply>) {
    let mut bytes = Vec::new();
    while !whole(&bytes) {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8_lossy(&bytes).into_owned();
    // It may be meant to be slow, and must not hold up a thread that others' timers are on.
    let asked = request.clone();
    let parts = tokio::task::spawn_blocking(move || reply(&asked)).await.unwrap();
    seen.lock().unwrap().push(request);
    for part in parts {
        if socket.write_all(&part).await.is_err() {
            return;
        }
        // Enough for the parts to arrive one by one.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let _ = socket.shutdown().await;
}

/// Whether head and body are complete, as `content-length` counts them; other bodies are not used here.
fn whole(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    bytes.len() >= head + 4 + length.unwrap_or(0)
}

/// A response with a length.
pub(crate) fn response(content_type: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of a chunked event stream.
pub(crate) fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        .to_vec()
}

/// One chunk.
pub(crate) fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// A whole chat answer as an upstream would give it.
pub(crate) fn chat_answer(text: &str) -> String {
    serde_json::json!({
        "id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 },
    })
    .to_string()
}
