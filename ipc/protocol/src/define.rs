//! The `protocol!` table: each message once; everything else is made from it.
//!
//! ```text
//! protocol! {
//!     /// What the protocol is for.
//!     #[derive(Clone, Copy)]                              Copy where every field has it
//!     protocol Marker "name" at 3800, "who sends" to "who receives";
//!
//!     /// What the message does; units; errors in order of precedence; source.
//!     3801 vm_allocate VmAllocate in words {              or `in body`
//!         /// What the field means.
//!         address: u64,
//!     }
//!     rights { /** What the right is. */ OBJECT, }        optional
//!     reply VmAllocateReply { /** .. */ address: u64, }   optional
//!     reply rights { /** .. */ COPY, };                   optional
//! }
//! ```
//!
//! From a row come the request and reply structs, the slot constants of the rights (as associated
//! constants: `VmMap::OBJECT` in the request, `TaskCreateReply::TASK` in the reply), the variants of
//! the protocol's `Request` and `Reply`, and the row of its `CATALOGUE`, from which reference pages
//! and fuzzers are made. The marker type is what typed rights carry: `SendRight<Marker>`.
//!
//! A protocol with many messages is told in several files: its own header names the `parts`, each of
//! which is a variant of its `Request` and `Reply` and says `part of vm_map::Map` in its own.
//!
//! Ids are written out, not counted: a reader can search for the number that a trace shows, and a
//! removed message leaves a gap instead of renumbering its successors.

use crate::codec::{Payload, Words};
use ipc_abi::Kern;

/// A protocol: the marker that typed rights carry.
pub trait Protocol {
    /// Any request of it.
    type Request: AnyRequest;
    /// Any answer of it.
    type Reply: AnyReply;
    /// Its reference: every message.
    const CATALOGUE: &'static Catalogue;
}

/// A message as it arrives, before it is understood.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// The payload of the port that it came through.
    pub payload: u64,
    /// The message id.
    pub id: u32,
    /// The register words.
    pub words: &'a Words,
    /// The body, as long as the message says.
    pub body: &'a [u8],
    /// How many rights it carries, empty slots included.
    pub rights: usize,
}

/// Something that a server can be asked: the requests of a protocol, or of several.
pub trait AnyRequest: Sized {
    /// Understands a message.
    ///
    /// # Errors
    /// MIG_BAD_ID: no such request. MIG_BAD_ARGUMENTS: another number of rights than its kind has.
    /// MIG_TYPE_ERROR: malformed.
    fn decode(message: &Raw<'_>) -> Result<Self, Kern>;
}

/// Something that a server can answer: the replies of a protocol, or of several.
pub trait AnyReply {
    /// Right slots of the answer.
    fn rights(&self) -> usize;

    /// Writes the answer, code included; says how many bytes of `body` it takes.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: it does not fit `body`.
    fn encode(&self, words: &mut Words, body: &mut [u8]) -> Result<usize, Kern>;
}

/// A request: its number, its answer and the rights that travel with both.
pub trait Message: Payload {
    /// The protocol that it belongs to.
    type On: Protocol;
    /// What a successful answer carries.
    type Reply: Payload;
    /// The message id. The answer's is [`reply_id`] of it.
    const ID: u32;
    /// Name, as in Mach.
    const NAME: &'static str;
    /// How request and reply travel.
    const FORM: Form;
    /// Right slots of the request. All are sent; an optional one may be empty.
    const RIGHTS: &'static [Slot];
    /// Right slots of a successful answer. A refusal carries none.
    const REPLY_RIGHTS: &'static [Slot];
}

/// The id of the answer to a message.
#[must_use]
pub const fn reply_id(request: u32) -> u32 {
    request.wrapping_add(100)
}

/// A slot for a right in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: &'static str,
    /// What it carries, a line each.
    pub doc: &'static [&'static str],
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type, as written in the table.
    pub kind: &'static str,
    /// What it means, a line each.
    pub doc: &'static [&'static str],
}

/// How the payload of a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In registers: one field a word, in order; after the code in a reply.
    Words,
    /// In the body, encoded by postcard.
    Body,
}

/// One message as the reference prints it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name, as in Mach.
    pub name: &'static str,
    /// Message id.
    pub id: u32,
    /// How request and reply travel.
    pub form: Form,
    /// The text, a line each.
    pub doc: &'static [&'static str],
    /// Fields of the request, in order.
    pub fields: &'static [Field],
    /// Right slots of the request, in order.
    pub rights: &'static [Slot],
    /// Fields of the reply, in order, after its code.
    pub reply: &'static [Field],
    /// Right slots of the reply, in order.
    pub reply_rights: &'static [Slot],
}

