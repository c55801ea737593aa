//! The messages that tasks exchange, each once.
//!
//! | protocol | file | requests go to |
//! |---|---|---|
//! | address map | [`vm_map`] | the VM server, on the map port of a task |
//! | its parts | [`vm_wire`], [`vm_share`], [`vm_inspect`], [`vm_advice`], [`vm_range`] | the same |
//! | memory entry | [`memory_entry`] | the VM server, on the port of a named entry |
//! | copy | [`copy`] | the VM server, on the port of a copy |
//! | memory object control | [`memory_object_control`] | the VM server, on the control port of an object |
//! | memory object | [`memory_object`] | a pager, on the port of a memory object |
//! | bootstrap | [`bootstrap`] | the name service, on every task's bootstrap port |
//! | files | [`files`] | a file pager, on the port that it registered |
//!
//! [`define`] has the table macro and what is made from it, [`codec`] how a value lies in a message.
//! What the kernel itself sends is in `ipc_abi`.
//!
//! Every request may be sent as a call, which is answered, or one way, which is not. The answer
//! to request `n` has the id `n + 100`. Its first register word is a code: 0, or why the request was
//! refused; in a refusal there is nothing else. (The code is a word and not part of the body, as in
//! the answers to faults and exceptions: a refusal and an empty success need no buffer.)
//! Fields are plain integers even where few values are valid: what is wrong with a
//! protection of 0x80 is for the server to say, with the code that the call's text names.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test may fail"
    )
)]

pub mod bootstrap;
pub mod codec;
pub mod copy;
pub mod define;
pub mod files;
pub mod memory_entry;
pub mod memory_object;
pub mod memory_object_control;
pub mod vm_advice;
pub mod vm_inspect;
pub mod vm_map;
pub mod vm_range;
pub mod vm_share;
pub mod vm_wire;

pub use define::{Catalogue, Message, Protocol, reply_id};

/// The reference of every protocol, in order of first id.
pub const CATALOGUES: &[Catalogue] = &[
    memory_object::CATALOGUE,
    memory_object_control::CATALOGUE,
    vm_map::CATALOGUE,
    memory_entry::CATALOGUE,
    copy::CATALOGUE,
    bootstrap::CATALOGUE,
    files::CATALOGUE,
    vm_wire::CATALOGUE,
    vm_share::CATALOGUE,
    vm_inspect::CATALOGUE,
    vm_advice::CATALOGUE,
    vm_range::CATALOGUE,
];

#[cfg(test)]
mod tests {
    use super::codec::{self, Payload, Words};
    use super::define::{Form, get_reply, put_reply};
    use super::memory_object::{self, MemoryObjectDataRequest};
    use super::memory_object_control::{self, MemoryObjectDataSupply, MemoryObjectDataSupplyReply};
    use super::vm_map::{self, VmMap, VmMapReply};
    use super::*;
    use ipc_abi::Kern;

    const VM_MAP: VmMap = VmMap {
        address: 0x7000_0000,
        size: 0x1234,
        mask: 0,
        flags: 1,
        offset: 0x8000,
        copy: true,
        protection: 1,
        max_protection: 7,
        inheritance: 3,
    };

    #[test]
    fn ids_are_unique_and_replies_fall_on_no_request() {
        let ids = || CATALOGUES.iter().flat_map(|c| c.entries).map(|e| e.id);
        for id in ids() {
            assert_eq!(ids().filter(|other| *other == id).count(), 1, "{id}");
        }
        for catalogue in CATALOGUES {
            let mut after = catalogue.base;
            for entry in catalogue.entries {
                assert!(entry.id > after, "{} is out of order", entry.name);
                after = entry.id;
                assert!(catalogue.entries.iter().all(|e| e.id != reply_id(entry.id)));
            }
        }
    }

