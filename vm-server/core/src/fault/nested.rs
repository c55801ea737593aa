//! A look-up that goes on in a map that is shown (rules 47, 77, 78).
//!
//! The sealed maps on the way cannot change, so one look at each is enough. A page is entered in the
//! space of the map that faulted, with the rights that every entry on the way gives.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::{Asker, How, Look, Mapped, Resolved};
use crate::event::MapId;
use crate::machine::Machine;
use crate::range::{Span, page_of, trunc_page};
use crate::{Core, Turn};

impl Core {
    /// As [`Core::resolve`], of an address in the entry at `link`, which shows another map. A write to
    /// what is copy-on-write takes the piece out of the map first.
    ///
    /// # Errors
    /// As [`Core::resolve`]; `KERN_INVALID_ADDRESS` also where the other map has a hole.
    #[cold]
    pub(super) fn resolve_nested<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, address, link): (MapId, u64, u32),
        access: Prot,
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        let leaf = self.leaf_at(link, address).ok_or(Kern::InvalidAddress)?;
        if !leaf.rights.contains(access) {
            return Err(Kern::ProtectionFailure);
        }
        if leaf.copies && access.contains(Prot::WRITE) {
            let whole = Span::exact(leaf.low, leaf.end).ok_or(Kern::InvalidAddress)?;
            self.unnest(turn.machine, (map, &leaf), whole)?;
            return self.resolve(turn, (map, address), access, asker);
        }
        let entry = self.entries.at(leaf.link).ok_or(Kern::InvalidAddress)?;
        let top = entry.object.ok_or(Kern::InvalidAddress)?;
        let object = self.objects.get(top).ok_or(Kern::InvalidAddress)?;
        let look = Look {
            map,
            link: leaf.link,
            top,
            index: page_of(entry.offset_of(leaf.inner_of(trunc_page(address)))),
            access,
            rights: leaf.rights,
            needs_copy: leaf.copies,
            copied: object.is_copied(),
            own: false,
        };
        // What lies beside it is told by entries of another map.
        Ok(match self.resolve_in(turn, &look, asker)? {
            Resolved::Page(mapped) if matches!(mapped.how, How::Resident { .. }) => {
                Resolved::Page(Mapped {
                    how: How::Alone,
                    ..mapped
                })
            }
            found => found,
        })
    }
}
