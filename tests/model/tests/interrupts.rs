//! Interrupts as messages: told once each time that they are enabled, counted meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::device::LINE_NONE;
use ipc_abi::message::POLL;
use ipc_abi::{Kern, notify};
use model::World;

/// An interrupt of the root, whose messages go to a port of its own.
struct Driver {
    world: World,
    bell: u64,
    interrupt: u64,
    vector: u32,
}

impl Driver {
    fn new(line: u64) -> Driver {
        let mut world = World::new();
        let bell = world.port(world.root, 0xD5);
        let (interrupt, vector) = create(&mut world, line, bell).unwrap();
        Driver {
            world,
            bell,
            interrupt,
            vector,
        }
    }

    fn fire(&mut self) {
        self.world
            .kernel
            .interrupt(&mut self.world.toy, self.vector);
        self.world.kernel.check().unwrap();
    }

    fn enable(&mut self) -> Result<(), Kern> {
        let name = self.interrupt;
        self.world.trap(self.world.root, |kernel, toy| {
            kernel.interrupt_enable(toy, name)
        })
    }

    /// How many interrupts the next message tells of.
    fn told(&mut self) -> Option<u64> {
        let root = self.world.root;
        let message = self.world.receive(root, self.bell, POLL).unwrap();
        message.code.ok()?;
        assert!(message.info.is_kernel());
        assert_eq!(
            (message.info.id(), message.payload),
            (notify::INTERRUPT, 0xD5)
        );
        Some(message.words[0])
    }
}

fn create(world: &mut World, line: u64, bell: u64) -> Result<(u64, u32), Kern> {
    let device = u64::from(world.boot.device);
    let made = world.trap(world.root, |kernel, toy| {
        kernel.interrupt_create(toy, device, line, bell)
    });
    made.map(|(name, id)| (u64::from(name), id.index()))
}

#[test]
fn an_interrupt_is_told_once_each_time_that_it_is_enabled() {
    let mut driver = Driver::new(LINE_NONE);
    driver.fire();
    assert_eq!(driver.told(), None);
    assert_eq!(driver.enable(), Ok(()));
    // The one that came before is told at once, and those after it wait.
    assert_eq!(driver.told(), Some(1));
    driver.fire();
    driver.fire();
    assert_eq!(driver.told(), None);
    assert_eq!(driver.enable(), Ok(()));
    assert_eq!(driver.told(), Some(2));
    assert_eq!(driver.told(), None);
}

#[test]
fn a_message_that_waits_is_told_of_what_comes_meanwhile() {
    let mut driver = Driver::new(3);
    assert_eq!(driver.enable(), Ok(()));
    driver.fire();
    driver.fire();
    assert_eq!(driver.enable(), Ok(()));
    driver.fire();
    assert_eq!(driver.told(), Some(2));
    assert_eq!(driver.told(), None);
    assert_eq!(driver.enable(), Ok(()));
    assert_eq!(driver.told(), Some(1));
}

#[test]
fn a_line_that_is_held_is_masked_from_the_interrupt_to_the_next_enabling() {
    let mut driver = Driver::new(17);
    let line = |driver: &Driver| driver.world.toy.lines[0];
    assert_eq!(line(&driver), (17, driver.vector, true));
    assert_eq!(driver.enable(), Ok(()));
    assert!(!line(&driver).2);
    driver.fire();
    assert!(line(&driver).2);
    assert_eq!(driver.told(), Some(1));
    assert_eq!(driver.enable(), Ok(()));
    assert!(!line(&driver).2);
}

#[test]
fn the_end_of_the_last_right_gives_line_and_vector_back() {
    let mut driver = Driver::new(4);
    let before = driver.world.kernel.population();
    assert_eq!(
        create(&mut driver.world, 4, driver.bell),
        Err(Kern::NoAccess)
    );
    assert_eq!(driver.enable(), Ok(()));
    driver.fire();
    let (root, name) = (driver.world.root, driver.interrupt);
    driver.world.deallocate(root, name, 1).unwrap();
    driver.world.settle();
    assert!(driver.world.toy.lines.is_empty());
    // What was told before stays told; what comes late is nobody's.
    driver.fire();
    assert_eq!(driver.told(), Some(1));
    assert_eq!(driver.told(), None);
    let (interrupt, _) = create(&mut driver.world, 4, driver.bell).unwrap();
    driver.interrupt = interrupt;
    assert_eq!(driver.world.kernel.population(), before);
    assert_eq!(driver.enable(), Ok(()));
}

