//! Unit test of whom a vector helps that was made once.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::memory_tests::{Memory, Statements};
use crate::clock::Clock;
use crate::embed::Embedder;
use crate::ids::{KeyId, TenantId};
use crate::store::rem::{Scope, SqlCaps, SqlFault};

#[tokio::test]
async fn a_vector_is_remembered_for_the_key_that_searched_and_for_nobody_else() {
    let embedder = Embedder::fixed(2, |_| Ok(vec![1.0, 0.0]));
    let rem = Rem::new(RemParts {
        store: Arc::new(Memory::default()),
        sql: Arc::new(Statements(Err(SqlFault::Busy))),
        embedder: Some(embedder.clone()),
        caps: SqlCaps { rows: 10, bytes: 1_000, time: Duration::from_secs(1) },
        deadline: Duration::from_secs(5),
        clock: Clock::manual(0),
    });
    // How many vectors have been made when this is answered.
    let made = async |tenant: &str, key: &str, text: &str| {
        let scope = Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) };
        rem.run(&scope, &parse(&format!("SEARCH \"{text}\"")).unwrap()).await.unwrap();
        embedder.inferences()
    };
    assert_eq!(made("t", "a", "refunds").await, 1);
    assert_eq!(made("t", "a", "refunds").await, 1, "it is remembered for whoever asked");
    assert_eq!(made("t", "b", "refunds").await, 2, "another key is not told by the time that it was asked before");
    assert_eq!(made("u", "a", "refunds").await, 3);
    // A prompt in the data plane, or the text of a row.
    embedder.embed_for("t", "the moon").await.unwrap();
    assert_eq!(embedder.inferences(), 4);
    assert_eq!(made("t", "a", "the moon").await, 5, "nor that it was a prompt or an answer of another key");
    embedder.embed_for("t", "refunds").await.unwrap();
    assert_eq!(embedder.inferences(), 6, "and prompts are not told of searches");
}
