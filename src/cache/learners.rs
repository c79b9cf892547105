//! The learners of all tenants and models, and keeping them.
//!
//! A decision locks one learner for a moment. Fits, which take milliseconds, and saving run on the thread that looks after
//! the cache ([`Learners::upkeep`]), never on a request.
//!
//! Invariant: one tenant's labels never change another's decisions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::decide::{Learner, Weights};
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::store::LearnedRow;

/// Learners held. In passthrough anybody may become a tenant; beyond this number new ones share nothing and learn nothing,
/// which serves less and is never wrong for it.
const MOST: usize = 10_000;

/// Whose traffic on which model.
type Key = (TenantId, Arc<str>);

/// One learner in the crowd.
pub(super) struct Seat {
    learner: Mutex<Learner>,
    fit_due: AtomicBool,
    /// Changed since it was last saved.
    dirty: AtomicBool,
}

/// See the module.
pub(super) struct Learners {
    prior: Option<Weights>,
    space: String,
    seats: RwLock<HashMap<Key, Arc<Seat>>>,
}

impl Seat {
    fn new(learner: Learner) -> Self {
        Self { learner: Mutex::new(learner), fit_due: AtomicBool::new(false), dirty: AtomicBool::new(false) }
    }

    /// The learner, to be changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, Learner> {
        self.learner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has changed, and may want a fit.
    pub(super) fn changed(&self, fit_due: bool) {
        self.dirty.store(true, Ordering::Relaxed);
        if fit_due {
            self.fit_due.store(true, Ordering::Relaxed);
        }
    }
}

impl Learners {
    /// No learners. `prior` are the weights for the embedding space, if there are any.
    pub(super) fn new(prior: Option<Weights>, space: String) -> Self {
        Self { prior, space, seats: RwLock::default() }
    }

    /// The learner of a tenant's traffic on a model; made if there is none.
    pub(super) fn of(&self, tenant: &TenantId, model: &str) -> Arc<Seat> {
        let key = (tenant.clone(), Arc::from(model));
        if let Some(seat) = self.seats.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(seat);
        }
        let fresh = || Arc::new(Seat::new(Learner::new(self.prior)));
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        if seats.len() >= MOST {
            return fresh();
        }
        Arc::clone(seats.entry(key).or_insert_with(fresh))
    }

    /// Forgets all that was learnt from a tenant's traffic.
    pub(super) fn forget(&self, tenant: &TenantId) {
        self.seats.write().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| owner != tenant);
    }

    /// Takes in what was saved; returns how many could not be used.
    pub(super) fn restore(&self, rows: Vec<LearnedRow>) -> usize {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let mut refused = 0;
        for row in rows.into_iter().take(MOST) {
            match Learner::restore(&row.state, &self.space, self.prior) {
                Ok(learner) => {
                    seats.insert((row.tenant, row.model.into()), Arc::new(Seat::new(learner)));
                }
                Err(error) => {
                    tracing::warn!(tenant = %row.tenant, model = row.model, %error, "a learner begins anew");
                    refused += 1;
                }
            }
        }
        refused
    }

    /// Makes the fits that are due; returns how many. Runs on a blocking thread.
    pub(super) fn upkeep(&self) -> usize {
        let mut fitted = 0;
        for (_, seat) in self.all() {
            if seat.fit_due.swap(false, Ordering::Relaxed) {
                let lesson = seat.lock().lesson();
                let weights = lesson.fit();
                seat.lock().learnt(weights);
                seat.changed(false);
                fitted += 1;
            }
        }
        fitted
    }

    /// What has changed since it was last asked for, to be saved.
    pub(super) fn unsaved(&self, now: UnixMs) -> Vec<LearnedRow> {
        let changed = self.all().into_iter().filter(|(_, seat)| seat.dirty.swap(false, Ordering::Relaxed));
        changed
            .map(|((tenant, model), seat)| LearnedRow {
                tenant,
                model: model.to_string(),
                state: seat.lock().save(&self.space),
                updated_at: now,
            })
            .collect()
    }

    /// Those rows were not saved after all.
    pub(super) fn not_saved(&self, rows: &[LearnedRow]) {
        for row in rows {
            self.of(&row.tenant, &row.model).changed(false);
        }
    }

    /// All learners, by tenant and model.
    pub(super) fn all(&self) -> Vec<(Key, Arc<Seat>)> {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = seats.iter().map(|(key, seat)| (key.clone(), Arc::clone(seat))).collect();
        all.sort_by(|((a, m), _), ((b, n), _)| a.as_str().cmp(b.as_str()).then(m.cmp(n)));
        all
    }
}
