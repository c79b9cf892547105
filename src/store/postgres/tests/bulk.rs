//! How fast many rows are written, as a copy does it. Ignored: it measures and takes minutes.
//!
//! `BULK=1.0 cargo nextest run --run-ignored only --no-capture --lib bulk` is the full size: 200,000 entries with
//! vectors of 384 dimensions and 1,000,000 rows of the ledger; BULK=0.1 is a tenth of it.

use std::time::Instant;

use super::super::super::sample::{entry, point, put_entry, row};
use super::super::super::{LedgerRow, Point};
use super::*;

const MONTH_MS: u64 = 30 * 86_400_000;

#[tokio::test]
#[ignore = "measures, takes minutes"]
async fn entries_and_ledger_rows_are_written_in_bulk() {
    let part: f64 = env::var("BULK").ok().and_then(|text| text.parse().ok()).unwrap_or(0.05);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive share of a small number")]
    let of = |whole: f64| (whole * part) as u64;
    let (entries, rows) = (of(200_000.0), of(1_000_000.0));
    let temp = TempDatabase::open().await;
    let stores = temp.stores();
    temp.store.defer_vector_index();
    let mut random = fastrand::Rng::with_seed(1);
    let began = Instant::now();
    for first in (0..entries).step_by(512) {
        let writes: Vec<_> = (first..entries.min(first + 512))
            .map(|number| {
                let vector: Vec<f32> = (0..384).map(|_| (random.f32() - 0.5) / 8.0).collect();
                let space = Some("minilm@1/384".to_owned());
                let point = Point { vector: Some(vector), space, ..point("t", number, 0) };
                put_entry(entry("t", number), vec![point])
            })
            .collect();
        stores.entries.apply(&writes).await.unwrap();
    }
    println!("{entries} entries with vectors: {:?}", began.elapsed());
    let began = Instant::now();
    temp.store.build_vector_index().await.unwrap();
    println!("their index: {:?}", began.elapsed());
    let began = Instant::now();
    for first in (0..rows).step_by(2_048) {
        let batch: Vec<_> = (first..rows.min(first + 2_048))
            .map(|number| LedgerRow {
                started_at: 1_760_000_000_000 + number * 12 * MONTH_MS / rows,
                ..row("t", number)
            })
            .collect();
        stores.ledger.append(&batch).await.unwrap();
    }
    println!("{rows} rows of the ledger in 13 months: {:?}", began.elapsed());
    assert_eq!(stores.entries.counts().await.unwrap().entries, entries);
    assert_eq!(stores.ledger.count().await.unwrap(), rows);
    let began = Instant::now();
    let mut after = None;
    loop {
        let page = stores.entries.scan(0, after.as_ref(), 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.meta.cursor());
    }
    println!("all entries scanned: {:?}", began.elapsed());
}
