//! What a caller asks of the roll-ups, read from the query and held against what they can answer.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use super::super::Problem;
use super::super::times::Span;
use crate::clock::UnixMs;
use crate::store::{Dimension, Slot, UsageAsk, UsageRow};

/// Groups of an answer if the caller does not say.
const USUAL: u32 = 1_000;
/// Most groups of one answer.
const MOST: u32 = 20_000;
/// Most rows of an answer as JSON, which is built as a whole.
const MOST_JSON: u32 = 20_000;
/// Most rows of an answer as CSV.
const MOST_CSV: u32 = 200_000;

/// The query, as text, so that each problem can name its parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Params {
    group_by: Option<String>,
    slot: Option<String>,
    from: Option<String>,
    to: Option<String>,
    pub(super) tenant: Option<String>,
    key: Option<String>,
    user: Option<String>,
    model: Option<String>,
    tag: Option<String>,
    route: Option<String>,
    limit: Option<String>,
    pub(super) format: Option<String>,
}

/// A question that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Asks for one group more than `limit`, to see whether there are more.
    pub(super) ask: UsageAsk,
    /// What its times are multiples of.
    pub(super) grain: Slot,
    /// Names of the groups' columns.
    pub(super) columns: Vec<String>,
    /// Most groups of the answer, each with all of its slots.
    pub(super) limit: u32,
    /// Whether the caller has said so.
    pub(super) limited: bool,
    /// Most rows of the answer; the store reads little more than that.
    pub(super) most: u32,
}

impl Question {
    /// `whole` answers are those that must not be cut without being told so beforehand.
    pub(super) fn of(params: &Params, now: UnixMs, whole: bool) -> Result<Self, Problem> {
        let (by, tag_name) = groups(params.group_by.as_deref().unwrap_or("tenant"))?;
        let only = params.only()?;
        apart(&by, &only)?;
        let slot = params.slot.as_deref().map(slot).transpose()?;
        let daily = |dimension: &Dimension| matches!(dimension, Dimension::User | Dimension::Tag);
        let by_day = by.iter().chain(only.keys()).any(daily);
        if by_day && slot == Some(Slot::Hour) {
            return Err(wrong("slot", "users and tags are summed by day only; ask for slot=day"));
        }
        let grain = if by_day || slot == Some(Slot::Day) { Slot::Day } else { Slot::Hour };
        let Span { since, until } = Span::of(params.from.as_deref(), params.to.as_deref(), now)?.outward(grain);
        let limit = params.limit.as_deref().map(limit).transpose()?;
        let limited = limit.is_some();
        let limit = limit.unwrap_or(if whole { MOST } else { USUAL });
        let column = |dimension: &Dimension| match (dimension, &tag_name) {
            (Dimension::Tag, Some(name)) => format!("tag:{name}"),
            (dimension, _) => name(*dimension).to_owned(),
        };
        let columns = by.iter().map(column).collect();
        let most = if whole { MOST_CSV } else { MOST_JSON };
        // With all slots of the group that is one too many.
        let slots = slot.map_or(1, |slot| until.saturating_sub(since) / slot.ms() + 1);
        let slots = u32::try_from(slots).unwrap_or(most).min(most);
        let most_rows = most.saturating_add(slots);
        let ask = UsageAsk { since, until, by, slot, only, tag_name, limit: limit.saturating_add(1), most_rows };
        Ok(Self { ask, grain, columns, limit, limited, most })
    }

    /// Whether these are more rows than an answer has; if the store has left out some, there are.
    pub(super) fn is_exceeded(&self, rows: &[UsageRow]) -> bool {
        u32::try_from(rows.len()).map_or(true, |rows| rows > self.most)
    }

