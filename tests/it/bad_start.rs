//! The program refuses to start on anything that is not right, says what and what to do, and changes nothing.

use std::path::Path;

use remora::simulate::{self, Options};
use serde_json::Value;

use crate::child::{Home, says};
use crate::rig::chat;

/// A database with two answers in it, left behind by a program that ended in order.
async fn used(home: &Home, sim: &simulate::Handle) -> (String, String) {
    let running = home.start().await;
    let first = running.chat("sk-one", &chat("What is a remora?")).await;
    let second = running.chat("sk-one", &chat("What is a shark?")).await;
    assert_eq!((first.cache(), second.cache(), sim.stats().requests), ("MISS", "MISS", 2));
    running.stop().await;
    (first.content(), second.content())
}

async fn simulator() -> simulate::Handle {
    simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// It does not start, says all `words`, and leaves every file as it is.
async fn refuses(home: &Home, flags: &[&str], words: &[&str]) {
    let before = home.files();
    let said = home.refused(flags).await;
    says(&said, words);
    says(&said, &["remora: "]);
    assert!(!said.contains("panicked") && !said.contains("ready data="), "{said}");
    assert_eq!(home.files(), before, "a refused start changed a file: {said}");
}

fn damage(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = std::fs::read(path).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(path, file).unwrap();
}

#[tokio::test]
async fn a_misspelt_key_is_named_with_its_line_and_what_was_probably_meant() {
    let home = Home::nowhere().with("[cache]\nmode = \"exact\"\nsimilarty = 0.97");
    refuses(&home, &[], &["remora.toml:3:1", "cache.similarty", "did you mean", "similarity", "fix:"]).await;
    assert!(home.files().is_empty(), "nothing was created");
}

#[tokio::test]
async fn all_problems_are_told_at_once_by_serve_and_by_check() {
    let wrong = "[server]\nlisten = \"nonsense\"\ndrain = \"5 weeks\"\n[cache]\nttl = true\nmode = \"fuzzy\"\n\
                 [embedding]\nthreads = 0\n[nothing]\n";
    let home = Home::nowhere().with(wrong);
    let keys = ["server.drain", "cache.ttl", "cache.mode", "embedding.threads", "nothing"];
    // The flag replaces the address of the file.
    refuses(&home, &[], &keys).await;
    let checked = home.run(&["check", "--config", "remora.toml"]).await;
    says(checked.failed(1), &keys);
    says(&checked.err, &["server.listen", "remora.toml:2:", "remora.toml:3:", "remora.toml:5:", "6 problems"]);
    let checked = home.run(&["check", "--config", "remora.toml", "--json"]).await;
    assert_eq!((checked.code, checked.err.as_str()), (Some(1), ""));
    let told: Value = serde_json::from_str(&checked.out).unwrap();
    let told: Vec<&str> = told.as_array().unwrap().iter().map(|problem| problem["key"].as_str().unwrap()).collect();
    assert_eq!(told, ["server.listen", "server.drain", "cache.ttl", "cache.mode", "embedding.threads", "nothing"]);
}

#[tokio::test]
async fn check_says_yes_with_0_and_wrong_usage_is_2() {
    let home = Home::nowhere();
    home.write("good.toml", "[cache]\nttl = \"1h\"\n");
    says(home.run(&["check", "--config", "good.toml"]).await.ok(), &["valid"]);
    says(home.run(&["check"]).await.ok(), &["valid"]);
    assert_eq!(home.run(&["check", "--config", "good.toml", "--json"]).await.ok().trim(), "[]");
    says(home.run(&["check", "--config", "good.toml", "--print"]).await.ok(), &["[cache]", "ttl = \"1h\""]);
    says(home.run(&["check", "--config", "missing.toml"]).await.failed(1), &["missing.toml", "fix:"]);
    home.write("broken.toml", "[cache\nttl = 1\n");
    says(home.run(&["check", "--config", "broken.toml"]).await.failed(1), &["broken.toml:1:", "fix:"]);

    for wrong in [&["chekc"][..], &["serve", "--lisen", "x"], &["check", "--config"], &["migrate"], &["cache", "bogus"]]
    {
        says(home.run(wrong).await.failed(2), &["--help"]);
    }
    says(home.run(&["chekc"]).await.failed(2), &["check"]);
    says(home.run(&["--help"]).await.ok(), &["serve", "check", "simulate", "cache", "request", "migrate", "Example"]);
    says(home.run(&["--version"]).await.ok(), &["remora ", env!("CARGO_PKG_VERSION")]);
}

#[tokio::test]
async fn a_variable_of_the_environment_is_checked_like_a_key_of_the_file() {
    let home = Home::nowhere().env("REMORA__CACHE__TTL", "soon");
    refuses(&home, &[], &["REMORA__CACHE__TTL", "cache.ttl", "fix:"]).await;
    let home = Home::nowhere().env("REMORA__CACHE__TTTL", "1h");
    refuses(&home, &[], &["REMORA__CACHE__TTTL", "did you mean `ttl`", "set REMORA__CACHE__TTL instead"]).await;
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_address_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::nowhere().exact();
    refuses(&home, &["--listen", &address], &[&address, "already in use", "Stop it", "`listen` key or flag"]).await;
    refuses(&home, &["--admin-listen", &address], &[&address, "already in use", "Stop it", "`listen` key or flag"])
        .await;
    refuses(&home, &["--rem-listen", &address], &[&address, "already in use", "Stop it", "`listen` key or flag"]).await;
    assert!(home.files().is_empty(), "no database is made before the ports are ours");
    refuses(&home, &["--listen", "192.0.2.1:8080"], &["192.0.2.1:8080", "not an address of this machine"]).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_made_is_told_with_its_path() {
    let home = Home::nowhere().exact().env("REMORA__STORE__START_WAIT", "0s");
    let missing = home.path("no/such/remora.db");
    let url = format!("sqlite://{}", missing.display());
    let path = missing.display().to_string();
    refuses(&home, &["--store", &url], &[&path, "the directory does not exist", "[store] url"]).await;
    assert!(!home.path("no").exists(), "no directory is made up");
    // Nobody can create a file there, whoever runs the test.
    refuses(&home, &["--store", "sqlite:///proc/remora.db"], &["/proc/remora.db", "cannot be opened", "permissions"])
        .await;
    let directory = format!("sqlite://{}", home.dir.path().display());
    refuses(&home, &["--store", &directory], &["not a Remora database", "not changed"]).await;
    refuses(&home, &["--store", "mysql://u:p4ssword@h/db"], &["store.url", "sqlite://", "postgres://"]).await;
    // Nobody listens on the port for discarding.
    let gone = ["postgres://u@127.0.0.1:9/db", "cannot be reached", "[store] url"];
    refuses(&home, &["--store", "postgres://u:p4ssword@127.0.0.1:9/db"], &gone).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_of_ours_is_left_alone() {
    let home = Home::nowhere().exact();
    home.write("remora.db", "Dear diary, today I was almost overwritten by a proxy.\n".repeat(100));
    refuses(&home, &[], &["remora.db", "not a Remora database", "not changed", "Move the file away"]).await;

    let home = Home::nowhere().exact();
    let mut foreign = b"SQLite format 3\0".to_vec();
    foreign.resize(8192, 0);
    foreign[68..72].copy_from_slice(&0x4750_4B47_u32.to_be_bytes());
    home.write("remora.db", foreign);
    refuses(&home, &[], &["remora.db", "another program", "0x47504b47", "not changed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_program_is_refused_and_still_good_for_it() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    let (answer, _) = used(&home, &sim).await;
    let version = std::fs::read(home.database()).unwrap()[60..64].to_vec();
    // `user_version`, at offset 60 of the header (https://www.sqlite.org/fileformat2.html).
    damage(&home.database(), 60, &99_u32.to_be_bytes());
    refuses(&home, &[], &["remora.db", "schema 99", "not changed", "newer program", "backup"]).await;
    let store = format!("sqlite://{}", home.database().display());
    for action in [&["migrate", "up"][..], &["migrate", "down", "--to", "1"], &["migrate", "status"]] {
        let before = home.files();
        let ran = home.run(&[action, &["--store", &store]].concat()).await;
        says(ran.failed(1), &["schema 99", "newer program"]);
        assert_eq!(home.files(), before);
    }

    damage(&home.database(), 60, &version);
    let running = home.start().await;
    let again = running.chat("sk-one", &chat("What is a remora?")).await;
    assert_eq!((again.cache(), again.content()), ("HIT", answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_schema_waits_for_the_operator_if_told_so_and_loses_nothing() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact().with("[store]\nmigrate = \"manual\"");
    let (first, second) = used(&home, &sim).await;
    let store = format!("sqlite://{}", home.database().display());
    let down = home.run(&["migrate", "down", "--to", "1", "--store", &store]).await;
    says(down.ok(), &["indexes: done"]);
    refuses(&home, &[], &["schema 1", "needs schema 7", "remora migrate up", "migrate = \"auto\""]).await;
    says(home.run(&["migrate", "up", "--store", &store]).await.ok(), &["indexes: done"]);
    let running = home.start().await;
    for (prompt, answer) in [("What is a remora?", first), ("What is a shark?", second)] {
        let again = running.chat("sk-one", &chat(prompt)).await;
        assert_eq!((again.cache(), again.content()), ("HIT", answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_schema_is_brought_up_to_date_by_itself_otherwise() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    let (first, _) = used(&home, &sim).await;
    let store = format!("sqlite://{}", home.database().display());
    home.run(&["migrate", "down", "--to", "1", "--store", &store]).await.ok();
    let running = home.start().await;
    let again = running.chat("sk-one", &chat("What is a remora?")).await;
    assert_eq!((again.cache(), again.content()), ("HIT", first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_refused_and_not_touched() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    used(&home, &sim).await;
    let whole = std::fs::read(home.database()).unwrap();
    let advice = ["remora.db", "damaged", "not changed", "Restore a backup"];
    // A page of a table, in the middle.
    let page = whole.len() / 8192 / 2 * 8192;
    damage(&home.database(), page, &[0xa5; 4096]);
    refuses(&home, &[], &advice).await;
    // A copy that was not finished.
    std::fs::write(home.database(), &whole[..whole.len() / 2]).unwrap();
    refuses(&home, &[], &advice).await;
    std::fs::write(home.database(), &whole).unwrap();
    home.start().await.stop().await;
}

#[tokio::test]
async fn an_unknown_guard_is_named_with_those_there_are() {
    let home = Home::nowhere().with("[cache]\nguards_off = [\"numbrs\"]");
    refuses(&home, &[], &["guards_off", "numbrs", "numbers"]).await;
    assert!(home.files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_file_of_the_wrong_length_is_never_replaced() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    used(&home, &sim).await;
    let secret = home.path("remora.db.key");
    let good = std::fs::read(&secret).unwrap();
    assert_eq!(good.len(), 32);
    for wrong in [&b""[..], &good[..31], &[1; 33]] {
        std::fs::write(&secret, wrong).unwrap();
        let length = format!("{} bytes, not 32", wrong.len());
        refuses(&home, &[], &["remora.db.key", &length, "secret_file"]).await;
    }
    std::fs::write(&secret, good).unwrap();
    home.start().await.stop().await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_told_with_their_file() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let cases = [
        (Some("not PEM"), Some(key.as_str()), "cert.pem"),
        (Some(key.as_str()), Some(key.as_str()), "cert.pem"),
        (Some(cert.as_str()), Some(cert.as_str()), "key.pem"),
        (Some(cert.as_str()), None, "key.pem"),
        (Some(cert.as_str()), Some(&other.signing_key.serialize_pem()), "cannot be used together"),
    ];
    for section in ["server.tls", "admin.tls"] {
        for (cert, key, named) in cases {
            let home = Home::nowhere().exact().with(&format!("[{section}]\ncert = \"cert.pem\"\nkey = \"key.pem\""));
            for (name, content) in [("cert.pem", cert), ("key.pem", key)] {
                content.map(|content| home.write(name, content));
            }
            refuses(&home, &[], &[named]).await;
            assert!(!home.database().exists(), "nothing is made before the certificate is good");
        }
        let half = Home::nowhere().exact().with(&format!("[{section}]\ncert = \"cert.pem\""));
        half.write("cert.pem", &cert);
        refuses(&half, &[], &["both `cert` and `key`", "fix:"]).await;
    }
}

#[tokio::test]
async fn an_admin_plane_for_everybody_needs_a_token() {
    let home = Home::nowhere().exact();
    refuses(&home, &["--admin-listen", "0.0.0.0:0"], &["admin", "token", "fix:"]).await;
}
