//! All domains of a node in one place: for a platform that looks up by name (the native one, the simulator), which starts
//! one by [`start`], and for the seL4 programs, each of which takes its one shell. There is no allocator there.
#![no_std]
#![forbid(unsafe_code)]

use pd::Domain;

/// A platform, and the devices that it has for the domains that drive one.
pub trait Machine<'a>:
    net::shell::Machine<'a>
    + entropy::shell::Machine<'a>
    + console::shell::Machine<'a>
    + timer::shell::Machine<'a>
    + store::shell::Machine<'a>
    + lifecycle::shell::Machine<'a>
{
    /// A domain as this platform keeps it.
    type Kept;

    fn keep(&mut self, domain: impl Domain + 'a) -> Self::Kept;
}

macro_rules! node {
    (
        {}
        roots { $($root:ident = $root_number:literal, $root_name:ident;)* }
        children { $($child:ident = $number:literal, $name:ident, $needed:ident;)* }
    ) => {
        pub use {$($root_name,)* $($name),*};

        /// The domains' programs, as `system.xml` names them.
        pub const PROGRAMS: &[&str] = &[$(stringify!($root_name),)* $(stringify!($name)),*];

        /// The domain of this program, bound to what the platform gives it. `None`: no domain of the node has this name.
        pub fn start<'a, M: Machine<'a>>(program: &str, on: &mut M) -> Option<M::Kept> {
            Some(match program {
                $(stringify!($root_name) => {
                    let domain = $root_name::shell::start(on);
                    on.keep(domain)
                })*
                $(stringify!($name) => {
                    let is_waker = matches!(calls::Domain::$child, calls::Domain::Timer);
                    let watch = pd::Watch::bind(on);
                    let watch = if is_waker { watch.of_waker() } else { watch };
                    let domain = $name::shell::start(on);
                    on.keep(watch.over(domain))
                })*
                _ => return None,
            })
        }
    };
}

calls::domains!(node! {});
