//! What is counted of ports, threads and messages while everything is walked over.

use crate::{message::Carried, port::PortId};
use alloc::collections::BTreeMap;

/// What was found of a port while walking over everything else.
#[derive(Default)]
pub(super) struct Found {
    pub(super) sends: u32,
    pub(super) onces: u32,
    pub(super) receives: u32,
}

/// What is counted while walking.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) ports: BTreeMap<u32, Found>,
    /// How often each thread was found in a queue.
    pub(super) threads: BTreeMap<u32, u32>,
    /// How often each message was found.
    pub(super) messages: BTreeMap<u32, u32>,
}

impl Tally {
    fn port(&mut self, port: PortId) -> &mut Found {
        self.ports.entry(port.index()).or_default()
    }

    pub(super) fn send(&mut self, port: PortId) {
        let found = self.port(port);
        found.sends = found.sends.saturating_add(1);
    }

    pub(super) fn once(&mut self, port: PortId) {
        let found = self.port(port);
        found.onces = found.onces.saturating_add(1);
    }

    pub(super) fn receive(&mut self, port: PortId) {
        let found = self.port(port);
        found.receives = found.receives.saturating_add(1);
    }

    pub(super) fn cargo(&mut self, cargo: &[Carried]) {
        for carried in cargo {
            match *carried {
                Carried::Nothing => {}
                Carried::Receive(port) => self.receive(port),
                Carried::Send(port) => self.send(port),
                Carried::Once(port) => self.once(port),
            }
        }
    }

    pub(super) fn thread(&mut self, index: u32) {
        let count = self.threads.entry(index).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn message(&mut self, index: u32) {
        let count = self.messages.entry(index).or_default();
        *count = count.saturating_add(1);
    }
}
