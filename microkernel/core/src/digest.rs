//! The state of the world as a text, without what nobody can see of it: for tests that compare.
//!
//! Left out are the sizes of tables, which may have grown for an operation that then failed, the order of
//! free places, and who of those that are awake runs.

use crate::{kernel::Kernel, thread::State};
use alloc::{format, string::String};

impl Kernel {
    /// All that there is, and what it is linked with.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for (id, task) in self.tasks.iter() {
            let account = task.names.account;
            text.push_str(&format!(
                "task {id:?}: {:?} {:?} {:?} {:?} {} of {}\n",
                task.life,
                task.maker,
                task.special_ports().collect::<alloc::vec::Vec<_>>(),
                task.threads,
                account.used().saturating_sub(task.names.bytes()),
                account.limit(),
            ));
            for index in 0..task.names.slots() {
                if let Some((name, entry)) = task.names.at_index(index) {
                    text.push_str(&format!(
                        "  {name}: {:?} {:?} {:?}\n",
                        entry.holds, entry.dead_name, entry.possible
                    ));
                }
            }
        }
        for (id, thread) in self.threads.iter() {
            let state = match thread.state.get() {
                State::Running | State::Ready => None,
                state => Some(state),
            };
            text.push_str(&format!(
                "thread {id:?}: {state:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}\n",
                thread.task,
                thread.port,
                thread.handlers,
                thread.token.get(),
                thread.cargo,
                thread.notice,
                thread.deadline,
                thread.notice_out,
            ));
        }
        for (id, port) in self.ports.iter() {
            text.push_str(&format!("port {id:?}: {port:?}\n"));
        }
        for (id, set) in self.sets.iter() {
            text.push_str(&format!("set {id:?}: {set:?}\n"));
        }
        for (id, message) in self.messages.iter() {
            text.push_str(&format!("message {id:?}: {message:?}\n"));
        }
        for (id, server) in self.servers.iter() {
            text.push_str(&format!("server {id:?}: {server:?}\n"));
        }
        text
    }
}
