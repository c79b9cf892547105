//! What of a prompt is kept, and for how long.

use super::*;

#[tokio::test]
async fn rem_no_prompt_outlives_its_answer_and_edges_tell_answers_of_one_prompt_apart() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        for number in [1, 2] {
            stored(&stores, number, Some("canary prompt"), &format!("answer {number}"), NOW).await;
        }
        let embedder = Embedder::fixed(2, |_| Ok(vec![1.0, 0.0]));
        let hit = LedgerRow { outcome: "hit".into(), entry: Some(entry_id(2)), similarity: None, ..asked(NOW, 7) };
        stores.ledger.append(std::slice::from_ref(&hit)).await.unwrap();
        let mut filler = with(&stores, &clock, settings(), Some(embedder.clone()));
        for _ in 0..3 {
            filler.work().await.unwrap();
        }
        let rem = Rem::new(RemParts {
            store: stores.rem.clone().unwrap(),
            sql: stores.sql.clone().unwrap(),
            embedder: Some(embedder),
            caps: SqlCaps { rows: 10, bytes: 1_000, time: Duration::from_secs(9) },
            deadline: Duration::from_secs(9),
            clock: clock.clone(),
        });
        let walk = async || {
            let start = Start::Key(RemId::from_bytes(hit.request.to_bytes()).to_string());
            let query = Traverse {
                start,
                types: vec!["served_from".to_owned()],
                direction: Direction::Outbound,
                depth: 1,
                min_weight: 0.0,
                load: Load::Load,
                order: None,
                limit: None,
                memo: None,
            };
            let answer = rem.run(&scope(), &Query::Traverse(query)).await.unwrap();
            let texts: Vec<String> = answer
                .results
                .iter()
                .skip(1)
                .map(|found| format!("{} {}", found.name, found.data["content"]))
                .collect();
            let summary = &answer.edge_summary[0];
            (texts, summary.samples.clone(), summary.dangling)
        };
        let expected = (vec!["canary prompt \"answer 2\"".to_owned()], vec!["canary prompt".to_owned()], 0);
        assert_eq!(walk().await, expected, "the answer that was given, by its name");
        let similar =
            everything(&stores).await.iter().flat_map(|row| &row.edges).filter(|(_, e)| e.kind == "similar_to").count();
        assert!(similar > 0);
        stores.entries.apply(&[delete("t", 2)]).await.unwrap();
        assert_eq!(walk().await, (vec![], vec![format!("entry-{}", entry_id(2))], 1));
        stores.entries.apply(&[delete("t", 1)]).await.unwrap();
        filler.work().await.unwrap();
        let left = format!("{:?}", everything(&stores).await);
        assert!(left.contains("served_from") && !left.contains("canary"), "{left}");
    })
    .await;
}
