//! A node in memory: its side of the protocol, written from the formats in `wire` and with `snow` as responder, and with the
//! faults that tests ask for.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
};

use crypto::{AnchorPublic, AnchorSecret, Secret};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};
use wire::{
    Ip, Mac, U32, U64,
    anchor::Anchor,
    binding::{ForkRecord, Identity, PairingRecord},
    claim::{Acknowledgement, IdentityMessage, PairingMessage, kind, parse_grant, prologue},
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, open_mac_key, open_target},
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub const ADMIN_IP: Ip = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xad];
pub const ADMIN_MAC: Mac = [2, 0, 0, 0, 0, 0xad];

/// What a node does wrong in one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test program uses some")]
pub enum Fault {
    None,
    /// Closes the connection at this [`step`].
    Cut(u8),
    /// Goes silent at this [`step`].
    Hang(u8),
    /// An identity signed for another session.
    OtherSession,
    /// A bit of the identity changed after signing.
    BadSignature,
    /// A good identity of another node.
    OtherNode,
    /// A fleet record of another node.
    OtherFork,
    /// A fleet record although it has not forked.
    ForkOutOfPlace,
    /// Says that it has committed, with a nonce of its own making.
    Committed,
    /// A pairing record of another binding.
    WrongPairing,
    /// A pairing record signed by another.
    ForgedPairing,
    /// A message of this length, not authentic, in place of the identity.
    Garbage(usize),
    /// Another static key than N.
    OtherClaimKey,
}

/// Where a connection can be cut.
pub mod step {
    pub const UPGRADED: u8 = 1;
    pub const INITIATED: u8 = 2;
    pub const RESPONDED: u8 = 3;
    pub const IDENTIFIED: u8 = 4;
    pub const GRANTED: u8 = 5;
    pub const COMMITTED: u8 = 6;
    pub const PAIRED: u8 = 7;
    #[allow(dead_code, reason = "each test program uses some")]
    pub const ALL: [u8; 7] = [UPGRADED, INITIATED, RESPONDED, IDENTIFIED, GRANTED, COMMITTED, PAIRED];
}

pub struct Node {
    pub seed: Secret,
    pub claim_key: Secret,
    pub address: Ip,
    pub anchor: AnchorPublic,
    /// Who must sign its warrant, if others than the anchor's key.
    pub signers: Option<Anchor>,
    pub forked: bool,
    pub epoch: u64,
    pub committed: Option<(Title, PairingRecord)>,
    pub acknowledged: bool,
    pub rivals: u32,
    /// Who finds and opens must be signed as coming from.
    pub peer: (Ip, Mac),
    /// One for each claim to come.
    pub faults: VecDeque<Fault>,
    /// So many hellos and answers are lost.
    pub lose_hellos: u32,
    pub lose_answers: u32,
    /// So many connections get no answer.
    #[allow(dead_code, reason = "only a link in memory loses connections")]
    pub lose_connections: u32,
    /// Every grant that arrived.
    pub grants: Vec<Vec<u8>>,
    pub opens: u32,
    /// The identity that hellos claim, if it is not this node's own.
    pub poses_as: Option<[u8; 32]>,
    /// Of finds alone; when the power goes, what is stored of it is rounded up.
    pub finds: u64,
    nonces: Vec<[u8; 16]>,
    gate: Option<([u8; 16], [u8; 16])>,
    claim_nonce: [u8; 32],
    drawn: u8,
}

impl Node {
    pub fn new(number: u8, anchor: AnchorPublic) -> Self {
        let mut address = ADMIN_IP;
        address[15] = number;
        Self {
            seed: Secret::new([number; 32]),
            claim_key: Secret::new([number + 100; 32]),
            address,
            anchor,
            signers: None,
            forked: true,
            epoch: 0,
            committed: None,
            acknowledged: false,
            rivals: 0,
            peer: (ADMIN_IP, ADMIN_MAC),
            faults: VecDeque::new(),
            lose_hellos: 0,
            lose_answers: 0,
            lose_connections: 0,
            grants: Vec::new(),
            opens: 0,
            poses_as: None,
            finds: 0,
            nonces: Vec::new(),
            gate: None,
            claim_nonce: [0; 32],
            drawn: 0,
        }
    }

    pub fn fiduciary(&self) -> [u8; 32] {
        crypto::sign_public(&self.seed)
    }

    #[allow(dead_code, reason = "each test program uses some")]
    pub fn print(&self) -> [u8; 20] {
        wire::Fingerprint::of(&self.fiduciary()).0
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.drawn += 1;
        let mut bytes = [self.drawn; N];
        bytes[0] = self.address[15];
        bytes
    }