#[test]
fn an_interrupt_outlives_the_port_that_it_tells() {
    let mut driver = Driver::new(18);
    assert_eq!(driver.enable(), Ok(()));
    driver.fire();
    let root = driver.world.root;
    driver.world.destroy(root, driver.bell);
    driver.world.settle();
    assert_eq!(driver.enable(), Ok(()));
    driver.fire();
    let (root, name) = (driver.world.root, driver.interrupt);
    driver.world.deallocate(root, name, 1).unwrap();
    driver.world.settle();
    assert!(driver.world.toy.lines.is_empty());
}

#[test]
fn an_interrupt_says_which_processor_it_came_to() {
    let mut driver = Driver::new(17);
    driver.world.set_processors(3);
    let (root, name) = (driver.world.root, driver.interrupt);
    let send = |driver: &mut Driver, processor| {
        driver.world.trap(root, |kernel, toy| {
            kernel.interrupt_set_processor(toy, name, processor)
        })
    };
    assert_eq!(send(&mut driver, 2), Ok(None));
    assert_eq!(driver.world.toy.routes, [(17, 2)]);
    for processor in [3, u64::MAX] {
        assert_eq!(send(&mut driver, processor), Err(Kern::InvalidValue));
    }
    let bell = driver.bell;
    let refused = driver.world.trap(root, |kernel, toy| {
        kernel.interrupt_set_processor(toy, bell, 0)
    });
    assert_eq!(refused, Err(Kern::InvalidName));
    let (message, id) = create(&mut driver.world, LINE_NONE, bell).unwrap();
    let sent = driver.world.trap(root, |kernel, toy| {
        kernel.interrupt_set_processor(toy, message, 1)
    });
    assert_eq!(sent.unwrap().map(|sent| sent.index()), Some(id));
    // One that was counted says where it came, not where it was enabled; the last one counts.
    for processor in [1, 2] {
        driver.world.kernel.take_over(processor);
        driver.fire();
    }
    assert_eq!(driver.enable(), Ok(()));
    let told = driver.world.receive(root, bell, POLL).unwrap();
    assert_eq!(told.words[..2], [2, 2]);
}

#[test]
fn what_is_no_interrupt_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    let root = world.root;
    let bell = world.port(root, 0);
    let before = world.kernel.population();
    let refused = world.trap(root, |kernel, toy| {
        kernel.interrupt_create(toy, bell, LINE_NONE, bell)
    });
    assert_eq!(refused.err(), Some(Kern::InvalidHost));
    for (line, code) in [
        (24, Kern::InvalidArgument),
        (u64::MAX - 1, Kern::InvalidArgument),
        (2, Kern::NoAccess),
    ] {
        assert_eq!(create(&mut world, line, bell), Err(code));
    }
    let host = u64::from(world.boot.host_memory);
    assert_eq!(
        create(&mut world, LINE_NONE, host),
        Err(Kern::InvalidCapability)
    );
    let enabled = world.trap(root, |kernel, toy| kernel.interrupt_enable(toy, bell));
    assert_eq!(enabled, Err(Kern::InvalidName));
    assert_eq!(world.kernel.population(), before);
}

#[test]
fn there_are_only_so_many_vectors() {
    let mut world = World::new();
    let bell = world.port(world.root, 0);
    let mut made = 0;
    while create(&mut world, LINE_NONE, bell).is_ok() {
        made += 1;
    }
    assert_eq!(made, kernel_core::INTERRUPTS_MAX);
    let last = create(&mut world, LINE_NONE, bell);
    assert_eq!(last, Err(Kern::ResourceShortage));
}
