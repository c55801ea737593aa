//! What the firmware's tables say of the machine: processors, interrupt controllers, IOMMU.
//!
//! Of ACPI's many tables two are read: the MADT (ACPI 6.5, 5.2.12) and the DMAR (VT-d 8.1). Every
//! length in them is checked against what there is, so that a table that lies is at worst a machine
//! with one processor, no lines and no IOMMU.

use heapless::Vec;

use crate::Trigger;

/// Most processors that are used.
pub const PROCESSORS_MAX: usize = 64;
/// Most interrupt controllers that are used.
pub const CONTROLLERS_MAX: usize = 8;
/// Most lines that are wired otherwise than by their number.
const OVERRIDES_MAX: usize = 16;

/// Bytes in front of every table: signature, length, checksum and the maker's names.
const HEADER: usize = 36;
const MADT: &[u8; 4] = b"APIC";
/// Where the MADT's entries begin.
const MADT_ENTRIES: usize = 44;

const DMAR: &[u8; 4] = b"DMAR";
/// Where the DMAR's entries begin.
const DMAR_ENTRIES: usize = 48;

/// Lines of the first PCs, which pulse unless the tables say otherwise.
const LEGACY_LINES: u32 = 16;

/// Memory as the firmware left it.
pub trait Physical {
    /// The bytes at a physical address; `None` if they cannot be read.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// The list of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Of 32-bit addresses.
    Rsdt(u64),
    /// Of 64-bit addresses.
    Xsdt(u64),
}

impl Root {
    /// Reads the root pointer at a physical address.
    #[must_use]
    pub fn read(memory: &impl Physical, address: u64) -> Option<Root> {
        let first = memory.bytes(address, 20)?;
        if !first.starts_with(b"RSD PTR ") || !sums_to_zero(first) {
            return None;
        }
        if first.get(15).is_some_and(|revision| *revision >= 2)
            && let Some(whole) = memory.bytes(address, 36)
            && sums_to_zero(whole)
        {
            return Some(Root::Xsdt(word64(whole, 24)?));
        }
        Some(Root::Rsdt(u64::from(word32(first, 16)?)))
    }

    /// The table with this signature.
    fn find<'a>(self, memory: &'a impl Physical, signature: &[u8; 4]) -> Option<&'a [u8]> {
        let (list, size) = match self {
            Root::Rsdt(address) => (table(memory, address)?, 4),
            Root::Xsdt(address) => (table(memory, address)?, 8),
        };
        let addresses = list.get(HEADER..)?.chunks_exact(size);
        let mut tables = addresses.filter_map(|address| {
            let address = match size {
                4 => word32(address, 0)?.into(),
                _ => word64(address, 0)?,
            };
            table(memory, address)
        });
        tables.find(|table| table.starts_with(signature))
    }
}

/// A whole table, if its length and checksum are right.
fn table(memory: &impl Physical, address: u64) -> Option<&[u8]> {
    let header = memory.bytes(address, HEADER)?;
    let length = usize::try_from(word32(header, 4)?).ok()?;
    let whole = memory.bytes(address, length)?;
    (length >= HEADER && sums_to_zero(whole)).then_some(whole)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        == 0
}

/// An interrupt controller (I/O APIC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Physical address of its registers.
    pub address: u64,
    /// The first line that it has.
    pub first_line: u32,
}

/// How a line is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The number that the controllers know it by.
    pub line: u32,
    /// How it signals.
    pub trigger: Trigger,
    /// Whether a low voltage is the signal.
    pub active_low: bool,
}

/// Processors and interrupt controllers.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Local APIC identifiers of the processors that can be started, in the firmware's order.
    pub processors: Vec<u32, PROCESSORS_MAX>,
    /// The interrupt controllers.
    pub controllers: Vec<Controller, CONTROLLERS_MAX>,
    /// Physical address of the registers of the IOMMU that all devices are behind.
    pub iommu: Option<u64>,
    overrides: Vec<(u32, Wiring), OVERRIDES_MAX>,
}

