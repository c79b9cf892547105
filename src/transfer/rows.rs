//! The bytes of each kind of row. Every field is named, so that a new one does not compile until it is written here.
//!
//! Points are in the order of their ids, whatever order they come in.

use bytes::Bytes;

use super::codec::{BadBytes, Reader, Writer};
use crate::ids::{AuditId, EntryId, KeyId, PointId, RequestId, TenantId};
use crate::store::{
    AuditRow, DecisionRow, Entry, Exported, KeyRow, LearnedRow, Loaded, Point, TenantRecord, TenantRow, TokenRow,
};

pub(super) fn put_tenant(out: &mut Writer, row: &TenantRow) {
    let TenantRow { tenant, declared, created_at, updated_at } = row;
    out.text(tenant.as_str());
    out.flag(*declared);
    out.number(*created_at);
    out.number(*updated_at);
}

pub(super) fn tenant(reader: &mut Reader<'_>) -> Result<TenantRow, BadBytes> {
    Ok(TenantRow {
        tenant: TenantId::new(reader.text()?),
        declared: reader.flag()?,
        created_at: reader.number()?,
        updated_at: reader.number()?,
    })
}

pub(super) fn put_spec(out: &mut Writer, row: &TenantRecord) {
    let TenantRecord { tenant, declared, spec, credential, created_at, updated_at } = row;
    out.text(tenant.as_str());
    out.flag(*declared);
    out.text(spec);
    out.maybe(credential.as_deref(), Writer::bytes);
    out.number(*created_at);
    out.number(*updated_at);
}

pub(super) fn spec(reader: &mut Reader<'_>) -> Result<TenantRecord, BadBytes> {
    Ok(TenantRecord {
        tenant: TenantId::new(reader.text()?),
        declared: reader.flag()?,
        spec: reader.string()?,
        credential: reader.maybe(Reader::bytes)?.map(Bytes::copy_from_slice),
        created_at: reader.number()?,
        updated_at: reader.number()?,
    })
}

pub(super) fn put_key(out: &mut Writer, row: &KeyRow) {
    let KeyRow { id, tenant, name, hash, spec, expires_at, replaced_by, created_at, updated_at, used_at } = row;
    out.text(id);
    out.text(tenant.as_str());
    out.text(name);
    out.raw(hash);
    out.text(spec);
    out.maybe(*expires_at, Writer::number);
    out.maybe(replaced_by.as_deref(), Writer::text);
    out.number(*created_at);
    out.number(*updated_at);
    out.maybe(*used_at, Writer::number);
}

pub(super) fn key(reader: &mut Reader<'_>) -> Result<KeyRow, BadBytes> {
    Ok(KeyRow {
        id: reader.string()?,
        tenant: TenantId::new(reader.text()?),
        name: reader.string()?,
        hash: reader.array()?,
        spec: reader.string()?,
        expires_at: reader.maybe(Reader::number)?,
        replaced_by: reader.maybe(Reader::string)?,
        created_at: reader.number()?,
        updated_at: reader.number()?,
        used_at: reader.maybe(Reader::number)?,
    })
}

pub(super) fn put_token(out: &mut Writer, row: &TokenRow) {
    let TokenRow { id, name, hash, role, tenant, expires_at, created_at, used_at } = row;
    out.text(id);
    out.text(name);
    out.raw(hash);
    out.text(role);
    out.maybe(tenant.as_ref(), |out, tenant| out.text(tenant.as_str()));
    out.maybe(*expires_at, Writer::number);
    out.number(*created_at);
    out.maybe(*used_at, Writer::number);
}

pub(super) fn token(reader: &mut Reader<'_>) -> Result<TokenRow, BadBytes> {
    Ok(TokenRow {
        id: reader.string()?,
        name: reader.string()?,
        hash: reader.array()?,
        role: reader.string()?,
        tenant: reader.maybe(|reader| reader.text().map(TenantId::new))?,
        expires_at: reader.maybe(Reader::number)?,
        created_at: reader.number()?,
        used_at: reader.maybe(Reader::number)?,
    })
}

pub(super) fn put_entry(out: &mut Writer, exported: &Exported) {
    let Exported { entry, points } = exported;
    put_head(out, entry);
    out.bytes(&entry.body);
    put_points(out, points);
}

/// An entry by all but its body, of which the length counts.
pub(super) fn put_loaded(out: &mut Writer, loaded: &Loaded) {
    put_head(out, &loaded.meta.entry);
    out.number(loaded.meta.body_len);
    put_points(out, &loaded.points);
}

fn put_head(out: &mut Writer, entry: &Entry) {
    let Entry {
        id,
        tenant,
        partition,
        namespace,
        dialect,
        model,
        body: _,
        finish,
        completion_tokens,
        token_limit,
        writer,
        tags,
        created_at,
        expires_at,
    } = entry;
    out.raw(&id.to_bytes());
    out.text(tenant.as_str());
    out.raw(partition);
    out.text(namespace);
    out.text(dialect);
    out.text(model);
    out.text(finish);
    out.maybe(*completion_tokens, Writer::number);
    out.maybe(*token_limit, Writer::number);
    out.text(writer.as_str());
    out.tags(tags);
    out.number(*created_at);
    out.number(*expires_at);
}

