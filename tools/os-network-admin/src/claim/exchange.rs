//! One claim over one connection: WebSocket, Noise, identity, grant, pairing record, acknowledgement.
//!
//! Over any stream, so that it is tested in memory. Nothing that the node says counts before its signature is checked; the
//! grant is in the registry before it is on the wire, and the pairing before it is acknowledged.

use std::{future::Future, net::Ipv6Addr, sync::Arc, time::Duration};

use base64ct::{Base64, Encoding};
use crypto::AnchorSecret;
use futures_util::{SinkExt, StreamExt};
use snow::{
    Builder, HandshakeState, TransportState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver, FallbackResolver},
    types::{Cipher, Dh, Hash, Random},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_KEY},
        protocol::WebSocketConfig,
    },
};
use wire::{
    CLAIM_PORT, Fingerprint, Hex, Ip, Mac, U16, U64,
    binding::{ForkRecord, Identity, configuration_hash},
    claim::{Acknowledgement, GrantHead, INITIATION, IdentityMessage, PairingMessage, RESPONSE, TAG, kind, prologue},
    link::HelloBody,
    order::MAX_CONFIGURATION,
    title::{Title, Warrant},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{
    choose::revoked,
    pairing::{Grant, Made, Pairing, Terms},
};
use crate::{
    base::{error::Error, host::Host, paper::place, progress::Progress},
    registry::{Accepted, Node, State},
};

/// How long the answer to the upgrade may take. A node keeps a connection without a token for three seconds.
const UPGRADE: Duration = Duration::from_secs(4);
/// How long the whole exchange may take: as long as the node allows.
const WHOLE: Duration = Duration::from_secs(20);

/// What one exchange is about.
pub struct Session<'a, P> {
    /// A, or a ticket's claim key.
    pub anchor: &'a AnchorSecret,
    pub hello: &'a HelloBody,
    pub token: [u8; 16],
    pub terms: &'a Terms,
    pub accepted: Accepted,
    pub interface: &'a str,
    /// The address that signs: where the node finds the authority.
    pub own: Ip,
    /// The node's, if the host knows it.
    pub mac: Option<Mac>,
    /// See [`Pairing::next_counter`].
    pub ahead: u64,
    pub registry: &'a P,
    pub host: &'a Arc<dyn Host>,
    pub progress: &'a Progress,
}

/// Why an exchange failed.
#[derive(Debug)]
pub enum Failure {
    /// The connection broke, or anybody on the link may have meddled: find the node again.
    Cut(String),
    /// Whoever holds the claim key of this hello is not the node that it names: never try this key again.
    Impostor(String),
    /// The pairing is in the registry, the acknowledgement may not have left.
    Unacknowledged(Box<Node>),
    /// Trying again does not help.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A node whose pairing is in the registry, and whose acknowledgement has been handed to the stream.
#[derive(Debug)]
pub struct Claimed {
    pub node: Node,
    /// The node had committed an earlier grant of this registry.
    pub resumed: bool,
}

/// Runs the exchange. May be dropped at any await: what was stored stays, and a later exchange resumes.
pub async fn run<S, P: Pairing>(stream: &mut S, session: &Session<'_, P>) -> Result<Claimed, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut channel, claimed, record) = match timeout(WHOLE, pair(stream, session)).await {
        Ok(result) => result?,
        Err(_) => return Err(Failure::Cut("the node did not finish the claim in time".into())),
    };
    say(session, "paired; acknowledging");
    let acknowledgement = Acknowledgement { kind: kind::ACKNOWLEDGEMENT, zero: [0; 7], record };
    match timeout(UPGRADE, channel.send(acknowledgement.as_bytes())).await {
        Ok(Ok(())) => Ok(claimed),
        _ => Err(Failure::Unacknowledged(Box::new(claimed.node))),
    }
}