impl Topology {
    /// Reads the tables. What does not fit is left out.
    #[must_use]
    pub fn read(memory: &impl Physical, root: Root) -> Topology {
        let mut topology = Topology {
            iommu: root.find(memory, DMAR).and_then(iommu),
            ..Topology::default()
        };
        let madt = root.find(memory, MADT);
        let mut entries = madt
            .and_then(|madt| madt.get(MADT_ENTRIES..))
            .unwrap_or(&[]);
        while let [kind, length, ..] = entries
            && let Some((entry, rest)) = entries.split_at_checked(usize::from(*length))
            && !entry.is_empty()
        {
            // An entry that is too short for its kind is passed over.
            let _ = topology.add(*kind, entry);
            entries = rest;
        }
        topology
    }

    fn add(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            0 if word32(entry, 4)? & 1 != 0 => self.add_processor((*entry.get(3)?).into()),
            9 if word32(entry, 8)? & 1 != 0 => self.add_processor(word32(entry, 4)?),
            1 => {
                let controller = Controller {
                    address: word32(entry, 4)?.into(),
                    first_line: word32(entry, 8)?,
                };
                self.controllers.push(controller).ok()
            }
            2 => {
                let flags = *entry.get(8)?;
                let wiring = Wiring {
                    line: word32(entry, 4)?,
                    trigger: match flags >> 2 & 3 {
                        3 => Trigger::Level,
                        _ => Trigger::Edge,
                    },
                    active_low: flags & 3 == 3,
                };
                self.overrides.push(((*entry.get(3)?).into(), wiring)).ok()
            }
            _ => None,
        }
    }

    fn add_processor(&mut self, identifier: u32) -> Option<()> {
        if self.processors.contains(&identifier) {
            return None;
        }
        self.processors.push(identifier).ok()
    }

    /// How the line of this number is wired: as the tables say, else as the first PCs (lines below
    /// 16) or as PCI (the others) have it.
    #[must_use]
    pub fn wiring(&self, line: u32) -> Wiring {
        let mut overrides = self.overrides.iter();
        if let Some((_, wiring)) = overrides.find(|(number, _)| *number == line) {
            return *wiring;
        }
        let legacy = line < LEGACY_LINES;
        Wiring {
            line,
            trigger: if legacy {
                Trigger::Edge
            } else {
                Trigger::Level
            },
            active_low: !legacy,
        }
    }
}

