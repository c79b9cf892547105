//! Framing: for every payload, the service saw nothing or exactly the well-formed requests, and the status is right.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::{Server, deadlines, limits, read_all, statuses};
use crate::config::Deadlines;
use crate::server::Refusal;

/// What a payload must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Served, this many requests.
    Served(usize),
    /// One refusal with this status, and nothing seen.
    Refused(u16),
    /// The service saw the head, and the body failed.
    BadBody,
    /// A good request, then one refusal with this status.
    ThenRefused(u16),
}

use Want::{BadBody, Refused, Served, ThenRefused};

struct Case {
    name: String,
    payload: Vec<u8>,
    want: Want,
}

fn case(name: impl Into<String>, payload: impl Into<Vec<u8>>, want: Want) -> Case {
    Case { name: name.into(), payload: payload.into(), want }
}

/// `POST /x` with these fields after a good `Host`, and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{fields}\r\n")
}

/// The table of payloads that bare hyper accepts or that are known from advisories.
fn table() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let hi = "2\r\nhi\r\n0\r\n\r\n";
    let second = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    vec![
        case("plain get", second, Served(1)),
        case("plain post", post("Content-Length: 2\r\n", "hi"), Served(1)),
        case("plain chunked", post(chunked, hi), Served(1)),
        case("two pipelined", second.repeat(2), Served(2)),
        case("chunked then get", post(chunked, hi) + second, Served(2)),
        case("one empty line first", format!("\r\n{second}"), Served(1)),
        case("two empty lines first", format!("\r\n\r\n{second}"), Refused(400)),
        case("length and encoding", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", hi), Refused(400)),
        case("encoding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", hi), Refused(400)),
        case("doubled encoding", post(&chunked.repeat(2), hi), Refused(400)),
        case("encoding list", post("Transfer-Encoding: chunked, chunked\r\n", hi), Refused(400)),
        case("encoding identity", post("Transfer-Encoding: identity\r\n", "hi"), Refused(400)),
        case("encoding gzip chunked", post("Transfer-Encoding: gzip, chunked\r\n", hi), Refused(400)),
        case("encoding on 1.0", post(chunked, hi).replace("HTTP/1.1", "HTTP/1.0"), Refused(400)),
        case("two equal lengths", post(&"Content-Length: 2\r\n".repeat(2), "hi"), Refused(400)),
        case("two lengths", post("Content-Length: 2\r\nContent-Length: 0\r\n", "hi"), Refused(400)),
        case("bare line feeds", second.replace("\r\n", "\n"), Refused(400)),
        case("no host", get(""), Refused(400)),
        case("no host on 1.0", "GET /x HTTP/1.0\r\n\r\n", Served(1)),
        case("two hosts", get("Host: a.test\r\nHost: a.test\r\n"), Refused(400)),
        case("two different hosts", get("Host: a.test\r\nHost: b.test\r\n"), Refused(400)),
        case("empty host", get("Host:\r\n"), Refused(400)),
        case("host with path", get("Host: a.test/x\r\n"), Refused(400)),
        case("host with user", get("Host: u@a.test\r\n"), Refused(400)),
        case("host list", get("Host: a.test, b.test\r\n"), Refused(400)),
        case("absolute form", "GET http://a.test/x HTTP/1.1\r\nHost: A.TEST\r\n\r\n", Served(1)),
        case("absolute form, other host", "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", Refused(400)),
        case("absolute form, no host", "GET http://a.test/x HTTP/1.1\r\n\r\n", Refused(400)),
        case("absolute form, user", "GET http://u@a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused(400)),
        case("other scheme", "GET ftp://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused(400)),
        case("authority form", "GET a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", Refused(400)),
        case("trace", second.replace("GET", "TRACE"), Refused(405)),
        case("connect", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", Refused(405)),
        case(
            "upgrade then pipelined",
            get("Host: a.test\r\nUpgrade: foo\r\nConnection: upgrade\r\n") + second,
            Served(1),
        ),
        case("h2c upgrade", get("Host: a.test\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"), Served(1)),
        case("close then pipelined", get("Host: a.test\r\nConnection: close\r\n") + second, Served(1)),
        case("fold", get("Host: a.test\r\nX-A: 1\r\n 2\r\n"), Refused(400)),
        case("fold at first field", get(" Host: a.test\r\n"), Refused(400)),
        case("space before colon", get("Host : a.test\r\n"), Refused(400)),
        case("tab before colon", post("Content-Length\t: 2\r\n", "hi"), Refused(400)),
        case("no colon", get("Host: a.test\r\nnonsense\r\n"), Refused(400)),
        case("empty name", get("Host: a.test\r\n: x\r\n"), Refused(400)),
        case("http/0.9", "GET /x\r\n\r\n", Refused(400)),
        case("http/1.2", second.replace("1.1", "1.2"), Refused(505)),
        case("http/2.0", second.replace("1.1", "2.0"), Refused(505)),
        case("lower-case version", second.replace("HTTP", "http"), Refused(400)),
        case("two spaces", second.replace("GET ", "GET  "), Refused(400)),
        case("tab for space", second.replace("GET ", "GET\t"), Refused(400)),
        case("leading space", format!(" {second}"), Refused(400)),
        case("trailing space", second.replace("1.1\r", "1.1 \r"), Refused(400)),
        case("fragment", second.replace("/x", "/x#y"), Refused(400)),
        case("backslash", second.replace("/x", "/\\x"), Refused(400)),
        case("asterisk with get", second.replace("/x", "*"), Refused(400)),
        case("tls hello", b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), Refused(400)),
        case("good then bad", format!("{second}GET /y HTTP/1.1\r\n\r\n"), ThenRefused(400)),
        case("good then trace", format!("{second}TRACE /y HTTP/1.1\r\nHost: a.test\r\n\r\n{second}"), ThenRefused(405)),
        case("good body then bad", post("Content-Length: 2\r\n", "hi") + "\x01", ThenRefused(400)),
        case("body longer than its length", post("Content-Length: 2\r\n", "hi there"), ThenRefused(400)),
        case("chunk size, trailing space", post(chunked, "2 \r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk size, leading space", post(chunked, " 2\r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk size, 0x", post(chunked, "0x2\r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk size, sign", post(chunked, "+2\r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk size, overflow", post(chunked, "10000000000000002\r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk size, bare lf", post(chunked, "2\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk extension", post(chunked, "2;a=b;c=\"d\"\r\nhi\r\n0\r\n\r\n"), Served(1)),
        case("chunk extension with lf", post(chunked, "2;a\nb\r\nhi\r\n0\r\n\r\n"), BadBody),
        case("chunk data too long", post(chunked, "2\r\nhi!\r\n0\r\n\r\n"), BadBody),
        case("chunk end, bare lf", post(chunked, "2\r\nhi\n0\r\n\r\n"), BadBody),
        case("last chunk, bare lf", post(chunked, "2\r\nhi\r\n0\n\n"), BadBody),
        case("trailers", post(chunked, "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"), Served(1)),
        case("bad trailers", post(chunked, "2\r\nhi\r\n0\r\nX T: 1\r\n\r\n"), BadBody),
    ]
}

/// Mutations of good requests: {duplicate, reorder, case, white space, control byte, number form, terminator}.
fn generated() -> Vec<Case> {
    let mut cases = Vec::new();
    let fields = ["Host: a.test", "Content-Length: 2", "X-Any: 1"];
    let build = |fields: &[&str]| format!("POST /x HTTP/1.1\r\n{}\r\n\r\nhi", fields.join("\r\n"));

    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let ordered = order.map(|at| fields[at]);
        cases.push(case(format!("order {order:?}"), build(&ordered), Served(1)));
        for twice in 0..3 {
            for place in 0..=3 {
                let mut doubled = ordered.to_vec();
                doubled.insert(place, ordered[twice]);
                let want = if ordered[twice] == "X-Any: 1" { Served(1) } else { Refused(400) };
                cases.push(case(format!("{doubled:?}"), build(&doubled), want));
            }
        }
    }
    for (at, field) in fields.iter().enumerate() {
        let (name, value) = field.split_once(": ").unwrap();
        let with = |field: String| {
            let mut changed = fields.map(str::to_owned);
            changed[at] = field;
            build(&changed.each_ref().map(String::as_str))
        };
        for name in [name.to_uppercase(), name.to_lowercase()] {
            cases.push(case(format!("case {name}"), with(format!("{name}: {value}")), Served(1)));
        }
        for blank in ["", "  ", "\t", " \t "] {
            cases.push(case(format!("{name}{blank:?} lead"), with(format!("{name}:{blank}{value}")), Served(1)));
            cases.push(case(format!("{name}{blank:?} trail"), with(format!("{name}: {value}{blank}")), Served(1)));
            let want = if blank.is_empty() { Served(1) } else { Refused(400) };
            cases.push(case(format!("{name}{blank:?} colon"), with(format!("{name}{blank}: {value}")), want));
            cases.push(case(format!("{name}{blank:?} line"), with(format!("{blank}{name}: {value}")), want));
        }
        for end in ["\n", "\r", "\n\r", "\r\r\n", "\0\r\n", "\x0b\r\n", "\u{85}\r\n"] {
            let payload = with(format!("{name}: {value}<end>")).replace("<end>\r\n", end);
            // NEL is an ordinary byte of a value; in a host or a length it is not.
            let want = if end == "\u{85}\r\n" && at == 2 { Served(1) } else { Refused(400) };
            cases.push(case(format!("{name} ends in {end:?}"), payload, want));
        }
    }
    control_bytes(&mut cases);
    number_forms(&mut cases);
    cases
}

/// Every control byte (and some others) in a name, a value, the target and the method.
fn control_bytes(cases: &mut Vec<Case>) {
    for byte in (0..=0x20u8).chain([0x7f, 0x80, 0xa0, 0xff]) {
        if matches!(byte, b'\n') {
            continue;
        }
        let put = |pattern: &str| {
            let whole = "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: bc\r\n\r\n";
            let at = whole.find(pattern).unwrap() + 1;
            let mut bytes = whole.as_bytes().to_vec();
            bytes.insert(at, byte);
            bytes
        };
        let in_value = if matches!(byte, b'\t' | b' ' | 0x80..) { Served(1) } else { Refused(400) };
        cases.push(case(format!("{byte:#04x} in value"), put("bc"), in_value));
        cases.push(case(format!("{byte:#04x} in name"), put("X-A"), Refused(400)));
        cases.push(case(format!("{byte:#04x} in target"), put("/x"), Refused(400)));
        cases.push(case(format!("{byte:#04x} in method"), put("GET"), Refused(400)));
        cases.push(case(format!("{byte:#04x} in host"), put("a.test"), Refused(400)));
    }
}

/// Numbers that some readers take for 2, and spellings of `chunked` that some take for it.
fn number_forms(cases: &mut Vec<Case>) {
    for form in [
        "+2",
        "-2",
        "0x2",
        "2.0",
        "2,2",
        "2, 2",
        "2;",
        "\"2\"",
        "2 2",
        "0b10g",
        "2e+0",
        "\u{0662}",
        "\u{ff12}",
        "",
        "18446744073709551618",
        "9223372036854775810",
        "4294967298x",
        "2\0",
        "0x",
        "½",
    ] {
        let payload = post(&format!("Content-Length: {form}\r\n"), "hi");
        cases.push(case(format!("length {form:?}"), payload, Refused(400)));
        let want = if form.starts_with("2;") { Served(1) } else { BadBody };
        let payload = post("Transfer-Encoding: chunked\r\n", &format!("{form}\r\nhi\r\n0\r\n\r\n"));
        cases.push(case(format!("chunk {form:?}"), payload, want));
    }
    for zeros in ["02", "0002", "000000000002"] {
        cases.push(case(format!("length {zeros}"), post(&format!("Content-Length: {zeros}\r\n"), "hi"), Served(1)));
        let body = format!("{zeros}\r\nhi\r\n0\r\n\r\n");
        cases.push(case(format!("chunk {zeros}"), post("Transfer-Encoding: chunked\r\n", &body), Served(1)));
    }
    for (coding, want) in [("chunked", Served(1)), ("Chunked", Served(1)), ("CHUNKED", Served(1))] {
        let payload = post(&format!("Transfer-Encoding: {coding}\r\n"), "2\r\nhi\r\n0\r\n\r\n");
        cases.push(case(format!("coding {coding}"), payload, want));
    }
    for coding in [
        "xchunked",
        "chunkedx",
        "chunke",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "\"chunked\"",
        "'chunked'",
        "chunk",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "deflate",
        "cow",
        "chunked chunked",
        "",
        "\u{7f}chunked",
        "ch\u{fc}nked",
        "chunKed\u{0}",
    ] {
        for name in ["Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING"] {
            let payload = post(&format!("{name}: {coding}\r\n"), "2\r\nhi\r\n0\r\n\r\n");
            cases.push(case(format!("{name} {coding:?}"), payload, Refused(400)));
        }
    }
}

fn quick() -> Deadlines {
    Deadlines { head: Duration::from_secs(2), keep_alive: Duration::from_millis(300), ..deadlines() }
}

fn check(case: &Case, answer: &str, seen: &[super::Seen], how: &str) {
    let Case { name, payload, want } = case;
    let got = statuses(answer);
    let context = || format!("{name} ({how})\n{}\n{answer}\n{seen:?}", payload.escape_ascii());
    let well_formed = |seen: &super::Seen| {
        let target = seen.target.strip_prefix("http://a.test").unwrap_or(&seen.target);
        let body = if seen.method == "POST" { "hi" } else { "" };
        target == "/x" && seen.body.as_deref() == Ok(body)
    };
    match *want {
        Served(count) => {
            assert_eq!(got, vec![200; count], "{}", context());
            assert_eq!(seen.len(), count, "{}", context());
            assert!(seen.iter().all(well_formed), "{}", context());
        }
        Refused(status) => {
            assert_eq!(got, [status], "{}", context());
            assert_eq!(seen, [], "{}", context());
            assert!(answer.contains(r#"{"error":{"message":"#), "{}", context());
            assert!(answer.contains("connection: close"), "{}", context());
        }
        BadBody => {
            assert_eq!(got, [400], "{}", context());
            assert_eq!(seen.len(), 1, "{}", context());
            assert_eq!(seen[0].body, Err("bad_chunk"), "{}", context());
        }
        ThenRefused(status) => {
            assert_eq!(got, [200, status], "{}", context());
            assert_eq!(seen.len(), 1, "{}", context());
            assert!(well_formed(&seen[0]), "{}", context());
        }
    }
}

/// Sends every payload, some at a time, whole or in two pieces with a pause between them.
async fn run(cases: Vec<Case>, cut: bool) {
    let server = Arc::new(Server::start(&limits(), &quick()));
    let mut running = JoinSet::new();
    let mut failed = 0;
    for (at, case) in cases.into_iter().enumerate() {
        let server = Arc::clone(&server);
        running.spawn(async move {
            let mut socket = server.connect().await;
            let peer = socket.local_addr().unwrap();
            let (first, second) = case.payload.split_at(if cut { 1 + at % (case.payload.len() - 1) } else { 0 });
            if cut {
                socket.write_all(first).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // The server may have refused and closed by now.
            let _ = socket.write_all(second).await;
            let answer = read_all(&mut socket).await;
            check(&case, &answer, &server.seen(peer), if cut { "in two pieces" } else { "whole" });
        });
        if running.len() >= 100 {
            failed += usize::from(running.join_next().await.unwrap().is_err());
        }
    }
    while let Some(ended) = running.join_next().await {
        failed += usize::from(ended.is_err());
    }
    assert_eq!(failed, 0, "cases failed; see above");
}

#[tokio::test]
async fn every_payload_of_the_table_is_served_or_refused_as_the_table_says() {
    run(table(), false).await;
}

#[tokio::test]
async fn every_mutation_is_served_or_refused_as_its_class_says() {
    let cases = generated();
    assert!(cases.len() >= 300, "only {}", cases.len());
    run(cases, false).await;
}

#[tokio::test]
async fn the_verdict_does_not_depend_on_where_packets_end() {
    let mut cases = table();
    cases.extend(generated());
    run(cases, true).await;
}

#[tokio::test]
async fn a_stand_in_cannot_be_forged_and_refusals_are_counted_by_reason() {
    let server = Server::start(&limits(), &quick());
    let forged = "GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
    let (answer, seen) = server.exchange(forged.as_bytes()).await;
    assert_eq!((statuses(&answer), seen.len()), (vec![200], 1));
    for _ in 0..2 {
        server.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
    }
    assert_eq!(server.stats.refused(Refusal::MissingHost), 2);
    assert_eq!(server.stats.refused(Refusal::Method), 0);
}

#[tokio::test]
async fn method_not_allowed_names_the_methods_that_are() {
    let server = Server::start(&limits(), &quick());
    let (answer, _) = server.exchange(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("allow: GET, HEAD, POST"), "{answer}");
}
