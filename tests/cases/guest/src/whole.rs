//! [`Vm`] by the whole system: real messages, tasks of the kernel, threads that fault.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem::ManuallyDrop;

use cases::vm::Vm;
use guest_test::message::{arrived, take_body};
use guest_test::{Msg, Supervisor};
use ipc::abi::buffer::BODY_SIZE;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::FOREVER;
use ipc::abi::right::{ArrivedKind, Disposition, Name, SpecialPort};
use ipc::buffer::Body;
use ipc::protocol::vm_map::Map;
use ipc::protocol::{Message, memory_object};
use ipc::thread::{self, JoinHandle};
use ipc::vm_read::{READ_LIST_MAX, ReadEntry};
use ipc::{Kern, Passed, ReceiveRight, Rights, SendRight, Untyped, task, vm};

use crate::hands::{self, CODE, Hands};

/// The system, as a client sees it.
pub(crate) struct Whole {
    hands: Hands,
    subjects: RefCell<Vec<Rc<Subject>>>,
    objects: RefCell<Vec<(Name, ReceiveRight<Untyped>)>>,
}

/// A task of a case.
struct Subject {
    /// The name of its map port here.
    map: Name,
    task: SendRight<Untyped>,
    supervisor: Supervisor,
    has_hands: RefCell<bool>,
}

/// A right of the case.
pub(crate) type Port = Rc<SendRight<Untyped>>;

/// A touch on its way, or why it did not begin.
pub(crate) struct Touch {
    begun: Result<hands::Touch, Kern>,
    subject: Option<Rc<Subject>>,
    value: Option<u8>,
}

impl Whole {
    /// Nothing is there yet.
    pub(crate) fn new() -> Result<Whole, Kern> {
        Ok(Whole {
            hands: Hands::new()?,
            subjects: RefCell::default(),
            objects: RefCell::default(),
        })
    }

    /// The task of a map, able to touch its memory.
    fn subject(&self, map: &Port) -> Result<Rc<Subject>, Kern> {
        let subjects = self.subjects.borrow();
        let found = subjects
            .iter()
            .find(|subject| subject.map == map.name())
            .ok_or(Kern::InvalidTask)?;
        let given = SendRight::<Map>::from_name(map.name());
        let given = ManuallyDrop::new(given);
        if !*found.has_hands.borrow() || !has_hands(&given) {
            self.hands.give(&given)?;
            found.has_hands.replace(true);
        }
        Ok(Rc::clone(found))
    }
}

/// Whether nobody has taken the pages away meanwhile.
fn has_hands(map: &SendRight<Map>) -> bool {
    map.region(CODE).is_ok_and(|region| region.address <= CODE)
}

/// A right that goes along.
fn passed<'a>(right: Option<&'a Port>) -> Passed<'a> {
    right.map_or(Passed::NONE, |right| right.copy())
}

/// Sends a request with as many rights as there are.
fn call<M: Message>(
    to: &SendRight<M::On>,
    message: &M,
    rights: &[Option<&Port>],
) -> Result<(M::Reply, Rights), Kern> {
    match *rights {
        [] => to.call_with(message, [], FOREVER),
        [a] => to.call_with(message, [passed(a)], FOREVER),
        [a, b] => to.call_with(message, [passed(a), passed(b)], FOREVER),
        [a, b, c] => to.call_with(message, [passed(a), passed(b), passed(c)], FOREVER),
        _ => Err(Kern::InvalidArgument),
    }
}

impl Vm for Whole {
    type Port = Port;
    type Touch = Touch;
    type Asked = Result<JoinHandle<Result<(), Kern>>, Kern>;
    const LIMIT: u64 = CODE;

    fn host(&self) -> Port {
        // Without the right the name is that of nothing, and every wiring fails.
        let host = SendRight::special(SpecialPort::HostControl);
        Rc::new(host.unwrap_or(SendRight::from_name(0)))
    }

    fn fork(&self, parent: Option<&Port>) -> Result<Port, Kern> {
        let made = match parent {
            None => vm::own().create_task(false)?,
            Some(parent) => {
                let map = ManuallyDrop::new(SendRight::<Map>::from_name(parent.name()));
                map.create_task(true)?
            }
        };
        let supervisor = Supervisor::new()?;
        supervisor.task(&made.task)?;
        let map = made.map.cast::<Untyped>();
        self.subjects.borrow_mut().push(Rc::new(Subject {
            map: map.name(),
            task: made.task,
            supervisor,
            has_hands: RefCell::new(false),
        }));
        Ok(Rc::new(map))
    }

    fn clean(&self) -> Result<(), String> {
        for subject in self.subjects.take() {
            // Fails if the case has ended it.
            let _ = task::terminate(&subject.task, 0);
        }
        self.objects.take();
        Ok(())
    }

    fn call<M: Message>(
        &self,
        to: &Port,
        message: &M,
        rights: &[Option<&Port>],
    ) -> Result<(M::Reply, Vec<Port>), Kern> {
        let to = ManuallyDrop::new(SendRight::<M::On>::from_name(to.name()));
        let (reply, mut arrived) = call(&to, message, rights)?;
        let mut made = Vec::new();
        for slot in 0..M::REPLY_RIGHTS.len() {
            // A slot may be empty.
            let right = arrived.take_send::<Untyped>(slot);
            made.extend(right.map(Rc::new));
        }
        Ok((reply, made))
    }

