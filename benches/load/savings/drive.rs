//! Plays the conversations, each at its time, and notes what came back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::answers::Truth;
use crate::client::Connection;
use crate::money::Billed;
use crate::traffic::{Conversation, Kind, Turn};
use crate::{Fault, MODEL};

const SYSTEM: &str = include_str!("system-prompt.txt");
/// A connection that was idle for longer is not used again: the server may be about to close it.
const FRESH: Duration = Duration::from_secs(20);

/// Where an answer came from, as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The provider.
    Upstream,
    /// The same request.
    Exact,
    /// A similar one.
    Semantic,
    /// A call that another request paid for.
    Shared,
}

/// One question and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When it was asked, in days.
    pub(crate) at: f64,
    pub(crate) kind: Kind,
    pub(crate) from: From,
    /// Why it was not a hit.
    pub(crate) reason: String,
    /// Whether the answer is one to this question.
    pub(crate) right: bool,
    /// What the answer says it cost, whoever paid.
    pub(crate) billed: Billed,
}

/// What a run needs.
pub(crate) struct Stage {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) truth: Truth,
    /// How long a day lasts here.
    pub(crate) day: Duration,
    pub(crate) began: Instant,
}

/// One server and the open connections to it.
struct Line {
    to: SocketAddr,
    open: Mutex<Vec<(Connection, Instant)>>,
}

/// What came of all conversations.
pub(crate) struct Played {
    pub(crate) outcomes: Vec<Outcome>,
    /// By how much the latest question came too late, in seconds of this run.
    pub(crate) late: f64,
}

/// Plays all conversations against one server.
pub(crate) async fn play(stage: &Arc<Stage>, to: SocketAddr) -> Result<Played, Fault> {
    let line = Arc::new(Line { to, open: Mutex::default() });
    let mut tasks = JoinSet::new();
    for number in 0..stage.conversations.len() {
        tasks.spawn(converse(Arc::clone(stage), Arc::clone(&line), number));
    }
    let mut played = Played { outcomes: Vec::new(), late: 0.0 };
    while let Some(done) = tasks.join_next().await {
        let (outcomes, late) = done??;
        played.outcomes.extend(outcomes);
        played.late = played.late.max(late);
    }
    played.outcomes.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(played)
}

impl Stage {
    fn due(&self, at: f64) -> Instant {
        self.began + self.day.mul_f64(at)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.day.as_secs_f64()
    }
}

async fn converse(stage: Arc<Stage>, line: Arc<Line>, number: usize) -> Result<(Vec<Outcome>, f64), Fault> {
    let Conversation { at, account, turns } = &stage.conversations[number];
    let mut said: Vec<(&str, String)> = vec![("system", SYSTEM.to_owned())];
    said.extend(account.iter().map(|account| ("system", account.clone())));
    let (mut outcomes, mut late, mut at) = (Vec::new(), 0.0_f64, *at);
    for Turn { kind, text, pause } in turns {
        at += pause;
        tokio::time::sleep_until(stage.due(at).into()).await;
        late = late.max((stage.now() - at) * stage.day.as_secs_f64());
        let before: Vec<(&str, &str)> = said.iter().map(|(role, text)| (*role, text.as_str())).collect();
        let reply = line.ask(&request(&before, text)).await?;
        let right = stage.truth.is_right(text, &before, &reply.text)?;
        outcomes.push(Outcome { at, kind: *kind, from: reply.from, reason: reply.reason, right, billed: reply.billed });
        said.push(("user", text.clone()));
        said.push(("assistant", reply.text));
        at = stage.now().max(at);
    }
    Ok((outcomes, late))
}

fn request(before: &[(&str, &str)], question: &str) -> Vec<u8> {
    let message = |(role, text): (&str, &str)| json!({ "role": role, "content": text });
    let messages: Vec<_> = before.iter().copied().chain([("user", question)]).map(message).collect();
    let body = json!({ "model": MODEL, "temperature": 0.2, "messages": messages }).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-savings\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

struct Reply {
    from: From,
    reason: String,
    text: String,
    billed: Billed,
}

#[derive(Deserialize)]
struct Body {
    choices: Vec<Choice>,
    usage: Billed,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

impl Line {
    async fn ask(&self, request: &[u8]) -> Result<Reply, Fault> {
        let kept = loop {
            let last = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match last {
                Some((connection, used)) if used.elapsed() < FRESH => break Some(connection),
                Some(_) => {}
                None => break None,
            }
        };
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.to).await?,
        };
        let answer = connection.exchange(request).await?;
        let head = std::str::from_utf8(answer.head)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("not answered: {head}{}", String::from_utf8_lossy(answer.body)).into());
        }
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        let from = match (header("x-remora-cache").as_str(), header("x-remora-tier").as_str()) {
            ("HIT", "exact") => From::Exact,
            ("HIT", "semantic") => From::Semantic,
            ("COALESCED", _) => From::Shared,
            ("" | "MISS" | "BYPASS", _) => From::Upstream,
            other => return Err(format!("an outcome that was not expected: {other:?}").into()),
        };
        let reason = header("x-remora-reason");
        let Body { choices, usage } = serde_json::from_slice(answer.body)?;
        let choice = choices.into_iter().next().ok_or("an answer without a choice")?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        Ok(Reply { from, reason, text: choice.message.content, billed: usage })
    }
}
