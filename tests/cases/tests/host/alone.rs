//! [`Vm`] by the core alone: the driver of the simulation stands for kernel, threads and clock.
//!
//! A request is encoded and decoded on its way as a message would be, so that a case sends the same
//! thing here as in the whole system. What was made is kept in a list, so that everything can be
//! given back at the end of a row, and the core be asked what is left.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use cases::vm::Vm;
use ipc_abi::Kern;
use ipc_abi::layout::USER_MAX;
use ipc_abi::types::Prot;
use ipc_protocol::codec::Words;
use ipc_protocol::define::{Raw, get_reply};
use ipc_protocol::vm_map::TaskCreate;
use ipc_protocol::{Message, memory_object};
use sim::world::{Arrival, Care, Unkind, World};
use vm_core::Config;
use vm_core::call::{Call, Message as Told};
use vm_core::effect::Answer;
use vm_core::event::{ControlId, Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Token};

/// Frames of the machine.
const FRAMES: u32 = 4096;
/// Nothing of the world is unkind: rows are not about that.
const KIND: Unkind = Unkind {
    lost_enters: u64::MAX,
    queue: 64,
    late: false,
    slow: 0,
};

/// Bytes that a message has at most.
const BODY: usize = 4096;

/// The host control port.
const HOST: RightId = RightId(1);

/// The world of one row.
pub(crate) struct Host {
    world: RefCell<World>,
    /// The task that makes tasks.
    maker: MapId,
    tasks: RefCell<Vec<MapId>>,
    made: RefCell<Vec<PortOf>>,
    objects: RefCell<Vec<RightId>>,
    next_object: Cell<u32>,
    arrived: RefCell<BTreeMap<u64, Arrival>>,
}

/// A right of the case.
#[derive(Clone, Debug)]
pub(crate) enum Port {
    /// To a port of the server.
    Own(PortOf),
    /// To a port of the case's own.
    Object(Rc<RightId>),
}

impl Port {
    fn map(&self) -> MapId {
        match self {
            Port::Own(PortOf::Map(map)) => *map,
            other => panic!("{other:?} is no task"),
        }
    }
}

/// A thread that touches a byte.
pub(crate) struct Touch {
    map: MapId,
    address: u64,
    value: Option<u8>,
    token: Option<Token>,
    end: Option<Result<u8, Kern>>,
}

impl Host {
    /// A world with nothing in it, whose server takes part in deferred reclamation or not.
    pub(crate) fn new(reclaims: bool) -> Host {
        let config = Config {
            host: Some(HOST),
            reclaims,
            ..Config::for_frames(FRAMES)
        };
        let mut world = World::new(config, KIND, Care::Whole);
        let maker = world.core.boot_map().unwrap();
        Host {
            world: RefCell::new(world),
            maker,
            tasks: RefCell::default(),
            made: RefCell::default(),
            objects: RefCell::default(),
            next_object: Cell::new(100),
            arrived: RefCell::default(),
        }
    }

    /// Takes what has arrived, and steps until `token` is answered or nothing goes on.
    fn arrival(&self, token: Token) -> Option<Arrival> {
        loop {
            let mut world = self.world.borrow_mut();
            while let Some(arrival) = world.arrival() {
                if let Arrival::Resumed(to, _) | Arrival::Answered(to, _) = &arrival {
                    self.arrived.borrow_mut().insert(to.0.get(), arrival);
                }
            }
            if let Some(arrival) = self.arrived.borrow_mut().remove(&token.0.get()) {
                return Some(arrival);
            }
            if !world.core.wants_step() {
                return None;
            }
            world.post(Event::Step);
        }
    }

    fn answer(&self, token: Token) -> Answer {
        match self.arrival(token) {
            Some(Arrival::Answered(_, answer)) => {
                if let Ok(reply) = &answer
                    && let Some(port) = reply.right
                {
                    self.made.borrow_mut().push(port);
                }
                answer
            }
            other => panic!("a call waits: {other:?}"),
        }
    }

    /// Sends a request.
    fn send<M: Message>(
        &self,
        to: &Port,
        message: &M,
        rights: &[Option<&Port>],
    ) -> Result<Token, Kern> {
        let Port::Own(to) = to else {
            panic!("{} is sent to the case itself", M::NAME);
        };
        let (mut words, mut body) = (Words::default(), vec![0; BODY]);
        let length = message.put(&mut words, &mut body)?;
        let call = Call::decode(
            *to,
            &Raw {
                payload: to.to_payload(),
                id: M::ID,
                words: &words,
                body: &body[..length],
                rights: M::RIGHTS.len().max(rights.len()),
            },
        )?;
        let rights = self.rights(rights);
        Ok(self.world.borrow_mut().request(call, rights))
    }

    fn rights(&self, rights: &[Option<&Port>]) -> Rights {
        let mut all = NO_RIGHTS;
        for (slot, right) in rights.iter().enumerate() {
            all[slot] = match right {
                None => PortRef::None,
                Some(Port::Own(port)) => PortRef::Own(*port),
                Some(Port::Object(port)) => self.world.borrow_mut().right_to(**port),
            };
        }
        all
    }

