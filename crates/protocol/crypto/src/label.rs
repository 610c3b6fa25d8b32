//! Every domain-separation label of the protocol, in one place. Two are never equal and none is the
//! prefix of another followed by a zero byte, because each is text and ends at a zero byte.

/// A domain-separation label. Only this module makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(&'static str);

impl Label {
    pub const fn bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Label = Label($text);)*
        #[cfg(test)]
        const ALL: &[Label] = &[$($name),*];
    };
}

labels! {
    /// Root seed from device secret and conditioned samples.
    ROOT_SEED = "genesis/1 root seed";
    /// State of the keystore's generator.
    DRBG = "genesis/1 drbg";
    /// F, the fiduciary key, from the root seed.
    FIDUCIARY = "genesis/1 fiduciary ed25519";
    /// N, the claim handshake key, from the root seed.
    CLAIM_KEY = "genesis/1 claim x25519";
    /// W, the WireGuard key, from the root seed.
    MESH_KEY = "genesis/1 mesh x25519";
    /// Interface id of the link-local address, from the root seed.
    LINK_ADDRESS = "genesis/1 link address";
    /// Key of sealed records, from device secret.
    STORE_KEY = "genesis/1 store";
    /// Key of the sealed blocks of a configuration, from the root seed.
    BLOCK_KEY = "genesis/1 configuration block";
    /// Ed25519 half of an administrative fiduciary key, from its seed.
    ADMIN_SIGN = "genesis/1 admin ed25519";
    /// X25519 half of an administrative fiduciary key, from its seed.
    ADMIN_DH = "genesis/1 admin x25519";
    /// Fingerprint of F.
    FINGERPRINT = "genesis/1 fingerprint";
    /// Key of a sealed hello.
    HELLO = "genesis/1 hello";
    /// Signature of a find.
    FIND = "genesis/1 find";
    /// Signature of an open.
    OPEN = "genesis/1 open";
    /// Key of the cheap check of an open.
    OPEN_MAC = "genesis/1 open mac";
    /// Hash of F in an open.
    OPEN_TARGET = "genesis/1 open target";
    /// Key of a sealed answer.
    ANSWER = "genesis/1 answer";
    /// First bytes of the Noise prologue.
    PROLOGUE = "genesis/1 claim";
    /// Signature of the node's identity in a claim.
    IDENTITY = "genesis/1 identity";
    /// Signature of the one-member fleet record.
    FORK = "genesis/1 fork";
    /// Signatures of a warrant, and its hash.
    WARRANT = "genesis/1 warrant";
    /// Signature of a binding.
    BINDING = "genesis/1 binding";
    /// Signatures of a fleet's founding document, and its hash, which is the fleet's id.
    FLEET = "genesis/1 fleet";
    /// Signature of what an authority hands on to the others of a fleet, and its hash.
    EXPORT = "genesis/1 export";
    /// Hash of an authority set.
    SET = "genesis/1 authority set";
    /// Hash of a grant's configuration.
    CONFIGURATION = "genesis/1 configuration";
    /// Signature of a pairing record.
    PAIRING = "genesis/1 pairing";
    /// Hash of a pairing record in its acknowledgement.
    PAIRING_HASH = "genesis/1 pairing hash";
    /// Key of the commands of one authority to one node.
    COMMAND_KEY = "genesis/1 command";
    /// Hash of F in a command.
    COMMAND_TARGET = "genesis/1 command target";
    /// Signatures of an order.
    ORDER = "genesis/1 order";
    /// Hash of an order's body, where that is no configuration.
    ORDER_BODY = "genesis/1 order body";
    /// Signatures of an authority record, and its hash.
    RECORD = "genesis/1 authority record";
    /// Signature of a receipt.
    RECEIPT = "genesis/1 receipt";
    /// Hash of an anchor file in the receipt of a release.
    ANCHOR_HASH = "genesis/1 anchor hash";
    /// Hash of a staged order's head or record, truncated in the command that applies it.
    STAGED_HASH = "genesis/1 staged hash";
    /// Check bytes of a ticket and of an anchor file.
    CHECKSUM = "genesis/1 checksum";
    /// Signature of an entry of the administrator's log.
    AUDIT = "genesis/1 audit";
    /// Hash of an entry of the administrator's log in the one that follows it.
    AUDIT_HASH = "genesis/1 audit hash";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_text_without_zero() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(a.bytes().is_ascii() && !a.bytes().contains(&0));
            assert!(ALL[..i].iter().all(|b| a != b));
        }
    }
}
