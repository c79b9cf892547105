//! TLS: handshake, protocol choice, and certificates that change while the listener runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, Server, deadlines, eventually, limits, local, read_all, statuses};
use crate::config::{Deadlines, Tls};
use crate::server::Listener;
use crate::server::tls::Certificate;

/// Writes a new self-signed certificate and its key.
fn write_pair(files: &Tls) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn files(directory: &Path) -> Tls {
    Tls { cert: directory.join("cert.pem"), key: directory.join("key.pem") }
}

fn server(files: &Tls, deadlines: &Deadlines) -> Server {
    let certificate = Certificate::load(files).unwrap().checked_every(Duration::from_millis(10));
    let listener = Listener::bind(local(), Some(files), &limits(), deadlines).unwrap();
    Server::on(listener.with_certificate(certificate))
}

async fn connect(
    server: &Server,
    trusted: &CertificateDer<'static>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn both_tls_versions_and_both_protocols_are_offered() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let trusted = write_pair(&files);
    let server = server(&files, &deadlines());
    for (version, number) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut socket = connect(&server, &trusted, &["http/1.1"], &[version]).await.unwrap();
        assert_eq!(socket.get_ref().1.protocol_version(), Some(number));
        socket.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert_eq!(statuses(&read_all(&mut socket).await), [200]);
        // The strict checks hold inside TLS too, and a refused request does not lose its answer.
        let mut socket = connect(&server, &trusted, &[], &[version]).await.unwrap();
        socket.write_all(b"GET /x HTTP/1.1\r\n\r\nmore that nobody reads").await.unwrap();
        assert_eq!(statuses(&read_all(&mut socket).await), [400]);
    }
    let socket = connect(&server, &trusted, &["h2", "http/1.1"], BOTH).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/x").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_handshake_that_hangs_or_is_none_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    write_pair(&files);
    let server = server(&files, &Deadlines { tls: Duration::from_millis(100), ..deadlines() });
    let (answer, _) = server.exchange(b"\x16\x03\x01").await;
    assert_eq!(answer, "");
    let (_, seen) = server.exchange(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(seen, []);
    eventually("both are counted", || server.stats.tls_failed() == 2 && server.stats.open() == 0).await;
}

#[tokio::test]
async fn new_files_are_taken_up_and_bad_ones_keep_the_old_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let first = write_pair(&files);
    let server = server(&files, &deadlines());
    let open = connect(&server, &first, &[], BOTH).await.unwrap();

    let good_key = std::fs::read(&files.key).unwrap();
    for (cert, key) in [(&b"nonsense"[..], &good_key[..]), (b"", b""), (b"-----BEGIN CERTIFICATE-----\nAA", b"x")] {
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        connect(&server, &first, &[], BOTH).await.expect("the old certificate stays");
    }
    std::fs::remove_file(&files.key).unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    connect(&server, &first, &[], BOTH).await.expect("the old certificate stays");

    let second = write_pair(&files);
    let taken_up = async {
        while connect(&server, &second, &[], BOTH).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_up).await.unwrap();
    assert!(connect(&server, &first, &[], BOTH).await.is_err());
    drop(open);
}

#[tokio::test]
async fn unusable_files_are_named_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let error = || Listener::bind(local(), Some(&files), &limits(), &deadlines()).err().unwrap().to_string();
    assert!(error().contains("cannot read") && error().contains("cert.pem"), "{}", error());
    write_pair(&files);
    let good = std::fs::read(&files.cert).unwrap();
    std::fs::write(&files.cert, "nonsense").unwrap();
    assert!(error().contains("cert.pem: no certificate found"), "{}", error());
    std::fs::write(&files.cert, &good).unwrap();
    std::fs::write(&files.key, &good).unwrap();
    assert!(error().contains("key.pem: no private key found"), "{}", error());
    write_pair(&files);
    std::fs::write(&files.cert, &good).unwrap();
    assert!(error().contains("cannot be used together"), "{}", error());
}