    /// Where one tag was asked for, its name is in the column's: the rows have its values alone.
    pub(super) fn name_tags(&self, rows: &mut [UsageRow]) {
        let place = self.ask.by.iter().position(|dimension| *dimension == Dimension::Tag);
        let (Some(place), Some(name)) = (place, &self.ask.tag_name) else { return };
        for tag in rows.iter_mut().filter_map(|row| row.group.get_mut(place)?.as_mut()) {
            if let Some(value) = tag.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('=')) {
                *tag = value.to_owned();
            }
        }
    }

    /// The same without groups: all that the answer's rows are parts of.
    pub(super) fn total(&self) -> UsageAsk {
        UsageAsk { by: Vec::new(), slot: None, tag_name: None, limit: 0, most_rows: 0, ..self.ask.clone() }
    }
}

impl Params {
    /// A question about all of a tenant, or of everybody.
    pub(super) fn of_span(
        from: Option<String>,
        to: Option<String>,
        tenant: Option<String>,
        slot: Option<String>,
    ) -> Self {
        Self { group_by: Some(String::new()), from, to, tenant, slot, ..Self::default() }
    }

    fn only(&self) -> Result<BTreeMap<Dimension, String>, Problem> {
        let mut only = BTreeMap::new();
        for (dimension, value) in [
            (Dimension::Tenant, &self.tenant),
            (Dimension::Key, &self.key),
            (Dimension::User, &self.user),
            (Dimension::Model, &self.model),
            (Dimension::Tag, &self.tag),
            (Dimension::Route, &self.route),
        ] {
            let Some(value) = value else { continue };
            if value.is_empty() {
                return Err(wrong(name(dimension), "it is empty; leave it out, or say which"));
            }
            only.insert(dimension, value.clone());
        }
        if only.get(&Dimension::Tag).is_some_and(|tag| tag.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
            return Err(wrong("tag", "write it as name=value, as in tag=team=search"));
        }
        // Keys are named within their tenant, and written with it everywhere.
        if let (Some(tenant), Some(key)) = (&self.tenant, &self.key)
            && !key.contains('/')
            && key != tenant
        {
            only.insert(Dimension::Key, format!("{tenant}/{key}"));
        }
        Ok(only)
    }
}

/// Name of a dimension in queries and answers.
pub(super) fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Tenant => "tenant",
        Dimension::Key => "key",
        Dimension::User => "user",
        Dimension::Model => "model",
        Dimension::Tag => "tag",
        Dimension::Route => "route",
    }
}

fn groups(text: &str) -> Result<(Vec<Dimension>, Option<String>), Problem> {
    let (mut by, mut tag_name) = (Vec::new(), None);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let dimension = match part {
            "tenant" => Dimension::Tenant,
            "key" => Dimension::Key,
            "user" => Dimension::User,
            "model" => Dimension::Model,
            "tag" => Dimension::Tag,
            "route" => Dimension::Route,
            _ => match part.strip_prefix("tag:").filter(|name| !name.is_empty()) {
                Some(name) => {
                    tag_name = Some(name.to_owned());
                    Dimension::Tag
                }
                None => {
                    let shown: String = part.chars().filter(|c| !c.is_control()).take(64).collect();
                    let fix = "use tenant, key, user, model, tag, tag:NAME and route, with commas between";
                    return Err(wrong("group_by", &format!("`{shown}` is no group; {fix}")));
                }
            },
        };
        if by.contains(&dimension) {
            return Err(wrong("group_by", &format!("{} is in it twice; name each group once", name(dimension))));
        }
        by.push(dimension);
    }
    Ok((by, tag_name))
}

/// Users, tags and routes are summed apart from each other, so that no combination can be as large as the ledger.
fn apart(by: &[Dimension], only: &BTreeMap<Dimension, String>) -> Result<(), Problem> {
    let alone = [Dimension::User, Dimension::Tag, Dimension::Route];
    let asked: Vec<&str> =
        alone.into_iter().filter(|one| by.contains(one) || only.contains_key(one)).map(name).collect();
    if asked.len() < 2 {
        return Ok(());
    }
    let text = format!(
        "it and the filters name {}, which are summed apart from each other; ask about one of them at a time, or look at single \
         requests with GET /admin/v1/requests",
        asked.join(" and ")
    );
    Err(wrong("group_by", &text))
}

