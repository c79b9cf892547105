//! What `/metrics` says: in both formats the same, in OpenMetrics by the letter, and never more series for what callers invent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

use crate::rig::{Answer, Rig, chat, chat_stream};

const OPEN: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

async fn scrape(rig: &Rig, accept: &str) -> Answer {
    let request = Request::builder().uri(format!("http://{}/metrics", rig.app().admin)).header("accept", accept);
    rig.exchange(request.body(Full::new(Bytes::new())).unwrap()).await
}

/// One sample: name, labels as they are written, value, exemplar.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: String,
    exemplar: Option<Exemplar>,
}

#[derive(Debug)]
struct Exemplar {
    labels: Vec<(String, String)>,
    value: f64,
    at: f64,
}

/// Takes `{a="b",c="d"}` off the front.
fn labels(text: &str) -> (Vec<(String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut found = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{text}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("escaped {c}: {text}"),
                },
                (_, '\n') => panic!("{text}"),
                (_, c) => value.push(c),
            }
        };
        found.push((name.to_owned(), value));
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (found, rest.strip_prefix('}').unwrap_or_else(|| panic!("{text}"))),
        }
    }
}

fn float(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        other => other.parse().unwrap_or_else(|_| panic!("{other} is no number")),
    }
}

/// Labels without `le`, count and bound.
type Bucket = (Vec<(String, String)>, f64, f64);

