//! Finding nodes and claiming one: find, hello, open, answer, connection, exchange, and all of it again until it
//! succeeds or the time is up.
//!
//! Nothing on the link is believed before a session with the node has proved it: a forged hello or answer, or a host that
//! takes the connection, costs time, not the claim.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};

use crypto::{AnchorSecret, Secret};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wire::{
    Ip, Key,
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, OpenFor, UNSTORED},
};
use zerocopy::IntoBytes;

use super::{
    choose::{Chooser, Found},
    exchange::{self, Claimed, Failure, Session},
    pairing::{Pairing, Strangers, Terms},
};
use crate::{
    base::{
        error::{Error, Exit},
        host::Host,
        link::{BUFFER, Net},
        progress::Progress,
    },
    registry::{Accepted, Node},
};

/// How often a find or open is repeated.
const REPEAT: Duration = Duration::from_millis(300);
/// After so long a find gets a new counter: a node answers each only once, and its hello may have been lost.
const ROUND: Duration = Duration::from_secs(2);
/// How often a find goes past what a node that was switched off meanwhile may have stored of the last one.
const PAST: Duration = Duration::from_secs(10);
/// A hello that has led to no answer after so long is joined by a new find: the answer may have been lost.
const FRESH: Duration = Duration::from_secs(3);
/// A node forgets a hello's nonce after 30 s.
const NONCE: Duration = Duration::from_secs(28);
/// A node that does not answer opens gives way to another after so long, if there is one.
const TURN: Duration = Duration::from_secs(6);
/// How long others may still answer before the operator is asked.
const GATHER: Duration = Duration::from_millis(1500);
/// How long a second answer of the same node is waited for, if two opens are out: the later one counts.
const SETTLE: Duration = Duration::from_millis(100);
/// One attempt to connect, and all of them with one token.
const CONNECT: Duration = Duration::from_secs(2);
const CONNECTS: Duration = Duration::from_secs(10);
/// How long the kernel may take to see the acknowledgement acknowledged.
const DELIVERY: Duration = Duration::from_secs(5);
/// How long a node is looked for again if that was in vain.
const RECALL: Duration = Duration::from_secs(5);
/// Hellos that are remembered; forged ones cost nothing to send.
const CANDIDATES: usize = 64;
const REMEMBERED: usize = 4096;

/// What finding and claiming needs of its surroundings.
pub struct Context<'a, N, P> {
    pub net: &'a N,
    pub registry: &'a P,
    /// A, or a ticket's claim key.
    pub anchor: &'a AnchorSecret,
    /// See [`Pairing::next_counter`].
    pub ahead: u64,
    /// Finds are above all that nodes store.
    pub past_stored: bool,
    pub host: &'a Arc<dyn Host>,
    pub progress: &'a Progress,
}

