//! Numbers that have names.

/// Declares an enum whose values cross as plain integers: `Variant = number, "name";`. A structure on the wire keeps the
/// integer, and an accessor reads it.
#[macro_export]
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $word:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                value as Self
            }
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::Phase;

    #[test]
    fn numbers_and_names_are_one_to_one() {
        for (at, phase) in Phase::ALL.iter().enumerate() {
            assert_eq!(Phase::from_number(*phase as u64), Some(*phase));
            assert!(Phase::ALL[..at].iter().all(|other| other.name() != phase.name()));
        }
        assert_eq!(Phase::from_number(7), None);
        assert_eq!(Phase::from_number(u64::from(Phase::Hold as u8) + 256), None);
    }
}