/// All up to the stored pairing, and the hash to acknowledge it with.
async fn pair<'s, S, P: Pairing>(
    stream: &'s mut S,
    session: &Session<'_, P>,
) -> Result<(Channel<'s, S>, Claimed, [u8; 32]), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(session, "handshake");
    let mut channel = Channel::establish(stream, session).await?;
    let message: IdentityMessage = channel.receive("its identity").await?;
    check_identity(&message, session.hello, &channel.handshake).map_err(|why| Failure::Impostor(why.into()))?;
    let (node, resumed) = grant(session, &message.identity)?;
    say(session, if resumed { "resuming: the same grant again" } else { "grant" });
    channel.send(&node.grant).await?;
    let message: PairingMessage = channel.receive("its pairing record").await?;
    if message.kind != kind::PAIRING || message.zero != [0; 3] || message.record.verify(&node.title).is_none() {
        // It came through the session of the verified identity: no stranger's doing.
        return Err(Failure::Final(Error::failed(
            "the node's pairing record does not match the grant: the node is faulty; it is not recorded as paired",
        )));
    }
    let node = session.registry.paired(&node, &message.record, message.rivals.get(), session.mac)?;
    Ok((channel, Claimed { node, resumed }, message.record.hash()))
}

fn say<P>(session: &Session<'_, P>, text: &str) {
    session.progress.say(&format!("{}: {text}", Fingerprint::of(&session.hello.fiduciary)));
}

/// That this is the node of the hello, in this session.
fn check_identity(message: &IdentityMessage, hello: &HelloBody, handshake: &[u8; 32]) -> Result<(), &'static str> {
    let identity = &message.identity;
    if message.kind != kind::IDENTITY || message.zero != [0; 7] {
        return Err("the node sent something else than its identity");
    }
    if identity.fiduciary != hello.fiduciary {
        return Err("the node in the session is another than the one in the hello");
    }
    identity.verify(handshake).ok_or("the node did not prove its identity: its signature is not for this session")?;
    // A key with which no secret can be agreed is nobody's.
    if !crypto::dh_usable(&identity.mesh_key) {
        return Err("the node's WireGuard key is none");
    }
    if identity.committed > 1 || identity.forked > 1 || identity.zero != [0; 6] {
        return Err("the node's identity is malformed");
    }
    match identity.fork() {
        Some(fork) => {
            let own = fork.fiduciary == identity.fiduciary
                && fork.claim_key == hello.claim_key
                && fork.mesh_key == identity.mesh_key
                && fork.address == hello.address;
            fork.verify().filter(|_| own).ok_or("the node's fleet record is not its own").map(|_| ())
        }
        None if identity.fork == ForkRecord::new_zeroed() => Ok(()),
        None => Err("the node has not forked, yet shows a fleet record"),
    }
}

/// The grant to send, stored: the one that the node has committed, or a new one.
fn grant<P: Pairing>(session: &Session<'_, P>, identity: &Identity) -> Result<(Node, bool), Error> {
    let known = session.registry.known(&identity.fiduciary)?;
    if identity.committed == 1 {
        let node = known.filter(|node| is_about(&node.title, identity)).ok_or_else(|| {
            Error::failed(
                "this node has committed a binding that this registry does not know: it was claimed with the same key from \
                 another registry, or this one is an older copy; claim it from that registry (--registry)",
            )
        })?;
        if session.registry.is_revoked(&identity.fiduciary)? {
            if session.accepted != Accepted::Readmitted {
                return Err(revoked(&identity.fiduciary));
            }
            session.registry.readmit(&identity.fiduciary)?;
        }
        return Ok((node, true));
    }
    if let Some(paired) = known.filter(|node| node.state == State::Paired)
        && paired.title.warrant.epoch.get() > identity.epoch.get()
    {
        session.progress.warn(
            "this node was paired before and says that it never was: its storage was put back or erased; \
             the earlier pairing is kept in the registry as superseded",
        );
    }
    let grant = Grant {
        fiduciary: identity.fiduciary,
        claim_key: session.hello.claim_key,
        mesh_key: identity.mesh_key,
        fork: identity.fork(),
        terms: session.terms,
        accepted: session.accepted,
        address: session.hello.address,
        interface: session.interface,
        own: session.own,
        ahead: session.ahead,
    };
    let bind = |made: &Made<'_>| {
        let configuration = made.configuration;
        // No longer than what an update carries, so that it can be updated.
        let length = u16::try_from(configuration.len()).ok().filter(|_| configuration.len() <= MAX_CONFIGURATION);
        let length = length.ok_or_else(|| Error::input("the configuration is too long"))?;
        let title = bind(session.anchor, session.terms, identity, made)?;
        let head = GrantHead { kind: kind::GRANT, zero: [0; 5], configuration: U16::new(length), title };
        Ok([head.as_bytes(), configuration].concat())
    };
    Ok((session.registry.grant(&grant, bind)?, false))
}

