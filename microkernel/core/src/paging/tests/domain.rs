//! What devices reach: what was shown to them, for as long as it is mapped.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;

use super::{Toy, World};
use crate::addr::{Frame, PageRange, UserAddr};
use crate::paging::domain::{Attachment, Domains, FUNCTIONS_MAX};
use crate::paging::{Shootdown, remove_kernel_page, walk};
use crate::slab::Id;
use crate::{Progress, SpaceId, TaskId};

const BASE: u64 = 0x4000_0000;
const DRIVER: SpaceId = SpaceId(3);
const NIC: u16 = 0x18;

/// A space whose page `n` of the first four is frame `20 + n`, with a function attached.
fn driver() -> (World, Domains, Attachment) {
    let mut world = World::new(16);
    for page in 0..4 {
        let address = BASE + page * PAGE_SIZE;
        let rights = if page == 3 { Prot::READ } else { Prot::DEFAULT };
        world.enter(address, 20 + page as u32, rights).unwrap();
    }
    let mut domains = Domains::default();
    let attached = attach(&mut world, &mut domains, (DRIVER, NIC), u32::MAX);
    (world, domains, attached.unwrap())
}

fn payer() -> TaskId {
    Id::NOWHERE
}

fn attach(
    world: &mut World,
    domains: &mut Domains,
    (of, function): (SpaceId, u16),
    left: u32,
) -> Result<Attachment, Kern> {
    domains.may_attach(of, function, left)?;
    let attached = domains.attach(&mut world.store, (of, &world.space), function, payer());
    if let Some(tables) = domains.tables(of) {
        tables.allow(left);
    }
    attached
}

/// What the driver pays for the tables of its devices now.
fn billed(domains: &mut Domains) -> Option<u64> {
    let bill = domains.tables(DRIVER)?.bill()?;
    assert_eq!(bill.payer, payer());
    Some(bill.after / PAGE_SIZE)
}

fn show(world: &mut World, domains: &mut Domains, page: u64, count: u64) -> Result<(), Kern> {
    let pages = PageRange::new(BASE + page * PAGE_SIZE, count).unwrap();
    let owners = crate::owner::Owners::new(&world.records);
    let space = (DRIVER, &world.space);
    domains.show(&mut world.store, &owners, &mut world.account, space, pages)
}

/// The frame that a device finds at a physical address.
fn reached(store: &Toy, attached: Attachment, frame: u32) -> Option<u32> {
    let address = UserAddr::new(u64::from(frame) * PAGE_SIZE).unwrap();
    walk::translate(store, attached.root, address).map(|(entry, _)| entry.frame().number())
}

fn frame(number: u32) -> Frame {
    Frame::new(number).unwrap()
}

#[test]
fn a_device_reaches_what_was_shown_and_nothing_else() {
    let (mut world, mut domains, attached) = driver();
    assert_eq!(show(&mut world, &mut domains, 1, 2), Ok(()));
    let seen = [20, 21, 22, 23].map(|frame| reached(&world.store, attached, frame));
    assert_eq!(seen, [None, Some(21), Some(22), None]);
    // Its count says so, so that it cannot change hands.
    assert_eq!(world.owners().get(frame(21)).1, 2);
    assert_eq!(show(&mut world, &mut domains, 1, 1), Ok(()));
    assert_eq!(world.owners().get(frame(21)).1, 2);
}

#[test]
fn what_the_task_cannot_write_or_has_not_is_not_shown() {
    let (mut world, mut domains, attached) = driver();
    let refused = show(&mut world, &mut domains, 2, 2);
    assert_eq!(refused, Err(Kern::ProtectionFailure));
    assert_eq!(reached(&world.store, attached, 22), None);
    let refused = show(&mut world, &mut domains, 4, 1);
    assert_eq!(refused, Err(Kern::InvalidAddress));
    let refused = show(&mut world, &mut domains, 0, 513);
    assert_eq!(refused, Err(Kern::InvalidArgument));
    let refused = show(&mut world, &mut Domains::default(), 0, 1);
    assert_eq!(refused, Err(Kern::Failure));
}

