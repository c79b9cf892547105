//! Reading the configuration again, on request.

use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::{Admin, Problem};

/// What a reload has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Tenants that are new or were changed.
    pub tenants_changed: usize,
    /// Tenants that are declared no longer and are disabled now.
    pub tenants_undeclared: usize,
    /// Which price lists count from now on.
    pub prices: Arc<str>,
    /// Sections that differ from what runs and need a restart, as in `[server]`.
    pub need_restart: Vec<&'static str>,
}

/// Why the configuration was not taken over. Who may call is who might before.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotReloaded {
    /// It is not valid; every problem, for people.
    #[error("the configuration is not valid, so nothing was changed:\n{0}")]
    Invalid(String),
    /// The store failed.
    #[error("the store cannot be read or written now, so the configuration was not taken over; see the log")]
    Store,
}

/// The answer of [`Reload::reload`].
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send + 'a>>;

/// Whoever can read the configuration again.
pub trait Reload: Send + Sync {
    /// Reads it whole, and takes over what can be taken over; or changes nothing.
    fn reload<'a>(&'a self, actor: &'a str) -> Reloading<'a>;
}

/// `POST /admin/v1/reload`
pub(super) async fn reload(State(state): State<Admin>, who: Who) -> Result<Json<Value>, Problem> {
    let Some(reloader) = state.reload.as_ref().map(Arc::clone) else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this program was started without a configuration to read again",
        ));
    };
    match reloader.reload(&who.actor).await {
        Ok(Reloaded { tenants_changed, tenants_undeclared, prices, need_restart }) => Ok(Json(json!({
            "reloaded": true,
            "tenants_changed": tenants_changed,
            "tenants_undeclared": tenants_undeclared,
            "prices": prices.as_ref(),
            "need_restart": need_restart,
        }))),
        Err(error @ NotReloaded::Invalid(_)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
        Err(error @ NotReloaded::Store) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}
