//! What a task leaves to the one that is started in its place: ports, each with a note.
//!
//! A port is known by its payload, which is the task's own choice: a task that gives two ports one
//! payload loses a note, and nobody else does. All that the kernel tells of a task comes through the
//! task's own port here, in order; so its ports have come before its end is heard of.

use alloc::string::String;
use alloc::vec::Vec;

use bootimg::Level;
use ipc::protocol::bootstrap::{BootstrapKeptReply, KEPT_MAX, NOTE_MAX};
use ipc::right::{ReceiveRight, Untyped};
use ipc::{Kern, trap};
use ipc_abi::port::PortFlags;

/// A port that is kept.
struct Kept {
    payload: u64,
    note: Vec<u8>,
    /// The port, while no task has it.
    port: Option<ReceiveRight<Untyped>>,
}

/// What a task leaves.
pub(crate) struct Estate {
    /// How often the task may be started again.
    pub(crate) left: u32,
    /// As what it was started.
    pub(crate) level: Level,
    /// With which arguments.
    pub(crate) arguments: Vec<String>,
    kept: Vec<Kept>,
}

impl Estate {
    /// Nothing yet.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no memory for the arguments.
    pub(crate) fn new<'a>(
        times: u32,
        level: Level,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Estate, Kern> {
        let mut arguments = Vec::new();
        for word in words {
            arguments
                .try_reserve(1)
                .map_err(|_| Kern::ResourceShortage)?;
            arguments.push(word.into());
        }
        Ok(Estate {
            left: times,
            level,
            arguments,
            kept: Vec::new(),
        })
    }

    /// A port of this payload is to be kept.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no memory, or too many.
    pub(crate) fn keep(&mut self, payload: u64, said: &[u8]) -> Result<(), Kern> {
        let mut note = Vec::new();
        let shortage = |_| Kern::ResourceShortage;
        note.try_reserve_exact(said.len()).map_err(shortage)?;
        note.extend_from_slice(said);
        if let Some(known) = self.known(payload) {
            known.note = note;
            return Ok(());
        }
        if self.kept.len() >= KEPT_MAX {
            return Err(Kern::ResourceShortage);
        }
        self.kept.try_reserve(1).map_err(shortage)?;
        self.kept.push(Kept {
            payload,
            note,
            port: None,
        });
        Ok(())
    }

    /// A port that the task has, or had.
    fn known(&mut self, payload: u64) -> Option<&mut Kept> {
        self.kept
            .iter_mut()
            .find(|kept| kept.payload == payload && kept.port.is_none())
    }

    /// A port has come back. Nobody is to have one that nobody can reach, or that was not to be kept.
    pub(crate) fn returned(&mut self, port: ReceiveRight<Untyped>) {
        let Ok(status) = trap::port_get_status(0, port.name()) else {
            return;
        };
        let reached = status.flags.contains(PortFlags::SENDERS) || status.queued > 0;
        if let Some(kept) = self.known(status.payload)
            && reached
        {
            kept.port = Some(port);
        } else {
            self.kept
                .retain(|kept| kept.payload != status.payload || kept.port.is_some());
        }
    }

    /// The task has ended: what has not come back is its no more.
    pub(crate) fn settle(&mut self) {
        self.kept.retain(|kept| kept.port.is_some());
    }

    /// Gives the next port, of which `home` is told again when it comes back.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: there is none. KERN_RESOURCE_SHORTAGE: it stays.
    pub(crate) fn take<P>(
        &mut self,
        home: &ReceiveRight<P>,
    ) -> Result<(BootstrapKeptReply, ReceiveRight<Untyped>), Kern> {
        let kept = self.kept.iter_mut().find(|kept| kept.port.is_some());
        let kept = kept.ok_or(Kern::InvalidName)?;
        if let Some(port) = &kept.port {
            port.watch_destroyed(home)?;
        }
        let port = kept.port.take().ok_or(Kern::InvalidName)?;
        let note = heapless::Vec::<u8, NOTE_MAX>::from_slice(&kept.note).unwrap_or_default();
        Ok((BootstrapKeptReply { note }, port))
    }
}
