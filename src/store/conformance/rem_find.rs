//! Promises about REM data found by what is similar: by trigrams, by vector and by words, under conditions.

use super::rem::{apply, id, number, owner, put, put_all, resource, row, scope, similar, store, vector_of};
use crate::store::Stores;
use crate::store::rem::*;

fn question<'a>(cond: Option<&'a Cond>, label: Option<&'a str>, limit: u32) -> RemQuestion<'a> {
    RemQuestion { table: RemTable::Resources, cond, label, limit }
}

/// The column of resources with this name.
fn column(name: &str) -> Column {
    *columns(RemTable::Resources).iter().find(|column| column.name == name).unwrap()
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

pub(super) async fn similar_names_are_those_that_reach_the_threshold(stores: &Stores) {
    let me = scope("t", "k");
    let chief = RemRow { aliases: vec!["Sara Chan".into()], ..row(RemTable::Entities, "k", 1, "Sarah Chen") };
    let rows = [
        chief,
        resource("public", 2, "project-plan"),
        resource("k", 3, "planet"),
        resource("k", 4, "a"),
        resource("k", 5, "!!!"),
        row(RemTable::Moments, "k", 6, "chen sara"),
        resource("k", 7, "so mi"),
        resource("public", 8, "mi so"),
    ];
    apply(stores, "t", &rows.map(put)).await;
    assert_eq!(
        similar(stores, &me, "sara chen", 0.3).await,
        ["chen sara/1.000", "Sarah Chen/0.750", "Sara Chan/0.538"]
    );
    assert_eq!(similar(stores, &me, "sara chen", 0.75).await, ["chen sara/1.000", "Sarah Chen/0.750"]);
    assert_eq!(similar(stores, &me, "sara chen", 1.0).await, ["chen sara/1.000"]);
    assert_eq!(similar(stores, &me, "projct-plan", 0.3).await, ["project-plan/0.643"]);
    assert_eq!(similar(stores, &me, "A", 1.0).await, ["a/1.000"]);
    assert_eq!(similar(stores, &me, "?!", 0.0).await, [""; 0], "no trigrams, nothing similar");
    let rem = store(stores);
    let equal = rem.rem_similar(&me, "so mi", &[], 1.0, 1).await.unwrap();
    assert_eq!(equal.first().map(|found| &*found.name), Some("mi so"), "equals by name");
    let best = rem.rem_similar(&me, "sara chen", &[], 0.3, 1).await.unwrap();
    assert_eq!(best, [RemSimilar { id: id(6), table: RemTable::Moments, name: "chen sara".into() }]);
    let entities = rem.rem_similar(&me, "sara chen", &[RemTable::Entities], 0.7, 10).await.unwrap();
    assert!(entities.iter().all(|found| found.table == RemTable::Entities) && !entities.is_empty());
    let low = similar(stores, &me, "plan", 0.01).await;
    assert_eq!(low, ["planet/0.500", "project-plan/0.417", "Sara Chan/0.071"], "of any length");
}

pub(super) async fn similar_names_are_all_found_whatever_the_threshold(stores: &Stores) {
    let me = scope("t", "k");
    let syllables = ["ka", "ri", "to", "ne", "sha", "lo"];
    let name = |seed: usize| {
        let part = |step: usize| syllables[(seed / 6_usize.pow(u32::try_from(step).unwrap())) % 6];
        let first: String = (0..2 + seed % 3).map(part).collect();
        format!("{first} {}{}", part(1), part(3))
    };
    let names: Vec<String> = (0..300).map(|seed| name(seed * 7)).collect();
    let writes: Vec<RemWrite> = names.iter().zip(1..).map(|(name, number)| put(resource("k", number, name))).collect();
    apply(stores, "t", &writes).await;
    for (wanted, least) in [("karito neri", 0.3), ("shalo", 0.1), ("toto kari", 0.4), (names[17].as_str(), 0.9)] {
        let grams = Grams::of(wanted);
        let expected = names.iter().filter(|name| grams.similarity(&Grams::of(name)) >= least).count();
        assert!(expected > 0, "{wanted} tells nothing");
        assert_eq!(similar(stores, &me, wanted, least).await.len(), expected, "{wanted} {least}");
    }
}

pub(super) async fn the_nearest_rows_come_best_first_with_ties_by_name_and_id(stores: &Stores) {
    let me = scope("t", "k");
    let writes = [
        put_all(resource("k", 1, "far"), &[0.0, 0.0, 1.0], vec![]),
        put_all(resource("public", 2, "tie b"), &[0.6, 0.8, 0.0], vec![]),
        put_all(resource("k", 4, "tie a"), &[0.6, 0.8, 0.0], vec![]),
        put_all(resource("k", 3, "tie a"), &[0.6, 0.8, 0.0], vec![]),
        put_all(resource("k", 5, "best"), &[0.8, 0.6, 0.0], vec![]),
        put_all(resource("k", 6, "opposite"), &[-1.0, 0.0, 0.0], vec![]),
        put_all(row(RemTable::Moments, "k", 7, "other table"), &[1.0, 0.0, 0.0], vec![]),
        put(resource("k", 8, "no vector")),
    ];
    apply(stores, "t", &writes).await;
    let east = vector_of(&[1.0, 0.0, 0.0]);
    let near = async |least: f64, limit: u32| {
        let near = store(stores).rem_nearest(&me, &east, least, &question(None, None, limit)).await.unwrap();
        near.iter().map(|near| format!("{} {:.6}", number(near.row.id), near.cosine)).collect::<Vec<_>>()
    };
    let all = ["5 0.800000", "3 0.600000", "4 0.600000", "2 0.600000", "1 0.000000", "6 -1.000000"];
    assert_eq!(near(-1.0, 100).await, all);
    for limit in 0..=6 {
        assert_eq!(near(-1.0, limit).await, all[..limit as usize]);
    }
    assert_eq!(near(0.0, 100).await, all[..5]);
    assert_eq!(near(0.7, 100).await, all[..1]);
    let exact = cosine(&[0.6, 0.8, 0.0], &east.vector);
    assert_eq!(near(exact, 100).await, all[..4], "the threshold itself is reached");
    let elsewhere = RemVector { space: "other@1/3".into(), vector: east.vector.clone() };
    let none = store(stores).rem_nearest(&me, &elsewhere, -1.0, &question(None, None, 9)).await.unwrap();
    assert_eq!(none, [], "spaces are apart");
    let cosines = store(stores).rem_cosines(&me, &east, &[5, 6, 7, 8, 9].map(id)).await.unwrap();
    let mut cosines: Vec<_> = cosines.iter().map(|(id, cosine)| format!("{} {cosine:.6}", number(*id))).collect();
    cosines.sort();
    assert_eq!(cosines, ["5 0.800000", "6 -1.000000", "7 1.000000"]);
}

pub(super) async fn the_nearest_rows_are_exactly_as_many_as_there_are_under_any_filter(stores: &Stores) {
    let me = scope("t", "k");
    // Those that fulfil a condition are the farthest ones, so who looks at the nearest few first finds none of them.
    let mut writes = Vec::new();
    for number in 1..=600_u16 {
        let angle = f32::from(number) / 400.0;
        let rare = number > 580;
        let label = if rare { "rare" } else { "common" };
        let of = if number % 3 == 0 { "public" } else { "k" };
        let row = RemRow {
            label: label.into(),
            tags: vec![format!("n{}", number % 10)],
            ..resource(of, number.into(), &format!("r{number:03}"))
        };
        writes.push(put_all(row, &[angle.cos(), angle.sin(), 0.0], vec![]));
        let foreign = RemRow { label: label.into(), ..resource("other", 1_000 + u64::from(number), "foreign") };
        writes.push(put_all(foreign, &[1.0, 0.0, 0.0], vec![]));
    }
    apply(stores, "t", &writes).await;
    let east = vector_of(&[1.0, 0.0, 0.0]);
    let found = async |cond: Option<&Cond>, label: Option<&str>, least: f64, limit: u32| {
        let near = store(stores).rem_nearest(&me, &east, least, &question(cond, label, limit)).await.unwrap();
        near.iter().map(|near| number(near.row.id)).collect::<Vec<_>>()
    };
    let rare: Vec<u128> = (581..=600).collect();
    assert_eq!(found(None, Some("rare"), -1.0, 100).await, rare);
    assert_eq!(found(None, Some("rare"), -1.0, 7).await, rare[..7]);
    let tagged = Cond::Is(column("tags"), Compare::Equal, text("n5"));
    assert_eq!(found(Some(&tagged), Some("rare"), -1.0, 100).await, [585, 595]);
    assert_eq!(found(Some(&tagged), None, -1.0, 1_000).await, (0..60).map(|tens| tens * 10 + 5).collect::<Vec<_>>());
    let shared = Cond::Is(column("owner"), Compare::Equal, text("public"));
    assert_eq!(found(Some(&shared), None, -1.0, 1_000).await, (1..=200).map(|third| third * 3).collect::<Vec<_>>());
    let least = f64::from((0.5_f32).cos());
    let reaching = writes.len() / 2;
    assert_eq!(found(None, None, -1.0, 1_000).await.len(), reaching);
    assert!(found(None, None, least, 1_000).await.len().abs_diff(200) <= 1);
    assert_eq!(found(None, Some("nothing"), -1.0, 10).await, [0; 0]);
    assert_eq!(found(Some(&Cond::Or(vec![])), None, -1.0, 10).await, [0; 0]);
}

pub(super) async fn the_nearest_rows_are_those_of_this_moment(stores: &Stores) {
    let me = scope("t", "k");
    let (east, north) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
    let found = async || {
        let near = store(stores).rem_nearest(&me, &vector_of(&east), 0.5, &question(None, None, 2)).await.unwrap();
        near.iter().map(|near| number(near.row.id)).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [0; 0]);
    apply(stores, "t", &[1, 2, 3].map(|n| put_all(resource("k", n, &format!("r{n}")), &east, vec![]))).await;
    assert_eq!(found().await, [1, 2]);
    apply(stores, "t", &[RemWrite::Hide { id: id(1), owner: owner("k"), at: 9 }]).await;
    assert_eq!(found().await, [2, 3]);
    apply(stores, "t", &[put_all(resource("k", 2, "r2"), &north, vec![])]).await;
    assert_eq!(found().await, [3]);
    apply(stores, "t", &[RemWrite::Purge { id: id(3), owner: owner("k") }]).await;
    assert_eq!(found().await, [0; 0]);
    apply(stores, "t", &[put(resource("k", 4, "r4"))]).await;
    let late = |updated_at| RemWrite::Embed { id: id(4), updated_at, vector: vector_of(&east) };
    apply(stores, "t", &[late(3)]).await;
    assert_eq!(found().await, [0; 0], "made of another text");
    apply(stores, "t", &[late(4)]).await;
    assert_eq!(found().await, [4]);
    apply(stores, "t", &[put_all(resource("k", 2, "r2"), &east, vec![])]).await;
    assert_eq!(found().await, [2, 4]);
    let moved = RemRow { table: RemTable::Moments, ..resource("k", 2, "r2") };
    apply(stores, "t", &[put_all(moved, &east, vec![])]).await;
    assert_eq!(found().await, [4], "it is in another table now");
}

pub(super) async fn a_vector_that_is_no_direction_is_never_compared(stores: &Stores) {
    let me = scope("t", "k");
    let bad = [[f32::NAN, 0.0, 0.0], [0.0, 0.0, 0.0], [f32::INFINITY, 0.0, 0.0]];
    let mut writes = vec![put_all(resource("k", 1, "good"), &[1.0, 0.0, 0.0], vec![])];
    for (vector, number) in bad.iter().zip(2..) {
        writes.push(put_all(resource("k", number, "bad"), vector, vec![]));
        writes.push(RemWrite::Embed { id: id(number), updated_at: number, vector: vector_of(vector) });
    }
    apply(stores, "t", &writes).await;
    let rem = store(stores);
    let near = rem.rem_nearest(&me, &vector_of(&[1.0, 0.0, 0.0]), -1.0, &question(None, None, 9)).await.unwrap();
    assert_eq!(near.iter().map(|near| (number(near.row.id), near.cosine)).collect::<Vec<_>>(), [(1, 1.0)]);
    for vector in bad {
        assert_eq!(rem.rem_nearest(&me, &vector_of(&vector), -1.0, &question(None, None, 9)).await.unwrap(), []);
        assert_eq!(rem.rem_cosines(&me, &vector_of(&vector), &[id(1)]).await.unwrap(), []);
    }
    assert_eq!(rem.rem_unembedded(super::rem::SPACE, 9).await.unwrap().len(), 3, "they wait for a good one");
}

pub(super) async fn words_are_found_in_names_and_texts_those_with_all_of_them_first(stores: &Stores) {
    let me = scope("t", "k");
    let of = |number, name: &str, text: &str| RemRow { text: text.into(), ..resource("k", number, name) };
    let rows = [
        of(1, "alpha", "the Semantic-Cache, it is"),
        of(2, "cache", "nothing"),
        of(3, "semantic", "O'Brien 東京 \"AND\" NEAR( * ^"),
        of(4, "other", "nothing at all"),
        of(5, "late", "cache and more semantic words"),
        row(RemTable::Moments, "k", 6, "semantic cache"),
        RemRow { label: "rare".into(), ..of(7, "cached", "caches") },
    ];
    apply(stores, "t", &rows.map(put)).await;
    let found = async |words: &str, label: Option<&str>, limit: u32| {
        let rows = store(stores).rem_worded(&me, &tokens(words), &question(None, label, limit)).await.unwrap();
        let mut found: Vec<_> = rows.iter().map(|row| number(row.id)).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(found("semantic cache", None, 100).await, [1, 2, 3, 5]);
    assert_eq!(found("semantic cache", None, 2).await, [1, 5], "those with both");
    assert_eq!(found("semantic cache", None, 1).await, [5], "the newest");
    assert_eq!(found("semantic cache", None, 3).await, [1, 3, 5], "then the newest of the others");
    assert_eq!(found("semantic cache", None, 0).await, [0; 0]);
    assert_eq!(found("CACHE", None, 100).await, [1, 2, 5], "whole words");
    assert_eq!(found("brien 京", None, 100).await, [3]);
    for word in ["and", "near", "or", "not"] {
        let expected: &[u128] = if word == "and" {
            &[3, 5]
        } else if word == "near" {
            &[3]
        } else {
            &[]
        };
        assert_eq!(found(word, None, 100).await, expected, "{word} is a word like any other");
    }
    assert_eq!(found("cached", Some("rare"), 100).await, [7]);
    assert_eq!(found("cached", Some("note"), 100).await, [0; 0]);
    assert_eq!(found("", None, 100).await, [0; 0]);
    let named = Cond::Like(column("name"), "%ph_".into());
    let rows = store(stores).rem_worded(&me, &tokens("semantic cache"), &question(Some(&named), None, 9)).await;
    assert_eq!(rows.unwrap().iter().map(|row| number(row.id)).collect::<Vec<_>>(), [1]);
}

pub(super) async fn conditions_mean_what_they_say(stores: &Stores) {
    let me = scope("t", "k");
    let dated = |number, created| RemRow { created_at: created, ..resource("k", number, &format!("Name_{number}")) };
    let rows = [
        RemRow { uri: Some("a%b".into()), tags: vec!["x".into(), "y".into()], ..dated(1, 100) },
        RemRow { part_of: Some((id(1), 7)), ..dated(2, 200) },
        RemRow { label: "LOUD".into(), tags: vec!["y\"".into()], ..dated(3, 300) },
        RemRow { text: "back\\slash [x] *".into(), uri: Some("AxB".into()), ..dated(4, 400) },
    ];
    apply(stores, "t", &rows.map(|row| put_all(row, &[1.0, 0.0, 0.0], vec![]))).await;
    let is = |name: &str, compare, literal| Cond::Is(column(name), compare, literal);
    let like = |name: &str, pattern: &str| Cond::Like(column(name), pattern.into());
    let not = |cond| Cond::Not(Box::new(cond));
    use Compare::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let cases: Vec<(Cond, &[u128])> = vec![
        (is("name", Equal, text("Name_2")), &[2]),
        (is("name", Equal, text("name_2")), &[]),
        (is("name", NotEqual, text("Name_2")), &[1, 3, 4]),
        (is("name", Greater, text("Name_2")), &[3, 4]),
        (is("created_at", GreaterOrEqual, Literal::Time(300)), &[3, 4]),
        (is("created_at", Less, Literal::Time(200)), &[1]),
        (is("part", LessOrEqual, Literal::Integer(7)), &[2]),
        (not(is("part", LessOrEqual, Literal::Integer(7))), &[]),
        (is("uri", NotEqual, text("zzz")), &[1, 4]),
        (Cond::Missing(column("uri")), &[2, 3]),
        (not(Cond::Missing(column("part"))), &[2]),
        (is("tags", Equal, text("y")), &[1]),
        (is("tags", NotEqual, text("y")), &[2, 3, 4]),
        (is("tags", Equal, text("y\"")), &[3]),
        (Cond::In(column("tags"), vec![text("x"), text("y\"")]), &[1, 3]),
        (not(Cond::In(column("tags"), vec![text("x")])), &[2, 3, 4]),
        (Cond::In(column("part"), vec![Literal::Integer(1), Literal::Integer(7)]), &[2]),
        (not(Cond::In(column("uri"), vec![text("AxB")])), &[1]),
        (Cond::In(column("name"), vec![]), &[]),
        (like("uri", "a%b"), &[1]),
        (like("uri", "A_B"), &[4]),
        (like("uri", "a\\%b"), &[1]),
        (like("uri", "a\\_b"), &[]),
        (like("content", "%\\\\%"), &[4]),
        (like("content", "%\\"), &[]),
        (like("content", "%[x]%*"), &[4]),
        (like("content", "%[y]%"), &[]),
        (not(like("uri", "a%")), &[4]),
        (like("category", "loud"), &[]),
        (like("category", "LO%"), &[3]),
        (like("name", ""), &[]),
        (Cond::And(vec![]), &[1, 2, 3, 4]),
        (Cond::Or(vec![]), &[]),
        (Cond::And(vec![not(Cond::Missing(column("uri"))), like("name", "%4")]), &[4]),
        (Cond::Or(vec![is("uri", Equal, text("AxB")), is("part", Equal, Literal::Integer(7))]), &[2, 4]),
        (not(Cond::Or(vec![is("uri", Equal, text("AxB")), is("name", Equal, text("Name_3"))])), &[1]),
        (Cond::Or(vec![is("uri", Equal, text("no")); 3_000]), &[]),
        (Cond::And(vec![like("name", "Name%"); 3_000]), &[1, 2, 3, 4]),
    ];
    for (cond, expected) in cases {
        let asked = question(Some(&cond), None, 100);
        let near = store(stores).rem_nearest(&me, &vector_of(&[1.0, 0.0, 0.0]), -1.0, &asked).await;
        let shown = || format!("{cond:?}").chars().take(300).collect::<String>();
        let found: Vec<_> = near.unwrap_or_else(|error| panic!("{}: {error}", shown())).into_iter().collect();
        assert_eq!(found.iter().map(|near| number(near.row.id)).collect::<Vec<_>>(), expected, "{}", shown());
    }
}
