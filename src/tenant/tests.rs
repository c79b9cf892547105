use http::{HeaderName, HeaderValue};

use super::*;
use crate::call::SecretKey;
use crate::config::{Config, Overrides, Tenant, TenantKey, TenantSpec};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A configuration with these tenants, each with one key `app`.
pub(crate) fn config(passthrough: bool, declared: &[(&str, &str)]) -> Config {
    let mut config = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
    config.server.passthrough = passthrough;
    config.upstream.api_key = Some(Secret::new("sk-shared".to_owned()));
    config.tenants = declared
        .iter()
        .map(|(tenant, key)| Tenant {
            name: (*tenant).to_owned(),
            keys: vec![TenantKey {
                name: "app".to_owned(),
                secret: Secret::new((*key).to_owned()),
                spec: KeySpec { models: vec!["gpt-4o*".to_owned()], ..KeySpec::default() },
            }],
            upstream_api_key: None,
            spec: TenantSpec::default(),
        })
        .collect();
    config
}

fn directory(passthrough: bool, declared: &[(&str, &str)]) -> Directory {
    Directory::new(&config(passthrough, declared), SecretKey::new([1; 32]))
}

#[test]
fn a_declared_key_is_its_tenant_however_it_is_sent() {
    let directory = directory(false, &[("acme", "rk-1"), ("globex", "rk-2")]);
    for pairs in [
        &[("authorization", "Bearer rk-1")][..],
        &[("authorization", "bearer  rk-1 ")],
        &[("x-api-key", "rk-1")],
        &[("api-key", "rk-1")],
    ] {
        assert_eq!(directory.authenticate(&headers(pairs)).unwrap().tenant, TenantId::new("acme"), "{pairs:?}");
    }
    for (pairs, expected) in [
        (&[][..], AuthError::Missing),
        (&[("authorization", "Bearer rk-3")], AuthError::Unknown),
        (&[("authorization", "Bearer rk-")], AuthError::Unknown),
        (&[("authorization", "Basic abc")], AuthError::Malformed),
        (&[("authorization", "Bearer ")], AuthError::Malformed),
        (&[("authorization", "rk-1")], AuthError::Malformed),
    ] {
        assert_eq!(directory.authenticate(&headers(pairs)).err(), Some(expected), "{pairs:?}");
    }
}

#[test]
fn in_passthrough_every_credential_is_a_tenant_of_its_own() {
    let directory = directory(true, &[]);
    let tenant = |pairs: &[(&'static str, &str)]| directory.authenticate(&headers(pairs)).unwrap().tenant;
    let all = [
        tenant(&[("authorization", "Bearer sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1")]),
        tenant(&[("authorization", "Bearer sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2")]),
        tenant(&[("x-api-key", "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1")]),
        tenant(&[("authorization", "Bearer sk-a"), ("openai-project", "p1")]),
        tenant(&[("authorization", "Bearer sk-a"), ("openai-project", "p2")]),
        tenant(&[("authorization", "Bearer sk-a"), ("openai-organization", "p1")]),
        tenant(&[("authorization", "Bearer sk-a"), ("cookie", "p1")]),
        tenant(&[("authorization", "Bearer sk-a")]),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != one), "{i}");
        assert!(!one.as_str().contains("sk-"));
    }
    assert_eq!(tenant(&[("authorization", "Bearer sk-a")]), tenant(&[("authorization", "Bearer sk-a")]));
}

#[test]
fn a_caller_without_any_credential_is_let_through_but_marked() {
    assert!(directory(true, &[]).authenticate(&HeaderMap::new()).unwrap().anonymous);
    let known = directory(true, &[]).authenticate(&headers(&[("authorization", "Bearer k")])).unwrap();
    assert!(!known.anonymous);
    assert!(known.may(Right::Rem) && !known.may(Right::CacheInspect), "what is his own he may ask for");
}

#[test]
fn a_key_may_use_only_the_models_it_lists() {
    let directory = directory(false, &[("acme", "rk-1")]);
    let principal = directory.authenticate(&headers(&[("x-api-key", "rk-1")])).unwrap();
    assert_eq!(principal.may_use("gpt-4o-mini"), Ok(()));
    assert_eq!(principal.may_use("gpt-4"), Err(AuthError::Model));
}
