//! The quick way of copies: made and used up without an event and without effects, the right and its port
//! included.

use ipc::buffer;
use ipc::trap::Received;
use ipc_abi::right::Disposition;
use ipc_protocol::define::Message;
use ipc_protocol::vm_map::{VmCopyin, VmCopyinReply, VmCopyout};
use vm_core::Turn;
use vm_core::event::{Event, PortOf, Time};

use crate::answer::{CallAnswer, Pending};
use crate::heap;
use crate::receive::{Copying, common_copy};
use crate::serve::Server;

impl Server {
    /// The answer to a call that makes a copy or uses one up, if that is what was received and it is
    /// plain. Any other is as if it had not been looked at.
    #[inline(never)]
    pub(crate) fn copy_answer(&mut self, received: &Received) -> Option<Pending> {
        let (map, copying, token) = common_copy(received)?;
        if !self.effects.as_slice().is_empty() || heap::is_low() {
            return None;
        }
        match copying {
            Copying::In(args) => {
                let mut turn = Turn {
                    now: Time::NEVER,
                    machine: &mut self.hardware,
                    effects: &mut self.effects,
                };
                let copy = PortOf::Copy(self.core.copyin_quick(&mut turn, map, &args)?);
                let Ok(name) = self.ports.get_or_make(copy) else {
                    self.later.push(Event::NoSenders {
                        port: copy,
                        made: u32::MAX,
                    });
                    return None;
                };
                buffer::set_right(VmCopyinReply::COPY, name, Disposition::MakeSend);
                Pending::of_made(token, VmCopyin::ID, copy)
            }
            Copying::Out(args, payload, last) => {
                let port = self.ports.stands_for(payload)?;
                let PortOf::Copy(copy) = port else {
                    return None;
                };
                let word = self.core.copyout_quick(map, copy, &args)?;
                if last {
                    self.ports.came_home(payload);
                }
                self.ports.gone(port);
                Some(Pending::of_call(&CallAnswer {
                    token,
                    id: VmCopyout::ID,
                    word,
                    leaves_work: true,
                }))
            }
        }
    }
}
