//! Whose what is filled is, and what goes.

use super::*;
use crate::rem::ingest;

fn other() -> Scope {
    Scope { key: KeyId::new("t/other"), ..scope() }
}

async fn owns(stores: &Stores, scope: &Scope) -> bool {
    stores.rem.as_ref().unwrap().rem_owns(&scope.tenant, &scope.owner()).await.unwrap()
}

#[tokio::test]
async fn rem_what_was_deleted_of_a_key_does_not_come_back_from_the_ledger() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let of_other = LedgerRow { key: Some(other().key), ..asked(NOW - 1, 2) };
        stores.ledger.append(&[asked(NOW - 1, 1), of_other]).await.unwrap();
        filler(&stores, &clock).work().await.unwrap();
        let forget = async |at| {
            let (tenant, key) = (tenant("t"), scope().key);
            crate::transfer::forget_rem_of_key(&stores, &tenant, &key, at).await.unwrap()
        };
        assert!(forget(NOW).await > 5);
        stores.notes.set_note(FILLED_NOTE, None).await.unwrap();
        let mut filler = filler(&stores, &clock);
        filler.work().await.unwrap();
        assert_eq!((owns(&stores, &scope()).await, owns(&stores, &other()).await), (false, true));
        stores.ledger.append(&[asked(NOW + 1, 3)]).await.unwrap();
        filler.ledger(NOW + 1).await.unwrap();
        assert!(owns(&stores, &scope()).await, "what is asked later is seen");
        // The deletion began and ended before these rows were there, so it has met none of them.
        stores
            .notes
            .set_note(&forgotten_note(&tenant("t"), Some(&scope().key)), Some(&(NOW + 2).to_string()))
            .await
            .unwrap();
        filler.take_back().await.unwrap();
        assert_eq!((owns(&stores, &scope()).await, owns(&stores, &other()).await), (false, true));
    })
    .await;
}

#[tokio::test]
async fn rem_what_a_tag_or_a_model_costs_over_all_keys_is_shown_to_none_of_them() {
    on_both(async |stores| {
        let details = [
            json!({"key": null, "tag": "team=search", "model": null}),
            json!({"key": null, "tag": null, "model": "gpt-4o"}),
            json!({"key": "default", "tag": "team=search", "model": null}),
            json!({"key": null, "tag": null, "model": null}),
        ];
        for (number, details) in (1..).zip(details) {
            let row = crate::store::AlertRow {
                at: NOW - number,
                kind: "budget_threshold".into(),
                title: format!("budget {number}"),
                payload: json!({"text": "80%", "details": details}).to_string(),
                ..alert_row("t", number)
            };
            assert!(stores.alerts.raise(&row, &[]).await.unwrap());
        }
        filler(&stores, &Clock::manual(NOW)).work().await.unwrap();
        let told: Vec<(String, Owner)> = everything(&stores)
            .await
            .into_iter()
            .filter_map(|each| each.row)
            .map(|row| (row.name, row.owner))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.contains(&("budget 3".to_owned(), scope().owner())), "{told:?}");
        assert!(told.contains(&("budget 4".to_owned(), Owner::Public)), "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn rem_users_whose_names_are_nearly_the_same_have_sessions_of_their_own() {
    on_both(async |stores| {
        let long = |end: &str| format!("{}{end}", "x".repeat(110));
        let users = ["Ann", "ann", "a b", "a-b", &long("1"), &long("2")].map(str::to_owned);
        for (number, user) in (1..).zip(&users) {
            let row = |number| LedgerRow { user: Some(user.clone()), ..asked(NOW - 10, number) };
            stores.ledger.append(&[row(number), row(number + 100)]).await.unwrap();
        }
        filler(&stores, &Clock::manual(NOW)).work().await.unwrap();
        let rows = everything(&stores).await.into_iter().filter_map(|each| each.row);
        let sessions: Vec<RemRow> = rows.filter(|row| row.label == "session").collect();
        let mut seen: Vec<&str> = sessions.iter().map(|row| row.data["user"].as_str().unwrap()).collect();
        seen.sort_unstable();
        let mut all: Vec<&str> = users.iter().map(String::as_str).collect();
        all.sort_unstable();
        assert_eq!(seen, all);
        assert!(sessions.iter().all(|row| row.text.starts_with("2 requests, ")), "{sessions:?}");
    })
    .await;
}

#[tokio::test]
async fn rem_pages_of_what_is_old_go_in_one_step() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let old = |number: u32| {
            let id = RemId::from_bytes(u128::from(number).to_be_bytes());
            put(made(id, RemTable::Entities, scope().owner(), "old", "user", 1))
        };
        let writes: Vec<RemWrite> = (1..=2 * PAGE + 1).map(old).collect();
        stores.rem.as_ref().unwrap().rem_apply(&tenant("t"), &writes).await.unwrap();
        let mut filler = filler(&stores, &clock);
        assert!(!filler.work().await.unwrap());
        assert_eq!(everything(&stores).await, []);
        // Not again before the next round.
        stores.rem.as_ref().unwrap().rem_apply(&tenant("t"), &writes[..1]).await.unwrap();
        filler.work().await.unwrap();
        assert_eq!(everything(&stores).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn rem_what_is_near_a_text_is_known_however_often_it_is_written_and_forgotten_with_the_text() {
    on_both(async |stores| {
        let clock = Clock::manual(NOW);
        let embedder = Embedder::fixed(2, |text| match text {
            "a" => Ok(vec![1.0, 0.0]),
            "b" => Ok(vec![0.96, 0.28]),
            _ => Ok(vec![0.0, 1.0]),
        });
        let mut filler = with(&stores, &clock, settings(), Some(embedder));
        let rem = stores.rem.clone().unwrap();
        let mut near = async |body: serde_json::Value, now| {
            let writes = ingest::resources(&body, &scope(), now).unwrap();
            let writes = ingest::settle(&*rem, &scope(), writes).await.unwrap();
            rem.rem_apply(&tenant("t"), &writes).await.unwrap();
            while filler.work().await.unwrap() {}
            let id = named(&stores, "two").await.first().map(|row| row.id);
            let Some(id) = id else { return 0 };
            edges_of(&stores, id).await.iter().filter(|(kind, ..)| kind == "similar_to").count()
        };
        assert_eq!(near(json!({"name": "one", "content": "a"}), NOW).await, 0);
        assert_eq!(near(json!({"name": "two", "content": "b"}), NOW + 1).await, 1);
        assert_eq!(near(json!({"name": "two", "content": "b"}), NOW + 2).await, 1);
        assert_eq!(near(json!({"name": "two", "content": "b", "graph_edges": []}), NOW + 3).await, 1);
        assert_eq!(near(json!({"name": "two", "content": "c"}), NOW + 4).await, 0);
    })
    .await;
}
