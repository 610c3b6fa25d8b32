//! An administrator with everything that belongs to one: an anchor, a registry, a place on a segment, an end of the mesh.
//! What it does, `os-network-admin`'s library does.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use crypto::{AnchorSecret, Secret};
use os_network_admin::{
    base::{error::Error, host::Host, progress::Progress},
    claim::{Chooser, Claimed, Claimer, Configure, Context, MeshTerms, Terms, Unlisted},
    fleet::{
        View,
        account::settle,
        delivery::{self, News, Outcome, Task},
    },
    registry::{AnchorKind, Member, NewMember, Registry, Rules, Who},
};
use wire::{
    Key,
    anchor::{Anchor, AnchorFile},
    set::{Authority as Signer, AuthoritySet},
};
use zerocopy::IntoBytes;

use crate::{
    admin::{Link, VirtualHost, run},
    authority::{Authority, Mesh},
    station::Station,
    world::{Plan, World},
};

const FLEET: [u8; 32] = *b"a simulated one, a simulated one";

pub struct Administrator<'w> {
    world: &'w RefCell<World>,
    pub anchor: AnchorSecret,
    pub registry: Registry,
    pub link: Link,
    pub mesh: Rc<RefCell<Authority>>,
    pub terms: Terms,
    /// See [`Context::past_stored`].
    pub past_stored: bool,
    host: Arc<dyn Host>,
    clock: Arc<VirtualHost>,
    seed: Secret,
}

impl<'w> Administrator<'w> {
    /// Inside [`crate::admin::simulate`]: an administrator of his own, on a host of this number.
    pub fn new(world: &'w RefCell<World>, segment: usize, number: u8) -> Result<Self, Error> {
        let mut seed = Secret::new([0; 32]);
        world.borrow().rng().fill(&mut *seed);
        Self::with(world, segment, number, seed)
    }

    /// Another, on another host, with the same anchor: a rival.
    pub fn rival(&self, segment: usize, number: u8) -> Result<Self, Error> {
        Self::with(self.world, segment, number, self.seed.clone())
    }

    fn with(world: &'w RefCell<World>, segment: usize, number: u8, seed: Secret) -> Result<Self, Error> {
        let rng = world.borrow().rng().split();
        let anchor = AnchorSecret::from_seed(&seed);
        let clock = VirtualHost::shared(&rng);
        let host: Arc<dyn Host> = clock.clone();
        let link = Link::on(number, segment);
        let mesh = Rc::new(RefCell::new(Authority::new(link.station.clone(), &rng)));
        world.borrow_mut().join(segment, mesh.clone());
        let registry = Registry::in_memory(host.clone())?;
        registry.make_fleet(&FLEET, "sim")?;
        let own = anchor.public();
        let terms = Terms {
            fleet: "sim".into(),
            fleet_id: FLEET,
            set: AuthoritySet::alone(Signer::signer(&own)),
            configuration: Configure::Mesh(MeshTerms {
                authority: mesh.borrow().public(),
                underlay: None,
                endpoint: None,
            }),
            anchor: AnchorKind::Image,
            warrant: None,
        };
        Ok(Self { world, anchor, registry, link, mesh, terms, past_stored: false, host, clock, seed })
    }

    pub fn host(&self) -> Arc<dyn Host> {
        self.host.clone()
    }

