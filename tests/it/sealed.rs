//! Encryption at rest with the real program: everything still hits, and the bytes on the disk give nothing away.
//!
//! Every scan is also made of a control that seals nothing, where it must find what it looks for.

use std::path::{Path, PathBuf};
use std::process::Command;

use http::{Method, StatusCode};
use memchr::memmem;
use remora::config::Migrate;
use remora::simulate::{self, Options};
use remora::store::sealed::KEY_NOTES;
use remora::store::{Database, Stores};
use serde_json::Value;

use crate::child::{Home, Running, says, until};
use crate::fleet::{self, service};
use crate::rig::chat;

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const CANARY: &str = "What is the capital of the land of Quibblefrost?";
const SAME_WORDS: &str = "what is the capital of the land of quibblefrost";
const REWORDED: &str = "What is the capital city of the land of Quibblefrost?";
/// Without audits: one that happens to be made of the reworded prompt stores it, and then it is an exact hit.
const PLAIN: &str = "[embedding]\ndeadline = \"20s\"\n[cache]\nrecord_prompts = true\n[cache.audit]\nrate = 0";
const SEALED: &str = "\n[store]\nseal = \"all\"\nmaster_key_env = \"MASTER\"";

/// What must not be found.
struct Needles(Vec<(&'static str, Vec<u8>)>);

impl Needles {
    /// Those of these needles that are in a file below one of the directories.
    fn found(&self, directories: &[&Path]) -> Vec<&'static str> {
        let mut found: Vec<&'static str> = Vec::new();
        for directory in directories {
            walk(directory, &mut |content| {
                for (name, bytes) in &self.0 {
                    if !found.contains(name) && memmem::find(content, bytes).is_some() {
                        found.push(name);
                    }
                }
            });
        }
        found.sort_unstable();
        found
    }
}

fn walk(directory: &Path, look: &mut dyn FnMut(&[u8])) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, look);
        } else if let Ok(content) = std::fs::read(&path) {
            // A file may have gone meanwhile; a socket cannot be read.
            look(&content);
        }
    }
}