    pub fn hello(&mut self) -> Vec<u8> {
        let nonce = self.draw();
        self.nonces.push(nonce);
        let body = HelloBody {
            fiduciary: self.poses_as.unwrap_or(self.fiduciary()),
            claim_key: crypto::dh_public(&self.claim_key),
            address: self.address,
            nonce,
            committed: self.committed.is_some().into(),
            zero: [0; 7],
        };
        let ephemeral = Secret::new(self.draw());
        Hello::seal(&self.anchor, &ephemeral, &body).unwrap().as_bytes().to_vec()
    }

    pub fn hear(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        if self.acknowledged {
            return None;
        }
        if let Some(find) = Find::parse(datagram) {
            find.verify(&self.anchor)?;
            assert_eq!((find.sender_ip, find.sender_mac), self.peer);
            (find.counter.get() > self.finds).then_some(())?;
            self.finds = find.counter.get();
            let hello = self.hello();
            return lost(&mut self.lose_hellos).then_some(hello);
        }
        let open = Open::parse(datagram)?;
        let named = self.poses_as.unwrap_or(self.fiduciary());
        (open.target == open_target(&named)).then_some(())?;
        let at = self.nonces.iter().position(|nonce| *nonce == open.nonce)?;
        open.check_mac(&open_mac_key(&crypto::dh(&self.claim_key, &self.anchor.dh)?)).then_some(())?;
        open.verify(&self.anchor)?;
        assert_eq!((open.sender_ip, open.sender_mac), self.peer);
        self.nonces.remove(at);
        self.opens += 1;
        let token = self.draw();
        self.gate = Some((token, open.nonce));
        let ephemeral = Secret::new(self.draw());
        let answer = Answer::seal(&self.claim_key, &ephemeral, open, &token).unwrap();
        lost(&mut self.lose_answers).then(|| answer.as_bytes().to_vec())
    }

    fn identity(&mut self, handshake: &[u8; 32], fault: Fault) -> Identity {
        self.claim_nonce = self.draw();
        let mesh_key = crypto::dh_public(&mesh_secret(self.address[15]));
        let claim_key = crypto::dh_public(&self.claim_key);
        let other = Secret::new([77; 32]);
        let seed = if fault == Fault::OtherNode { &other } else { &self.seed };
        let fiduciary = crypto::sign_public(seed);
        let fork = match fault {
            Fault::OtherFork => {
                ForkRecord::sign(&other, crypto::sign_public(&other), claim_key, mesh_key, self.address)
            }
            _ => ForkRecord::sign(seed, fiduciary, claim_key, mesh_key, self.address),
        };
        let mut identity = Identity::new_zeroed();
        identity.fiduciary = fiduciary;
        identity.mesh_key = mesh_key;
        identity.nonce = self.claim_nonce;
        identity.epoch = U64::new(self.epoch);
        if self.forked {
            identity.fork = fork;
            identity.forked = (fault != Fault::ForkOutOfPlace).into();
        }
        if let Some((title, _)) = &self.committed {
            identity.nonce = title.binding.nonce;
            identity.epoch = title.warrant.epoch;
            identity.committed = 1;
        }
        identity.committed |= u8::from(fault == Fault::Committed);
        let handshake = if fault == Fault::OtherSession { &[3; 32] } else { handshake };
        let mut identity = identity.sign(seed, handshake);
        identity.mesh_key[0] ^= u8::from(fault == Fault::BadSignature);
        identity
    }

    /// As the keystore does it.
    fn commit(&mut self, grant: &[u8]) -> Option<PairingRecord> {
        let (head, configuration) = parse_grant(grant)?;
        let title = head.title;
        title.verify(&self.signers.unwrap_or(Anchor::alone(&self.anchor)))?;
        if let Some((committed, record)) = &self.committed {
            return (*committed == title).then_some(*record);
        }
        assert_eq!((title.warrant.fiduciary, title.binding.nonce), (self.fiduciary(), self.claim_nonce));
        assert_eq!(title.warrant.epoch.get(), self.epoch + 1);
        assert_eq!(title.warrant.configuration, wire::binding::configuration_hash(configuration));
        let claim_key = crypto::dh_public(&self.claim_key);
        let mesh_key = crypto::dh_public(&mesh_secret(self.address[15]));
        let fork = ForkRecord::sign(&self.seed, self.fiduciary(), claim_key, mesh_key, self.address);
        // Whoever signs beforehand need not know it.
        let may_be_unknown = self.signers.is_some() && title.warrant.fork == [0; 32];
        assert!(may_be_unknown || title.warrant.fork == ForkRecord::hash(self.forked.then_some(&fork)));
        let record = PairingRecord::sign(&self.seed, &title);
        self.committed = Some((title, record));
        Some(record)
    }
}

/// Counts down what is lost; whether this one is not.
pub fn lost(left: &mut u32) -> bool {
    let lost = *left > 0;
    *left = left.saturating_sub(1);
    !lost
}

/// What a claim runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn next<S: Stream>(socket: &mut WebSocketStream<S>) -> Option<Vec<u8>> {
    match socket.next().await?.ok()? {
        Message::Binary(bytes) => Some(bytes.into()),
        _ => None,
    }
}