/// Reads OpenMetrics 1.0 and refuses whatever is not exactly that.
fn read(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").unwrap();
    assert!(!body.contains("# EOF") && !body.contains("\n\n") && !body.contains('\r'));
    let (mut family, mut kind, mut unit_due) = (String::new(), String::new(), false);
    let (mut families, mut seen, mut samples) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    // Of a histogram: its labels without `le`, and the count and bound of the bucket before.
    let mut before: Option<Bucket> = None;
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match word {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(!name.ends_with("_total") && families.insert(name.to_owned()), "{line}");
                    (family, kind, unit_due) = (name.to_owned(), rest.to_owned(), true);
                }
                "UNIT" => assert!(name == family && unit_due && name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => {
                    assert!(name == family && !rest.is_empty(), "{line}");
                    unit_due = false;
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (name, (labels, rest)) = (&line[..end], labels(&line[end..]));
        let (rest, exemplar) = match rest.split_once(" # ") {
            Some((rest, exemplar)) => (rest, Some(exemplar)),
            None => (rest, None),
        };
        let value = rest.strip_prefix(' ').unwrap();
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_count", "_sum"],
        };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line} in {family}");
        assert!(float(value) >= 0.0 || kind == "gauge", "{line}");
        assert!(seen.insert(format!("{name}{labels:?}")), "twice: {line}");
        if name.ends_with("_bucket") {
            let mut own = labels.clone();
            let (last, le) = own.pop().unwrap();
            assert!(last == "le" && (le == "+Inf" || le.contains(['.', 'e'])), "{line}");
            if let Some((_, count, bound)) = before.take().filter(|(of, ..)| *of == own) {
                assert!(float(value) >= count && float(&le) > bound, "{line}");
            }
            before = Some((own, float(value), float(&le)));
        } else if name.ends_with("_count") && kind == "histogram" {
            let (own, count, bound) = before.take().unwrap();
            assert!(own == labels && count == float(value) && bound.is_infinite(), "{line}");
        }
        let exemplar = exemplar.map(|text| {
            assert!(name.ends_with("_bucket"), "{line}");
            let (labels, rest) = self::labels(text);
            let told: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            assert!(told <= 128, "{line}");
            let (value, at) = rest.strip_prefix(' ').unwrap().split_once(' ').unwrap();
            Exemplar { labels, value: float(value), at: float(at) }
        });
        samples.push(Sample { name: name.to_owned(), labels, value: value.to_owned(), exemplar });
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openmetrics_says_the_same_by_the_letter_and_names_the_last_request_of_each_bucket() {
    let rig = Rig::start().await;
    let miss = rig.chat("sk-a", &chat("What are tides?")).await;
    let hit = rig.chat("sk-a", &chat("What are tides?")).await;
    let streamed = rig.chat("sk-a", &chat_stream("What are springs?")).await;
    assert_eq!((miss.cache(), hit.cache()), ("MISS", "HIT"));
    rig.settle().await;

    let (classic, open) = (scrape(&rig, "*/*").await, scrape(&rig, OPEN).await);
    assert_eq!(classic.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let samples = read(&open.text());

    // Both formats have the same series; what does not move by itself has the same value.
    let key = |name: &str, labels: &[(String, String)]| {
        let labels: BTreeMap<&str, String> = labels
            .iter()
            .map(|(name, value)| (name.as_str(), if name == "le" { float(value).to_string() } else { value.clone() }))
            .collect();
        format!("{name}{labels:?}")
    };
    let moving =
        |name: &str| name.starts_with("process_") || name.contains("_seconds") || name.ends_with("connections");
    let told: BTreeMap<String, f64> =
        samples.iter().map(|sample| (key(&sample.name, &sample.labels), float(&sample.value))).collect();
    let mut compared = 0;
    let plain = classic.text();
    for line in plain.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let (labels, value) = labels(rest);
        let open = told.get(&key(name, &labels)).unwrap_or_else(|| panic!("{line} is not in OpenMetrics"));
        if !moving(name) {
            assert_eq!(*open, float(value.trim()), "{line}");
            compared += 1;
        }
    }
    assert_eq!(told.len(), plain.lines().filter(|line| !line.starts_with('#')).count());
    assert!(compared > 30, "{compared}");

    for family in ["remora_request_seconds", "remora_ttft_seconds", "remora_overhead_seconds"] {
        for (answer, outcome) in [(&streamed, "miss"), (&hit, "hit")] {
            let id = answer.header("x-remora-request-id");
            let with = samples.iter().filter(|sample| sample.name == format!("{family}_bucket"));
            let with: Vec<_> = with
                .filter(|sample| sample.labels.contains(&("outcome".to_owned(), outcome.to_owned())))
                .filter_map(|sample| Some((sample, sample.exemplar.as_ref()?)))
                .collect();
            assert!(
                with.iter().any(|(_, exemplar)| exemplar.labels == [("request_id".to_owned(), id.to_owned())]),
                "{family} {outcome} {id}"
            );
            for (sample, exemplar) in with {
                let bound = float(&sample.labels.last().unwrap().1);
                assert!(exemplar.value <= bound && exemplar.at > 1.7e9, "{sample:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_callers_invent_makes_no_series() {
    let rig = Rig::start().await;
    let series = async || -> BTreeSet<String> {
        rig.settle().await;
        let text = scrape(&rig, "*/*").await.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let send = async |number: usize| {
        let body = json!({
            "model": format!("invented-{number}"),
            "user": format!("invented-user-{number}"),
            "messages": [{ "role": "user", "content": format!("{} of {number}", number % 7) }],
            "stream": number.is_multiple_of(2),
        });
        let tags = format!("invented-tag-{number}=invented");
        // Everybody is a tenant here, so each key is one more.
        rig.chat_with(&format!("sk-invented-{number}"), &[("x-remora-tags", &tags)], &body).await;
        rig.send(Method::POST, &format!("/v1/invented/{number}"), "sk-a", &[], Bytes::from("{}")).await;
        let method = format!("INVENTED{number}").parse().unwrap();
        rig.send(method, "/v1/models", "sk-a", &[], Bytes::new()).await;
    };
    for number in 0..20 {
        send(number).await;
    }
    let before = series().await;
    for number in 20..700 {
        send(number).await;
    }
    let after = series().await;
    // Gauges appear when they are looked after, ten seconds from the start: of all that are too many together, as `other`.
    let fresh = after.difference(&before).filter(|series| !series.contains("tenant=\"other\""));
    assert_eq!(fresh.collect::<Vec<_>>(), Vec::<&String>::new());
    let text = scrape(&rig, OPEN).await.text();
    assert!(before.len() > 100 && !text.to_lowercase().contains("invented"), "{before:?}");
}
