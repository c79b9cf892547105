//! How rows become our types, the same in either database. Where a table is read in several places, the list of its columns stands
//! before what reads them in that order.
//!
//! How a cell is stored is for the database to say, in [`StoredRow`].

mod admin;
mod cells;
mod entries;
mod ledger;

pub(super) use self::admin::*;
pub(super) use self::cells::{Cells, StoredRow};
pub(super) use self::entries::*;
pub(super) use self::ledger::*;