    /// Somebody sets this administrator's clock: it goes wrong by so many seconds from now on.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.clock.set_skew(seconds);
    }

    /// The anchor file of an image whose nodes this administrator may claim.
    pub fn anchor_file(&self) -> Vec<u8> {
        AnchorFile::new(&Anchor::alone(&self.anchor.public())).as_bytes().to_vec()
    }

    /// A node of this administrator's image that forks as soon as it can.
    pub fn plan_without_scan(&self) -> Plan {
        let mut plan = Plan { anchor: self.anchor_file(), ..Plan::default() };
        plan.params.scan_ms = 0.into();
        plan
    }

    /// Claims the node with this F, or any that answers.
    pub async fn claim(&self, node: Option<&Key>, wait: Duration) -> Result<Claimed, Error> {
        let progress = Progress::silent();
        let context = Context {
            net: &self.link,
            registry: &self.registry,
            anchor: &self.anchor,
            ahead: 0,
            past_stored: self.past_stored,
            host: &self.host,
            progress: &progress,
        };
        let mut chooser = match node {
            Some(node) => Chooser::listed(BTreeSet::from([wire::Fingerprint::of(node).0]), Unlisted::Ignore),
            None => Chooser::listed(BTreeSet::new(), Unlisted::Take),
        };
        let claimed = run(self.world, Claimer::new(&context, &self.terms, &mut chooser).claim(wait)).await;
        // A claim that was not confirmed has made a member too.
        self.reload()?;
        claimed
    }

    pub fn view(&self) -> Result<View<'_>, Error> {
        let fleet = self.registry.fleet(&FLEET)?.expect("it was made");
        View::load(&self.registry, &fleet, self.mesh.borrow().public())
    }

    /// The end of the mesh learns what the registry says.
    pub fn reload(&self) -> Result<(), Error> {
        let view = self.view()?;
        self.mesh.borrow_mut().set_members(&view, None)
    }

    /// Exports a member that is no node, on a host of this number: its end of the mesh. The nodes are yet to be told.
    pub fn export(&self, name: &str, segment: usize, number: u8) -> Result<Rc<RefCell<Authority>>, Error> {
        let rng = self.world.borrow().rng().split();
        let station = Rc::new(RefCell::new(Station::new(number)));
        let end = Rc::new(RefCell::new(Authority::new(station, &rng)));
        let view = self.view()?;
        let who = Who::Peer(name.into());
        let key = end.borrow().public();
        let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
        let member = self.registry.enroll(&view.fleet, &new)?;
        end.borrow_mut().set_members(&self.view()?, Some(&member))?;
        self.world.borrow_mut().join(segment, end.clone());
        Ok(end)
    }

    /// Has members carry out tasks.
    pub async fn tell(&self, view: &View<'_>, tasks: Vec<(&Member, Task)>, wait: Duration) -> Vec<Outcome> {
        let mut lane = Mesh(self.mesh.clone());
        let outcomes = run(self.world, delivery::run(&mut lane, &self.registry, view, &self.anchor, tasks, wait)).await;
        // What cannot be stored now is said again.
        let _ = self.store_said();
        outcomes
    }

    /// Notes what members have said, as the daemon does.
    pub fn store_said(&self) -> Result<(), Error> {
        let said = self.mesh.borrow_mut().take_said();
        said.iter().try_for_each(|(member, news)| match news {
            News::Record(record) => self.registry.store_shown(*member, record),
            News::Receipt(receipt) => self.registry.store_receipts([receipt]).map(|_| ()),
        })
    }

    /// One command to every live member.
    pub async fn command(&self, operation: wire::command::Operation, wait: Duration) -> Result<Vec<Outcome>, Error> {
        self.ask_all(&Task::Command(operation), wait).await
    }

    /// Every live member's isolation ends.
    pub async fn rejoin(&self, wait: Duration) -> Result<Vec<Outcome>, Error> {
        self.ask_all(&Task::Rejoin, wait).await
    }

    /// The same of every live member.
    pub async fn ask_all(&self, task: &Task, wait: Duration) -> Result<Vec<Outcome>, Error> {
        let view = self.view()?;
        let live = view.live()?;
        let tasks = live.iter().map(|node| (&node.member, task.clone())).collect();
        Ok(self.tell(&view, tasks, wait).await)
    }

    /// Gives the fleet these rules, and every member the configuration that follows.
    pub async fn set_rules(&self, rules: &Rules, wait: Duration) -> Result<Vec<Outcome>, Error> {
        self.registry.set_fleet_rules(&FLEET, rules)?;
        self.update(wait).await
    }

    /// A member is one no more, and all others are told.
    pub async fn revoke(&self, member: i64, wait: Duration) -> Result<Vec<Outcome>, Error> {
        self.registry.revoke(member)?;
        self.reload()?;
        self.update(wait).await
    }

    async fn update(&self, wait: Duration) -> Result<Vec<Outcome>, Error> {
        let view = self.view()?;
        let mut lane = Mesh(self.mesh.clone());
        let account = run(self.world, settle(&mut lane, &view, &self.anchor, view.behind()?, wait)).await;
        self.store_said()?;
        account.own.map_or(Ok(()), Err)?;
        Ok(account.entries.into_iter().map(|entry| entry.outcome).collect())
    }
}
