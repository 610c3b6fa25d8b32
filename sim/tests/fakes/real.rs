//! The keystore's real core and the store's, on plain regions, with a flash in memory and a source that passes its tests.

use std::sync::atomic::AtomicU64;

use calls::{
    entropy::{BLOCK, Samples},
    keystore::{Refusal, State, TicketShown, TicketValue, for_lifecycle},
};
use crypto::AnchorSecret;
use node::{
    keystore::{self, Channel, Feed, Ports},
    store,
};
use shm::{
    ReadOnly, ReadWrite, cell,
    mailbox::{Client, Operation, Server},
};
use wire::anchor::{Anchor, AnchorFile};
use zerocopy::IntoBytes;

use super::Keystore;

pub type Words = &'static [AtomicU64];

pub fn region() -> Words {
    (0..1024).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak()
}

/// The two ends of a mailbox.
pub fn mailbox<const MAX: usize>() -> (Client<'static>, Server<'static, MAX>) {
    let (request, reply) = (region(), region());
    let server = Server::new(ReadOnly::new(request), ReadWrite::new(reply)).expect("room");
    (Client::new(ReadWrite::new(request), ReadOnly::new(reply)).expect("room"), server)
}

pub struct Real {
    core: keystore::Keystore,
    ports: Ports<'static>,
    store: store::Store<sim::nor::Chip>,
    store_ports: store::Ports<'static>,
    entropy: cell::Writer<'static, Samples>,
    rng: sim::Rng,
    blocks: u64,
    /// Lifecycle, beacon, claim, mesh.
    clients: [Client<'static>; 4],
    /// Who asks.
    asking: Channel,
}

impl Real {
    /// One that has just been switched on, with this anchor in its image; `asking` is who asks it.
    pub fn cold(anchor: &AnchorSecret, asking: Channel) -> Self {
        let (secret, image, samples, shown) = (region(), region(), region(), region());
        let ((to_store, for_keystore), (_, for_lifecycle)) = (mailbox(), mailbox());
        ReadWrite::new(secret).write(0, &[0xd5; 32]);
        ReadWrite::new(image).write(0, AnchorFile::new(&Anchor::alone(&anchor.public())).as_bytes());
        let (to_lifecycle, lifecycle) = mailbox();
        let ((to_beacon, beacon), (to_claim, claim), (to_mesh, mesh)) = (mailbox(), mailbox(), mailbox());
        Self {
            core: keystore::Keystore::new(ReadOnly::new(secret), ReadOnly::new(image)),
            store: store::Store::new(sim::Flash::new().chip()),
            store_ports: store::Ports { keystore: for_keystore, lifecycle: for_lifecycle },
            ports: Ports {
                entropy: Feed::new(ReadOnly::new(samples)).expect("room"),
                ticket: cell::Writer::<TicketValue>::new(ReadWrite::new(region())).expect("room"),
                ticket_shown: cell::Reader::<TicketShown>::new(ReadOnly::new(shown)).expect("room"),
                store: to_store,
                lifecycle,
                beacon,
                claim,
                mesh,
            },
            entropy: cell::Writer::new(ReadWrite::new(samples)).expect("room"),
            rng: sim::Rng::new(1),
            blocks: 0,
            clients: [to_lifecycle, to_beacon, to_claim, to_mesh],
            asking,
        }
    }

    /// One that has its keys.
    fn ready(anchor: &AnchorSecret, asking: Channel) -> Self {
        let mut real = Self::cold(anchor, asking);
        real.power_up();
        let status = real.ask_from::<for_lifecycle::Status>(Channel::Lifecycle, &()).expect("a status");
        assert_eq!(status.state(), Some(State::Ready));
        real
    }

    /// One that has forked.
    pub fn forked(anchor: &AnchorSecret, asking: Channel) -> Self {
        let mut real = Self::ready(anchor, asking);
        real.ask_from::<for_lifecycle::Fork>(Channel::Lifecycle, &()).expect("a fork");
        real
    }

    /// Somebody else asks.
    pub fn ask_from<O: Operation>(&mut self, channel: Channel, request: &O::Request) -> Result<O::Reply, Refusal> {
        let asking = std::mem::replace(&mut self.asking, channel);
        let outcome = self.ask::<O>(request);
        self.asking = asking;
        outcome
    }

    /// The source begins to give samples.
    pub fn power_up(&mut self) {
        self.feed();
        self.serve();
    }

    /// The source gives one value for ever.
    pub fn lose_entropy(&mut self) {
        self.publish([7; BLOCK]);
        self.serve();
    }

    fn feed(&mut self) {
        let mut raw = [0; BLOCK];
        self.rng.fill(&mut raw);
        self.publish(raw);
    }

    fn publish(&mut self, raw: [u8; BLOCK]) {
        self.blocks += 1;
        self.entropy.publish(&Samples { number: self.blocks, raw, jitter: [0; 32] });
    }
}

impl Keystore for Real {
    fn client(&mut self) -> &mut Client<'static> {
        let [lifecycle, beacon, claim, mesh] = &mut self.clients;
        match self.asking {
            Channel::Lifecycle => lifecycle,
            Channel::Beacon => beacon,
            Channel::Claim => claim,
            Channel::Mesh => mesh,
            Channel::Entropy | Channel::Console | Channel::Store => panic!("{:?} asks nothing", self.asking),
        }
    }

    fn serve(&mut self) {
        for _ in 0..20_000 {
            let (mut wants, mut stores) = (false, false);
            let mut more = self.core.step(&mut self.ports);
            self.ports.signals(|channel| {
                wants |= channel == Channel::Entropy;
                stores |= channel == Channel::Store;
            });
            more |= stores | self.store.step(0, &mut self.store_ports);
            self.store_ports.signals(|_| more = true);
            if wants {
                self.feed();
            }
            if !more && !wants {
                return;
            }
        }
        panic!("the core does not come to rest");
    }
}
