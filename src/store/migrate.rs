//! Schema steps whatever the database is: where it stands, what a migration would do, and doing it.
//!
//! Expand, then contract: a step says which is the oldest program schema that can still work on the database after it,
//! and the database keeps that number. So a program meets a newer schema in one of two ways: it works on it, or it
//! refuses and changes nothing.
//!
//! It must never: lose data on the way down, or change a database it does not know.

use std::fmt::Display;

use super::{StoreError, postgres, sqlite};
use crate::config::StoreUrl;

/// One step: from the version before it to its own.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) version: u32,
    pub(super) name: &'static str,
    pub(super) up: &'static str,
    /// The way back, with all data kept. The first step has none: before it there is nothing.
    pub(super) down: Option<&'static str>,
    /// The oldest program, by the newest schema it knows, that can work on the database after this step.
    pub(super) compatible: u32,
}

/// Where a database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Schema version of the database; 0 if nothing has been created yet.
    pub current: u32,
    /// Schema version of this program.
    pub latest: u32,
    /// Names of the steps that `up` would take, in order.
    pub pending: Vec<&'static str>,
}

/// A step as a migration would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The version that the step leads to on the way up.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Which way.
    pub way: Way,
    /// What is run, in one transaction.
    pub sql: &'static str,
}

/// The direction of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a newer schema.
    Up,
    /// To an older schema.
    Down,
}

impl Way {
    /// `up` or `down`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Schema status of a database. Changes nothing.
///
/// # Errors
/// There is no such database, or it cannot be used.
pub async fn status(url: &StoreUrl) -> Result<Status, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => sqlite::status(path).await,
        StoreUrl::Postgres(_) => postgres::status(url).await,
    }
}

/// The steps from where the database stands to schema `to`, or to the newest of this program. Changes nothing.
///
/// # Errors
/// The database cannot be used, or cannot go there.
pub async fn plan(url: &StoreUrl, to: Option<u32>) -> Result<Vec<Planned>, StoreError> {
    let found = status(url).await?.current;
    let (steps, reach): (&'static [Step], Reach) = match url {
        StoreUrl::Sqlite(_) => (&sqlite::STEPS, Reach { least: sqlite::OLDEST, known: sqlite::LATEST }),
        StoreUrl::Postgres(_) => (&postgres::STEPS, Reach { least: postgres::OLDEST, known: postgres::LATEST }),
    };
    let to = to.unwrap_or(reach.known.max(found));
    let way = if to < found { Way::Down } else { Way::Up };
    reach.check(url, way, found, to)?;
    Ok(planned(steps, way, found, to))
}

/// Brings a database to schema `to`, or to the newest of this program; returns the names of the steps taken. A SQLite
/// file must be there; a PostgreSQL database may be empty.
///
/// # Errors
/// The database cannot be used, or cannot go there. Steps taken before the error stay.
pub async fn up(url: &StoreUrl, to: Option<u32>) -> Result<Vec<&'static str>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => sqlite::migrate_up(path, to).await,
        StoreUrl::Postgres(_) => postgres::migrate_up(url, to).await,
    }
}

/// Takes a database back to schema `to`, all data kept; returns the names of the steps undone.
///
/// # Errors
/// The database cannot be used, or cannot go there. Steps undone before the error stay undone.
pub async fn down(url: &StoreUrl, to: u32) -> Result<Vec<&'static str>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => sqlite::migrate_down(path, to).await,
        StoreUrl::Postgres(_) => postgres::migrate_down(url, to).await,
    }
}

/// Which schemas a program can lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// The oldest that holds data.
    pub(super) least: u32,
    /// The newest that this program knows.
    pub(super) known: u32,
}

impl Reach {
    /// Whether the database at `place`, which has schema `found`, can go that way to `to`. A schema that is newer than
    /// this program can be worked on, perhaps, but its steps are not known here and cannot be undone.
    pub(super) fn check(&self, place: &dyn Display, way: Way, found: u32, to: u32) -> Result<(), StoreError> {
        let place = place.to_string();
        if found > self.known && to != found {
            return Err(StoreError::Newer { place, found, known: self.known });
        }
        let (least, most) = match way {
            Way::Up => (found.max(self.least), self.known.max(found)),
            Way::Down => (self.least, found),
        };
        if (least..=most).contains(&to) {
            return Ok(());
        }
        Err(StoreError::NoSuchVersion { place, way: way.as_str(), found, asked: to, least, most })
    }
}

