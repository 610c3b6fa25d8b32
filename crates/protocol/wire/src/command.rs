//! Authority commands: 16 bytes over UDP 8090 inside the tunnel, authority to node. Nothing answers one; the next
//! telemetry record shows the last applied counter and its result.

use crypto::{Secret, derive, dh, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Key, U32, title::Title};

crate::numbers! {
    /// What a command is for.
    Operation {
        /// Telemetry sends a record now.
        Status = 1, "status";
        /// No flow but those with the authorities; kept across power cuts, until as many of them as must
        /// [order](crate::order::Kind::Rejoin) otherwise.
        Isolate = 2, "isolate";
        /// Commits what is staged and has the argument for its [`crate::staged::Staged::short`].
        Apply = 4, "apply";
        /// New session keys with every peer.
        Rotate = 5, "rotate";
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Command {
    /// [`Operation`] as a number.
    pub operation: u8,
    /// First byte of the hash of F. The key is the node's own, so this only tells a stray command from a forged one.
    pub target: u8,
    pub argument: U32,
    /// Above that of the authority's last command. Seconds of Unix time, or the last plus one if that is more.
    pub counter: U32,
    pub mac: [u8; 6],
}

const _: () = assert!(size_of::<Command>() == 16);

impl Command {
    pub fn new(key: &Secret, fiduciary: &Key, operation: impl Into<u8>, argument: u32, counter: u32) -> Self {
        let mut command = Self {
            operation: operation.into(),
            target: target(fiduciary),
            argument: U32::new(argument),
            counter: U32::new(counter),
            mac: [0; 6],
        };
        command.mac = command.expected(key);
        command
    }

    pub fn operation(&self) -> Option<Operation> {
        Operation::from_number(self.operation.into())
    }

    /// Whether the holder of `key` made it. In constant time.
    pub fn check(&self, key: &Secret) -> bool {
        crypto::equal(&self.mac, &self.expected(key))
    }

    fn expected(&self, key: &Secret) -> [u8; 6] {
        let mut mac = [0; 6];
        mac.copy_from_slice(&crypto::mac16(key, &[&self.as_bytes()[..10]])[..6]);
        mac
    }
}

/// [`Command::target`].
pub fn target(fiduciary: &Key) -> u8 {
    crypto::hash(label::COMMAND_TARGET, &[fiduciary])[0]
}

/// The key of one authority's commands to one node, from N and the authority's X25519 half (either side has one of the
/// secrets), the hash of the binding, that of the set and its sequence: a set that comes back has other keys than before.
/// `None` for a key of small order.
pub fn key(secret: &Secret, public: &Key, title: &Title) -> Option<Secret> {
    let Title { binding, warrant, set } = title;
    let of_set: [&[u8]; 2] = [&set.hash(), warrant.sequence.as_bytes()];
    Some(derive(&binding.hash(), &*dh(secret, public)?, label::COMMAND_KEY, &of_set))
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn a_command_is_its_keys_and_any_changed_bit_breaks_it() {
        let (node, authority) = (Secret::new([3; 32]), Secret::new([5; 32]));
        let [title, mut bound, mut owned, mut again] = [Title::new_zeroed(); 4];
        (bound.binding.counter, owned.set.needed, again.warrant.sequence) = (1.into(), 1, 2.into());
        let ours = key(&node, &crypto::dh_public(&authority), &title).unwrap();
        let theirs = key(&authority, &crypto::dh_public(&node), &title).unwrap();
        assert!(ours == theirs);
        let command = Command::new(&theirs, &[1; 32], Operation::Apply, 0xdead_beef, 9);
        assert!(command.check(&ours));
        for other in [bound, owned, again] {
            assert!(!command.check(&key(&node, &crypto::dh_public(&authority), &other).unwrap()));
        }
        for bit in 0..128 {
            let mut copy = command;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(!copy.check(&ours), "bit {bit}");
        }
    }

    #[test]
    fn there_is_no_command_key_with_a_key_of_small_order() {
        assert!(key(&Secret::new([3; 32]), &[0; 32], &Title::new_zeroed()).is_none());
    }
}