/// One claim from the node's side. Whatever is wrong ends it without a word.
pub async fn serve<S: Stream>(stream: S, node: Arc<Mutex<Node>>) -> Option<()> {
    let fault = node.lock().unwrap().faults.pop_front().unwrap_or(Fault::None);
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
    let callback = |request: &Request, response: Response| {
        path = request.uri().path().into();
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await.ok()?;
    let (token, nonce) = node.lock().unwrap().gate.take()?;
    (path == format!("/{}", wire::Hex(&token))).then_some(())?;
    at(fault, step::UPGRADED).await?;

    let (fiduciary, claim_key, anchor) = {
        let node = node.lock().unwrap();
        (node.poses_as.unwrap_or(node.fiduciary()), node.claim_key.clone(), node.anchor)
    };
    let claim_key = if fault == Fault::OtherClaimKey { Secret::new([66; 32]) } else { claim_key };
    let mut noise = snow::Builder::new("Noise_IK_25519_ChaChaPoly_BLAKE2s".parse().ok()?)
        .local_private_key(&*claim_key)
        .ok()?
        .prologue(&prologue(&fiduciary, &nonce, &token))
        .ok()?
        .build_responder()
        .ok()?;
    let first = next(&mut socket).await?;
    assert_eq!(first.len(), wire::claim::INITIATION);
    noise.read_message(&first, &mut []).ok()?;
    assert_eq!(noise.get_remote_static(), Some(&anchor.dh[..]));
    at(fault, step::INITIATED).await?;
    let mut second = [0; wire::claim::RESPONSE];
    noise.write_message(&[], &mut second).ok()?;
    socket.send(Message::binary(second.to_vec())).await.ok()?;
    at(fault, step::RESPONDED).await?;
    let handshake: [u8; 32] = noise.get_handshake_hash().try_into().ok()?;
    let mut noise = noise.into_transport_mode().ok()?;

    if let Fault::Garbage(length) = fault {
        socket.send(Message::binary(vec![7; length])).await.ok()?;
        return pending().await;
    }
    let identity = node.lock().unwrap().identity(&handshake, fault);
    let message = IdentityMessage { kind: kind::IDENTITY, zero: [0; 7], identity };
    send(&mut socket, &mut noise, message.as_bytes()).await?;
    at(fault, step::IDENTIFIED).await?;

    let sealed = next(&mut socket).await?;
    let mut grant = vec![0; sealed.len()];
    let length = noise.read_message(&sealed, &mut grant).ok()?;
    grant.truncate(length);
    node.lock().unwrap().grants.push(grant.clone());
    at(fault, step::GRANTED).await?;
    let record = node.lock().unwrap().commit(&grant)?;
    at(fault, step::COMMITTED).await?;
    let record = match fault {
        Fault::WrongPairing => {
            let mut title = parse_grant(&grant)?.0.title;
            title.warrant.epoch = U64::new(99);
            PairingRecord::sign(&node.lock().unwrap().seed, &title)
        }
        Fault::ForgedPairing => PairingRecord::sign(&Secret::new([77; 32]), &parse_grant(&grant)?.0.title),
        _ => record,
    };
    let rivals = U32::new(node.lock().unwrap().rivals);
    let message = PairingMessage { kind: kind::PAIRING, zero: [0; 3], rivals, record };
    send(&mut socket, &mut noise, message.as_bytes()).await?;
    at(fault, step::PAIRED).await?;

    let sealed = next(&mut socket).await?;
    let mut text = [0; size_of::<Acknowledgement>()];
    noise.read_message(&sealed, &mut text).ok()?;
    let acknowledgement = Acknowledgement::read_from_bytes(&text).ok()?;
    assert_eq!((acknowledgement.kind, acknowledgement.record), (kind::ACKNOWLEDGEMENT, record.hash()));
    node.lock().unwrap().acknowledged = true;
    // The administrator ends the connection.
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    Some(())
}

async fn send<S: Stream>(socket: &mut WebSocketStream<S>, noise: &mut snow::TransportState, text: &[u8]) -> Option<()> {
    let mut sealed = vec![0; text.len() + wire::claim::TAG];
    noise.write_message(text, &mut sealed).ok()?;
    socket.send(Message::binary(sealed)).await.ok()
}

async fn at(fault: Fault, step: u8) -> Option<()> {
    match fault {
        Fault::Cut(at) if at == step => None,
        Fault::Hang(at) if at == step => pending().await,
        _ => Some(()),
    }
}

/// W of the node of this number.
pub fn mesh_secret(number: u8) -> Secret {
    Secret::new([number.wrapping_add(50); 32])
}

/// The anchor of all tests under an image.
pub fn admin() -> AnchorSecret {
    AnchorSecret::from_seed(&[42; 32])
}