fn is_about(title: &Title, identity: &Identity) -> bool {
    title.warrant.fiduciary == identity.fiduciary
        && title.binding.nonce == identity.nonce
        && title.warrant.epoch == identity.epoch
        && title.binding.mesh_key == identity.mesh_key
}

fn bind(anchor: &AnchorSecret, terms: &Terms, identity: &Identity, made: &Made<'_>) -> Result<Title, Error> {
    let epoch = identity.epoch.get().checked_add(1).ok_or_else(|| Error::failed("the node's epochs are used up"))?;
    let mut title = Title::new_zeroed();
    title.binding.nonce = identity.nonce;
    title.binding.mesh_key = identity.mesh_key;
    title.binding.counter = U64::new(made.counter);
    title.set = made.set;
    if let Some(warrant) = &terms.warrant {
        fits(warrant, identity, epoch, made)?;
        title.warrant = *warrant;
        return Ok(title.bind(anchor));
    }
    let warrant = &mut title.warrant;
    warrant.fiduciary = identity.fiduciary;
    warrant.fork = ForkRecord::hash(identity.fork());
    warrant.fleet = terms.fleet_id;
    warrant.epoch = U64::new(epoch);
    if let Some((sequence, record)) = made.under {
        (warrant.sequence, warrant.record) = (U64::new(sequence), record);
    }
    warrant.configuration = configuration_hash(made.configuration);
    place(warrant, made.configuration);
    Ok(title.sign(anchor))
}

/// That a warrant is for this node as it is now, and for what is granted: the node would refuse another.
fn fits(warrant: &Warrant, identity: &Identity, epoch: u64, made: &Made<'_>) -> Result<(), Error> {
    let why = if warrant.fiduciary != identity.fiduciary {
        format!("is for {}, and this is another node", Fingerprint::of(&warrant.fiduciary))
    } else if warrant.epoch.get() != epoch {
        format!("is for epoch {}, and the node's next is {epoch}: ask those who sign for another", warrant.epoch)
    } else if warrant.fork != [0; 32] && warrant.fork != ForkRecord::hash(identity.fork()) {
        "names another fork record than the node has".into()
    } else if warrant.set != made.set.hash() {
        "is for another set of authorities".into()
    } else if warrant.configuration != configuration_hash(made.configuration) {
        "is for another configuration".into()
    } else {
        return Ok(());
    };
    Err(Error::input(format!("the warrant {why}")))
}

