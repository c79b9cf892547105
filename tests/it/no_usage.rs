//! Servers that refuse a stream because it asks for usage: without us the request would have worked.

use serde_json::{Value, json};

use crate::canned::{Canned, chunk, stream_head};
use crate::rig::chat_stream;

/// The model `old` takes no question for usage, `wrong` takes nothing.
async fn upstream() -> Canned {
    Canned::start(|request| {
        let body = body_of(request);
        let asks = body["stream_options"]["include_usage"] == true;
        if body["model"] == "wrong" || (asks && body["model"] == "old") {
            let detail = r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"]}]}"#;
            let head = "HTTP/1.1 422 Unprocessable Entity\r\ncontent-type: application/json\r\nconnection: close\r\n";
            return vec![format!("{head}content-length: {}\r\n\r\n{detail}", detail.len()).into_bytes()];
        }
        let event = |delta: Value, finish: Value| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            format!("data: {}\n\n", json!({ "id": "c", "model": "m", "created": 1, "choices": [choice] }))
        };
        let events = event(json!({ "content": "Once upon a time" }), Value::Null) + &event(json!({}), json!("stop"));
        vec![stream_head(), chunk(&format!("{events}data: [DONE]\n\n")), b"0\r\n\r\n".to_vec()]
    })
    .await
}

fn body_of(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn stream(model: &str, prompt: &str) -> Value {
    let mut body = chat_stream(prompt);
    body["model"] = model.into();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_that_is_refused_for_asking_for_usage_is_sent_as_the_client_wrote_it() {
    let upstream = upstream().await;
    let rig = upstream.rig().await;
    let first = stream("old", "one");
    let answer = rig.chat("sk-a", &first).await;
    assert_eq!((answer.status.as_u16(), answer.streamed().as_str()), (200, "Once upon a time"));
    let sent: Vec<Value> = upstream.requests().iter().map(|request| body_of(request)).collect();
    assert_eq!((sent.len(), &sent[0]["stream_options"]["include_usage"]), (2, &json!(true)));
    assert_eq!(sent[1], first);
    let row = rig.row(&answer).await;
    assert_eq!((&row["tokens"]["source"], &row["tokens"]["output"]), (&json!("estimated"), &json!(4)), "{row}");
    let statuses: Vec<&Value> = row["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [422, 200]);

    // That is remembered of the model, and of no other.
    assert_eq!(rig.chat("sk-a", &stream("old", "two")).await.streamed(), "Once upon a time");
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(rig.chat("sk-a", &stream("new", "three")).await.streamed(), "Once upon a time");
    let sent = upstream.requests();
    assert_eq!((sent.len(), &body_of(&sent[3])["stream_options"]["include_usage"]), (4, &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_client_asked_for_itself_or_what_is_refused_anyhow_is_the_clients_to_see() {
    let upstream = upstream().await;
    let rig = upstream.rig().await;
    let mut own = stream("old", "one");
    own["stream_options"] = json!({ "include_usage": true });
    let answer = rig.chat("sk-a", &own).await;
    assert!(answer.text().contains("extra_forbidden"), "{}", answer.text());
    assert_eq!((answer.status.as_u16(), upstream.requests().len()), (422, 1));
    // What fails without the question, too, says nothing about the question.
    for count in [3, 5] {
        let answer = rig.chat("sk-a", &stream("wrong", "two")).await;
        assert_eq!((answer.status.as_u16(), upstream.requests().len()), (422, count));
    }
}