/// One protocol as the reference prints it.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    /// Name of the protocol.
    pub name: &'static str,
    /// The text, a line each.
    pub doc: &'static [&'static str],
    /// First id; the messages lie in the hundred from here, their replies in the next.
    pub base: u32,
    /// Who sends the requests.
    pub from: &'static str,
    /// Who receives them, on which port.
    pub to: &'static str,
    /// The messages, in order of id.
    pub entries: &'static [Entry],
}

impl Catalogue {
    /// Whether an id is one that a request of this table may have.
    #[must_use]
    pub const fn covers(&self, id: u32) -> bool {
        id > self.base && id < self.base.saturating_add(100)
    }
}

/// The two headers of a table: a protocol, with the parts of it that other files tell, or a part.
macro_rules! protocol {
    (
        $(#[doc = $about:literal])+
        #[derive $traits:tt]
        protocol $Marker:ident $title:literal at $base:literal, $from:literal to $to:literal
        $(, parts { $($(#[doc = $pdoc:literal])+ $Part:ident: $part:ident,)+ })?;
        $($rows:tt)+
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Marker {}

        impl $crate::define::Protocol for $Marker {
            type Request = Request;
            type Reply = Reply;
            const CATALOGUE: &'static $crate::define::Catalogue = &CATALOGUE;
        }

        $crate::define::messages! {
            $(#[doc = $about])+
            #[derive $traits]
            $Marker $title at $base, $from to $to;
            parts { $($($(#[doc = $pdoc])+ $Part: $part,)+)? }
            $($rows)+
        }
    };
    (
        $(#[doc = $about:literal])+
        #[derive $traits:tt]
        part of $home:ident::$Marker:ident $title:literal at $base:literal, $from:literal to $to:literal;
        $($rows:tt)+
    ) => {
        use super::$home::$Marker;

        $crate::define::messages! {
            $(#[doc = $about])+
            #[derive $traits]
            $Marker $title at $base, $from to $to;
            parts {}
            $($rows)+
        }
    };
}

/// What is made from the rows of a table.
macro_rules! messages {
    (
        $(#[doc = $about:literal])+
        #[derive $traits:tt]
        $Marker:ident $title:literal at $base:literal, $from:literal to $to:literal;
        parts { $($(#[doc = $pdoc:literal])+ $Part:ident: $part:ident,)* }
        $(
            $(#[doc = $doc:literal])+
            $id:literal $name:ident $Request:ident in $form:ident {
                $($(#[doc = $fdoc:literal])+ $field:ident: $type:ty,)*
            }
            $(rights { $($(#[doc = $idoc:literal])+ $IN:ident,)+ })?
            $(reply $Reply:ident { $($(#[doc = $rdoc:literal])+ $rfield:ident: $rtype:ty,)* })?
            $(reply rights { $($(#[doc = $odoc:literal])+ $OUT:ident,)+ })?;
        )+
    ) => {
        $(
            $(#[doc = $doc])+
            #[derive $traits]
            #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
            pub struct $Request {
                $($(#[doc = $fdoc])+ pub $field: $type,)*
            }

            $crate::define::payload!($form 6 $Request { $($field,)* });

            $(
                #[doc = concat!("What [`", stringify!($Request), "`] is answered with.")]
                #[derive $traits]
            #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
                pub struct $Reply {
                    $($(#[doc = $rdoc])+ pub $rfield: $rtype,)*
                }

                $crate::define::payload!($form 5 $Reply { $($rfield,)* });
            )?

            impl $crate::define::Message for $Request {
                type On = $Marker;
                type Reply = $crate::define::reply_type!($($Reply)?);
                const ID: u32 = $id;
                const NAME: &'static str = stringify!($name);
                const FORM: $crate::define::Form = $crate::define::form!($form);
                const RIGHTS: &'static [$crate::define::Slot] = &[$($(
                    $crate::define::Slot { name: stringify!($IN), doc: &[$($idoc),+] },
                )+)?];
                const REPLY_RIGHTS: &'static [$crate::define::Slot] = &[$($(
                    $crate::define::Slot { name: stringify!($OUT), doc: &[$($odoc),+] },
                )+)?];
            }

            const _: () = assert!($id > $base && $id < $base + 100, "id outside its protocol");

            $(impl $Request {
                $crate::define::slots!(0usize; $($(#[doc = $idoc])+ $IN,)+);
            })?
            $crate::define::reply_slots!($Request; $($Reply)?; $($($(#[doc = $odoc])+ $OUT,)+)?);
        )+

        /// Any request of this protocol.
        #[derive $traits]
            #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[allow(clippy::large_enum_variant, reason = "decoded, looked at and dropped on the stack")]
        pub enum Request {
            $($(#[doc = $doc])+ $Request($Request),)+
            $($(#[doc = $pdoc])+ $Part(super::$part::Request),)*
        }

        impl Request {
            /// Understands a message. `body` is exactly its bytes; `rights` says how many it
            /// carries, the empty slots included.
            ///
            /// # Errors
            /// MIG_BAD_ID: this protocol has no such request. MIG_BAD_ARGUMENTS: another number of
            /// rights than its kind has. MIG_TYPE_ERROR: malformed.
            pub fn decode(
                id: u32,
                words: &$crate::codec::Words,
                body: &[u8],
                rights: usize,
            ) -> Result<Request, ipc_abi::Kern> {
                use $crate::{codec::Payload, define::Message};
                match id {
                    $($id => {
                        $crate::codec::expect_rights(rights, $Request::RIGHTS.len())?;
                        Ok(Request::$Request($Request::get(words, body)?))
                    })+
                    $(id if super::$part::CATALOGUE.covers(id) => {
                        super::$part::Request::decode(id, words, body, rights).map(Request::$Part)
                    })*
                    _ => Err(ipc_abi::Kern::MigBadId),
                }
            }

            /// Writes the message's payload; says how many bytes of `body` it takes.
            ///
            /// # Errors
            /// KERN_INVALID_ARGUMENT: it does not fit `body`.
            pub fn encode(
                &self,
                words: &mut $crate::codec::Words,
                body: &mut [u8],
            ) -> Result<usize, ipc_abi::Kern> {
                match self {
                    $(Request::$Request(request) => {
                        $crate::codec::Payload::put(request, words, body)
                    })+
                    $(Request::$Part(request) => request.encode(words, body),)*
                }
            }

            /// The message id.
            #[must_use]
            pub const fn id(&self) -> u32 {
                match self {
                    $(Request::$Request(_) => $id,)+
                    $(Request::$Part(request) => request.id(),)*
                }
            }

            /// Name, as in Mach.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Request::$Request(_) => stringify!($name),)+
                    $(Request::$Part(request) => request.name(),)*
                }
            }
        }

        /// Any successful answer of this protocol.
        #[derive $traits]
            #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[allow(clippy::large_enum_variant, reason = "made, encoded and dropped on the stack")]
        pub enum Reply {
            $(
                #[doc = concat!("Answers [`", stringify!($Request), "`].")]
                $Request($crate::define::reply_type!($($Reply)?)),
            )+
            $($(#[doc = $pdoc])+ $Part(super::$part::Reply),)*
        }

        impl Reply {
            /// The message id of the answer.
            #[must_use]
            pub const fn id(&self) -> u32 {
                match self {
                    $(Reply::$Request(_) => $crate::define::reply_id($id),)+
                    $(Reply::$Part(reply) => reply.id(),)*
                }
            }

            /// Writes the answer, code included; says how many bytes of `body` it takes.
            ///
            /// # Errors
            /// KERN_INVALID_ARGUMENT: it does not fit `body`.
            pub fn encode(
                &self,
                words: &mut $crate::codec::Words,
                body: &mut [u8],
            ) -> Result<usize, ipc_abi::Kern> {
                match self {
                    $(Reply::$Request(reply) => {
                        $crate::define::put_reply::<$Request>(reply, words, body)
                    })+
                    $(Reply::$Part(reply) => reply.encode(words, body),)*
                }
            }
        }

        impl $crate::define::AnyRequest for Request {
            fn decode(message: &$crate::define::Raw<'_>) -> Result<Request, ipc_abi::Kern> {
                Request::decode(message.id, message.words, message.body, message.rights)
            }
        }

        impl $crate::define::AnyReply for Reply {
            fn rights(&self) -> usize {
                use $crate::define::Message;
                match self {
                    $(Reply::$Request(_) => $Request::REPLY_RIGHTS.len(),)+
                    $(Reply::$Part(reply) => $crate::define::AnyReply::rights(reply),)*
                }
            }

            fn encode(
                &self,
                words: &mut $crate::codec::Words,
                body: &mut [u8],
            ) -> Result<usize, ipc_abi::Kern> {
                Reply::encode(self, words, body)
            }
        }

        /// The protocol as the reference prints it.
        pub const CATALOGUE: $crate::define::Catalogue = $crate::define::Catalogue {
            name: $title,
            doc: &[$($about),+],
            base: $base,
            from: $from,
            to: $to,
            entries: &[$(
                $crate::define::Entry {
                    name: stringify!($name),
                    id: $id,
                    form: $crate::define::form!($form),
                    doc: &[$($doc),+],
                    fields: &[$($crate::define::Field {
                        name: stringify!($field),
                        kind: stringify!($type),
                        doc: &[$($fdoc),+],
                    },)*],
                    rights: <$Request as $crate::define::Message>::RIGHTS,
                    reply: &[$($($crate::define::Field {
                        name: stringify!($rfield),
                        kind: stringify!($rtype),
                        doc: &[$($rdoc),+],
                    },)*)?],
                    reply_rights: <$Request as $crate::define::Message>::REPLY_RIGHTS,
                },
            )+],
        };
    };
}

/// How a row's payloads are written and read, in at most `$limit` words.
macro_rules! payload {
    (words $limit:literal $Type:ident {}) => {
        impl $crate::codec::Payload for $Type {
            fn put(&self, _words: &mut [u64], _body: &mut [u8]) -> Result<usize, ipc_abi::Kern> {
                Ok(0)
            }

            fn get(_words: &[u64], body: &[u8]) -> Result<Self, ipc_abi::Kern> {
                $crate::codec::no_body(body)?;
                Ok($Type {})
            }
        }
    };
    (words $limit:literal $Type:ident { $($field:ident,)+ }) => {
        const _: () = assert!([$(stringify!($field)),+].len() <= $limit, "more fields than words");

        impl $crate::codec::Payload for $Type {
            #[inline]
            fn put(&self, words: &mut [u64], _body: &mut [u8]) -> Result<usize, ipc_abi::Kern> {
                let mut words = words.iter_mut();
                $(if let Some(word) = words.next() {
                    *word = $crate::codec::Word::to_word(&self.$field);
                })+
                Ok(0)
            }

            #[inline]
            fn get(words: &[u64], body: &[u8]) -> Result<Self, ipc_abi::Kern> {
                $crate::codec::no_body(body)?;
                let mut words = words.iter();
                $(let $field = $crate::codec::Word::from_word(*words.next().unwrap_or(&0))?;)+
                Ok($Type { $($field,)+ })
            }
        }
    };
    (body $limit:literal $Type:ident { $($field:ident,)* }) => {
        impl $crate::codec::Payload for $Type {
            fn put(&self, _words: &mut [u64], body: &mut [u8]) -> Result<usize, ipc_abi::Kern> {
                $crate::codec::encode(self, body)
            }

            fn get(_words: &[u64], body: &[u8]) -> Result<Self, ipc_abi::Kern> {
                $crate::codec::decode(body)
            }
        }
    };
}

macro_rules! form {
    (words) => {
        $crate::define::Form::Words
    };
    (body) => {
        $crate::define::Form::Body
    };
}

macro_rules! reply_type {
    () => {
        ()
    };
    ($Reply:ident) => {
        $Reply
    };
}

/// Numbers the slots of a message.
macro_rules! slots {
    ($index:expr;) => {};
    ($index:expr; $(#[doc = $doc:literal])+ $NAME:ident, $($rest:tt)*) => {
        $(#[doc = $doc])+
        pub const $NAME: usize = $index;
        $crate::define::slots!($index + 1; $($rest)*);
    };
}

/// Slot constants of a reply, at its struct: a row with reply rights names one, be it empty.
macro_rules! reply_slots {
    ($Request:ident; $($Reply:ident)?;) => {};
    ($Request:ident; $Reply:ident; $($slots:tt)+) => {
        impl $Reply {
            $crate::define::slots!(0usize; $($slots)+);
        }
    };
}

pub(crate) use {form, messages, payload, protocol, reply_slots, reply_type, slots};

/// Writes a successful answer to `M`, code included; says how many bytes of `body` it takes.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: it does not fit `body`.
pub fn put_reply<M: Message>(
    reply: &M::Reply,
    words: &mut Words,
    body: &mut [u8],
) -> Result<usize, Kern> {
    let [code, rest @ ..] = words;
    *code = 0;
    reply.put(rest, body)
}

/// Reads the answer to `M`: `rights` says how many it carries.
///
/// # Errors
/// The code that the server answered. MIG_BAD_ARGUMENTS: another number of rights than the answer
/// has. MIG_TYPE_ERROR: malformed.
#[inline]
pub fn get_reply<M: Message>(words: &Words, body: &[u8], rights: usize) -> Result<M::Reply, Kern> {
    let [code, rest @ ..] = words;
    if *code != 0 {
        return Err(refused(*code));
    }
    crate::codec::expect_rights(rights, M::REPLY_RIGHTS.len())?;
    M::Reply::get(rest, body)
}

/// What a code that is not 0 means.
#[cold]
fn refused(code: u64) -> Kern {
    u32::try_from(code).map_or(Kern::MigTypeError, Kern::from_raw)
}
