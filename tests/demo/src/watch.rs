//! Waits for what becomes of another task: its exceptions, its end.

use ipc::abi::exception::{Exception, Kind};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::abi::types::MapFlags;
use ipc::protocol::memory_entry::{Reply, Request};
use ipc::protocol::vm_map::Map;
use ipc::server::{Answer, Context, Notice, Server};
use ipc::time::{SECOND, after};
use ipc::{Kern, SendRight};

/// How long a task may take over what it was started for.
const PATIENCE: u64 = 60 * SECOND;

/// Takes one notice about a task.
pub(crate) struct Watch {
    deadline: u64,
    repair: Option<SendRight<Map>>,
    /// The exception that came.
    pub(crate) exception: Option<Exception>,
    /// Whether it was repaired.
    pub(crate) repaired: bool,
    /// How the task ended.
    pub(crate) ended: Option<ExitStatus>,
    done: bool,
}

impl Watch {
    /// Waits for the first notice, but not for ever. An exception is handed on.
    pub(crate) fn for_a_while() -> Watch {
        Watch {
            deadline: after(PATIENCE),
            repair: None,
            exception: None,
            repaired: false,
            ended: None,
            done: false,
        }
    }

    /// As [`Watch::for_a_while`]; memory that an exception misses is allocated in the map of the
    /// task, which goes on.
    pub(crate) fn and_repair(map: SendRight<Map>) -> Watch {
        Watch {
            repair: Some(map),
            ..Watch::for_a_while()
        }
    }

    fn handle(&mut self, exception: Exception) -> Result<(), Kern> {
        self.exception = Some(exception);
        let map = self.repair.as_ref().ok_or(Kern::Failure)?;
        if exception.kind != Kind::BadAccess {
            return Err(Kern::Failure);
        }
        let page = exception.subcode & !(PAGE_SIZE - 1);
        map.allocate_at(page, PAGE_SIZE, MapFlags::empty())?;
        self.repaired = true;
        Ok(())
    }
}

impl Server for Watch {
    // Nobody asks here anything; some protocol has to be named.
    type Request = Request;
    type Reply = Reply;

    fn request(&mut self, _request: Request, _context: &mut Context) -> Answer<Reply> {
        Answer::Refuse(Kern::MigBadId)
    }

    fn notice(&mut self, notice: Notice, _context: &mut Context) -> Result<(), Kern> {
        match notice {
            Notice::Exception(exception) => {
                self.done = true;
                self.handle(exception)
            }
            Notice::DeadName { status, .. } => {
                self.done = true;
                self.ended = Some(ExitStatus::from_word(status));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn deadline(&self) -> u64 {
        self.deadline
    }

    fn tick(&mut self) {
        self.done = true;
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
