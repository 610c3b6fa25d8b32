//! What the rules guard, and the few ways out of it that are meant. One more reader of the keystore is a change here,
//! in `system.xml`, and in docs/system-check.md; so is one more region that is prefilled. What a board may put at fixed physical addresses stands in its own
//! file, with address and size.

/// Whom the rules guard.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub guarded: &'a str,
    /// Regions that carry bytes out of the guarded domain, each with its one reader.
    pub outlets: &'a [(&'a str, &'a str)],
    /// Regions whose bytes may stand in the image, where whoever has the image reads them.
    pub public: &'a [&'a str],
}

/// The node's.
pub const KEYSTORE: Policy<'static> = Policy {
    guarded: "keystore",
    outlets: &[
        // Replies, of fixed size and laid out by the keystore.
        ("keystore_lifecycle_rep", "lifecycle"),
        ("keystore_beacon_rep", "beacon"),
        ("keystore_claim_rep", "claim"),
        ("keystore_mesh_rep", "mesh"),
        // Records, sealed under a key that never leaves the keystore.
        ("keystore_store_req", "store"),
        // The first-boot ticket.
        ("keystore_console", "console"),
    ],
    // Deadlines, and the public halves of the administrator's keys.
    public: &["params", "anchor"],
};
