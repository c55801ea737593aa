//! Passing a call on: another server answers the caller itself.

use crate::call::compose;
use crate::right::{Passed, SendRight};
use crate::server::Caller;
use crate::trap;
use core::mem;
use ipc_abi::message::{FOREVER, option};
use ipc_abi::{Kern, kern_return};
use ipc_protocol::Message;
use ipc_protocol::codec::Words;

impl Caller {
    /// Passes the call on with a request of one's own, whose answer goes to the caller: it should be one
    /// that the caller can read. The caller's deadline stays; it is told if the other server ends.
    ///
    /// # Errors
    /// With the caller, who still waits: MACH_SEND_INVALID_DEST: the port is dead;
    /// MACH_SEND_INVALID_REPLY: the caller has gone; MACH_SEND_NO_BUFFER; what makes a request
    /// impossible. The rights are given back then.
    pub fn forward<P, M: Message<On = P>, const N: usize>(
        self,
        to: &SendRight<P>,
        message: &M,
        rights: [Passed<'_>; N],
    ) -> Result<(), (Caller, Kern)> {
        let mut words = Words::default();
        let info = match compose(message, &rights, &mut words) {
            Ok(info) => info,
            Err(code) => return Err((self, code)),
        };
        let received = trap::exchange(&trap::Send {
            options: option::FORWARD,
            destination: self.token(),
            receive: 0,
            info,
            send_deadline: FOREVER,
            receive_deadline: FOREVER,
            notify: to.name(),
            words,
        });
        match kern_return::from_raw(received.outcome.code()) {
            Ok(()) => {
                mem::forget(rights);
                mem::forget(self);
                Ok(())
            }
            Err(code) => Err((self, code)),
        }
    }
}
