//! What a pager says on the control port of its object, with the arguments given: rows that their
//! columns say whole. The object has four pages, the second of which is resident.

use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::memory_object_control::{
    MemoryObjectChangeAttributes, MemoryObjectCopyMade, MemoryObjectDataError,
    MemoryObjectDataSupply, MemoryObjectDataUnavailable, MemoryObjectDataWritten,
    MemoryObjectDestroy, MemoryObjectLockRequest, MemoryObjectReady,
    MemoryObjectSynchronizeCompleted,
};

use super::Found;
use crate::failure::{Outcome, same};
use crate::pager::{DELAY, Pager};
use crate::run::{Case, Where};
use crate::table::Row;
use crate::vm::{Said, Vm};

/// Rows of one message.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let is_control = row.call.starts_with("memory_object_") && row.setup == "a ready object";
    is_control.then_some((Where::Both, one_message::<V>))
}

fn one_message<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let (pager, address) = Pager::mapped(task, 4, DELAY)?;
    pager.bring(task, address + PAGE_SIZE, 1, 0x11)?;
    let (offset, size) = (words.or("offset", 0)?, words.or("size", PAGE_SIZE)?);
    let request = words.or("request", 0)?;
    let said = match case.row.call {
        "memory_object_data_supply" => {
            let message = MemoryObjectDataSupply {
                offset,
                slot: words.word("slot", 1)?,
                count: words.word("count", 1)?,
                lock_value: words.word("lock", 0)?,
                precious: false,
            };
            pager.say(&message).map(|_| ())
        }
        "memory_object_data_unavailable" => {
            pager.say(&MemoryObjectDataUnavailable { offset, size })
        }
        "memory_object_data_error" => pager.say(&MemoryObjectDataError {
            offset,
            size,
            code: 5,
        }),
        "memory_object_lock_request" => pager.say(&MemoryObjectLockRequest {
            offset,
            size,
            should_return: words.word("return", 0)?,
            flags: words.word("flush", 0)?,
            lock_value: words.word("lock", 8)?,
            request,
        }),
        "memory_object_change_attributes" => pager.say(&MemoryObjectChangeAttributes {
            may_cache: false,
            copy_strategy: words.word("strategy", 2)?,
            request,
        }),
        "memory_object_data_written" => pager.say(&MemoryObjectDataWritten {
            txn: request,
            result: 0,
        }),
        "memory_object_synchronize_completed" => {
            pager.say(&MemoryObjectSynchronizeCompleted { request, result: 0 })
        }
        "memory_object_destroy" => pager.say(&MemoryObjectDestroy { reason: 0 }),
        "memory_object_ready" => {
            let ready = MemoryObjectReady {
                may_cache: false,
                copy_strategy: words.word("strategy", 2)?,
                cluster_pages: words.word("cluster", 1)?,
                serves_itself: false,
                synchronizes: false,
            };
            let tray = Some(&pager.tray).filter(|_| words.or("tray", 1) == Ok(1));
            pager.say_with(&ready, &[tray])
        }
        "memory_object_copy_made" => {
            let result = words.word("result", 0)?;
            let object = match result {
                0 => Some(task.vm.object()?),
                _ => None,
            };
            pager.say_with(
                &MemoryObjectCopyMade { request, result },
                &[object.as_ref()],
            )
        }
        other => return Err(alloc::format!("{other} is not known").into()),
    };
    // Whatever was wrong with it, the page that is there stays.
    if said.is_err() {
        same("the page", task.load(address + PAGE_SIZE), Ok(0x11))?;
    }
    Ok(said)
}