/// The registers of the only remapping unit. Where there are several, a device may be behind any, which
/// takes the bus to find out: such a machine is taken for one without.
fn iommu(dmar: &[u8]) -> Option<u64> {
    let mut entries = dmar.get(DMAR_ENTRIES..)?;
    let mut found = None;
    while let [kind, _, low, high, ..] = entries {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (entry, rest) = entries.split_at_checked(length)?;
        if *kind == 0 {
            let registers = word64(entry, 8)?;
            if found.replace(registers).is_some() {
                return None;
            }
        }
        entries = if entry.is_empty() { &[] } else { rest };
    }
    found
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    word.try_into().ok().map(u32::from_le_bytes)
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    word.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Memory in which the tables lie one after another.
    struct Firmware(Vec<u8>);

    impl Physical for Firmware {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address).ok()?;
            self.0.get(start..start.checked_add(length)?)
        }
    }

    impl Firmware {
        fn add(&mut self, signature: &[u8; 4], body: &[u8]) -> u64 {
            let mut table = signature.to_vec();
            table.extend((HEADER as u32 + body.len() as u32).to_le_bytes());
            table.resize(HEADER, 0);
            table.extend(body);
            fix(&mut table, 9);
            self.0.extend(table);
            (self.0.len() - HEADER - body.len()) as u64
        }
    }

    /// Makes the sum of the bytes zero by the one at `place`.
    fn fix(bytes: &mut [u8], place: usize) {
        let sum = bytes
            .iter()
            .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        bytes[place] = bytes[place].wrapping_sub(sum);
    }

    fn processor(identifier: u8, flags: u8) -> [u8; 8] {
        [0, 8, 0, identifier, flags, 0, 0, 0]
    }

    fn madt(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::from([0, 0, 0xE0, 0xFE, 1, 0, 0, 0]);
        body.extend(entries.concat());
        body
    }

    fn read(entries: &[&[u8]]) -> Topology {
        let mut firmware = Firmware(Vec::new());
        firmware.add(b"FACP", &[1; 16]);
        let madt = firmware.add(MADT, &madt(entries)) as u32;
        let rsdt = firmware.add(b"RSDT", &[[0; 4], madt.to_le_bytes()].concat());
        Topology::read(&firmware, Root::Rsdt(rsdt))
    }

    #[test]
    fn processors_that_can_be_started_are_listed_once() {
        let topology = read(&[
            &processor(0, 1),
            &processor(1, 1),
            &processor(2, 0),
            &processor(1, 1),
            &[9, 16, 0, 0, 44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ]);
        assert_eq!(topology.processors, [0, 1, 300]);
    }

    #[test]
    fn lines_are_wired_as_the_tables_say_and_else_by_their_number() {
        let topology = read(&[
            &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0],
            &[2, 10, 0, 11, 20, 0, 0, 0, 0x0F, 0],
        ]);
        let controller = Controller {
            address: 0xFEC0_0000,
            first_line: 0,
        };
        assert_eq!(topology.controllers, [controller]);
        let wiring = |line, trigger, active_low| Wiring {
            line,
            trigger,
            active_low,
        };
        assert_eq!(topology.wiring(0), wiring(2, Trigger::Edge, false));
        assert_eq!(topology.wiring(4), wiring(4, Trigger::Edge, false));
        assert_eq!(topology.wiring(9), wiring(9, Trigger::Level, false));
        assert_eq!(topology.wiring(11), wiring(20, Trigger::Level, true));
        assert_eq!(topology.wiring(16), wiring(16, Trigger::Level, true));
    }

    #[test]
    fn an_iommu_counts_if_it_is_the_only_one() {
        let unit = [
            &[0, 0, 16, 0, 1, 0, 0, 0][..],
            &0xFED9_0000_u64.to_le_bytes(),
        ]
        .concat();
        let reserved = [1, 0, 8, 0, 0, 0, 0, 0];
        let found = |entries: &[&[u8]]| {
            let mut firmware = Firmware(Vec::new());
            let table = firmware.add(DMAR, &[&[0; 12], &entries.concat()[..]].concat());
            let rsdt = firmware.add(b"RSDT", &(table as u32).to_le_bytes());
            Topology::read(&firmware, Root::Rsdt(rsdt)).iommu
        };
        assert_eq!(found(&[&reserved, &unit]), Some(0xFED9_0000));
        assert_eq!(found(&[&unit, &reserved, &unit]), None);
        assert_eq!(found(&[&unit[..15]]), None);
        assert_eq!(found(&[&[0, 0, 0, 0]]), None);
        assert_eq!(found(&[&reserved]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_root_pointer_leads_to_the_wide_list_where_there_is_one() {
        let mut firmware = Firmware(Vec::new());
        let mut pointer = b"RSD PTR \0PAGODA\x02".to_vec();
        pointer.extend(0x1111_u32.to_le_bytes());
        pointer.extend(36_u32.to_le_bytes());
        pointer.extend(0x2222_u64.to_le_bytes());
        pointer.resize(36, 0);
        fix(&mut pointer[..20], 8);
        fix(&mut pointer, 32);
        firmware.0.extend(&pointer);
        assert_eq!(Root::read(&firmware, 0), Some(Root::Xsdt(0x2222)));
        firmware.0[35] ^= 1;
        assert_eq!(Root::read(&firmware, 0), Some(Root::Rsdt(0x1111)));
        firmware.0[0] ^= 1;
        assert_eq!(Root::read(&firmware, 0), None);
    }

    #[test]
    fn tables_that_lie_about_their_length_are_not_followed() {
        // An entry without length, one that ends beyond the table, one that is too short.
        for entries in [
            &[&processor(0, 1)[..], &[0, 0, 0, 1, 1, 0, 0, 0]],
            &[&processor(0, 1)[..], &[0, 9, 0, 1, 1, 0, 0, 0]],
            &[&processor(0, 1)[..], &[0, 3, 0]],
        ] {
            assert_eq!(read(entries).processors, [0]);
        }
        let mut firmware = Firmware(Vec::new());
        let rsdt = firmware.add(b"RSDT", &u32::MAX.to_le_bytes());
        for lie in [0, HEADER as u32 - 1, u32::MAX] {
            let length = rsdt as usize + 4;
            firmware.0[length..length + 4].copy_from_slice(&lie.to_le_bytes());
            assert!(
                Topology::read(&firmware, Root::Rsdt(rsdt))
                    .processors
                    .is_empty()
            );
        }
    }
}
