//! Whatever is done to the audit behind the program's back, the chain tells.

use std::sync::Arc;

use super::conformance::Fixture;
use super::postgres::tests::TempDatabase;
use super::sample::{audit_id, audit_row};
use super::sqlite::files::TempStore;
use super::{AuditRow, AuditVerdict, Stores, verify_audit};
use crate::ids::AuditId;

/// A database with an audit, to which somebody has access who knows SQL.
trait Exposed: Fixture {
    /// Makes the tables take changes, as the owner of a database can.
    const DISARM: &str;
    async fn sql(&self, text: &str);
}

impl Exposed for TempStore {
    const DISARM: &str = "DROP TRIGGER admin_audit_keeps_what_it_says; DROP TRIGGER admin_audit_keeps_its_rows; \
        DROP TRIGGER audit_chain_keeps_what_it_says; DROP TRIGGER audit_chain_keeps_its_rows";

    async fn sql(&self, text: &str) {
        self.run(text).await;
    }
}

impl Exposed for TempDatabase {
    const DISARM: &str = "DROP TRIGGER keeps_its_rows ON admin_audit; DROP TRIGGER keeps_its_rows ON audit_chain";

    async fn sql(&self, text: &str) {
        self.database.sql(text).await;
    }
}

async fn ten(stores: &Stores) {
    for number in 1..=10 {
        stores.audit.record(&audit_row(number), &[]).await.unwrap();
    }
}

async fn verdict(stores: &Stores) -> AuditVerdict {
    verify_audit(&*stores.audit).await.unwrap()
}

/// What is done, the row at which it is found, and what is said of it. `ID n` stands for the id of row n.
const DEEDS: [(&str, u64, &str); 9] = [
    ("UPDATE admin_audit SET actor = 'nobody' WHERE id = ID 4", 4, "not what was recorded"),
    ("UPDATE admin_audit SET reason = NULL WHERE id = ID 4", 4, "not what was recorded"),
    ("UPDATE admin_audit SET what = 'x' WHERE id = ID 10", 10, "not what was recorded"),
    ("DELETE FROM admin_audit WHERE id = ID 1", 1, "row 1 is missing"),
    ("DELETE FROM admin_audit WHERE id = ID 5; DELETE FROM audit_chain WHERE seq = 5", 5, "row 5 is missing"),
    ("DELETE FROM admin_audit WHERE id > ID 8; DELETE FROM audit_chain WHERE seq > 8", 9, "9 to 10 are missing"),
    ("DELETE FROM admin_audit WHERE id > ID 0", 1, "1 to 10 are missing"),
    ("UPDATE audit_head SET hash = (SELECT hash FROM audit_chain WHERE seq = 9)", 10, "another hash"),
    ("DELETE FROM audit_head", 1, "the head of the chain is gone"),
];

async fn is_found<D: Exposed>(literal: impl Fn(u64) -> String) {
    for (deed, at, why) in DEEDS {
        let database = D::open().await;
        let stores = database.stores();
        ten(&stores).await;
        assert!(verdict(&stores).await.ok);
        database.sql(D::DISARM).await;
        let mut deed = deed.to_owned();
        for number in (0..=10).rev() {
            deed = deed.replace(&format!("ID {number}"), &literal(number));
        }
        database.sql(&deed).await;
        let found = verdict(&stores).await;
        assert_eq!((found.ok, found.broken_at), (false, Some(at)), "{deed}: {found:?}");
        assert!(found.why.clone().unwrap_or_default().contains(why), "{deed}: {found:?}");
    }
}

fn hex(number: u64) -> String {
    audit_id(number).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn whatever_is_changed_or_taken_away_in_a_file_is_found() {
    is_found::<TempStore>(|number| format!("x'{}'", hex(number))).await;
}

#[tokio::test]
async fn whatever_is_changed_or_taken_away_on_a_server_is_found() {
    is_found::<TempDatabase>(|number| format!("'\\x{}'::bytea", hex(number))).await;
}

#[tokio::test]
async fn the_chain_has_no_gap_however_many_replicas_add_to_it() {
    const TASKS: u64 = 8;
    const ROWS: u64 = 12;
    let database = TempDatabase::open().await;
    let replicas = [database.stores(), database.database.open().await.stores()];
    let tasks = (0..TASKS).map(|task| {
        let stores = replicas[usize::try_from(task).unwrap() % 2].clone();
        tokio::spawn(async move {
            for number in 1..=ROWS {
                let row = audit_row(task * 1_000 + number);
                if number % 3 > 0 {
                    stores.audit.record(&row, &[]).await.unwrap();
                    continue;
                }
                let mut done = None;
                while done.is_none() {
                    let seen = stores.directory.directory_version().await.unwrap();
                    let rows = std::slice::from_ref(&row);
                    done = stores.directory.change_directory(seen, &[], rows).await.unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let found = verdict(&replicas[0]).await;
    assert_eq!((found.ok, found.rows, found.why), (true, TASKS * ROWS, None));
    assert_eq!(replicas[0].directory.directory_version().await.unwrap(), TASKS * ROWS / 3);
}

fn is_adopted(row: &AuditRow, ids: &[AuditId]) {
    let said: serde_json::Value = serde_json::from_str(&row.what).unwrap();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!((&*row.action, &said["ids"]), ("audit.adopted", &serde_json::json!(ids)));
}

#[tokio::test]
async fn rows_of_an_older_program_are_taken_into_the_chain_when_the_database_is_opened() {
    let temp = TempStore::open().await;
    ten(&temp.stores()).await;
    // An older program does not know the chain.
    let add = |number| {
        format!(
            "INSERT INTO admin_audit (id, at, actor, action, what, result) VALUES (x'{}', 1, 'a', 'b', '', '');",
            hex(number)
        )
    };
    temp.run(&(add(12) + &add(11))).await;
    let found = verdict(&temp.stores()).await;
    assert_eq!((found.ok, found.rows, found.broken_at), (false, 10, None));
    assert!(found.why.unwrap().starts_with("2 rows of the audit are not in the chain"));
    let again = temp.again().await;
    let found = verdict(&again.stores()).await;
    assert_eq!((found.ok, found.rows), (true, 13));
    let mut last = again.stores().audit.audit_chain(10, 10).await.unwrap();
    is_adopted(&last.pop().unwrap().row, &[audit_id(11), audit_id(12)]);
    assert_eq!(last.iter().map(|link| link.row.id).collect::<Vec<_>>(), [audit_id(11), audit_id(12)]);
    again.close().await;

    let database = TempDatabase::open().await;
    database.sql("INSERT INTO admin_audit (id, at, actor, action, what, result) VALUES ('\\x00112233445566778899aabbccddeeff', 1, 'a', 'b', '', '')").await;
    let again: Arc<_> = database.database.open().await;
    let found = verdict(&again.stores()).await;
    assert_eq!((found.ok, found.rows), (true, 1), "the chain begins with it");
    database.sql("INSERT INTO admin_audit (id, at, actor, action, what, result) VALUES ('\\x01112233445566778899aabbccddeeff', 1, 'a', 'b', '', '')").await;
    let found = verdict(&again.stores()).await;
    assert_eq!((found.ok, found.rows, found.broken_at), (false, 1, None));
    let third: Arc<_> = database.database.open().await;
    let mut chain = third.stores().audit.audit_chain(1, 10).await.unwrap();
    is_adopted(&chain.pop().unwrap().row, &[chain[0].row.id]);
    assert!(verdict(&third.stores()).await.ok);
}
