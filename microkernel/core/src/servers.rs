//! Memory servers: the owners of frames, who is below whom, and how one ends.
//!
//! A host memory port stands for one owner ([`OwnerId`]). The first is the VM server that the kernel
//! loads. An owner makes owners below itself and gives them frames; each sees its own in a physical
//! window, which lies in a space of the owner above: the one that its task lives in. An owner ends when it is
//! destroyed, when nobody has a right to its port, or with the task that its window is in; all below it end
//! with it. Then, in steps, the tasks in its spaces end, its spaces go, and when nothing maps a frame of
//! its any more the owner above is told, and takes the frames back.
//!
//! Frames and windows are the shell's; here is only decided what may be done.

use crate::{
    account,
    kernel::{Kernel, TaskId},
    machine::{Machine, Progress, SpaceId},
    message::{Message, MessageId, Role},
    notices::Text,
    owner::OwnerId,
    port::{Object, PortId},
};
use alloc::vec::Vec;
use ipc_abi::{
    Kern,
    notify::{self, ExitStatus},
    right::Name,
};

/// What a memory server is charged with: its port and the notice of its end.
pub(crate) const SERVER: u64 = account::PORT + account::MESSAGE;
/// Ports that a step looks at for spaces of a server that ends.
const SWEEP: u32 = 32;

/// How far the end of a memory server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has not begun.
    Alive,
    /// Its spaces end, because `root`, itself or above it, does. Those of ports from number `next` on
    /// have not been told yet; `None`: all have.
    Ending { root: OwnerId, next: Option<u32> },
    /// Nothing maps a frame of its. The frames wait to be taken back, from number `cursor` on.
    Ended { root: OwnerId, cursor: u32 },
}

/// A memory server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) parent: Option<OwnerId>,
    pub(crate) life: Life,
    /// Its host memory port, until its end.
    pub(crate) port: PortId,
    /// The space that its window is in, as long as there is that space.
    window: Option<SpaceId>,
    /// Spaces that there are of its.
    spaces: u32,
    /// Frames that it has given to the kernel and not got back.
    donated: u32,
    /// Who made it, and pays for it.
    pub(crate) maker: Option<TaskId>,
    /// The notice of its end, until it is told.
    pub(crate) notice: Option<MessageId>,
    /// Whom to tell of the ends of those below it; a send-once right.
    pub(crate) notify: Option<PortId>,
}

impl Server {
    const fn new(parent: Option<OwnerId>, port: PortId, window: SpaceId) -> Server {
        Server {
            parent,
            life: Life::Alive,
            port,
            window: Some(window),
            spaces: 0,
            donated: 0,
            maker: None,
            notice: None,
            notify: None,
        }
    }
}

/// Whose frames can be taken back: see [`Kernel::owner_fallen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// The owner that ended, with all below it.
    pub root: OwnerId,
    /// The first frame that was not looked at yet.
    pub cursor: u32,
}

/// The memory servers, by owner id.
#[derive(Debug, Default)]
pub(crate) struct Servers(Vec<Option<Server>>);

impl Servers {
    pub(crate) fn get(&self, owner: OwnerId) -> Option<&Server> {
        self.0.get(owner.server_index()?)?.as_ref()
    }

    fn get_mut(&mut self, owner: OwnerId) -> Option<&mut Server> {
        self.0.get_mut(owner.server_index()?)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, &Server)> {
        let places = self.0.iter().enumerate();
        places.filter_map(|(index, server)| Some((OwnerId::server(index)?, server.as_ref()?)))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.0.iter_mut().flatten()
    }