/// Lists the nodes that answer within `wait`. `seen` is told of each as it is heard first.
pub async fn discover<N: Net, P: Pairing>(
    context: &Context<'_, N, P>,
    wait: Duration,
    mut seen: impl FnMut(&Found),
) -> Result<Vec<Found>, Error> {
    let until = Instant::now() + wait;
    let mut finder = Finder::default();
    let mut found: BTreeMap<[u8; 20], Found> = BTreeMap::new();
    let mut buffer = [0; BUFFER];
    let mut next = Instant::now();
    while Instant::now() < until {
        if Instant::now() >= next {
            finder.send(context).await?;
            next = Instant::now() + REPEAT;
        }
        let Ok(received) = timeout_at(next.min(until), context.net.receive(&mut buffer)).await else { continue };
        let (length, _) = received?;
        if let Some(hello) = read_hello(context.anchor, &buffer[..length]) {
            let node = Found::new(&hello);
            // Anybody with an image can make up nodes; a list past this is of no use.
            if found.len() < REMEMBERED && found.insert(node.print(), node).is_none() {
                seen(&node);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The hello in a datagram, if it is sealed to this anchor and says something sensible.
pub fn read_hello(anchor: &AnchorSecret, datagram: &[u8]) -> Option<HelloBody> {
    let body = Hello::parse(datagram)?.open(anchor)?;
    let sensible = Ipv6Addr::from(body.address).is_unicast_link_local() && body.committed <= 1 && body.zero == [0; 7];
    sensible.then_some(body)
}

/// Sends one find again and again, and now and then a new one.
#[derive(Default)]
struct Finder {
    last: Option<(Find, Instant)>,
    /// When one last went past what nodes may have stored.
    past: Option<Instant>,
}

impl Finder {
    /// The next find is the first of a hunt.
    fn anew(&mut self) {
        self.last = None;
    }

    async fn send<N: Net, P: Pairing>(&mut self, context: &Context<'_, N, P>) -> Result<(), Error> {
        let find = match &self.last {
            Some((find, since)) if since.elapsed() < ROUND => *find,
            _ => {
                let (ip, mac) = context.net.address();
                // The first may well be answered. Each that goes past costs a minute of the counter's distance to the clock.
                let past = self.last.is_some() && self.past.is_none_or(|past| past.elapsed() >= PAST);
                let counter = context.registry.next_find(context.ahead, past)?;
                let counter = if context.past_stored { counter | UNSTORED } else { counter };
                if past {
                    self.past = Some(Instant::now());
                }
                let find = Find::sign(context.anchor, counter, ip, mac);
                self.last = Some((find, Instant::now()));
                find
            }
        };
        context.net.broadcast(find.as_bytes()).await
    }
}

/// A hello whose node may be claimed, and the open that follows it.
struct Candidate {
    hello: HelloBody,
    accepted: Accepted,
    open: Open,
    ephemeral: Secret,
    heard: Instant,
}

/// A node that has opened its gate to us.
struct Answered {
    hello: HelloBody,
    accepted: Accepted,
    token: [u8; 16],
}

/// One claim.
pub struct Claimer<'a, 'c, N, P: Pairing> {
    context: &'a Context<'a, N, P>,
    terms: &'a Terms,
    chooser: &'a mut Chooser<'c>,
    finder: Finder,
    candidates: Vec<Candidate>,
    /// Nonces of hellos that were taken up, so that a replayed hello is taken up once.
    nonces: BTreeSet<[u8; 16]>,
    /// Claim keys whose holder is not the node that their hello named.
    impostors: BTreeSet<Key>,
    /// The node that was granted something and has not confirmed it: no other is taken up any more.
    only: Option<Key>,
    /// The node whose turn it is, and since when.
    turn: Option<(Key, Instant)>,
    answered: Option<(Answered, Instant)>,
    gathering: Option<Instant>,
    /// When finds and opens are due; attempts that fail at once follow each other no faster.
    next: Instant,
    /// Why the last attempt failed.
    last: Option<String>,
    /// The node that has proved itself and was refused.
    refused: Option<Key>,
    strangers: Strangers,
    /// Somebody else tells of the strangers, or it is done.
    is_told: bool,
}

/// Wherever a claim ends, what others did meanwhile is told.
impl<N, P: Pairing> Drop for Claimer<'_, '_, N, P> {
    fn drop(&mut self) {
        let strangers = self.strangers();
        if !self.is_told && strangers != Strangers::default() {
            told(self.context, self.context.registry.strangers(&strangers));
        }
    }
}

impl<N, P: Pairing> Claimer<'_, '_, N, P> {
    fn strangers(&self) -> Strangers {
        let (unlisted, turned_away) = self.chooser.turned_down();
        Strangers { unlisted: unlisted as u64, turned_away: turned_away as u64, ..self.strangers }
    }
}

/// That it cannot be told stands in nobody's way.
fn told<N, P>(context: &Context<'_, N, P>, result: Result<(), Error>) {
    if let Err(error) = result {
        context.progress.warn(&error.message);
    }
}

impl<'a, 'c, N: Net, P: Pairing> Claimer<'a, 'c, N, P> {
    pub fn new(context: &'a Context<'a, N, P>, terms: &'a Terms, chooser: &'a mut Chooser<'c>) -> Self {
        Self {
            context,
            terms,
            chooser,
            finder: Finder::default(),
            candidates: Vec::new(),
            nonces: BTreeSet::new(),
            impostors: BTreeSet::new(),
            only: None,
            turn: None,
            answered: None,
            gathering: None,
            next: Instant::now(),
            last: None,
            refused: None,
            strangers: Strangers::default(),
            is_told: false,
        }
    }

    /// A hello that was heard before.
    pub fn heard(&mut self, hello: HelloBody) -> Result<(), Error> {
        self.consider(hello).map(|_| ())
    }

    /// Claims one node. An attempt that runs when `wait` is over is brought to its end.
    pub async fn claim(mut self, wait: Duration) -> Result<Claimed, Error> {
        let claimed = self.run(wait).await;
        if let Err(why) = &claimed
            && is_refusal(why)
        {
            self.is_told = true;
            told(self.context, self.context.registry.refused(self.refused.as_ref(), why, &self.strangers()));
        }
        claimed
    }

    /// The same, for one who claims many: what others did meanwhile is his to tell.
    pub async fn claim_of_many(mut self, wait: Duration) -> (Result<Claimed, Error>, Strangers) {
        let claimed = self.run(wait).await;
        self.is_told = true;
        // The one node that may be claimed is no stranger.
        (claimed, Strangers { unlisted: 0, turned_away: 0, ..self.strangers })
    }

    async fn run(&mut self, wait: Duration) -> Result<Claimed, Error> {
        let mut until = Instant::now() + wait;
        // One that has heard our acknowledgement is silent for good: a look is enough.
        let mut unconfirmed = self.unconfirmed()?.map(|node| Claimed { node, resumed: true });
        if let Some(claimed) = &unconfirmed {
            self.only = Some(claimed.node.title.warrant.fiduciary);
            until = until.min(Instant::now() + RECALL);
        }
        loop {
            let Some(answered) = self.open_gate(&mut until).await? else {
                return Err(match (unconfirmed, &self.last) {
                    (Some(claimed), _) => self.explain_unconfirmed(&claimed.node),
                    (None, Some(why)) => Error::failed(format!("nothing was claimed; at the last attempt {why}")),
                    (None, None) if !self.nonces.is_empty() => Error::failed(
                        "nothing was claimed; a node answered the find, but did not open its gate: another's claim may be \
                         running, or the hello was forged; try again, with a longer --wait",
                    ),
                    (None, None) => self.explain_nothing()?,
                });
            };
            let claim_key = answered.hello.claim_key;
            let claimed = match self.attempt(&answered).await {
                Ok((claimed, true)) => {
                    let node = self.context.registry.acknowledged(&claimed.node)?;
                    return Ok(Claimed { node, ..claimed });
                }
                Ok((claimed, false)) => Some(claimed),
                Err(Failure::Unacknowledged(node)) => Some(Claimed { node: *node, resumed: true }),
                Err(Failure::Final(error)) => {
                    self.refused = Some(answered.hello.fiduciary);
                    return Err(error);
                }
                Err(Failure::Cut(why)) => {
                    self.strangers.cut += 1;
                    self.failed(why);
                    None
                }
                Err(Failure::Impostor(why)) => {
                    self.strangers.impostors += 1;
                    self.failed(why);
                    remember(&mut self.impostors, claim_key);
                    self.candidates.retain(|candidate| candidate.hello.claim_key != claim_key);
                    None
                }
            };
            if let Some(outcome) = &claimed {
                let node = outcome.node.title.warrant.fiduciary;
                self.only = Some(node);
                self.candidates.retain(|candidate| candidate.hello.fiduciary == node);
            }
            if claimed.is_some() {
                // If the node has not heard, it answers a find and the same grant ends it; if it has, it is silent.
                unconfirmed = claimed;
                self.finder.anew();
                until = until.min(Instant::now() + RECALL);
            }
        }
    }

    /// The node that is meant, if an earlier claim of it was not confirmed.
    fn unconfirmed(&self) -> Result<Option<Node>, Error> {
        if self.chooser.meant().is_none() {
            return Ok(None);
        }
        let registry = self.context.registry;
        let paired = registry.paired_among(|fiduciary| self.chooser.names(fiduciary))?;
        let node = paired.map_or(Ok(None), |fiduciary| registry.known(&fiduciary))?;
        Ok(node.filter(|node| !node.acknowledged))
    }

    fn failed(&mut self, why: String) {
        self.context.progress.say(&format!("{why}; trying again"));
        self.last = Some(why);
        self.turn = None;
        self.finder.anew();
    }

    fn explain_unconfirmed(&self, node: &Node) -> Error {
        Error::new(
            Exit::Unconfirmed,
            format!(
                "{} is claimed and recorded as paired, but did not confirm the acknowledgement: it may still wait for it. \
                 Run the same claim again, or `os-network-admin mesh up`: the first that is heard of it there settles it",
                wire::Fingerprint::of(&node.title.warrant.fiduciary)
            ),
        )
    }

    fn explain_nothing(&self) -> Result<Error, Error> {
        let mut error = self.chooser.nothing();
        if let Some(fiduciary) = self.context.registry.paired_among(|fiduciary| self.chooser.names(fiduciary))? {
            let print = wire::Fingerprint::of(&fiduciary);
            error.message = format!(
                "{print} is already paired in this registry, and a node that has heard the acknowledgement does not answer \
                 any more; {}",
                error.message
            );
        }
        Ok(error)
    }

    /// Finds nodes and asks them to open their gates until one answers; `None` if the time is up.
    async fn open_gate(&mut self, until: &mut Instant) -> Result<Option<Answered>, Error> {
        let mut buffer = [0; BUFFER];
        loop {
            let now = Instant::now();
            if self.answered.as_ref().is_some_and(|(_, settled)| now >= *settled) {
                return Ok(self.answered.take().map(|(answered, _)| answered));
            }
            if now >= *until {
                return Ok(None);
            }
            if self.gathering.is_some_and(|since| now >= since + GATHER) {
                self.gathering = None;
                if self.candidates.is_empty() && self.chooser.is_open() {
                    self.context.progress.pause(|| self.chooser.decide())?;
                    // Time that the operator took is not the nodes'.
                    *until += now.elapsed();
                    self.finder.anew();
                }
            }
            if now >= self.next && self.answered.is_none() {
                self.send().await?;
                self.next = Instant::now() + REPEAT;
            }
            let settled = self.answered.as_ref().map_or(self.next, |(_, settled)| *settled);
            let Ok(received) = timeout_at(settled.min(*until), self.context.net.receive(&mut buffer)).await else {
                continue;
            };
            let (length, from) = received?;
            if let Some(hello) = read_hello(self.context.anchor, &buffer[..length]) {
                // The first is answered at once; more than one may be a flood, and wait for the next round.
                if self.consider(hello)? && self.candidates.len() == 1 {
                    self.next = Instant::now();
                }
            } else if let Some(answer) = Answer::parse(&buffer[..length]) {
                self.hear_answer(answer, from);
            }
        }
    }

    /// Takes up a hello whose node may be claimed; whether it is new.
    fn consider(&mut self, hello: HelloBody) -> Result<bool, Error> {
        let is_revoked = self.context.registry.is_revoked(&hello.fiduciary)?;
        if is_revoked && !self.chooser.readmits(&hello.fiduciary) {
            self.chooser.turn_away(&hello);
            return Ok(false);
        }
        let Some(accepted) = self.chooser.consider(&hello) else {
            if self.chooser.is_open() {
                self.gathering.get_or_insert_with(Instant::now);
            }
            return Ok(false);
        };
        let accepted = if is_revoked { Accepted::Readmitted } else { accepted };
        if self.only.is_some_and(|node| node != hello.fiduciary) {
            return Ok(false);
        }
        if self.impostors.contains(&hello.claim_key) || !remember(&mut self.nonces, hello.nonce) {
            return Ok(false);
        }
        let (sender_ip, sender_mac) = self.context.net.address();
        let ephemeral = Secret::new(self.context.host.random()?);
        let about = OpenFor { hello: &hello, sender_ip, sender_mac };
        let Some(open) = Open::sign(self.context.anchor, &ephemeral, &about) else { return Ok(false) };
        if self.candidates.len() >= CANDIDATES {
            // Any may be the true one: chance keeps a flood of forged ones from always winning.
            let at = self.chance(self.candidates.len())?;
            self.candidates.swap_remove(at);
        }
        self.candidates.push(Candidate { hello, accepted, open, ephemeral, heard: Instant::now() });
        Ok(true)
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.candidates.retain(|candidate| candidate.heard.elapsed() < NONCE);
        self.choose_turn()?;
        let turn = self.turn.map(|(fiduciary, _)| fiduciary);
        let whose = |candidate: &&Candidate| Some(candidate.hello.fiduciary) == turn;
        if !self.candidates.iter().filter(whose).any(|candidate| candidate.heard.elapsed() < FRESH) {
            self.context.progress.say("looking for the node");
            self.finder.send(self.context).await?;
        }
        for candidate in self.candidates.iter().filter(whose) {
            self.context.progress.say(&format!("{}: opening", wire::Fingerprint::of(&candidate.hello.fiduciary)));
            self.context.net.broadcast(candidate.open.as_bytes()).await?;
        }
        Ok(())
    }

    /// One node at a time is asked to open, so that no other's gate is opened in vain.
    fn choose_turn(&mut self) -> Result<(), Error> {
        let mut nodes: Vec<Key> = self.candidates.iter().map(|candidate| candidate.hello.fiduciary).collect();
        nodes.sort_unstable();
        nodes.dedup();
        match self.turn {
            Some((fiduciary, since)) if since.elapsed() < TURN && nodes.contains(&fiduciary) => return Ok(()),
            Some((fiduciary, _)) if nodes.len() > 1 => nodes.retain(|node| *node != fiduciary),
            _ => {}
        }
        self.turn = if nodes.is_empty() { None } else { Some((nodes[self.chance(nodes.len())?], Instant::now())) };
        Ok(())
    }

    fn hear_answer(&mut self, answer: &Answer, from: Ip) {
        let read = self.candidates.iter().enumerate().find_map(|(at, candidate)| {
            let own = candidate.hello.address == from;
            let token =
                own.then(|| answer.open(&candidate.hello.claim_key, &candidate.ephemeral, &candidate.open))??;
            Some((at, token))
        });
        let Some((at, token)) = read else { return };
        // Its nonce is used up.
        let Candidate { hello, accepted, .. } = self.candidates.swap_remove(at);
        let others = self.candidates.iter().any(|candidate| candidate.hello.claim_key == hello.claim_key);
        let settled = Instant::now() + if others { SETTLE } else { Duration::ZERO };
        self.answered = Some((Answered { hello, accepted, token }, settled));
    }

    /// Connects and claims; true if the acknowledgement is confirmed.
    async fn attempt(&mut self, answered: &Answered) -> Result<(Claimed, bool), Failure> {
        let Context { net, registry, anchor, ahead, host, progress, .. } = *self.context;
        let mut stream = self.connect(&answered.hello).await?;
        let session = Session {
            anchor,
            hello: &answered.hello,
            token: answered.token,
            terms: self.terms,
            accepted: answered.accepted,
            interface: net.name(),
            own: net.address().0,
            mac: net.neighbour(answered.hello.address),
            ahead,
            registry,
            host,
            progress,
        };
        match exchange::run(&mut stream, &session).await {
            // The stream ends in the usual way; if need be the kernel goes on delivering.
            Ok(claimed) => Ok((claimed, net.delivered(&stream, DELIVERY).await)),
            Err(failure @ Failure::Unacknowledged(_)) => Err(failure),
            Err(failure) => {
                // The node closes its gate at once, and is there for the next attempt.
                net.abandon(stream);
                Err(failure)
            }
        }
    }

    async fn connect(&self, hello: &HelloBody) -> Result<N::Stream, Failure> {
        let until = Instant::now() + CONNECTS;
        self.context.progress.say(&format!("{}: connecting", wire::Fingerprint::of(&hello.fiduciary)));
        loop {
            let why = match timeout(CONNECT, self.context.net.connect(hello.address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".into(),
            };
            if Instant::now() >= until {
                let address = Ipv6Addr::from(hello.address);
                return Err(Failure::Cut(format!("the node could not be connected to at {address} ({why})")));
            }
            sleep(REPEAT).await;
        }
    }

    fn chance(&self, below: usize) -> Result<usize, Error> {
        Ok(usize::from_le_bytes(self.context.host.random()?) % below)
    }
}

/// A node answered, and was not claimed for a reason; that nobody answered, or that this host has no room, is none.
pub fn is_refusal(why: &Error) -> bool {
    matches!(why.exit, Exit::Failed | Exit::NotAccepted | Exit::Input | Exit::NotComputable)
}

/// Inserts into a set that a flood cannot grow for ever; whether it was new.
fn remember<T: Ord>(set: &mut BTreeSet<T>, value: T) -> bool {
    if set.len() >= REMEMBERED {
        set.clear();
    }
    set.insert(value)
}