#[test]
fn a_frame_that_is_unmapped_is_taken_from_the_devices_before_it_is_let_go() {
    let (mut world, mut domains, attached) = driver();
    show(&mut world, &mut domains, 0, 1).unwrap();
    let address = UserAddr::new(BASE).unwrap();
    let (space, store) = (&world.space, &mut world.store);
    assert!(remove_kernel_page(
        space,
        store,
        &mut world.account,
        address,
        frame(20)
    ));
    let removed: std::vec::Vec<Frame> = world.account.frames().collect();
    assert_eq!(removed, [frame(20)]);
    let mut devices = Shootdown::new();
    assert!(domains.withdraw(&mut world.store, &mut devices, frame(20)));
    assert!(!domains.withdraw(&mut world.store, &mut devices, frame(20)));
    assert_eq!(reached(&world.store, attached, 20), None);
    world.settle();
    assert_eq!(world.owners().get(frame(20)).1, 1);
    let owners = crate::owner::Owners::new(&world.records);
    devices.settle(&mut world.store, &owners);
    assert_eq!(world.owners().get(frame(20)).1, 0);
}

#[test]
fn a_function_has_one_driver_and_a_driver_so_many_functions() {
    let (mut world, mut domains, first) = driver();
    let mut attach = |of, function| attach(&mut world, &mut domains, (of, function), u32::MAX);
    assert_eq!(attach(DRIVER, NIC), Ok(first));
    assert_eq!(attach(SpaceId(4), NIC), Err(Kern::NoAccess));
    let other = attach(SpaceId(4), 0x20).unwrap();
    assert!(other.root != first.root && other.number != first.number);
    for function in 1..FUNCTIONS_MAX as u16 {
        assert_eq!(attach(DRIVER, NIC + function), Ok(first));
    }
    assert_eq!(attach(DRIVER, 0x100), Err(Kern::ResourceShortage));
}

#[test]
fn the_end_of_a_space_leaves_nothing_to_its_devices() {
    let (mut world, mut domains, _) = driver();
    let tables = world.store.count();
    show(&mut world, &mut domains, 0, 3).unwrap();
    let paid = billed(&mut domains).unwrap();
    assert_eq!(domains.take_functions(DRIVER).as_slice(), [NIC]);
    assert!(domains.take_functions(DRIVER).is_empty());
    let last = loop {
        let (progress, bill) = domains.end(&mut world.store, &mut world.account, DRIVER);
        world.settle();
        if progress == Progress::Done {
            break bill.unwrap();
        }
    };
    assert_eq!((last.before, last.after), (paid * PAGE_SIZE, 0));
    let (_, again) = domains.end(&mut world.store, &mut world.account, DRIVER);
    assert!(domains.is_empty() && again.is_none());
    assert_eq!(world.store.count(), tables - 1);
    assert_eq!(world.owners().get(frame(20)).1, 1);
}

#[test]
fn a_driver_pays_for_the_tables_of_its_devices() {
    let (mut world, mut domains, _) = driver();
    // The root, and one for the bus of the function.
    assert_eq!(billed(&mut domains), Some(2));
    assert_eq!(billed(&mut domains), None);
    let other = (DRIVER, 0x500);
    let refused = attach(&mut world, &mut domains, other, 0);
    assert_eq!(refused, Err(Kern::ResourceShortage));
    assert!(attach(&mut world, &mut domains, other, 1).is_ok());
    assert_eq!(billed(&mut domains), Some(3));
    // Once is enough, and what is attached already costs nothing.
    assert!(attach(&mut world, &mut domains, other, 0).is_ok());
    assert_eq!(billed(&mut domains), None);
    let newcomer = (SpaceId(4), 0x501);
    let refused = attach(&mut world, &mut domains, newcomer, 1);
    assert_eq!(refused, Err(Kern::ResourceShortage));
    assert!(domains.tables(SpaceId(4)).is_none());
    // The way to a page takes three. What there is of it is paid for, and stays.
    domains.tables(DRIVER).unwrap().allow(2);
    let refused = show(&mut world, &mut domains, 0, 1);
    assert_eq!(refused, Err(Kern::ResourceShortage));
    world.settle();
    assert_eq!(billed(&mut domains), Some(5));
    domains.tables(DRIVER).unwrap().allow(1);
    assert_eq!(show(&mut world, &mut domains, 0, 1), Ok(()));
    assert_eq!(billed(&mut domains), Some(6));
    assert_eq!(show(&mut world, &mut domains, 1, 2), Ok(()));
    assert_eq!(billed(&mut domains), None);
}