fn slot(text: &str) -> Result<Slot, Problem> {
    match text {
        "hour" => Ok(Slot::Hour),
        "day" => Ok(Slot::Day),
        _ => Err(wrong("slot", "write hour or day, or leave it out for one sum over all of the time")),
    }
}

fn limit(text: &str) -> Result<u32, Problem> {
    let number = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    number.ok_or_else(|| wrong("limit", &format!("write a number from 1 to {MOST}")))
}

pub(super) fn wrong(parameter: &str, text: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{parameter}`: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-26T12:30:00Z
    const NOW: UnixMs = 1_795_696_200_000;
    const DAY: UnixMs = 86_400_000;

    fn params(query: &str) -> Params {
        axum::extract::Query::try_from_uri(&format!("/?{query}").parse().unwrap()).unwrap().0
    }

    fn question(query: &str) -> Question {
        Question::of(&params(query), NOW, false).unwrap_or_else(|problem| panic!("{query}: {}", problem.detail))
    }

    #[test]
    fn a_question_says_its_groups_filters_and_times() {
        let whole = question("group_by=tenant,model&slot=hour&from=2026-11-01&to=2026-11-02T00:30:00Z&limit=5");
        assert_eq!(whole.ask.by, [Dimension::Tenant, Dimension::Model]);
        assert_eq!((whole.ask.until - whole.ask.since, whole.grain), (DAY + 3_600_000, Slot::Hour));
        assert_eq!((whole.limit, whole.ask.limit, whole.limited), (5, 6, true));

        let tags = question("group_by=tag:team&tenant=acme&key=app&from=-24h");
        assert_eq!((tags.columns, tags.ask.tag_name.as_deref()), (vec!["tag:team".to_owned()], Some("team")));
        assert_eq!(tags.ask.only.get(&Dimension::Key).map(String::as_str), Some("acme/app"));
        assert_eq!((tags.grain, tags.ask.until - tags.ask.since), (Slot::Day, 2 * DAY), "rounded outward to days");

        let filtered = question("group_by=&tag=team=a=b&key=acme/app");
        assert_eq!(filtered.ask.only.get(&Dimension::Tag).map(String::as_str), Some("team=a=b"));
        assert!(filtered.ask.by.is_empty() && question("").ask.by == [Dimension::Tenant]);
        let passed = question("tenant=p-1&key=p-1");
        assert_eq!(
            passed.ask.only.get(&Dimension::Key).map(String::as_str),
            Some("p-1"),
            "who passes through is their own key"
        );
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_the_parameter_and_the_remedy() {
        for (query, parameter, remedy) in [
            ("group_by=team", "`group_by`", "tag:NAME"),
            ("group_by=tag:", "`group_by`", "tag:NAME"),
            ("group_by=tag:a,tag:b", "`group_by`", "once"),
            ("group_by=user,tag", "`group_by`", "user and tag"),
            ("group_by=route&user=zoe", "`group_by`", "one of them at a time"),
            ("group_by=user&slot=hour", "`slot`", "slot=day"),
            ("slot=week", "`slot`", "hour or day"),
            ("tag=team", "`tag`", "name=value"),
            ("tag==x", "`tag`", "name=value"),
            ("model=", "`model`", "leave it out"),
            ("limit=0", "`limit`", "1 to 20000"),
            ("limit=all", "`limit`", "1 to 20000"),
            ("from=soon", "`from`", "2026-11-01"),
            ("from=1h&to=2h", "`from`", "before `to`"),
        ] {
            let problem = Question::of(&params(query), NOW, false).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(
                problem.detail.contains(parameter) && problem.detail.contains(remedy),
                "{query}: {}",
                problem.detail
            );
        }
    }
}
