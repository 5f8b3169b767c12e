//! What nobody uses goes.
//!
//! *Invariant*: a content goes only when no upload has it, and an upload only when no event brings it and nobody set
//! about to use it for a day.

use std::collections::HashSet;

use sidetone_store::at_the_disk;

use super::{FileError, Files};

/// An upload that is used in no conversation is kept for so long.
const UNUSED_MS: u64 = 24 * 3600 * 1000;
/// So many go at a time, for others wait meanwhile.
const AT_ONCE: u32 = 100;

impl Files {
    /// Forgets what nobody uses. How many uploads went.
    ///
    /// # Errors
    /// Those of the store and the disk.
    pub async fn sweep(&self, now_ms: u64) -> Result<u64, FileError> {
        let since_ms = now_ms.saturating_sub(UNUSED_MS);
        let mut gone = 0;
        loop {
            let some = self.store.forget_unused(since_ms, AT_ONCE).await?;
            gone += some;
            if some < u64::from(AT_ONCE) {
                break;
            }
        }
        while self.sweep_contents().await? {}
        Ok(gone)
    }

    async fn sweep_contents(&self) -> Result<bool, FileError> {
        let _alone = self.shelves.lock().await;
        let digests = self.store.forget_contents(AT_ONCE).await?;
        let more = !digests.is_empty();
        let folder = self.folder.clone();
        at_the_disk(move || digests.iter().try_for_each(|digest| folder.remove(digest))).await??;
        Ok(more)
    }

    /// Takes away what lies on the disk and no row speaks of: a crash came between the two.
    ///
    /// # Errors
    /// Those of the store and the disk.
    pub async fn sweep_strays(&self) -> Result<u64, FileError> {
        let folder = self.folder.clone();
        let lie: HashSet<[u8; 32]> = at_the_disk(move || folder.digests())
            .await??
            .into_iter()
            .collect();
        let mut gone = 0;
        for digest in lie {
            let _alone = self.shelves.lock().await;
            if self.store.content(&digest).await?.is_none() {
                let folder = self.folder.clone();
                at_the_disk(move || folder.remove(&digest)).await??;
                gone += 1;
            }
        }
        Ok(gone)
    }
}