    fn ask<M: Message + Send + 'static>(&self, to: &Port, message: M) -> Self::Asked {
        let name = to.name();
        let asked = thread::spawn(move || {
            // The case has the right for as long as it waits.
            let to = ManuallyDrop::new(SendRight::<M::On>::from_name(name));
            call(&to, &message, &[]).map(drop)
        });
        // What is asked next, at another port, may be handled first on another processor.
        if guest_test::has_several_processors() {
            ipc::time::sleep(20 * ipc::time::MILLISECOND);
        }
        asked
    }

    fn answered(&self, asked: Self::Asked) -> Result<(), Kern> {
        asked?.join()
    }

    fn read(&self, task: &Port, address: u64, bytes: &mut [u8]) -> Result<(), Kern> {
        let subject = self.subject(task)?;
        let mut address = address;
        for piece in bytes.chunks_mut(PAGE_SIZE as usize) {
            self.hands
                .load((&subject.task, &subject.supervisor), address, piece)?;
            address += piece.len() as u64;
        }
        Ok(())
    }

    fn write(&self, task: &Port, address: u64, bytes: &[u8]) -> Result<(), Kern> {
        let subject = self.subject(task)?;
        let mut address = address;
        for piece in bytes.chunks(PAGE_SIZE as usize) {
            self.hands
                .store((&subject.task, &subject.supervisor), address, piece)?;
            address += piece.len() as u64;
        }
        Ok(())
    }

    fn begin(&self, task: &Port, address: u64, value: Option<u8>) -> Touch {
        match self.subject(task) {
            Ok(subject) => Touch {
                begun: hands::begin(&subject.task, address, value),
                subject: Some(subject),
                value,
            },
            Err(code) => Touch {
                begun: Err(code),
                subject: None,
                value,
            },
        }
    }

    fn finish(&self, touch: Touch) -> Result<u8, Kern> {
        let subject = touch.subject.ok_or(Kern::InvalidTask)?;
        let found = hands::end(touch.begun?, &subject.supervisor)?;
        Ok(touch.value.unwrap_or(found as u8))
    }

    fn object(&self) -> Result<Port, Kern> {
        let port = ReceiveRight::<Untyped>::new(0)?;
        let right = port.make_send()?;
        self.objects.borrow_mut().push((right.name(), port));
        Ok(Rc::new(right))
    }

    fn hear(&self, object: &Port) -> Option<(memory_object::Request, Option<Port>)> {
        let objects = self.objects.borrow();
        let (_, port) = objects.iter().find(|(name, _)| *name == object.name())?;
        let received = Msg::receive(port).go().ok()?;
        let carried = received.info.rights();
        let body = Body::borrow();
        let bytes = body.get(..received.info.body().min(BODY_SIZE));
        let request = memory_object::Request::decode(
            received.info.id(),
            &received.words,
            bytes.unwrap_or_default(),
            carried,
        );
        drop(body);
        let [(name, kind)] = arrived();
        let right = (carried > 0 && kind == ArrivedKind::Send)
            .then(|| Rc::new(SendRight::from_name(name as Name)));
        Some((request.ok()?, right))
    }

    fn destroy(&self, object: &Port) {
        let name = object.name();
        self.objects
            .borrow_mut()
            .retain(|(found, _)| *found != name);
    }

    fn is_same(&self, one: &Port, other: &Port) -> bool {
        one.name() == other.name()
    }

    fn nothing(&self) -> Result<Port, Kern> {
        Ok(Rc::new(SendRight::from_name(0)))
    }

    fn execute(&self, task: &Port, address: u64) -> Result<(), Kern> {
        let subject = self.subject(task)?;
        hands::end(hands::run(&subject.task, address)?, &subject.supervisor).map(drop)
    }

    fn echo(&self, bytes: &[u8], right: &Port) -> Result<(Vec<u8>, Port), Kern> {
        let port = ReceiveRight::<Untyped>::new(0)?;
        let to = port.make_send()?;
        Msg::send(&to, 1)
            .body(bytes)
            .rights(&[(right.name(), Disposition::CopySend)])
            .go()?;
        let received = Msg::receive(&port).go()?;
        let mut back = vec![0; received.info.body()];
        if !take_body(&received, &mut back) {
            return Err(Kern::Failure);
        }
        match arrived() {
            [(name, ArrivedKind::Send)] => Ok((back, Rc::new(SendRight::from_name(name as Name)))),
            _ => Err(Kern::InvalidRight),
        }
    }

    fn read_list(&self, task: &Port, ranges: &mut [(u64, u64)]) -> Result<(), Kern> {
        let map = ManuallyDrop::new(SendRight::<Map>::from_name(task.name()));
        let entry = |(address, size): &(u64, u64)| ReadEntry {
            address: *address,
            size: *size,
        };
        let mut entries: Vec<ReadEntry> = ranges.iter().map(entry).collect();
        let said = map.read_list(&mut entries);
        if entries.len() > READ_LIST_MAX {
            // It is refused as a whole and left as it was.
            return said;
        }
        for (range, ReadEntry { address, size }) in ranges.iter_mut().zip(entries) {
            let byte = match address {
                0 => 0,
                address => guest_test::touch::read(address) & 0xFF,
            };
            *range = (byte, size);
            // The range was made for this.
            if address != 0 {
                vm::own().deallocate(address, size)?;
            }
        }
        said
    }
}
