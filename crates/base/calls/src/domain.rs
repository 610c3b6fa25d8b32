//! The domains of a node, as `system.xml` names them. The list is here and nowhere else in the code: what must know all
//! of them is made of it by [`domains!`](crate::domains).

/// Gives the list of domains to another macro: `domains!(name! { … })` is `name! { { … } roots { … } children { … } }`.
/// A domain has the number that events name it by and the name of its program and its crate. The children are those whose
/// parent is `lifecycle`, which hears of their faults; of each it says until when a node needs it.
#[macro_export]
macro_rules! domains {
    ($($name:ident)::+! { $($with:tt)* }) => {
        $($name)::+! {
            { $($with)* }
            roots {
                Keystore = 1, keystore;
                Lifecycle = 2, lifecycle;
            }
            children {
                // Neither a hello nor a claim is made without fresh samples; without a mesh the workload goes on.
                Entropy = 3, entropy, UntilClaimed;
                Net = 4, net, Always;
                Perimeter = 5, perimeter, Always;
                Beacon = 6, beacon, UntilClaimed;
                Claim = 7, claim, UntilClaimed;
                // Without a mesh nobody reaches the node, and its workload goes on; without a workload it is governed.
                Mesh = 8, mesh, Never;
                Workload = 9, workload, Never;
                Timer = 10, timer, Always;
                Console = 11, console, Never;
                // What needs no commit goes on; the keystore says what it makes of a store that does not answer.
                Store = 12, store, Never;
            }
        }
    };
}

/// Until when a node cannot be what it is without a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    Never,
    UntilClaimed,
    Always,
}

macro_rules! declare {
    (
        {}
        roots { $($root:ident = $root_number:literal, $root_name:ident;)* }
        children { $($child:ident = $number:literal, $name:ident, $needed:ident;)* }
    ) => {
        wire::numbers! {
            /// A domain; events name it by its number.
            Domain {
                $($root = $root_number, stringify!($root_name);)*
                $($child = $number, stringify!($name);)*
            }
        }

        impl Domain {
            /// Those whose parent is `lifecycle`, which hears of their faults.
            pub const CHILDREN: &[Self] = &[$(Self::$child),*];

            pub const fn needed(self) -> Needed {
                match self {
                    $(Self::$root => Needed::Always,)*
                    $(Self::$child => Needed::$needed,)*
                }
            }
        }
    };
}

domains!(declare! {});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_death_means_is_said_of_each() {
        use Domain::{
            Beacon, Claim, Console, Entropy, Keystore, Lifecycle, Mesh, Net, Perimeter, Store, Timer, Workload,
        };
        let needed = |needed| Domain::ALL.iter().copied().filter(move |domain| domain.needed() == needed);
        assert!(needed(Needed::Never).eq([Mesh, Workload, Console, Store]));
        assert!(needed(Needed::UntilClaimed).eq([Entropy, Beacon, Claim]));
        assert!(needed(Needed::Always).eq([Keystore, Lifecycle, Net, Perimeter, Timer]));
        assert_eq!(Domain::CHILDREN, &Domain::ALL[2..]);
    }

    #[test]
    fn a_record_of_telemetry_calls_each_by_its_name() {
        let names =
            (0..wire::telemetry::DOMAINS as u64).map(|number| Domain::from_number(number).map_or("", Domain::name));
        assert!(names.eq(wire::telemetry::DOMAIN_NAMES));
    }
}
