//! Cursors: where an answer ended, bound to the query that it answered.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::{Code, Fault, Query, range};

/// Rows that may be passed over. What is further down is better asked for by a narrower query.
const MOST: usize = 10_000;

/// The same of a search, which reads whole rows on its way.
pub(super) const SEARCHED: usize = 1_000;

/// Bytes of the digest in a cursor.
const DIGEST: usize = 16;

/// A page of an ordered list.
pub(super) struct Page {
    digest: [u8; DIGEST],
    /// Rows before it.
    pub(super) offset: usize,
    /// Most rows in it.
    pub(super) limit: usize,
    /// Most rows before a page.
    most: usize,
}

impl Page {
    /// The page that a query asks for. The query is told apart from others without its page.
    pub(super) fn of(query: &Query, limit: u32, after: Option<&str>) -> Result<Self, Fault> {
        let digest = digest(query);
        let most = if matches!(query, Query::Search(_)) { SEARCHED } else { MOST };
        let offset = after.map_or(Ok(0), |after| read(&digest, after, most))?;
        Ok(Self { digest, offset, limit: usize::try_from(limit).unwrap_or(usize::MAX), most })
    }

    /// How many rows of the whole list tell what is on the page and whether there is more.
    pub(super) fn need(&self) -> usize {
        self.offset.saturating_add(self.limit).saturating_add(1)
    }

    /// Cuts the page out of the first [`Self::need`] or more rows. Tells the cursor of the next page if there is more, and
    /// whether there is more that no cursor leads to.
    pub(super) fn cut<T>(&self, rows: Vec<T>) -> (Vec<T>, Option<String>, bool) {
        let end = self.offset.saturating_add(self.limit);
        let more = rows.len() > end;
        let rows = rows.into_iter().skip(self.offset).take(self.limit).collect();
        let next = (more && end <= self.most).then(|| self.write(end));
        let lost = more && next.is_none();
        (rows, next, lost)
    }

    fn write(&self, offset: usize) -> String {
        let mut bytes = self.digest.to_vec();
        bytes.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn digest(query: &Query) -> [u8; DIGEST] {
    let mut query = query.clone();
    match &mut query {
        Query::Fuzzy(fuzzy) => (fuzzy.limit, fuzzy.after) = (range::LIMIT.2, None),
        Query::Search(search) => (search.limit, search.after) = (range::LIMIT.2, None),
        Query::Lookup(_) | Query::Traverse(_) | Query::Sql(_) => {}
    }
    let hash = blake3::hash(query.to_string().as_bytes());
    let mut digest = [0; DIGEST];
    for (to, from) in digest.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    digest
}

fn read(digest: &[u8; DIGEST], cursor: &str, most: usize) -> Result<usize, Fault> {
    let wrong = |detail: &str| {
        let fault = Fault::new(Code::InvalidArgument, detail).of("after");
        fault.hint("take `next` of the answer before, and leave the rest of the query as it was")
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong("this is no cursor"))?;
    let (of, offset) = bytes.split_at_checked(DIGEST).ok_or_else(|| wrong("this is no cursor"))?;
    let offset = offset.try_into().map(u32::from_be_bytes).map_err(|_| wrong("this is no cursor"))?;
    if of != digest {
        return Err(wrong("this cursor belongs to another query"));
    }
    usize::try_from(offset).ok().filter(|offset| *offset <= most).ok_or_else(|| wrong("this is no cursor"))
}