    #[test]
    fn a_request_in_the_body_round_trips_and_every_other_length_is_refused() {
        let request = vm_map::Request::VmMap(VM_MAP);
        let (mut words, mut body) = (Words::default(), [0; 4000]);
        let length = request.encode(&mut words, &mut body).unwrap();
        let decode = |length| vm_map::Request::decode(3805, &words, &body[..length], 1);
        assert_eq!(decode(length), Ok(request));
        for wrong in (0..length).chain([length + 1, 4000]) {
            assert_eq!(decode(wrong), Err(Kern::MigTypeError), "{wrong} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_named_in_order() {
        let decode = |id, rights| vm_map::Request::decode(id, &[0; 6], &[], rights);
        assert_eq!(decode(3800, 9), Err(Kern::MigBadId));
        assert_eq!(decode(3899, 0), Err(Kern::MigBadId));
        assert_eq!(decode(3805, 0), Err(Kern::MigBadArguments));
        assert_eq!(decode(3805, 2), Err(Kern::MigBadArguments));
        assert_eq!(decode(3805, 1), Err(Kern::MigTypeError));
    }

    #[test]
    fn the_hot_messages_say_in_words_what_the_codec_says_in_bytes() {
        fn check<T: Payload + PartialEq + core::fmt::Debug>(
            value: T,
            expected: &[u64],
            encode: impl Fn(&T, &mut [u8]) -> usize,
            decode: impl Fn(&[u8]) -> T,
        ) {
            let (mut words, mut body) = ([0; 6], [0; 100]);
            assert_eq!(value.put(&mut words[..expected.len()], &mut []), Ok(0));
            assert_eq!(&words[..expected.len()], expected);
            let length = encode(&value, &mut body);
            assert_eq!(T::get(&words, &[]), Ok(decode(&body[..length])));
            assert_eq!(T::get(&words, &body[..length]), Err(Kern::MigTypeError));
        }
        check(
            MemoryObjectDataRequest {
                offset: 1 << 40,
                length: 8192,
                access: 2,
                request: 7,
            },
            &[1 << 40, 8192, 2, 7],
            |value, body| codec::encode(value, body).unwrap(),
            |body| codec::decode(body).unwrap(),
        );
        check(
            MemoryObjectDataSupply {
                offset: 1 << 40,
                slot: 3,
                count: 2,
                lock_value: 2,
                precious: true,
            },
            &[1 << 40, 3, 2, 2, 1],
            |value, body| codec::encode(value, body).unwrap(),
            |body| codec::decode(body).unwrap(),
        );
        check(
            MemoryObjectDataSupplyReply {
                used: 1,
                skipped_present: 1,
                first_present: 4096,
            },
            &[1, 1, 4096],
            |value, body| codec::encode(value, body).unwrap(),
            |body| codec::decode(body).unwrap(),
        );
    }

    #[test]
    fn a_word_that_its_field_cannot_hold_is_refused() {
        let decode = |words| memory_object_control::Request::decode(2302, &words, &[], 0);
        assert!(decode([0, 0, 1, 0, 1, 0]).is_ok());
        assert_eq!(decode([0, 1 << 32, 1, 0, 1, 0]), Err(Kern::MigTypeError));
        assert_eq!(decode([0, 0, 1, 0, 2, 0]), Err(Kern::MigTypeError));
    }

    #[test]
    fn an_answer_round_trips_and_a_refusal_is_its_code() {
        let (mut words, mut body) = (Words::default(), [0; 4000]);
        let reply = VmMapReply { address: 0x5000 };
        let length = put_reply::<VmMap>(&reply, &mut words, &mut body).unwrap();
        assert_eq!(words[0], 0);
        let read = |words: &Words, rights| get_reply::<VmMap>(words, &body[..length], rights);
        assert_eq!(read(&words, 0), Ok(reply));
        assert_eq!(read(&words, 1), Err(Kern::MigBadArguments));
        words[0] = 3;
        assert_eq!(read(&words, 0), Err(Kern::NoSpace));
        words[0] = 1 << 40;
        assert_eq!(read(&words, 0), Err(Kern::MigTypeError));
        let any = vm_map::Reply::VmMap(reply);
        assert_eq!(any.encode(&mut words, &mut body), Ok(length));
        assert_eq!((any.id(), words[0]), (3905, 0));
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_sent() {
        let encoded = VM_MAP.put(&mut [0; 6], &mut [0; 3]);
        assert_eq!(encoded, Err(Kern::InvalidArgument));
    }

    #[test]
    fn the_catalogue_names_fields_rights_and_form() {
        let entry = |id| {
            vm_map::CATALOGUE
                .entries
                .iter()
                .find(|e| e.id == id)
                .unwrap()
        };
        let map = entry(3805);
        assert_eq!((map.name, map.form), ("vm_map", Form::Body));
        assert_eq!((map.fields[1].name, map.fields[1].kind), ("size", "u64"));
        assert_eq!(map.rights[VmMap::OBJECT].name, "OBJECT");
        assert_eq!(entry(3811).reply_rights.len(), 2);
        assert_eq!(memory_object::CATALOGUE.entries[2].form, Form::Words);
    }

    #[test]
    fn the_largest_answer_and_path_fit_a_message() {
        use super::files::{DirectoryEntry, FileList, FileListReply, PATH_MAX, kind};
        let mut name = heapless::Vec::new();
        while name.push(0xFF).is_ok() {}
        let entry = DirectoryEntry {
            name,
            kind: kind::FILE,
        };
        let mut reply = FileListReply {
            entries: heapless::Vec::new(),
            next: u64::MAX,
        };
        while reply.entries.push(entry.clone()).is_ok() {}
        assert!(reply.put(&mut [], &mut [0; 4000]).is_ok());
        let mut list = FileList {
            path: heapless::Vec::new(),
            cursor: u64::MAX,
        };
        list.path.resize(PATH_MAX, 0xFF).unwrap();
        assert!(list.put(&mut [], &mut [0; 4000]).is_ok());
    }
}
