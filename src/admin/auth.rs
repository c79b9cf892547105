//! Who may do what on the admin plane.
//!
//! A request shows the token of the configuration (an owner of everything), a token made through the API (a role, perhaps of
//! one tenant), or none where none is configured, which the configuration allows on loopback only. Each route says what it
//! needs; what it needs is checked here, before its handler runs. Whoever guesses tokens is made to wait, but a right token
//! is taken whatever others of its address have tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::RequestExt;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use subtle::ConstantTimeEq;

use super::{Admin, Problem};
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::tenant::{Kind, Role, TokenError};

/// Wrong tokens of one address in a minute, after which further ones are told to wait.
const MOST_WRONG: u32 = 20;
/// How long they count, milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Addresses that are remembered.
const MOST_ADDRESSES: usize = 10_000;

/// How a route stands to tokens that are good for one tenant only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Not for them.
    All,
    /// For them if the `{name}` in the path is their tenant.
    Tenant,
    /// For them; the handler answers with what is of their tenant.
    Filtered,
}

impl Scope {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tenant => "tenant",
            Self::Filtered => "filtered",
        }
    }
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) role: Role,
    pub(super) scope: Scope,
}

/// The caller of a handler.
#[derive(Clone, Debug)]
pub(super) struct Who {
    /// For the audit.
    pub(super) actor: String,
    pub(super) role: Role,
    /// The one tenant that they may see.
    pub(super) tenant: Option<TenantId>,
}

impl Who {
    fn owner(actor: String) -> Self {
        Self { actor, role: Role::Owner, tenant: None }
    }

    /// Narrows a filter by tenant to what the caller may see.
    pub(super) fn narrowed(&self, asked: Option<TenantId>) -> Result<Option<TenantId>, Problem> {
        match (&self.tenant, asked) {
            (Some(own), Some(asked)) if asked != *own => Err(elsewhere(own)),
            (Some(own), _) => Ok(Some(own.clone())),
            (None, asked) => Ok(asked),
        }
    }

    /// Whether the caller may see what belongs to this tenant.
    pub(super) fn sees(&self, tenant: Option<&TenantId>) -> bool {
        self.tenant.as_ref().is_none_or(|own| tenant == Some(own))
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only a route that needs nobody has none.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "nobody"))
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Wrong tokens by address.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, (UnixMs, u32)>>);

impl Guesses {
    /// Seconds until this address is heard again.
    fn wait(&self, from: IpAddr, now: UnixMs) -> Option<u64> {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, wrong) = guesses.get(&neighbourhood(from)).copied()?;
        let left = began.saturating_add(WINDOW_MS).checked_sub(now).filter(|left| *left > 0)?;
        (wrong >= MOST_WRONG).then(|| left.div_ceil(1_000))
    }

    fn wrong(&self, from: IpAddr, now: UnixMs) {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= MOST_ADDRESSES {
            guesses.retain(|_, (began, _)| began.saturating_add(WINDOW_MS) > now);
            if guesses.len() >= MOST_ADDRESSES {
                guesses.clear();
            }
        }
        let (began, wrong) = guesses.entry(neighbourhood(from)).or_insert((now, 0));
        if began.saturating_add(WINDOW_MS) <= now {
            (*began, *wrong) = (now, 0);
        }
        *wrong = wrong.saturating_add(1);
    }
}

/// What one party is given: an address, or with IPv6 a /64.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What the gate of one route knows.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) state: Admin,
    pub(super) need: Need,
}

/// Lets a request through to its handler, or answers why not.
pub(super) async fn authorise(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let who = match identify(&gate.state, &request) {
        Ok(who) => who,
        Err(response) => return *response,
    };
    if who.role < gate.need.role {
        let text = format!("this needs a token with the role {} or above; yours is {}", gate.need.role, who.role);
        return Problem::new(StatusCode::FORBIDDEN, text).into_response();
    }
    if let Some(own) = &who.tenant {
        let fits = match gate.need.scope {
            Scope::All => false,
            Scope::Filtered => true,
            Scope::Tenant => named(&mut request).await.as_deref() == Some(own.as_str()),
        };
        if !fits {
            return elsewhere(own).into_response();
        }
    }
    request.extensions_mut().insert(who);
    next.run(request).await
}

/// The `{name}` of the path, decoded.
async fn named(request: &mut Request) -> Option<String> {
    let params = request.extract_parts::<RawPathParams>().await.ok()?;
    params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.to_owned())
}

fn elsewhere(own: &TenantId) -> Problem {
    let text = format!("this token is good for tenant `{own}` only; this is not below /admin/v1/tenants/{own}/");
    Problem::new(StatusCode::FORBIDDEN, text)
}

