//! What rows add to which sums, and how many groups somebody who makes up names can have.

use super::forms::stored;
use super::rollup::*;
use super::sample::row;
use super::{AUDIT_OF, Dimension, LedgerRow, Tokens, UsageAsk};

#[test]
fn the_columns_are_in_the_order_of_the_sums() {
    let cells = std::array::from_fn(|at| i64::try_from(at).unwrap() + 1);
    let sums = Delta(cells).sums();
    assert_eq!(Delta::of(&sums).0, cells);
    let at = |name: &str| cells[COLUMNS.iter().position(|column| *column == name).unwrap()];
    for (kind, (billed, replayed)) in
        Tokens::KINDS.into_iter().zip(sums.billed.counts().into_iter().zip(sums.replayed.counts()))
    {
        assert_eq!(at(&format!("billed_{kind}")), stored(billed));
        assert_eq!(at(&format!("replayed_{kind}")), stored(replayed));
    }
    let named = [at("cost"), at("check_cost"), at("embedding"), at("saved_gross"), at("saved_net")];
    assert_eq!(named, [sums.cost, sums.check, sums.embedding, sums.saved_gross, sums.saved_net]);
    assert_eq!([at("requests"), at("unpriced")], [stored(sums.requests), stored(sums.unpriced)]);
}

#[test]
fn a_tenant_that_makes_up_names_gets_a_few_groups_and_no_sum_is_lost() {
    let (caps, mut deltas) = (Caps::default(), Deltas::default());
    let mut all = Delta([0; MEASURES]);
    for number in 0..30_000 {
        let (model, user) = (format!("model {number}"), format!("user {number}"));
        let row = LedgerRow {
            model_asked: Some(model),
            user: Some(user),
            tags: vec![("n".into(), number.to_string())],
            cost_nano_usd: Some(1),
            saved_nano_usd: Some(-1),
            ..row("ann", number % 5)
        };
        all.add(&Delta::of_row(&row));
        deltas.add_row(&row, &caps);
    }
    let quiet = row("bob", 7);
    deltas.add_row(&quiet, &caps);
    for kind in [Kind::HourRoute, Kind::DayRoute, Kind::DayUser, Kind::DayTag, Kind::DayTenantUser, Kind::DayTenantTag]
    {
        let of_ann = || deltas.0.iter().filter(|(group, _)| group.kind == kind && group.tenant == "ann");
        let count = of_ann().count();
        assert!(count > kind.most() && count <= 2 * kind.most() + 1, "{kind:?}: {count}");
        let mut sum = Delta([0; MEASURES]);
        of_ann().for_each(|(_, delta)| sum.add(delta));
        assert_eq!(sum, all, "{kind:?}");
    }
    assert!(deltas.0.keys().any(|group| group.tenant == "bob" && group.model == "gpt-4o"), "others are left alone");
}

#[test]
fn a_question_is_answered_by_whole_days_and_the_hours_at_its_ends() {
    let (hour, day) = (3_600_000, 86_400_000);
    let ask = |since, until| UsageAsk { since, until, by: vec![Dimension::Model], ..UsageAsk::default() };
    let parts = |since, until| -> Vec<_> {
        parts_of(&ask(since, until)).into_iter().map(|part| (part.kind, part.since, part.until)).collect()
    };
    let (h, d) = (stored(hour), stored(day));
    assert_eq!(
        parts(day - hour, 3 * day + hour),
        [(Kind::HourRoute, d - h, d), (Kind::DayRoute, d, 3 * d), (Kind::HourRoute, 3 * d, 3 * d + h)]
    );
    assert_eq!(parts(day, 2 * day), [(Kind::DayRoute, d, 2 * d)]);
    assert_eq!(parts(day + hour, 2 * day - hour), [(Kind::HourRoute, d + h, 2 * d - h)]);
    assert_eq!(parts(day + hour, 2 * day + hour), [(Kind::HourRoute, d + h, 2 * d + h)], "no whole day");
    assert_eq!(parts(day, day), []);
}

#[test]
fn a_row_whose_tags_became_one_group_counts_in_it_once() {
    let caps = Caps::default();
    let tagged = |tags: Vec<(String, String)>| LedgerRow { tags, ..row("ann", 1) };
    let all = |of: &str| (0..20_000).map(|n| (format!("{of}{n}"), "x".to_owned())).collect::<Vec<_>>();
    Deltas::default().add_row(&tagged(all("a")), &caps);
    let mut deltas = Deltas::default();
    deltas.add_row(&tagged(all("b")), &caps);
    for kind in [Kind::DayTag, Kind::DayTenantTag] {
        let other = deltas.0.iter().filter(|(group, _)| group.kind == kind && group.label == OTHER);
        let counted: Vec<i64> = other.map(|(_, delta)| delta.sums().requests.cast_signed()).collect();
        assert_eq!(counted, [1], "{kind:?}");
    }
}

#[test]
fn a_check_is_in_the_groups_of_its_other_tags_and_in_the_one_without_if_it_has_none() {
    let labels = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let groups = groups_of(&LedgerRow { tags, ..row("ann", 1) });
        groups.into_iter().filter(|group| group.kind == Kind::DayTag).map(|group| group.label).collect::<Vec<_>>()
    };
    assert_eq!(labels(&[(AUDIT_OF, "01J"), ("team", "blue")]), ["team"]);
    assert_eq!(labels(&[(AUDIT_OF, "01J")]), [""]);
}

#[test]
fn what_names_no_key_model_or_route_is_answered_by_the_coarse_sums() {
    use Dimension::{Key, Model, Route, Tag, Tenant, User};
    let kind = |by: &[Dimension]| kind_of(&UsageAsk { by: by.to_vec(), ..UsageAsk::default() });
    assert_eq!([kind(&[]), kind(&[Tenant])], [Kind::DayTenant; 2]);
    assert_eq!([kind(&[Key]), kind(&[Route]), kind(&[Tenant, Model])], [Kind::DayRoute; 3]);
    assert_eq!([kind(&[Tenant, User]), kind(&[User, Model])], [Kind::DayTenantUser, Kind::DayUser]);
    assert_eq!([kind(&[Tag]), kind(&[Tag, Key])], [Kind::DayTenantTag, Kind::DayTag]);
}