/// The Noise session inside the WebSocket.
struct Channel<'s, S> {
    socket: WebSocketStream<&'s mut S>,
    noise: TransportState,
    handshake: [u8; 32],
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Channel<'s, S> {
    async fn establish<P>(stream: &'s mut S, session: &Session<'_, P>) -> Result<Self, Failure> {
        let address = Ipv6Addr::from(session.hello.address);
        let request = format!("ws://[{address}]:{CLAIM_PORT}/{}", Hex(&session.token));
        let config = WebSocketConfig::default().max_message_size(Some(1024)).max_frame_size(Some(1024));
        let mut request = request.into_client_request().map_err(|error| cut("has an unusable address", error))?;
        let key = Base64::encode_string(&session.host.random::<16>()?);
        let key = HeaderValue::try_from(key).map_err(|error| cut("cannot be asked", error))?;
        request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
        let upgrade = client_async_with_config(request, stream, Some(config));
        let (mut socket, _) = match timeout(UPGRADE, upgrade).await {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(error)) => return Err(cut("did not take the connection", error)),
            Err(_) => return Err(Failure::Cut("the node did not answer on the connection".into())),
        };
        let mut noise = initiator(session).map_err(|error| cut("has an unusable claim key", error))?;
        let mut first = [0; INITIATION];
        noise.write_message(&[], &mut first).map_err(|error| cut("has an unusable claim key", error))?;
        send(&mut socket, first.to_vec()).await?;
        let second = receive(&mut socket, RESPONSE, "the handshake").await?;
        noise.read_message(&second, &mut []).map_err(|error| cut("did not prove its claim key", error))?;
        let mut handshake = [0; 32];
        handshake.copy_from_slice(noise.get_handshake_hash());
        let noise = noise.into_transport_mode().map_err(|error| cut("did not finish the handshake", error))?;
        Ok(Self { socket, noise, handshake })
    }

    async fn send(&mut self, text: &[u8]) -> Result<(), Failure> {
        let mut sealed = vec![0; text.len() + TAG];
        self.noise.write_message(text, &mut sealed).map_err(|error| cut("could not be written to", error))?;
        send(&mut self.socket, sealed).await
    }

    /// One message of exactly this type's length.
    async fn receive<T>(&mut self, what: &str) -> Result<T, Failure>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let sealed = receive(&mut self.socket, size_of::<T>() + TAG, what).await?;
        let mut message = T::new_zeroed();
        let read = self.noise.read_message(&sealed, message.as_mut_bytes());
        read.map_err(|error| cut("sent a message that is not authentic", error))?;
        Ok(message)
    }
}

/// Noise's ephemeral keys come from the host that is given; the rest is the default.
struct Drawn(Arc<dyn Host>);

impl CryptoResolver for Drawn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Self(Arc::clone(&self.0))))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        None
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        None
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        None
    }
}

impl Random for Drawn {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(bytes).map_err(|_| snow::Error::Rng)
    }
}

fn initiator<P>(session: &Session<'_, P>) -> Result<HandshakeState, snow::Error> {
    let protocol = str::from_utf8(crypto::noise::PROTOCOL).unwrap_or_default().parse()?;
    let prologue = prologue(&session.hello.fiduciary, &session.hello.nonce, &session.token);
    let drawn = Box::new(Drawn(Arc::clone(session.host)));
    let resolver = FallbackResolver::new(drawn, Box::new(DefaultResolver));
    Builder::with_resolver(protocol, Box::new(resolver))
        .local_private_key(&*session.anchor.dh)?
        .remote_public_key(&session.hello.claim_key)?
        .prologue(&prologue)?
        .build_initiator()
}

fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<&mut S>,
    bytes: Vec<u8>,
) -> impl Future<Output = Result<(), Failure>> {
    let sent = socket.send(Message::binary(bytes));
    async { sent.await.map_err(|error| cut("closed the connection", error)) }
}

async fn receive<S>(socket: &mut WebSocketStream<&mut S>, length: usize, what: &str) -> Result<Vec<u8>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match socket.next().await {
        Some(Ok(Message::Binary(bytes))) if bytes.len() == length => Ok(bytes.into()),
        Some(Ok(_)) => Err(Failure::Cut(format!("the node sent something else than {what}"))),
        Some(Err(error)) => Err(cut("broke the connection", error)),
        None => Err(Failure::Cut("the node closed the connection".into())),
    }
}

fn cut(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Cut(format!("the node {what} ({error})"))
}

#[cfg(test)]
mod tests {
    use crypto::Secret;

    use super::*;

    const HANDSHAKE: [u8; 32] = [3; 32];

