//! Methods of [`RemStore`] that only pass a call on, written once for all stores: most of what each of them would say is what the trait
//! says already.
//!
//! `rem_searches!` and `rem_others!` stand in an `impl RemStore`, with the name of a macro that says whom a method asks. That one gets
//! the store, the name of a database's own method, and the call as the trait has it.
//!
//! [`RemStore`]: super::RemStore

/// Searches for a caller. Their first argument is its scope, and each gives a list, which is empty where nothing may be found.
macro_rules! rem_searches {
    ($ask:ident) => {
        fn rem_named<'a>(
            &'a self,
            scope: &'a Scope,
            keys: &'a [String],
            tables: &'a [RemTable],
            limit: u32,
        ) -> BoxFuture<'a, Vec<RemNamed>> {
            $ask!(self, named_rem, rem_named(scope, keys, tables, limit))
        }

        fn rem_similar<'a>(
            &'a self,
            scope: &'a Scope,
            text: &'a str,
            tables: &'a [RemTable],
            least: f64,
            limit: u32,
        ) -> BoxFuture<'a, Vec<RemSimilar>> {
            $ask!(self, similar_rem, rem_similar(scope, text, tables, least, limit))
        }

        fn rem_nearest<'a>(
            &'a self,
            scope: &'a Scope,
            vector: &'a RemVector,
            least: f64,
            question: &'a RemQuestion<'a>,
        ) -> BoxFuture<'a, Vec<RemNear>> {
            $ask!(self, nearest_rem, rem_nearest(scope, vector, least, question))
        }

        fn rem_worded<'a>(
            &'a self,
            scope: &'a Scope,
            words: &'a [String],
            question: &'a RemQuestion<'a>,
        ) -> BoxFuture<'a, Vec<RemRow>> {
            $ask!(self, worded_rem, rem_worded(scope, words, question))
        }

        fn rem_cosines<'a>(
            &'a self,
            scope: &'a Scope,
            vector: &'a RemVector,
            ids: &'a [RemId],
        ) -> BoxFuture<'a, Vec<(RemId, f64)>> {
            $ask!(self, cosines_rem, rem_cosines(scope, vector, ids))
        }

        fn rem_list<'a>(
            &'a self,
            scope: &'a Scope,
            table: RemTable,
            after: Option<RemId>,
            limit: u32,
        ) -> BoxFuture<'a, Vec<RemRow>> {
            $ask!(self, listed_rem, rem_list(scope, table, after, limit))
        }

        fn rem_edges_from<'a>(
            &'a self,
            scope: &'a Scope,
            sources: &'a [RemId],
            wanted: RemEdges<'a>,
        ) -> BoxFuture<'a, Vec<RemEdge>> {
            $ask!(self, edges_from, rem_edges_from(scope, sources, wanted))
        }

        fn rem_edges_to<'a>(
            &'a self,
            scope: &'a Scope,
            keys: &'a [String],
            wanted: RemEdges<'a>,
        ) -> BoxFuture<'a, Vec<RemEdge>> {
            $ask!(self, edges_to, rem_edges_to(scope, keys, wanted))
        }
    };
}

/// What deletes, embeds and copies asks, whoever may see it.
macro_rules! rem_others {
    ($ask:ident) => {
        fn rem_stored<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
            $ask!(self, stored_rem, rem_stored(scope, ids))
        }

        fn rem_unembedded<'a>(&'a self, space: &'a str, limit: u32) -> BoxFuture<'a, Vec<(TenantId, RemRow)>> {
            $ask!(self, unembedded, rem_unembedded(space, limit))
        }

        fn rem_owns<'a>(&'a self, tenant: &'a TenantId, owner: &'a Owner) -> BoxFuture<'a, bool> {
            $ask!(self, owns_rem, rem_owns(tenant, owner))
        }

        fn rem_export<'a>(
            &'a self,
            after: Option<&'a (TenantId, RemId)>,
            limit: u32,
        ) -> BoxFuture<'a, Vec<RemExported>> {
            $ask!(self, export_rem, rem_export(after, limit))
        }
    };
}

/// A database asks itself.
macro_rules! ask_own {
    ($self:ident, $own:ident, $read:ident($($arg:ident),+)) => {
        Box::pin($self.$own($($arg),+))
    };
}

/// A store around another one asks that.
macro_rules! ask_inner {
    ($self:ident, $own:ident, $read:ident($($arg:ident),+)) => {
        Box::pin(async move { $self.rem()?.$read($($arg),+).await })
    };
}

pub(in crate::store) use {ask_inner, ask_own, rem_others, rem_searches};