/// Whether a program that knows schemas up to `known` can work on schema `found`, which is newer and says `compatible`.
pub(super) fn check_newer(
    place: &dyn Display,
    found: u32,
    compatible: Option<u32>,
    known: u32,
) -> Result<(), StoreError> {
    if compatible.is_some_and(|oldest| oldest <= known) {
        return Ok(());
    }
    Err(StoreError::Newer { place: place.to_string(), found, known })
}

/// Names of the steps after version `current`.
pub(super) fn names_after(steps: &'static [Step], current: u32) -> Vec<&'static str> {
    steps.iter().filter(|step| step.version > current).map(|step| step.name).collect()
}

/// The oldest program schema that can work on a database with schema `version`.
pub(super) fn oldest_program(steps: &[Step], version: u32) -> u32 {
    steps.iter().filter(|step| step.version <= version).map(|step| step.compatible).max().unwrap_or(version)
}

fn planned(steps: &'static [Step], way: Way, found: u32, to: u32) -> Vec<Planned> {
    let plan = |step: &'static Step, sql| Planned { version: step.version, name: step.name, way, sql };
    let between = |step: &&Step, above: u32, upto: u32| step.version > above && step.version <= upto;
    match way {
        Way::Up => steps.iter().filter(|step| between(step, found, to)).map(|step| plan(step, step.up)).collect(),
        Way::Down => {
            let undone = steps.iter().rev().filter(|step| between(step, to, found));
            undone.filter_map(|step| step.down.map(|sql| plan(step, sql))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step { version: 1, name: "one", up: "1", down: None, compatible: 1 },
        Step { version: 2, name: "two", up: "2", down: Some("-2"), compatible: 2 },
        Step { version: 3, name: "three", up: "3", down: Some("-3"), compatible: 1 },
    ];

    #[test]
    fn a_plan_has_the_steps_between_in_the_order_they_are_taken() {
        let names = |way, found, to| -> Vec<_> {
            planned(&STEPS, way, found, to).iter().map(|step| (step.name, step.sql)).collect()
        };
        assert_eq!(names(Way::Up, 0, 3), [("one", "1"), ("two", "2"), ("three", "3")]);
        assert_eq!(names(Way::Up, 1, 2), [("two", "2")]);
        assert_eq!(names(Way::Down, 3, 1), [("three", "-3"), ("two", "-2")]);
        assert_eq!(names(Way::Up, 3, 3), []);
    }

    #[test]
    fn a_database_goes_only_where_the_program_knows_the_way() {
        let reach = Reach { least: 1, known: 3 };
        let check = |way, found, to| reach.check(&"here", way, found, to).map_err(|error| error.as_str());
        assert_eq!((check(Way::Up, 0, 3), check(Way::Up, 2, 2), check(Way::Down, 3, 1)), (Ok(()), Ok(()), Ok(())));
        for (way, found, to) in [(Way::Up, 0, 4), (Way::Up, 2, 1), (Way::Down, 3, 0), (Way::Down, 2, 3)] {
            assert_eq!(check(way, found, to), Err("no_such_version"), "{way:?} {found} {to}");
        }
        assert_eq!(check(Way::Down, 4, 2), Err("newer_schema"));
        assert_eq!(check(Way::Up, 4, 4), Ok(()));
    }

    #[test]
    fn a_newer_schema_is_for_programs_that_it_is_compatible_with() {
        assert_eq!(oldest_program(&STEPS, 3), 2, "what a step demands is not taken back by a later one");
        assert!(check_newer(&"here", 9, Some(3), 3).is_ok());
        for compatible in [None, Some(4)] {
            let error = check_newer(&"here", 9, compatible, 3).unwrap_err();
            assert_eq!(error.as_str(), "newer_schema");
        }
    }
}
