//! The domains of a node, as `system.xml` names them.

wire::numbers! {
    /// A domain; events name it by its number.
    Domain {
        Keystore = 1, "keystore";
        Lifecycle = 2, "lifecycle";
        Entropy = 3, "entropy";
        Net = 4, "net";
        Perimeter = 5, "perimeter";
        Beacon = 6, "beacon";
        Claim = 7, "claim";
        Mesh = 8, "mesh";
        Workload = 9, "workload";
        Timer = 10, "timer";
        Console = 11, "console";
    }
}

impl Domain {
    /// Those whose parent is `lifecycle`, which hears of their faults. In `system.xml` the identifier of each stands in
    /// the symbol `NAME_child`.
    pub const CHILDREN: [Self; 9] = [
        Self::Entropy,
        Self::Net,
        Self::Perimeter,
        Self::Beacon,
        Self::Claim,
        Self::Mesh,
        Self::Workload,
        Self::Timer,
        Self::Console,
    ];
}