    fn signed(change: impl FnOnce(&mut Identity)) -> (IdentityMessage, HelloBody) {
        let seed = Secret::new([1; 32]);
        let fiduciary = crypto::sign_public(&seed);
        let mut hello = HelloBody::new_zeroed();
        (hello.fiduciary, hello.claim_key, hello.address) = (fiduciary, [2; 32], [4; 16]);
        let mut identity = Identity::new_zeroed();
        (identity.fiduciary, identity.mesh_key, identity.forked) = (fiduciary, [5; 32], 1);
        identity.fork = ForkRecord::sign(&seed, fiduciary, [2; 32], [5; 32], [4; 16]);
        change(&mut identity);
        let identity = identity.sign(&seed, &HANDSHAKE);
        (IdentityMessage { kind: kind::IDENTITY, zero: [0; 7], identity }, hello)
    }

    #[test]
    fn an_identity_is_whole_signed_and_of_the_node_in_the_hello() {
        let seed = Secret::new([1; 32]);
        let fiduciary = crypto::sign_public(&seed);
        let check = |change: &dyn Fn(&mut Identity)| {
            let (message, hello) = signed(change);
            check_identity(&message, &hello, &HANDSHAKE)
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|i| (i.forked, i.fork) = (0, ForkRecord::new_zeroed())), Ok(()));
        // All of these are signed by the node.
        let small = ForkRecord::sign(&seed, fiduciary, [2; 32], [0; 32], [4; 16]);
        let wrong: [&dyn Fn(&mut Identity); 11] = [
            &|i| (i.mesh_key, i.fork) = ([0; 32], small),
            &|i| i.committed = 2,
            &|i| i.forked = 2,
            &|i| i.zero[5] = 1,
            &|i| i.forked = 0,
            &|i| i.fork = ForkRecord::new_zeroed(),
            &|i| i.fork.signature[0] ^= 1,
            &|i| i.fork = ForkRecord::sign(&seed, fiduciary, [9; 32], [5; 32], [4; 16]),
            &|i| i.fork = ForkRecord::sign(&seed, fiduciary, [2; 32], [9; 32], [4; 16]),
            &|i| i.fork = ForkRecord::sign(&seed, fiduciary, [2; 32], [5; 32], [9; 16]),
            &|i| i.fork = ForkRecord::sign(&seed, [9; 32], [2; 32], [5; 32], [4; 16]),
        ];
        for (number, change) in wrong.iter().enumerate() {
            assert!(check(change).is_err(), "change {number}");
        }
        let (message, hello) = signed(|_| ());
        assert!(check_identity(&message, &hello, &[0; 32]).is_err());
        assert!(check_identity(&message, &HelloBody { fiduciary: [9; 32], ..hello }, &HANDSHAKE).is_err());
        assert!(check_identity(&IdentityMessage { kind: kind::GRANT, ..message }, &hello, &HANDSHAKE).is_err());
        assert!(check_identity(&IdentityMessage { zero: [1; 7], ..message }, &hello, &HANDSHAKE).is_err());
    }

    #[test]
    fn a_grant_is_resumed_only_for_the_binding_that_the_node_names() {
        let (message, _) = signed(|i| (i.nonce, i.epoch, i.committed) = ([6; 32], U64::new(7), 1));
        let identity = &message.identity;
        let mut title = Title::new_zeroed();
        (title.warrant.fiduciary, title.binding.mesh_key) = (identity.fiduciary, identity.mesh_key);
        (title.binding.nonce, title.warrant.epoch) = (identity.nonce, identity.epoch);
        assert!(is_about(&title, identity));
        let wrong: [fn(&mut Title); 4] = [
            |t| t.warrant.fiduciary[0] ^= 1,
            |t| t.binding.mesh_key[0] ^= 1,
            |t| t.binding.nonce[0] ^= 1,
            |t| t.warrant.epoch = U64::new(8),
        ];
        for change in wrong {
            let mut other = title;
            change(&mut other);
            assert!(!is_about(&other, identity));
        }
    }
}
