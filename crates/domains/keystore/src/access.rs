//! Who may ask for what. A channel has operations of its own and can name no other; each stands here with what it needs,
//! and one that is missing here or in the server does not compile.

use calls::keystore::{Refusal, for_beacon, for_claim, for_lifecycle, for_mesh};
use shm::mailbox::{Incoming, Server};

use crate::{Channel, Stage, node::Node};

/// What must be there for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// Committed keys.
    Keys,
    /// Committed keys, and a source that has failed no test.
    Fresh,
    /// The same, and a block of samples that was asked for after the request had come: what is made of them is an ephemeral
    /// key, a nonce or a token, and no state that was saved before knows it.
    Renewed,
}

/// For a node of which owner an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum While {
    Always,
    /// Until the claim is final.
    Unclaimed,
    /// From the committed binding on: a node without one has no mesh.
    Owned,
    /// From the end of the claim on: until then its owners are those of the anchor too.
    Claimed,
}

/// An operation of one channel.
pub trait Asked: Sized + Copy {
    /// The channel.
    const CLIENT: Channel;

    fn of(number: u32) -> Option<Self>;
    fn access(self) -> (Needs, While);
}

/// Everything that is ever done for one client.
macro_rules! access {
    ($client:ident, $interface:ident { $($operation:ident: $needs:ident, $owner:ident;)* }) => {
        impl Asked for $interface::Op {
            const CLIENT: Channel = Channel::$client;

            fn of(number: u32) -> Option<Self> {
                Self::from_number(number.into())
            }

            fn access(self) -> (Needs, While) {
                match self {
                    $(Self::$operation => (Needs::$needs, While::$owner),)*
                }
            }
        }
    };
}

access! { Lifecycle, for_lifecycle {
    Status: Nothing, Always;
    Fork: Fresh, Unclaimed;
    CloseGate: Nothing, Always;
    Settle: Fresh, Owned;
    Order: Fresh, Claimed;
    SealBlock: Fresh, Always;
    OpenBlock: Keys, Owned;
    StoreDown: Nothing, Always;
    CheckOrder: Fresh, Claimed;
    CheckBinding: Fresh, Unclaimed;
    Adopt: Fresh, Claimed;
    Owner: Keys, Owned;
} }

access! { Beacon, for_beacon {
    CheckFind: Fresh, Unclaimed;
    MakeHello: Renewed, Unclaimed;
    CheckOpen: Renewed, Unclaimed;
    BeaconRandom: Fresh, Always;
} }

access! { Claim, for_claim {
    ReadInitiation: Keys, Unclaimed;
    ClaimKey: Keys, Always;
    Identify: Renewed, Unclaimed;
    Commit: Fresh, Unclaimed;
    Acknowledge: Fresh, Always;
    ClaimRandom: Renewed, Always;
} }

access! { Mesh, for_mesh {
    MeshKey: Keys, Owned;
    StartMeshHandshake: Fresh, Owned;
    FinishMeshHandshake: Keys, Owned;
    ReadMeshHandshake: Keys, Owned;
    MeshRandom: Renewed, Owned;
    CheckCommand: Fresh, Owned;
    Prove: Keys, Always;
} }

/// The next request on a channel, and the node if it may be done now. What is no operation of the channel's is refused
/// here. A request that needs a block of samples stays where it is until one has come; who does not want to wait any more
/// gives up, or asks again.
pub fn admit<'s, A: Asked, const MAX: usize>(
    server: &mut Server<'_, MAX>,
    stage: &'s mut Stage,
) -> Option<(A, Incoming<MAX>, Result<&'s mut Node, Refusal>)> {
    if let Some((op, number)) = server.waiting()
        && let Some(asked) = A::of(op)
        && asked.access().0 == Needs::Renewed
        && let Ok(node) = permitted(asked, stage)
        && !node.source_mut().renewed(A::CLIENT, number)
    {
        return None;
    }
    let asked = match server.take() {
        Ok(None) => return None,
        Ok(Some(incoming)) => A::of(incoming.op).map(|asked| (asked, incoming)),
        Err(shm::Misbehaved) => None,
    };
    let Some((asked, incoming)) = asked else {
        server.refuse(Refusal::NotAllowed.code());
        return None;
    };
    Some((asked, incoming, permitted(asked, stage)))
}

/// The node, if this may be done now.
fn permitted<A: Asked>(asked: A, stage: &mut Stage) -> Result<&mut Node, Refusal> {
    let (needs, owner) = asked.access();
    match stage {
        Stage::Ready(node) if needs != Needs::Nothing && node.is_doubtful() => Err(Refusal::Store),
        Stage::Ready(node) if needs == Needs::Fresh && !node.source().is_fresh() => Err(Refusal::NotReady),
        Stage::Ready(node) if needs == Needs::Renewed && node.source().lost().is_some() => Err(Refusal::NotReady),
        Stage::Ready(node) if owner == While::Unclaimed && node.owner().claimed() => Err(Refusal::Taken),
        Stage::Ready(node) if owner == While::Claimed && !node.owner().claimed() => Err(Refusal::NotReady),
        Stage::Ready(node) if owner == While::Owned && !node.owner().committed() => Err(Refusal::NotReady),
        Stage::Ready(node) => Ok(node),
        Stage::Start(_) | Stage::Make(_) | Stage::Off { .. } => Err(Refusal::NotReady),
    }
}