    /// Touches a byte, or finds out that it cannot be touched yet.
    fn go_on(&self, touch: &mut Touch) -> Option<Result<u8, Kern>> {
        let access = match touch.value {
            Some(_) => Prot::WRITE,
            None => Prot::READ,
        };
        for _ in 0..1000 {
            if let Some(token) = touch.token.take() {
                match self.arrival(token) {
                    Some(Arrival::Resumed(_, Ok(()))) => {}
                    Some(Arrival::Resumed(_, Err(code))) => return Some(Err(code)),
                    Some(other) => panic!("{other:?}"),
                    None => {
                        touch.token = Some(token);
                        return None;
                    }
                }
            }
            let mut world = self.world.borrow_mut();
            if let Some(byte) = world.model.touch(touch.map, touch.address, touch.value) {
                return Some(Ok(byte));
            }
            touch.token = Some(world.fault(touch.map, touch.address, access));
        }
        panic!("{:#x} faults for ever", touch.address);
    }
}

impl Vm for Host {
    type Port = Port;
    type Touch = Touch;
    type Asked = Result<Token, Kern>;
    const LIMIT: u64 = USER_MAX;

    fn host(&self) -> Port {
        Port::Object(Rc::new(HOST))
    }

    fn fork(&self, parent: Option<&Port>) -> Result<Port, Kern> {
        let map = parent.map_or(self.maker, Port::map);
        let inherit = parent.is_some();
        let (_, mut rights) =
            self.call(&Port::Own(PortOf::Map(map)), &TaskCreate { inherit }, &[])?;
        let task = rights.pop().ok_or(Kern::MigBadArguments)?;
        self.tasks.borrow_mut().push(task.map());
        Ok(task)
    }

    fn clean(&self) -> Result<(), String> {
        let mut world = self.world.borrow_mut();
        for map in self.tasks.take() {
            // The kernel has torn its translations down before it tells.
            world.model.forget(map);
            world.post(Event::TaskEnded(map));
        }
        for port in self.made.take() {
            world.no_senders(port, false);
        }
        world.settle();
        for object in self.objects.take() {
            world.kill_port(object);
        }
        world.settle();
        world.return_frames();
        world.settle();
        let left = world.core.census();
        let used = left.frames - left.free;
        // The maker of tasks stays.
        if used != 0 || left.maps != 1 || left.entries + left.objects + left.copies + left.named > 0
        {
            return Err(format!("something is left: {left:?}"));
        }
        match world.held().next() {
            Some((port, _)) => Err(format!("rights to port {port} are left")),
            None => Ok(()),
        }
    }

    fn call<M: Message>(
        &self,
        to: &Port,
        message: &M,
        rights: &[Option<&Port>],
    ) -> Result<(M::Reply, Vec<Port>), Kern> {
        let reply = self.answer(self.send(to, message, rights)?)?;
        let (mut words, mut body) = (Words::default(), vec![0; BODY]);
        let length = match reply.message {
            Told::Map(reply) => reply.encode(&mut words, &mut body),
            Told::Entry(reply) => reply.encode(&mut words, &mut body),
            Told::Copy(reply) => reply.encode(&mut words, &mut body),
            Told::Control(reply) => reply.encode(&mut words, &mut body),
        }?;
        let said = get_reply::<M>(&words, &body[..length], M::REPLY_RIGHTS.len())?;
        Ok((said, reply.right.map(Port::Own).into_iter().collect()))
    }

    fn ask<M: Message + Send + 'static>(&self, to: &Port, message: M) -> Self::Asked {
        self.send(to, &message, &[])
    }

    fn answered(&self, asked: Self::Asked) -> Result<(), Kern> {
        self.answer(asked?).map(drop)
    }

    fn read(&self, task: &Port, address: u64, bytes: &mut [u8]) -> Result<(), Kern> {
        for (place, byte) in (0..).zip(bytes) {
            let address = address.wrapping_add(place);
            *byte = self.finish(self.begin(task, address, None))?;
        }
        Ok(())
    }

    fn write(&self, task: &Port, address: u64, bytes: &[u8]) -> Result<(), Kern> {
        for (place, byte) in (0..).zip(bytes) {
            let address = address.wrapping_add(place);
            self.finish(self.begin(task, address, Some(*byte)))?;
        }
        Ok(())
    }

    fn begin(&self, task: &Port, address: u64, value: Option<u8>) -> Touch {
        let mut touch = Touch {
            map: task.map(),
            address,
            value,
            token: None,
            end: None,
        };
        touch.end = self.go_on(&mut touch);
        touch
    }

    fn finish(&self, mut touch: Touch) -> Result<u8, Kern> {
        match touch.end.or_else(|| self.go_on(&mut touch)) {
            Some(end) => end,
            None => panic!("a touch of {:#x} waits", touch.address),
        }
    }

    fn object(&self) -> Result<Port, Kern> {
        let port = RightId(self.next_object.replace(self.next_object.get() + 1));
        self.objects.borrow_mut().push(port);
        Ok(Port::Object(Rc::new(port)))
    }

    fn hear(&self, object: &Port) -> Option<(memory_object::Request, Option<Port>)> {
        let Port::Object(port) = object else {
            return None;
        };
        let mut world = self.world.borrow_mut();
        world.settle();
        if world.queue(**port).is_empty() {
            return None;
        }
        let said = world.receive(**port, 0);
        let control = said.control.map(|control: ControlId| {
            self.made.borrow_mut().push(PortOf::Control(control));
            Port::Own(PortOf::Control(control))
        });
        Some((said.wording, control))
    }

    fn destroy(&self, object: &Port) {
        if let Port::Object(port) = object {
            self.world.borrow_mut().kill_port(**port);
        }
    }

    fn is_same(&self, one: &Port, other: &Port) -> bool {
        match (one, other) {
            (Port::Own(one), Port::Own(other)) => one == other,
            (Port::Object(one), Port::Object(other)) => one == other,
            _ => false,
        }
    }
}
