//! What each domain asks of another: operations, sizes, errors, and whether an operation may be repeated.
//!
//! One module per interface. An interface is a set of [`shm::mailbox::Operation`]s (calls), or the
//! value of a [`shm::cell`] (latest wins). No value here can hold a secret of the keystore's but
//! the ticket, by name in [`keystore::TicketValue`].
#![no_std]
#![forbid(unsafe_code)]

/// Declares operations of one interface: `NAME = number, repeatable: Request => Reply;`
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $op:literal, repeatable $repeatable:literal: $request:ty => $reply:ty;)*) => {
        $(
            $(#[$doc])*
            pub struct $name;
            impl shm::mailbox::Operation for $name {
                const OP: u32 = $op;
                const REPEATABLE: bool = $repeatable;
                type Request = $request;
                type Reply = $reply;
            }
        )*
        wire::numbers! {
            /// An operation of the interface: a server that forgets one does not compile.
            Op { $($(#[$doc])* $name = $op, stringify!($name);)* }
        }
        /// The largest request body of the interface.
        pub const MAX_REQUEST: usize = {
            let mut max = 0;
            $(if size_of::<$request>() > max { max = size_of::<$request>(); })*
            max
        };
    };
}

/// Declares a refusal: a code on the wire between domains, and what the caller should do.
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal,)* }) => {
        wire::numbers! {
            $(#[$doc])*
            $name { $($(#[$vdoc])* $variant = $code, stringify!($variant);)* }
        }

        impl $name {
            pub const fn code(self) -> u32 {
                self as u32
            }
        }
    };
}

pub mod alarm;
pub mod console;
mod domain;
pub mod drops;
pub mod entropy;
pub mod keystore;
pub mod lifecycle;
pub mod mesh;
pub mod params;
pub mod rules;
pub mod store;

pub use domain::{Domain, Needed};