fn put_points(out: &mut Writer, points: &[Point]) {
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_unstable_by_key(|point| point.id);
    out.number(points.len() as u64);
    for point in points {
        // The entry and the owner are those of the entry it is written with.
        let Point {
            id,
            entry: _,
            tenant: _,
            partition,
            fingerprint,
            normalised,
            prompt,
            space,
            vector,
            contradicts,
            writer,
            created_at,
        } = point;
        out.raw(&id.to_bytes());
        out.raw(partition);
        out.raw(fingerprint);
        out.maybe(normalised.as_ref(), |out, digest| out.raw(digest));
        out.maybe(prompt.as_deref(), Writer::text);
        out.maybe(space.as_deref(), Writer::text);
        out.maybe(vector.as_deref(), Writer::reals);
        out.small(*contradicts);
        out.text(writer.as_str());
        out.number(*created_at);
    }
}

pub(super) fn entry(reader: &mut Reader<'_>) -> Result<Exported, BadBytes> {
    let mut entry = Entry {
        id: EntryId::from_bytes(reader.array()?),
        tenant: TenantId::new(reader.text()?),
        partition: reader.array()?,
        namespace: reader.string()?,
        dialect: reader.word()?,
        model: reader.string()?,
        body: Bytes::new(),
        finish: reader.word()?,
        completion_tokens: reader.maybe(Reader::number)?,
        token_limit: reader.maybe(Reader::number)?,
        writer: KeyId::new(reader.text()?),
        tags: reader.tags()?,
        created_at: reader.number()?,
        expires_at: reader.number()?,
    };
    entry.body = Bytes::copy_from_slice(reader.bytes()?);
    let points = reader.list(|reader| {
        Ok(Point {
            id: PointId::from_bytes(reader.array()?),
            entry: entry.id,
            tenant: entry.tenant.clone(),
            partition: reader.array()?,
            fingerprint: reader.array()?,
            normalised: reader.maybe(Reader::array)?,
            prompt: reader.maybe(Reader::string)?,
            space: reader.maybe(Reader::string)?,
            vector: reader.maybe(Reader::reals)?,
            contradicts: reader.small()?,
            writer: KeyId::new(reader.text()?),
            created_at: reader.number()?,
        })
    })?;
    Ok(Exported { entry, points })
}

pub(super) fn put_decision(out: &mut Writer, row: &DecisionRow) {
    put_decided(out, row);
    out.maybe(row.right, Writer::flag);
    out.maybe(row.label.as_deref(), Writer::text);
}

/// A decision without its label, the one thing of it that changes.
pub(super) fn put_decided(out: &mut Writer, row: &DecisionRow) {
    let DecisionRow {
        request,
        at,
        tenant,
        key,
        model,
        partition,
        mode,
        verdict,
        would_serve,
        entry,
        point,
        cosine,
        probability,
        theta,
        inputs,
        right: _,
        label: _,
        tokens,
        prompt,
    } = row;
    out.raw(&request.to_bytes());
    out.number(*at);
    out.text(tenant.as_str());
    out.text(key.as_str());
    out.text(model);
    out.raw(partition);
    out.text(mode);
    out.text(verdict);
    out.flag(*would_serve);
    out.maybe(*entry, |out, entry| out.raw(&entry.to_bytes()));
    out.maybe(*point, |out, point| out.raw(&point.to_bytes()));
    out.maybe(*cosine, Writer::real);
    out.maybe(*probability, Writer::real);
    out.maybe(*theta, Writer::real);
    out.reals(inputs);
    out.maybe(*tokens, Writer::number);
    out.maybe(prompt.as_deref(), Writer::text);
}

pub(super) fn decision(reader: &mut Reader<'_>) -> Result<DecisionRow, BadBytes> {
    let mut row = DecisionRow {
        request: RequestId::from_bytes(reader.array()?),
        at: reader.number()?,
        tenant: TenantId::new(reader.text()?),
        key: KeyId::new(reader.text()?),
        model: reader.string()?,
        partition: reader.array()?,
        mode: reader.word()?,
        verdict: reader.word()?,
        would_serve: reader.flag()?,
        entry: reader.maybe(|reader| reader.array().map(EntryId::from_bytes))?,
        point: reader.maybe(|reader| reader.array().map(PointId::from_bytes))?,
        cosine: reader.maybe(Reader::real)?,
        probability: reader.maybe(Reader::real)?,
        theta: reader.maybe(Reader::real)?,
        inputs: reader.reals()?,
        right: None,
        label: None,
        tokens: reader.maybe(Reader::number)?,
        prompt: reader.maybe(Reader::string)?,
    };
    row.right = reader.maybe(Reader::flag)?;
    row.label = reader.maybe(Reader::word)?;
    Ok(row)
}

pub(super) fn put_learned(out: &mut Writer, row: &LearnedRow) {
    let LearnedRow { tenant, model, state, updated_at } = row;
    out.text(tenant.as_str());
    out.text(model);
    out.text(state);
    out.number(*updated_at);
}

pub(super) fn learned(reader: &mut Reader<'_>) -> Result<LearnedRow, BadBytes> {
    Ok(LearnedRow {
        tenant: TenantId::new(reader.text()?),
        model: reader.string()?,
        state: reader.string()?,
        updated_at: reader.number()?,
    })
}

pub(super) fn put_audit(out: &mut Writer, row: &AuditRow) {
    let AuditRow { id, at, actor, action, reason, what, result } = row;
    out.raw(&id.to_bytes());
    out.number(*at);
    out.text(actor);
    out.text(action);
    out.maybe(reason.as_deref(), Writer::text);
    out.text(what);
    out.text(result);
}

pub(super) fn audit(reader: &mut Reader<'_>) -> Result<AuditRow, BadBytes> {
    Ok(AuditRow {
        id: AuditId::from_bytes(reader.array()?),
        at: reader.number()?,
        actor: reader.string()?,
        action: reader.word()?,
        reason: reader.maybe(Reader::string)?,
        what: reader.string()?,
        result: reader.string()?,
    })
}
