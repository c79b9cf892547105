//! Who asks: the keys, rights and limits of the data plane.

use http::{HeaderMap, StatusCode};

use super::problem::Problem;
use super::{Shared, problem};
use crate::config::Right;
use crate::limit::Denied;
use crate::rem::{Code, Fault};
use crate::store::rem::Scope;
use crate::tenant::AuthError;

/// Finds out who sent these headers, and counts one request of what they are held to.
///
/// # Errors
/// 401, 403, 429 or 503.
pub(super) async fn admit(shared: &Shared, headers: &HeaderMap) -> Result<Scope, Problem> {
    let principal = shared.directory.authenticate(headers).map_err(refused)?;
    // In passthrough mode callers without a credential cannot be told apart: they have nothing of their own to ask for.
    if principal.anonymous {
        return Err(refused(AuthError::Missing));
    }
    if !principal.may(Right::Rem) {
        let fault = Fault::new(Code::Forbidden, "this API key may not ask the REM sidecar");
        return Err(fault.hint("whoever manages this tenant can give the key the right `rem`").into());
    }
    let now = shared.rem.parts().clock.now_ms();
    match shared.limiter.request(principal.caller(), now).await {
        Ok(_) => Ok(Scope { tenant: principal.tenant, key: principal.key }),
        Err(denied) => Err(limited(&denied)),
    }
}

fn refused(error: AuthError) -> Problem {
    let code = match error {
        AuthError::Missing | AuthError::Unknown | AuthError::Mistyped | AuthError::Malformed | AuthError::Expired => {
            Code::Unauthorised
        }
        AuthError::KeyDisabled | AuthError::TenantDisabled | AuthError::Route | AuthError::Model => Code::Forbidden,
        AuthError::Unavailable | AuthError::Unreadable | AuthError::Credential => Code::Unavailable,
    };
    Fault::new(code, error.to_string()).into()
}

fn limited(denied: &Denied) -> Problem {
    let too_many = |detail: String| Problem::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited.as_str(), detail);
    match denied {
        Denied::Requests { whose, limit, retry_after, .. } => {
            too_many(format!("rate limit of the {whose} reached: {limit} requests per minute"))
                .again_after(*retry_after)
        }
        Denied::Unavailable { retry_after } => {
            let detail = "limits cannot be checked now, and this tenant must not go on without; try again";
            problem::Problem::from(Fault::new(Code::Unavailable, detail)).again_after(*retry_after)
        }
        // Only the number of requests was asked for.
        Denied::Tokens { .. } | Denied::Concurrency { .. } | Denied::Budget { .. } => {
            too_many("a limit of this API key is reached".to_owned())
        }
    }
}
