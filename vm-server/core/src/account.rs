//! What maps may hold, each by itself and all together.

use ipc_abi::Kern;

use crate::Core;
use crate::event::MapId;

impl Core {
    /// Charges a map with pages that are to be wired (rule 134).
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: its limit, or that of all maps; nothing has changed.
    pub(crate) fn charge_wired(&mut self, map: MapId, pages: u64) -> Result<(), Kern> {
        let map = self.maps.get_mut(map).ok_or(Kern::Terminated)?;
        map.wired = map.wired.saturating_add(pages);
        Ok(())
    }
}
