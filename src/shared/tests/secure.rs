//! Passwords, TLS and clusters.

use crate::config::Secret;

use super::*;

const KEY: Digest = [7; 32];
const VALUE: Bytes = Bytes::from_static(b"answer");

/// All of the interface once.
async fn works(settings: &config::Redis) -> Shared {
    let space = space();
    let (one, two) = (ready(settings, &space).await, ready(settings, &space).await);
    let Lease::Held(guard) = one.lease(&KEY).await else { panic!("nobody else is there") };
    assert!(matches!(two.lease(&KEY).await, Lease::Taken));
    one.put(KEY, VALUE, PATIENT * 30);
    guard.release();
    assert_eq!(two.await_holder(&KEY, Instant::now() + PATIENT * 60).await, Some(VALUE));
    assert_eq!(two.get(&KEY).await, Some(VALUE));
    // Said again and again, because the subscription may come after the first.
    for _ in 0..100 {
        one.wake();
        if tokio::time::timeout(Duration::from_millis(100), two.woken()).await.is_ok() {
            return one;
        }
    }
    panic!("no wake-up is heard");
}

async fn never_works(settings: &config::Redis) {
    let shared = Shared::connect(settings, &space()).unwrap();
    eventually("it was tried twice", || shared.stats().connects >= 2).await;
    assert_eq!(shared.get(&KEY).await, None);
    assert!(!shared.stats().up && shared.stats().asked == 0, "{:?}", shared.stats());
}

#[tokio::test]
async fn the_right_password_is_let_in_and_a_wrong_one_is_a_redis_that_is_away() {
    let server = Server::start(&["--requirepass", "right"]);
    let given = |password: &str| Some(Secret::new(password.to_owned()));
    let plain = || server.settings();
    works(&config::Redis { password: given("right"), ..plain() }).await;
    works(&settings(&format!("redis://:right@127.0.0.1:{}", server.port))).await;
    never_works(&config::Redis { password: given("wrong"), ..plain() }).await;
    never_works(&plain()).await;
}

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_trusted_and_another_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = write("cert.pem", &own.cert.pem());
    let key = write("key.pem", &own.signing_key.serialize_pem());
    let stranger = write("stranger.pem", &other.cert.pem());
    let (cert_path, key_path) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let server = Server::start(&[
        "--tls-port",
        "PORT",
        "--tls-cert-file",
        cert_path,
        "--tls-key-file",
        key_path,
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://127.0.0.1:{}", server.port);
    works(&config::Redis { ca_file: Some(cert.clone()), ..settings(&url) }).await;
    never_works(&config::Redis { ca_file: Some(stranger), ..settings(&url) }).await;
    never_works(&settings(&url)).await;
    never_works(&settings(&server.url())).await;

    let broken = config::Redis { ca_file: Some(key.clone()), ..settings(&url) };
    assert!(Shared::connect(&broken, &space()).is_err(), "a file without a certificate");
}

#[tokio::test]
async fn a_cluster_of_one_node_does_all_of_it() {
    let mut server = Server::start(&["--cluster-enabled", "yes"]);
    let form = |server: &Server| {
        server.order::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
        for _ in 0..1000 {
            if server.order::<String>("CLUSTER INFO").contains("cluster_state:ok") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the cluster is never well");
    };
    form(&server);
    let settings = config::Redis { cluster: true, ..settings(&server.url()) };
    let shared = works(&settings).await;
    let keys: Vec<Digest> = (0..50).map(|number| [number; 32]).collect();
    for key in &keys {
        shared.put(*key, VALUE, PATIENT * 30);
    }
    written(&shared).await;
    for key in &keys {
        assert_eq!(shared.get(key).await, Some(VALUE));
    }
    server.order::<()>("SCRIPT FLUSH");
    assert!(matches!(shared.lease(&[60; 32]).await, Lease::Held(_)), "the scripts are loaded again");
    shared.forget(keys.clone());
    written(&shared).await;
    for key in &keys {
        assert_eq!(shared.get(key).await, None);
    }
    let stats = shared.stats();
    assert_eq!((stats.refused, stats.timeouts, stats.dropped, stats.opened), (0, 0, 0, 0), "{stats:?}");

    // Its own file remembers the slots.
    server.kill();
    eventually("it is noticed", || !shared.stats().up).await;
    server.restart();
    eventually("it is up again", || shared.stats().up).await;
    shares(&shared, KEY, &VALUE).await;
}
