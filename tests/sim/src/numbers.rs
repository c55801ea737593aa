//! How the system's own types stand in a file of operations: as their numbers in messages.

macro_rules! as_number {
    ($(#[$doc:meta])* $name:ident: $type:ty, $to:expr, $from:expr) => {
        $(#[$doc])*
        pub mod $name {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            /// Writes the number.
            ///
            /// # Errors
            /// Those of the writer.
            pub fn serialize<S: Serializer>(value: &$type, to: S) -> Result<S::Ok, S::Error> {
                let number: fn(&$type) -> u32 = $to;
                to.serialize_u32(number(value))
            }

            /// Reads the number.
            ///
            /// # Errors
            /// Those of the reader; the number means nothing.
            pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<$type, D::Error> {
                let number = u32::deserialize(from)?;
                let value: fn(u32) -> Option<$type> = $from;
                value(number).ok_or_else(|| D::Error::custom("no such number"))
            }
        }
    };
}

as_number!(
    /// vm_prot_t.
    prot: ipc_abi::types::Prot,
    |value| u32::from(value.bits()),
    |number| ipc_abi::types::Prot::from_bits(u8::try_from(number).ok()?)
);
as_number!(
    /// vm_inherit_t.
    inherit: ipc_abi::types::Inherit,
    |value| *value as u32,
    ipc_abi::types::Inherit::from_raw
);
as_number!(
    /// memory_object_copy_strategy_t.
    strategy: ipc_abi::types::CopyStrategy,
    |value| *value as u32,
    ipc_abi::types::CopyStrategy::from_raw
);
