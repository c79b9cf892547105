//! What a commit has confirmed survives the death of the process at any moment.
//!
//! The test starts itself again as a child that writes and reports each commit, and kills the child with a signal it
//! cannot catch. A missing confirmation proves nothing, so only what was reported is looked for.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::sample::{delete, entry, entry_id, point, put, request_id, row, tenant};
use super::super::{SqliteStore, Stores};
use crate::config::Migrate;

const CHILD_PATH: &str = "REMORA_TEST_CRASH_PATH";
const CHILD_FIRST: &str = "REMORA_TEST_CRASH_FIRST";
const BATCH: u64 = 20;
const KILLS: u64 = 20;

/// The child: not a test by itself.
#[test]
#[ignore = "run as a child by the test below"]
fn child_that_writes_until_it_is_killed() {
    let (Ok(path), Ok(first)) = (std::env::var(CHILD_PATH), std::env::var(CHILD_FIRST)) else { return };
    let first: u64 = first.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stores = SqliteStore::open(Path::new(&path), Migrate::Auto).await.unwrap().stores();
        println!("\nopened");
        // Far more than can be written before the parent kills us.
        for start in (first..first + 1_000_000).step_by(BATCH.try_into().unwrap()) {
            write_batch(&stores, start).await;
            println!("\nwritten {start}");
        }
    });
}

/// Entries `start..start + BATCH`, each a ledger row as well; the first entry is deleted again.
async fn write_batch(stores: &Stores, start: u64) {
    let numbers = start..start + BATCH;
    let writes: Vec<_> = numbers.clone().map(|number| put("t", number)).collect();
    stores.entries.apply(&writes).await.unwrap();
    stores.entries.apply(&[delete("t", start)]).await.unwrap();
    let rows: Vec<_> = numbers.map(|number| row("t", number)).collect();
    stores.ledger.append(&rows).await.unwrap();
}

fn start_child(path: &Path, first: u64) -> Child {
    let module = module_path!().split_once("::").unwrap().1;
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::child_that_writes_until_it_is_killed"), "--ignored", "--nocapture"])
        .env(CHILD_PATH, path)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child write for a while, kills it, and returns the batches it reported.
fn written_until_killed(path: &Path, first: u64, round: u64) -> Vec<u64> {
    let mut child = start_child(path, first);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // Every third child dies while it opens or creates the database, the others while they write.
    let mut seen = String::new();
    if !round.is_multiple_of(3) {
        while !seen.contains("opened") {
            assert_ne!(output.read_line(&mut seen).unwrap(), 0, "the child ended by itself: {seen}");
        }
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(..60_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_string(&mut seen).unwrap();
    // The last line may be cut off, and then it is not a confirmation.
    let whole = &seen[..seen.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().filter_map(|line| line.strip_prefix("written ")).map(|start| start.parse().unwrap()).collect()
}

async fn assert_all_there(stores: &Stores, batches: &[u64]) {
    for start in batches {
        assert_eq!(stores.entries.entry(&tenant("t"), entry_id(*start)).await.unwrap(), None);
        for number in *start..start + BATCH {
            assert_eq!(stores.ledger.request(request_id(number)).await.unwrap(), Some(row("t", number)));
            if number > *start {
                let found = stores.entries.entry(&tenant("t"), entry_id(number)).await.unwrap();
                assert_eq!(found, Some(entry("t", number)));
                let points = stores.entries.points_of(&tenant("t"), entry_id(number)).await.unwrap();
                assert_eq!(points, [point("t", number, 0), point("t", number, 1)]);
            }
        }
    }
}

#[tokio::test]
async fn everything_confirmed_survives_being_killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    let mut all = Vec::new();
    for round in 0..KILLS {
        let first = round * 1_000_000;
        let written = written_until_killed(&path, first, round);
        // Opening checks the file for damage.
        let store = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
        let stores = store.stores();
        assert_all_there(&stores, &written).await;
        all.extend(written);
        // A transaction is there as a whole or not at all.
        assert_eq!(stores.ledger.count().await.unwrap() % BATCH, 0);
        // Half of the time the next child finds the log as the parent leaves it when it dies too.
        if round.is_multiple_of(2) {
            store.close().await;
        }
    }
    assert!(all.len() as u64 > KILLS, "the children hardly wrote: {all:?}");
    let store = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
    assert_all_there(&store.stores(), &all).await;
}