async fn simulator() -> simulate::Handle {
    simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn sealed_home(sim: &simulate::Handle) -> Home {
    Home::new(&sim.url()).with(&format!("{PLAIN}{SEALED}")).env("MASTER", OLD)
}

fn control_home(sim: &simulate::Handle) -> Home {
    Home::new(&sim.url()).with(PLAIN)
}

async fn serve(home: &Home, url: &str) -> Running {
    home.serve(&["--store", url]).ready().await
}

async fn stores(url: &str) -> (Database, Stores) {
    let database = Database::open(&url.parse().unwrap(), Migrate::Auto).await.unwrap();
    let stores = database.stores();
    (database, stores)
}

/// Asks until there is an answer, hits in every way, before and after a restart, and then kills the program so that its
/// logs stay as they are. Returns the answer, and the tenant.
async fn use_it(home: &Home, url: &str) -> (String, String) {
    let running = serve(home, url).await;
    let first = running.chat("sk-a", &chat(CANARY)).await;
    assert_eq!(first.cache(), "MISS", "{}", first.text());
    let tenant = running.row(&first).await["tenant"].as_str().unwrap().to_owned();
    hits(&running, &first.content()).await;
    running.stop().await;
    let mut running = serve(home, url).await;
    hits(&running, &first.content()).await;
    let last = running.chat("sk-a", &chat("Who lives in the land of Quibblefrost in winter?")).await;
    running.row(&last).await;
    running.child.signal("KILL");
    running.child.ended().await;
    (first.content(), tenant)
}

async fn hits(running: &Running, answer: &str) {
    for (asked, tier) in [(CANARY, Some("exact")), (SAME_WORDS, None), (REWORDED, Some("semantic"))] {
        let hit = running.chat("sk-a", &chat(asked)).await;
        assert_eq!(hit.cache(), "HIT", "{asked}: {}", hit.reason());
        if let Some(tier) = tier {
            assert_eq!(hit.header("x-remora-tier"), tier, "{asked}");
        }
        assert_eq!(hit.content(), answer);
    }
}

/// Prompt, answer and vector, as a store that seals nothing has them.
async fn needles(url: &str, answer: &str) -> Needles {
    let (database, stores) = stores(url).await;
    let all = stores.entries.export(None, 10).await.unwrap();
    let point = all.iter().flat_map(|each| &each.points).find(|point| point.prompt.as_deref() == Some(CANARY)).unwrap();
    let vector = point.vector.as_ref().unwrap();
    let bytes: Vec<u8> = vector[100..104].iter().flat_map(|x| x.to_le_bytes()).collect();
    database.close().await;
    // A part of the answer that is not in the prompt, and that JSON writes as it is.
    let at = answer.find("Simulated answer, conversation ").unwrap();
    Needles(vec![("answer", answer[at..at + 47].into()), ("prompt", CANARY.into()), ("vector", bytes)])
}

/// The wrapped keys in the database, or what stands in their place.
async fn key_notes(url: &str) -> Vec<String> {
    let (database, stores) = stores(url).await;
    let notes = stores.notes.notes_of(KEY_NOTES).await.unwrap();
    database.close().await;
    notes.into_iter().filter(|(name, _)| !name.ends_with("master")).map(|(_, text)| text).collect()
}

fn wrapped(notes: &[String]) -> Needles {
    let [note] = notes else { panic!("one tenant, one key: {notes:?}") };
    let text = note.rsplit(' ').next().unwrap();
    assert!(note.starts_with("v1 ") && text.len() > 60, "{note}");
    Needles(vec![("key", text.into())])
}

/// Deletes while the program runs; what was deleted is no hit any more and nothing new is kept.
async fn delete_running(running: &Running, tenant: &str) {
    let deleted = running.admin(Method::DELETE, &format!("/admin/v1/tenants/{tenant}/data"), None).await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.text());
    let told = deleted.json();
    assert_eq!((&told["shredded"], &told["purged"]), (&Value::Bool(true), &Value::Bool(true)), "{told}");
    assert!(told["removed"].as_u64().unwrap() >= 1 && told["decisions"].as_u64().unwrap() >= 1, "{told}");
    let audit = running.told("/admin/v1/audit").await;
    assert!(audit.to_string().contains("tenant.data.delete"), "{audit}");
    let again = running.chat("sk-a", &chat(CANARY)).await;
    assert_eq!(again.cache(), "MISS", "{}", again.text());
    let dropped = || async {
        let told = running.told("/admin/v1/store").await;
        told["sealed"]["dropped"].as_u64().filter(|dropped| *dropped > 0)
    };
    until("the late write to be dropped", dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_sqlite_hits_in_every_way_and_its_files_give_nothing_away_before_and_after_a_delete() {
    let sim = simulator().await;
    let control = control_home(&sim);
    let at = |home: &Home| format!("sqlite://{}", home.database().display());
    let (answer, _) = use_it(&control, &at(&control)).await;
    let before = control.dir.path().to_owned();
    // The scan is made of what was left behind by the kill; opening the store comes after.
    let kept = tempfile::tempdir().unwrap();
    copy_tree(&before, kept.path());
    let needles = needles(&at(&control), &answer).await;
    assert_eq!(needles.found(&[kept.path()]), ["answer", "prompt", "vector"], "the scan finds what is there");

    let home = sealed_home(&sim);
    let url = at(&home);
    let (same, tenant) = use_it(&home, &url).await;
    assert_eq!(same, answer, "the simulator answers alike");
    assert!(home.path("remora.db-wal").metadata().unwrap().len() > 0, "the log is scanned too");
    assert!(needles.found(&[home.dir.path()]).is_empty(), "{:?}", needles.found(&[home.dir.path()]));
    let key = wrapped(&key_notes(&url).await);
    assert_eq!(key.found(&[home.dir.path()]), ["key"]);

    let running = serve(&home, &url).await;
    delete_running(&running, &tenant).await;
    running.stop().await;
    let notes = key_notes(&url).await;
    assert!(notes.len() == 1 && notes[0].starts_with("shredded "), "{notes:?}");
    assert!(key.found(&[home.dir.path()]).is_empty(), "the wrapped key is in no file any more");
    assert!(needles.found(&[home.dir.path()]).is_empty());
    let running = serve(&home, &url).await;
    assert_eq!(running.told("/admin/v1/cache/stats").await["entries"], 0);
    assert!(running.told("/admin/v1/requests").await.to_string().contains(&tenant), "the ledger stays");
    running.stop().await;
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_master_key_reads_everything_and_the_old_one_is_refused() {
    let sim = simulator().await;
    let home = sealed_home(&sim).env("NEXT", NEW);
    let url = format!("sqlite://{}", home.database().display());
    let (answer, tenant) = use_it(&home, &url).await;
    let refused = home.run(&["rotate-master", "--store", &url, "--old-env", "NEXT", "--new-env", "NEXT"]).await;
    says(refused.failed(1), &["neither the old nor the new master key"]);
    let rotate = ["rotate-master", "--store", url.as_str(), "--old-env", "MASTER", "--new-env", "NEXT"];
    says(home.run(&rotate).await.ok(), &["1 data keys are wrapped by the new master key now"]);
    says(home.run(&rotate).await.ok(), &["0 data keys", "1 were before"]);
    says(&home.refused(&["--store", &url]).await, &["master key is not the one", "master_key_env"]);

    let home = home.env("REMORA__STORE__MASTER_KEY_ENV", "NEXT");
    let running = serve(&home, &url).await;
    hits(&running, &answer).await;
    let in_use = home.run(&["tenant", "delete", &tenant, "--store", &url]).await;
    says(in_use.failed(1), &["in use"]);
    running.stop().await;
    says(home.run(&["tenant", "delete", &tenant, "--store", &url]).await.ok(), &["entries", "key is shredded"]);
    let running = serve(&home, &url).await;
    assert_eq!(running.chat("sk-a", &chat(CANARY)).await.cache(), "MISS");
    running.stop().await;
    says(home.run(&["tenant", "reopen", &tenant, "--store", &url]).await.ok(), &["new data key"]);
    let running = serve(&home, &url).await;
    assert_eq!(running.chat("sk-a", &chat(CANARY)).await.cache(), "MISS");
    running.stop().await;
    let running = serve(&home, &url).await;
    assert_eq!(running.chat("sk-a", &chat(CANARY)).await.cache(), "HIT", "under a new key");
    running.stop().await;
}

#[tokio::test]
async fn sealing_without_a_usable_master_key_is_refused_with_advice() {
    let home = Home::nowhere().with("[store]\nseal = \"all\"");
    says(&home.refused(&[]).await, &["store.master_key_file", "there is no master key", "openssl rand -hex 32"]);
    let home =
        Home::nowhere().with("[store]\nseal_tenants = [\"a\"]\nmaster_key_env = \"MASTER\"").env("MASTER", "short");
    let said = home.refused(&[]).await;
    says(&said, &["store.master_key_env", "64 hexadecimal digits"]);
    assert!(!said.contains("short"), "{said}");
    assert!(home.files().is_empty(), "nothing was created");
}

/// A PostgreSQL server of this test's own, stopped at the end.
struct Server {
    directory: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let bin = PathBuf::from(service("REMORA_PG_BIN"));
        let directory = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = Self { directory, bin, port };
        if is_root() {
            let owned = Command::new("chown").args(["65534:65534"]).arg(server.directory.path()).status().unwrap();
            assert!(owned.success());
        }
        let data = server.data().display().to_string();
        server.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let log = server.directory.path().join("server.log").display().to_string();
        let options = format!("-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off -c log_statement=none");
        server.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
        server
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// PostgreSQL refuses to run as root.
    fn run(&self, program: &str, args: &[&str]) {
        let path = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let null = std::process::Stdio::null;
        let status = command.args(args).current_dir("/").env("HOME", "/tmp").stdout(null()).stderr(null()).status();
        assert!(status.unwrap().success(), "{program} {args:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data().display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_postgres_hits_in_every_way_and_its_data_directory_gives_nothing_away() {
    let server = Server::start();
    let sim = simulator().await;
    let home = sealed_home(&sim);
    let database = fleet::Database::on(&server.url()).await;
    let (answer, tenant) = use_it(&home, &database.url()).await;

    // Another server, or what it has would be found in the first.
    let other = Server::start();
    let control = control_home(&sim);
    let clear = fleet::Database::on(&other.url()).await;
    let (same, _) = use_it(&control, &clear.url()).await;
    assert_eq!(same, answer);
    let needles = needles(&clear.url(), &answer).await;
    clear.run("CHECKPOINT").await;
    assert_eq!(needles.found(&[&other.data()]), ["answer", "prompt", "vector"], "the scan finds what is there");

    database.run("CHECKPOINT").await;
    let everywhere = [server.data(), home.dir.path().to_owned()];
    let places: Vec<&Path> = everywhere.iter().map(PathBuf::as_path).collect();
    assert!(needles.found(&places).is_empty(), "{:?}", needles.found(&places));
    let key = wrapped(&key_notes(&database.url()).await);
    assert_eq!(key.found(&[&server.data().join("base")]), ["key"]);

    let running = serve(&home, &database.url()).await;
    delete_running(&running, &tenant).await;
    running.stop().await;
    database.run("CHECKPOINT").await;
    let notes = key_notes(&database.url()).await;
    assert!(notes.len() == 1 && notes[0].starts_with("shredded "), "{notes:?}");
    // The log of the server keeps it until it is recycled; see docs/encryption.md.
    assert!(key.found(&[&server.data().join("base")]).is_empty(), "the wrapped key is in no table any more");
    assert!(needles.found(&places).is_empty());
    let running = serve(&home, &database.url()).await;
    assert_eq!(running.told("/admin/v1/cache/stats").await["entries"], 0);
    running.stop().await;
}
