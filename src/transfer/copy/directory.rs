//! Specs, keys and tokens: the one part of a copy that is a single change.
//!
//! A key that was revoked at the source must not live on at the destination, so what is gone there goes here too.

use std::collections::{BTreeMap, HashSet};

use super::super::TransferError;
use super::super::directory::{Keys, Listed, Specs, Tokens};
use super::super::table::Table;
use super::{Copier, Tally};
use crate::ids::TenantId;
use crate::store::{DirectoryImage, DirectoryWrite};

impl Copier<'_> {
    pub(super) async fn directory(&mut self) -> Result<(), TransferError> {
        let tallies = loop {
            // The destination first: what its shadow has brought by then is at the source as well.
            let there = match self.destination {
                Some(stores) => stores.directory.directory().await?,
                None => DirectoryImage::default(),
            };
            let here = self.source.directory.directory().await?;
            let (writes, tallies) = plan(&here, &there);
            match self.destination {
                Some(stores) if self.writes && !writes.is_empty() => {
                    if stores.directory.change_directory(there.version, &writes, &[]).await?.is_some() {
                        break tallies;
                    }
                }
                _ => break tallies,
            }
        };
        for (table, tally) in tallies {
            self.count(table, tally, None).await;
            self.forget(table).await?;
        }
        Ok(())
    }
}

/// What makes the destination equal to the source, and the account of it.
fn plan(here: &DirectoryImage, there: &DirectoryImage) -> (Vec<DirectoryWrite>, [(Table, Tally); 3]) {
    let (mut deletes, mut puts) = (Vec::new(), Vec::new());
    let specs = compare::<Specs>(&here.tenants, &there.tenants, &mut deletes, &mut puts, |_| false);
    // Keys go with their tenant, and those that the source has come back.
    let gone: HashSet<TenantId> = deletes
        .iter()
        .filter_map(|write| match write {
            DirectoryWrite::DeleteTenant(tenant) => Some(tenant.clone()),
            _ => None,
        })
        .collect();
    let keys = compare::<Keys>(&here.keys, &there.keys, &mut deletes, &mut puts, |row| gone.contains(&row.tenant));
    let tokens = compare::<Tokens>(&here.tokens, &there.tokens, &mut deletes, &mut puts, |_| false);
    deletes.append(&mut puts);
    (deletes, [(Table::Specs, specs), (Table::Keys, keys), (Table::Tokens, tokens)])
}

fn compare<R: Listed>(
    here: &[R::Row],
    there: &[R::Row],
    deletes: &mut Vec<DirectoryWrite>,
    puts: &mut Vec<DirectoryWrite>,
    always: impl Fn(&R::Row) -> bool,
) -> Tally {
    let mut tally = Tally { read: here.len() as u64, ..Tally::default() };
    let mut others: BTreeMap<R::Key, &R::Row> = there.iter().map(|row| (R::key(row), row)).collect();
    for row in here {
        match others.remove(&R::key(row)) {
            None => tally.added += 1,
            Some(other) if R::digest(row) != R::digest(other) => tally.changed += 1,
            Some(_) if always(row) => {}
            Some(_) => continue,
        }
        puts.push(R::put(row));
    }
    tally.deleted = others.len() as u64;
    deletes.extend(others.into_keys().map(R::delete));
    tally
}
