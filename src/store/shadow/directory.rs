//! Tenants, keys and admin tokens behind the layer.

use super::{Shadow, Work};
use crate::clock::UnixMs;
use crate::store::{AuditRow, BoxFuture, DirectoryImage, DirectoryStore, DirectoryWrite};

impl DirectoryStore for Shadow {
    fn directory_version(&self) -> BoxFuture<'_, u64> {
        self.first.directory.directory_version()
    }

    fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
        self.first.directory.directory()
    }

    fn change_directory<'a>(
        &'a self,
        seen: u64,
        writes: &'a [DirectoryWrite],
        audit: &'a [AuditRow],
    ) -> BoxFuture<'a, Option<u64>> {
        let (writes, audit) = (writes.to_vec(), audit.to_vec());
        self.whole(move |this| async move {
            let _order = this.directory.lock().await;
            let changed = this.first.directory.change_directory(seen, &writes, &audit).await?;
            if changed.is_some() {
                this.mirror(Work::Directory(writes, audit));
            }
            Ok(changed)
        })
    }

    /// Not mirrored: each store says when it was last asked.
    fn note_used<'a>(&'a self, used: &'a [(String, UnixMs)]) -> BoxFuture<'a, ()> {
        self.first.directory.note_used(used)
    }
}
