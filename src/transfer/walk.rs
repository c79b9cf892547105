//! Walks two stores side by side in key order, a window at a time.
//!
//! A window holds a page of the source and what the destination has in the same range of keys, so memory does not grow
//! with the tables. A page of large rows has fewer of them.
//!
//! A source that is written to meanwhile may get rows as fast as they are read. So a walk that has met its end goes after it a few
//! times only: what comes later is left to the shadow, or to the next pass.

use super::table::{PAGE_BYTES, Rows};
use crate::store::{StoreError, Stores};

/// See the module.
pub(super) struct Walk<'a, R: Rows> {
    source: &'a Stores,
    /// `None` if nothing is there any more beyond `after`.
    destination: Option<&'a Stores>,
    after: Option<R::Key>,
    until: Option<R::Key>,
    limit: u32,
    ceiling: u32,
    /// Pages that were the last of the source when they were read.
    ends: u32,
}

/// Pages at the end of the source that are followed.
const ENDS: u32 = 8;

/// What both sides have in one range of keys.
pub(super) struct Window<R: Rows> {
    /// The range begins after this key.
    pub(super) after: Option<R::Key>,
    pub(super) source: Vec<R::Row>,
    pub(super) destination: Vec<R::Row>,
}

impl<'a, R: Rows> Walk<'a, R> {
    /// From after `after` to `until`, that included; pages have at most `ceiling` rows.
    pub(super) fn new(
        source: &'a Stores,
        destination: Option<&'a Stores>,
        after: Option<R::Key>,
        until: Option<R::Key>,
        ceiling: u32,
    ) -> Self {
        let ceiling = ceiling.clamp(1, R::PAGE);
        // The first page tells how large rows are.
        Self { source, destination, after, until, limit: ceiling.min(64), ceiling, ends: 0 }
    }

    /// Where it stands.
    pub(super) fn after(&self) -> Option<&R::Key> {
        self.after.as_ref()
    }

    /// The destination has nothing beyond [`Walk::after`].
    pub(super) fn destination_ended(&self) -> bool {
        self.destination.is_none()
    }

    /// The next window; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Window<R>>, StoreError> {
        let after = self.after.clone();
        if self.ends >= ENDS {
            return Ok(None);
        }
        let mut source = R::page(self.source, after.as_ref(), self.limit).await?;
        let short = u32::try_from(source.len()).is_ok_and(|len| len < self.limit);
        self.fit(&source);
        if let Some(until) = &self.until {
            source.retain(|row| R::key(row) <= *until);
        }
        let bound = source.last().map(R::key).or_else(|| self.until.clone());
        let destination = self.destination_up_to(bound.as_ref(), source.len()).await?;
        // Where the destination has more than a few pages between two rows of the source, the window ends early.
        if let (Some(last), true) = (destination.last(), destination.len() >= self.most()) {
            let last = R::key(last);
            source.retain(|row| R::key(row) <= last);
            self.after = Some(last);
        } else if let Some(last) = source.last().or(destination.last()) {
            self.ends += u32::from(short && !source.is_empty());
            self.after = Some(R::key(last));
        } else {
            return Ok(None);
        }
        Ok(Some(Window { after, source, destination }))
    }

    /// Rows of the destination in one window, about.
    fn most(&self) -> usize {
        4 * self.ceiling as usize
    }

    /// What the destination has after the place of the walk, up to `bound`. Without a source row the source has ended,
    /// and one page at a time is enough.
    async fn destination_up_to(
        &mut self,
        bound: Option<&R::Key>,
        source_rows: usize,
    ) -> Result<Vec<R::Row>, StoreError> {
        let mut found: Vec<R::Row> = Vec::new();
        let limit = u32::try_from(source_rows).unwrap_or(self.ceiling).saturating_add(1).max(self.limit.min(64));
        while let Some(stores) = self.destination {
            let from = found.last().map(R::key).or_else(|| self.after.clone());
            let page = R::page(stores, from.as_ref(), limit).await?;
            if page.is_empty() {
                self.destination = None;
                break;
            }
            let within = page.iter().filter(|row| bound.is_none_or(|bound| R::key(row) <= *bound)).count();
            let beyond = within < page.len();
            found.extend(page.into_iter().take(within));
            if beyond || source_rows == 0 || found.len() >= self.most() {
                break;
            }
        }
        Ok(found)
    }

    fn fit(&mut self, rows: &[R::Row]) {
        let Some(mean) = rows.iter().map(R::weight).sum::<usize>().checked_div(rows.len()) else { return };
        let fitting = u32::try_from(PAGE_BYTES / mean.max(1)).unwrap_or(self.ceiling);
        // Twice at most, in case larger rows follow.
        self.limit = fitting.clamp(1, self.limit.saturating_mul(2)).min(self.ceiling);
    }
}