/// Without a token on loopback a web page must still not get in: it could only do so under a foreign host name.
fn identify(state: &Admin, request: &Request) -> Result<Who, Box<Response>> {
    let sent = bearer(request);
    if let (Some(sent), Some(token)) = (sent, &state.token)
        && bool::from(sent.as_bytes().ct_eq(token.expose().as_bytes()))
    {
        let hash = blake3::Hash::from_bytes(state.cache.secret().digest("admin token", token.expose().as_bytes()));
        // Tells configured tokens apart, and gives none away.
        return Ok(Who::owner(hash.to_hex().chars().take(8).collect()));
    }
    // Without a configured token, only what looks like one of ours is held against who sends it.
    let made = sent.filter(|sent| state.token.is_some() || sent.starts_with(Kind::Token.prefix()));
    let Some(made) = made else {
        return match &state.token {
            Some(_) => Err(unauthorised("send the admin token as `Authorization: Bearer …`")),
            None if local_host(request) && !of_another_origin(request) => Ok(Who::owner("loopback".to_owned())),
            None => Err(unauthorised(
                "without an admin token this listener answers to a loopback address or `localhost` only, and to no web \
                 page of another origin",
            )),
        };
    };
    match state.directory.token(made) {
        Ok(holder) => Ok(Who { actor: holder.name, role: holder.role, tenant: holder.tenant }),
        Err(error @ TokenError::Unavailable) => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            Err(Box::new(([(header::RETRY_AFTER, "1")], problem).into_response()))
        }
        Err(error) => {
            // Somebody else behind the same address who holds a right one is not made to wait.
            let (now, from) = (state.clock.now_ms(), request.extensions().get::<Peer>().map(|peer| peer.0));
            if let Some(wait) = from.and_then(|from| state.guesses.wait(from, now)) {
                let text = "too many wrong admin tokens came from this address; wait a minute";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, text);
                return Err(Box::new(([(header::RETRY_AFTER, wait.to_string())], problem).into_response()));
            }
            if let Some(from) = from {
                state.guesses.wrong(from, now);
                tracing::warn!(%from, %error, "an admin token was refused");
            }
            Err(unauthorised(&error.to_string()))
        }
    }
}

fn unauthorised(text: &str) -> Box<Response> {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    Box::new((challenge, Problem::new(StatusCode::UNAUTHORIZED, text)).into_response())
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn host(request: &Request) -> &str {
    let header = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    request.uri().authority().map(http::uri::Authority::as_str).or(header).unwrap_or_default()
}

/// A browser says where the page comes from that asks; a page from elsewhere may post to us without being asked.
fn of_another_origin(request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host(request)))
}

fn local_host(request: &Request) -> bool {
    let host = host(request);
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn host(host: &str) -> bool {
        local_host(&Request::builder().header(header::HOST, host).body(Body::empty()).unwrap())
    }

    #[test]
    fn a_web_page_under_a_foreign_name_does_not_get_in() {
        for good in ["localhost:8081", "127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "localhost"] {
            assert!(host(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:8081", "localhost.evil.example", ""] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn a_web_page_of_another_origin_does_not_post_to_a_local_listener() {
        let foreign = |origin: Option<&str>| {
            let request = Request::builder().header(header::HOST, "localhost:8081");
            let request = origin.into_iter().fold(request, |request, origin| request.header(header::ORIGIN, origin));
            of_another_origin(&request.body(Body::empty()).unwrap())
        };
        assert!(!foreign(None) && !foreign(Some("http://localhost:8081")) && !foreign(Some("http://LocalHost:8081")));
        for bad in ["https://evil.example", "http://localhost:3000", "null", "http://localhost:8081.evil.example", ""] {
            assert!(foreign(Some(bad)), "{bad}");
        }
    }

    #[test]
    fn twenty_wrong_tokens_a_minute_close_the_door_of_one_address_for_the_rest_of_it() {
        let (guesses, here) = (Guesses::default(), "192.0.2.1".parse().unwrap());
        for _ in 0..20 {
            assert_eq!(guesses.wait(here, 5_000), None);
            guesses.wrong(here, 5_000);
        }
        assert_eq!(guesses.wait(here, 5_000), Some(60));
        assert_eq!(guesses.wait(here, 64_001), Some(1));
        assert_eq!(guesses.wait("::ffff:192.0.2.1".parse().unwrap(), 6_000), Some(59), "the same address");
        assert_eq!(guesses.wait("192.0.2.2".parse().unwrap(), 6_000), None);
        assert_eq!(guesses.wait(here, 65_000), None);
        guesses.wrong(here, 65_000);
        assert_eq!(guesses.wait(here, 65_000), None, "counting began anew");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_and_memory_is_bounded() {
        let guesses = Guesses::default();
        for host in 0..20_u16 {
            guesses.wrong(format!("2001:db8::{host:x}").parse().unwrap(), 0);
        }
        assert!(guesses.wait("2001:db8::ffff".parse().unwrap(), 0).is_some());
        assert!(guesses.wait("2001:db8:0:1::1".parse().unwrap(), 0).is_none());
        for net in 0..30_000_u32 {
            guesses.wrong(IpAddr::V4(net.into()), 0);
        }
        assert!(guesses.0.lock().unwrap().len() <= MOST_ADDRESSES);
    }
}