    /// An id that nobody has, with room for its record.
    fn reserve(&mut self) -> Result<OwnerId, Kern> {
        let index = match self.0.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                let room = self.0.try_reserve(1);
                room.map_err(|_| Kern::ResourceShortage)?;
                self.0.len()
            }
        };
        OwnerId::server(index).ok_or(Kern::ResourceShortage)
    }

    fn put(&mut self, owner: OwnerId, server: Server) {
        let Some(index) = owner.server_index() else {
            return;
        };
        match self.0.get_mut(index) {
            Some(place) => *place = Some(server),
            None => self.0.push(Some(server)),
        }
    }

    /// Whether `owner` is `above` or below it.
    fn is_below(&self, owner: OwnerId, above: OwnerId) -> bool {
        let mut at = Some(owner);
        while let Some(here) = at {
            if here == above {
                return true;
            }
            at = self.get(here).and_then(|server| server.parent);
        }
        false
    }
}

impl Kernel {
    /// Makes the first memory server, whose window is in `space`; gives the object of its port.
    pub(crate) fn boot_server(&mut self, port: PortId, space: SpaceId) -> Result<(), Kern> {
        let owner = self.servers.reserve()?;
        self.servers.put(owner, Server::new(None, port, space));
        Ok(())
    }

    /// The owner whose host memory port `name` is.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn host_memory(&self, name: u64) -> Result<OwnerId, Kern> {
        let me = self.running().ok_or(Kern::InvalidHost)?;
        match self.object(me.task, name) {
            Some(Object::HostMemory(owner)) => Ok(owner),
            _ => Err(Kern::InvalidHost),
        }
    }

    /// Trap `owner_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn owner_create(&mut self, host_memory: u64, space: u64) -> Result<Name, Kern> {
        let parent = self.host_memory(host_memory)?;
        let maker = self.caller()?.task;
        let window = match self.object(maker, space) {
            Some(Object::Space { space, owner, .. }) if owner == parent => space,
            _ => return Err(Kern::InvalidArgument),
        };
        if self
            .servers
            .iter()
            .any(|(_, server)| server.window == Some(window))
        {
            return Err(Kern::InvalidArgument);
        }
        let owner = self.servers.reserve()?;
        self.ports.reserve(1)?;
        self.messages.reserve(1)?;
        self.tasks.at_mut(maker).names.reserve(1)?;
        self.account(maker).charge(SERVER)?;
        let port = self.ports.add(Object::HostMemory(owner))?;
        let mut server = Server::new(Some(parent), port, window);
        server.notice = Some(self.messages.insert(Message::notice(Role::Spent))?);
        server.maker = Some(maker);
        self.servers.put(owner, server);
        self.give_send(maker, port)
    }

    /// The owner right below that of `host_memory` whose host memory port `name` is, and the space of
    /// its window: for giving it frames.
    ///
    /// # Errors
    /// KERN_INVALID_HOST: `host_memory` is none. KERN_INVALID_ARGUMENT: `name` is no owner below.
    pub fn owner_below(&self, host_memory: u64, name: u64) -> Result<(OwnerId, SpaceId), Kern> {
        let parent = self.host_memory(host_memory)?;
        let owner = self.host_memory(name).map_err(|_| Kern::InvalidArgument)?;
        let server = self.servers.get(owner);
        let server = server.filter(|server| server.parent == Some(parent));
        let window = server.and_then(|server| server.window);
        Ok((owner, window.ok_or(Kern::InvalidArgument)?))
    }

    /// Trap `owner_destroy`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn owner_destroy(
        &mut self,
        machine: &mut impl Machine,
        host_memory: u64,
        name: u64,
    ) -> Result<(), Kern> {
        let (owner, _) = self.owner_below(host_memory, name)?;
        self.end_server(owner);
        self.settle(machine);
        Ok(())
    }

    /// The space that the physical window of an owner is in.
    #[must_use]
    pub fn window(&self, owner: OwnerId) -> Option<SpaceId> {
        self.servers.get(owner)?.window
    }

    /// Frames were given to the kernel, or got back from it (`back`).
    pub fn donation(&mut self, owner: OwnerId, frames: u32, back: bool) {
        if let Some(server) = self.servers.get_mut(owner) {
            server.donated = match back {
                false => server.donated.saturating_add(frames),
                true => server.donated.saturating_sub(frames),
            };
        }
    }

    /// Frames that an owner has given to the kernel and not got back.
    #[must_use]
    pub fn donated(&self, owner: OwnerId) -> u32 {
        self.servers.get(owner).map_or(0, |server| server.donated)
    }

    /// One of the owners right below `owner` that have ended and whose frames have not all been taken
    /// back.
    #[must_use]
    pub fn owner_fallen(&self, owner: OwnerId) -> Option<Fallen> {
        self.servers
            .iter()
            .find_map(|(id, server)| match server.life {
                Life::Ended { root, cursor } if id == root && server.parent == Some(owner) => {
                    Some(Fallen { root, cursor })
                }
                _ => None,
            })
    }

    /// Whether an owner's frames go with those of `root`, and in which space it still has a window.
    #[must_use]
    pub fn fell_with(&self, owner: OwnerId, root: OwnerId) -> Option<Option<SpaceId>> {
        let server = self.servers.get(owner)?;
        match server.life {
            Life::Ended { root: with, .. } if with == root => Some(server.window),
            _ => None,
        }
    }

    /// Remembers up to which frame those of a fallen owner have been taken back; `None`: to the last.
    /// Then the owner and those that fell with it are forgotten, and the kernel owes what they had given
    /// it to the owner above.
    pub fn owner_taken(&mut self, root: OwnerId, up_to: Option<u32>) {
        let parent = self.servers.get(root).and_then(|server| server.parent);
        if let Some(cursor) = up_to {
            if let Some(server) = self.servers.get_mut(root) {
                server.life = Life::Ended { root, cursor };
            }
            return;
        }
        let mut donated: u32 = 0;
        for place in &mut self.servers.0 {
            let fell = place.as_ref().filter(
                |server| matches!(server.life, Life::Ended { root: with, .. } if with == root),
            );
            if let Some(server) = fell {
                donated = donated.saturating_add(server.donated);
                *place = None;
            }
        }
        if let Some(parent) = parent {
            self.donation(parent, donated, false);
        }
    }

    /// Says whom to tell of the ends of owners below; gives the port that was told before.
    pub(crate) fn set_owner_notify(&mut self, owner: OwnerId, port: PortId) -> Option<PortId> {
        self.servers.get_mut(owner)?.notify.replace(port)
    }

    /// A space was made, or is gone.
    pub(crate) fn count_space(&mut self, owner: OwnerId) {
        if let Some(server) = self.servers.get_mut(owner) {
            server.spaces = server.spaces.saturating_add(1);
        }
    }

    /// A space is gone, and any window in it.
    pub(crate) fn forget_space(&mut self, space: SpaceId, owner: OwnerId) {
        for server in self.servers.iter_mut() {
            if server.window == Some(space) {
                server.window = None;
            }
        }
        if let Some(server) = self.servers.get_mut(owner) {
            server.spaces = server.spaces.saturating_sub(1);
        }
        self.look_for_end(owner);
    }

    /// Whether the spaces of an owner are to go, whoever has names of them.
    pub(crate) fn is_ending(&self, owner: OwnerId) -> bool {
        let server = self.servers.get(owner);
        server.is_some_and(|server| server.life != Life::Alive)
    }

    /// A task begins to end: so does the owner whose window is in its space.
    pub(crate) fn end_server_in(&mut self, space: SpaceId) {
        let found = self.servers.iter().find(|(_, server)| {
            server.window == Some(space) && server.life == Life::Alive && server.parent.is_some()
        });
        if let Some((owner, _)) = found {
            self.end_server(owner);
        }
    }

    /// Begins the end of an owner, and of all below it.
    pub(crate) fn end_server(&mut self, root: OwnerId) {
        let server = self.servers.get(root);
        if server.is_none_or(|server| server.life != Life::Alive || server.parent.is_none()) {
            return;
        }
        for index in 0..self.servers.0.len() {
            let Some(owner) = OwnerId::server(index) else {
                return;
            };
            if self.servers.is_below(owner, root) {
                self.end_with(owner, root);
            }
        }
    }

    fn end_with(&mut self, owner: OwnerId, root: OwnerId) {
        let Some(server) = self.servers.get_mut(owner) else {
            return;
        };
        let before = server.life;
        server.life = match before {
            Life::Alive => Life::Ending {
                root,
                next: Some(0),
            },
            Life::Ending { next, .. } => Life::Ending { root, next },
            Life::Ended { .. } => Life::Ending { root, next: None },
        };
        let (port, maker, notify) = (server.port, server.maker.take(), server.notify.take());
        let notice = if owner == root {
            None
        } else {
            server.notice.take()
        };
        if let Some(maker) = maker {
            self.refund(maker, SERVER);
        }
        if let Some(notify) = notify {
            self.drop_once(notify);
        }
        if let Some(notice) = notice {
            self.retire(notice);
        }
        if before == Life::Alive {
            self.kill_port(port);
        }
    }

    /// Sees to it that the next spaces of an owner that ends go, and who lives in them.
    pub(crate) fn sweep(&mut self, owner: OwnerId) -> Progress {
        let Some(Server {
            life:
                Life::Ending {
                    root,
                    next: Some(from),
                },
            ..
        }) = self.servers.get(owner)
        else {
            return Progress::Done;
        };
        let (root, from) = (*root, *from);
        let end = from.saturating_add(SWEEP);
        for index in from..end {
            let Some((port, record)) = self.ports.by_index(index) else {
                continue;
            };
            match record.object {
                Object::Space {
                    owner: of,
                    occupant: Some(task),
                    ..
                } if of == owner => self.end_task(task, ExitStatus::Exited(0).to_word()),
                Object::Space { owner: of, .. } if of == owner => self.add_work(port),
                _ => {}
            }
        }
        let done = end >= self.ports.slots();
        if let Some(server) = self.servers.get_mut(owner) {
            let next = if done { None } else { Some(end) };
            server.life = Life::Ending { root, next };
        }
        if !done {
            return Progress::More;
        }
        self.look_for_end(owner);
        Progress::Done
    }

    /// Tells the owner above if nothing maps a frame any more of those that end with `owner`.
    fn look_for_end(&mut self, owner: OwnerId) {
        let Some(Server {
            life: Life::Ending { root, .. },
            ..
        }) = self.servers.get(owner)
        else {
            return;
        };
        let root = *root;
        let goes_on = |server: &Server| match server.life {
            Life::Ending { root: with, next } => {
                with == root && (server.spaces > 0 || next.is_some())
            }
            _ => false,
        };
        if self.servers.iter().any(|(_, server)| goes_on(server)) {
            return;
        }
        for server in self.servers.iter_mut() {
            if matches!(server.life, Life::Ending { root: with, .. } if with == root) {
                server.life = Life::Ended { root, cursor: 0 };
            }
        }
        self.tell_owner_ended(root);
    }

    fn tell_owner_ended(&mut self, root: OwnerId) {
        let Some(server) = self.servers.get_mut(root) else {
            return;
        };
        let (parent, notice) = (server.parent, server.notice.take());
        let above = parent.and_then(|parent| self.servers.get(parent));
        let notify = above.and_then(|above| above.notify);
        match (notice, notify) {
            (Some(notice), Some(notify)) => {
                let text = Text::new(notify::OWNER_ENDED, u64::from(root.raw()), 0);
                self.tell(notice, notify, text);
            }
            (Some(notice), None) => self.retire(notice),
            (None, _) => {}
        }
    }

    /// What is wrong with the memory servers, if anything: for the invariants.
    pub(crate) fn count_spaces(&self, owner: OwnerId) -> (u32, u32) {
        let of = |object: Object| matches!(object, Object::Space { owner: of, .. } if of == owner);
        let there = self
            .ports
            .iter()
            .filter(|(_, port)| !port.is_dead() && of(port.object));
        let counted = self.servers.get(owner).map_or(0, |server| server.spaces);
        (counted, there.count() as u32)
    }
}
