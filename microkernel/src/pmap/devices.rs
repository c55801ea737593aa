//! What devices reach, where there is an IOMMU: kernel-core decides, the unit is told.

use ipc_abi::Kern;
use kernel_core::addr::{Frame, PageRange};
use kernel_core::paging::domain::{Domains, Function};
use kernel_core::paging::{Shootdown, Space};
use kernel_core::{Bill, Progress, SpaceId, TaskId};

use super::direct_map::DirectMap;
use crate::arch::vtd::Iommu;
use crate::frames;

/// The IOMMU and its domains.
pub(crate) struct Devices {
    iommu: Iommu,
    domains: Domains,
    /// Empty between two calls.
    account: Shootdown,
}

impl Devices {
    /// An IOMMU that lets no device through.
    pub(crate) fn new(iommu: Iommu) -> Devices {
        Devices {
            iommu,
            domains: Domains::default(),
            account: Shootdown::new(),
        }
    }

    /// See [`Domains::attach`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn attach(
        &mut self,
        store: &mut DirectMap,
        to: (SpaceId, &Space),
        function: Function,
        payer: (TaskId, u32),
    ) -> Result<(), Kern> {
        self.domains.may_attach(to.0, function, payer.1)?;
        let attached = match self.iommu.make_room(function) {
            true => self.domains.attach(store, to, function, payer.0),
            false => Err(Kern::ResourceShortage),
        };
        match attached {
            Ok(attachment) => self.iommu.attach(function, attachment),
            Err(_) => self.iommu.detach(function),
        }
        attached.map(drop)
    }

    /// The tables of what a space's devices reach.
    pub(super) fn tables(&mut self, of: SpaceId) -> Option<&mut Space> {
        self.domains.tables(of)
    }

    /// See [`Domains::show`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn show(
        &mut self,
        store: &mut DirectMap,
        of: (SpaceId, &Space),
        pages: PageRange,
    ) -> Result<(), Kern> {
        let owners = frames::owners();
        let shown = self
            .domains
            .show(store, owners, &mut self.account, of, pages);
        // A unit may remember that there was nothing, too.
        self.iommu.forget();
        self.account.settle(store, owners);
        shown
    }

    /// Takes frames from all devices whose translations were removed.
    pub(super) fn withdraw(&mut self, store: &mut DirectMap, removed: impl Iterator<Item = Frame>) {
        if self.domains.is_empty() {
            return;
        }
        let mut any = false;
        for frame in removed {
            any |= self.domains.withdraw(store, &mut self.account, frame);
            if self.account.room() < kernel_core::paging::domain::DOMAINS_MAX {
                self.let_go(store);
            }
        }
        if any {
            self.let_go(store);
        }
    }

    /// Detaches the functions of a space that ends, and frees a slice of its domain; at last gives the last
    /// bill for it.
    pub(super) fn end(&mut self, store: &mut DirectMap, of: SpaceId) -> (Progress, Option<Bill>) {
        for function in self.domains.take_functions(of) {
            self.iommu.detach(function);
        }
        let ended = self.domains.end(store, &mut self.account, of);
        self.let_go(store);
        ended
    }

    /// Lets go of what no device can reach any more.
    fn let_go(&mut self, store: &mut DirectMap) {
        if !self.account.is_empty() {
            self.iommu.forget();
            self.account.settle(store, frames::owners());
        }
    }
}
