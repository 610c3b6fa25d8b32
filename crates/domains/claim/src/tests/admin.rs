//! The administrator: `snow` as the Noise initiator, and frames of its own, so that a test can break them.

use std::{format, string::String, vec::Vec};

use crypto::Secret;
use smoltcp::iface::SocketHandle;
use wire::{
    U16, U64,
    binding::{ForkRecord, Identity, configuration_hash},
    claim::{Acknowledgement, GrantHead, IdentityMessage, PairingMessage, kind, prologue},
    set::{Authority, AuthoritySet},
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::world::World;

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const NOISE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

pub fn hex(bytes: &[u8]) -> String {
    format!("{}", wire::Hex(bytes))
}

pub fn head(token: &[u8; 16]) -> String {
    let token = hex(token);
    format!(
        "GET /{token} HTTP/1.1\r\nHost: [fe80::1]:9443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A frame of the client: masked, in the shortest encoding.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    frame_with(0x82, 0x80, payload)
}

/// A frame with this first byte and this mask bit.
pub fn frame_with(first: u8, mask_bit: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::from([first]);
    match payload.len() {
        short @ 0..126 => out.push(mask_bit | short as u8),
        medium => {
            out.push(mask_bit | 126);
            out.extend((medium as u16).to_be_bytes());
        }
    }
    let mask = [0x11, 0x22, 0x33, 0x44];
    if mask_bit == 0 {
        out.extend(payload);
        return out;
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The payloads of a server's unmasked binary frames.
pub fn unframe(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let [0x82, short, rest @ ..] = bytes {
        let (len, rest) = match short {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(*len), rest),
        };
        assert!(*short < 127);
        payloads.push(rest[..len].to_vec());
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    payloads
}

/// One claim, as far as it has come.
pub struct Admin {
    pub handle: SocketHandle,
    pub handshake: Option<snow::HandshakeState>,
    pub transport: Option<snow::TransportState>,
    pub identity: Option<Identity>,
    pub configuration: Vec<u8>,
    pub title: Option<Title>,
    pub pairing: Option<PairingMessage>,
    handshake_hash: Vec<u8>,
}

/// The administrator's messages, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Message {
    Head,
    Initiation,
    Grant,
    Acknowledgement,
}

pub const MESSAGES: [Message; 4] = [Message::Head, Message::Initiation, Message::Grant, Message::Acknowledgement];

/// A handshake for the present gate, by the holder of this X25519 key, to this N.
pub fn initiator(world: &World, secret: &Secret, claim_key: &[u8; 32]) -> snow::HandshakeState {
    let gate = &world.lifecycle.gate;
    let prologue = prologue(&gate.fiduciary, &gate.nonce, &gate.token);
    snow::Builder::new(NOISE.parse().unwrap())
        .prologue(&prologue)
        .unwrap()
        .local_private_key(&**secret)
        .unwrap()
        .remote_public_key(claim_key)
        .unwrap()
        .build_initiator()
        .unwrap()
}

impl Admin {
    /// Connects.
    pub fn connect(world: &mut World) -> Self {
        let handle = world.peer.connect();
        world.pump();
        let claim_key = crypto::dh_public(&world.keystore.claim_secret);
        Self {
            handle,
            handshake: Some(initiator(world, &world.anchor.dh, &claim_key)),
            transport: None,
            identity: None,
            configuration: b"mesh: 10.8.0.2".to_vec(),
            title: None,
            pairing: None,
            handshake_hash: Vec::new(),
        }
    }

    /// The payload of a message: of its WebSocket frame, or the head itself.
    pub fn payload(&mut self, world: &World, message: Message) -> Vec<u8> {
        match message {
            Message::Head => head(&world.token()).into_bytes(),
            Message::Initiation => {
                let mut out = [0; 200];
                let len = self.handshake.as_mut().unwrap().write_message(&[], &mut out).unwrap();
                out[..len].to_vec()
            }
            Message::Grant => {
                let text = self.grant(world);
                self.seal(&text)
            }
            Message::Acknowledgement => {
                let record = self.pairing.unwrap().record.hash();
                let message = Acknowledgement { kind: kind::ACKNOWLEDGEMENT, zero: [0; 7], record };
                self.seal(message.as_bytes())
            }
        }
    }

    pub fn grant(&mut self, world: &World) -> Vec<u8> {
        let identity = self.identity.unwrap();
        let mut title = Title::new_zeroed();
        title.warrant.fiduciary = identity.fiduciary;
        title.binding.nonce = identity.nonce;
        title.binding.mesh_key = identity.mesh_key;
        title.warrant.fork = ForkRecord::hash(identity.fork());
        title.warrant.fleet = [9; 32];
        title.warrant.epoch = U64::new(identity.epoch.get() + 1 - u64::from(identity.committed));
        title.binding.counter = U64::new(1);
        title.warrant.configuration = configuration_hash(&self.configuration);
        title.set = AuthoritySet::alone(Authority::signer(&world.anchor.public()));
        let title = self.title.unwrap_or(title).sign(&world.anchor);
        self.title = Some(title);
        let configuration = U16::new(self.configuration.len() as u16);
        let head = GrantHead { kind: kind::GRANT, zero: [0; 5], configuration, title };
        [head.as_bytes(), &self.configuration].concat()
    }

    pub fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = std::vec![0; text.len() + 16];
        let len = self.transport.as_mut().unwrap().write_message(text, &mut out).unwrap();
        assert_eq!(len, out.len());
        out
    }

    pub fn send(&mut self, world: &mut World, message: Message, payload: &[u8]) {
        let bytes = if message == Message::Head { payload.to_vec() } else { frame(payload) };
        world.peer.send(self.handle, &bytes);
        world.pump();
    }

    /// Takes what the node answers to a message. False if it says nothing.
    pub fn take_answer(&mut self, world: &mut World, message: Message) -> bool {
        let bytes = world.peer.receive(self.handle);
        if bytes.is_empty() {
            return false;
        }
        match message {
            Message::Head => {
                let text = core::str::from_utf8(&bytes).unwrap();
                assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\n"), "{text}");
                assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
            }
            _ => self.hear(&unframe(&bytes), message),
        }
        true
    }

    /// Takes the messages that answer a message.
    pub fn hear(&mut self, answers: &[Vec<u8>], message: Message) {
        match message {
            Message::Initiation => {
                let [response, identity] = answers else { panic!("{} answers", answers.len()) };
                let mut handshake = self.handshake.take().unwrap();
                assert_eq!(handshake.read_message(response, &mut [0; 64]).unwrap(), 0);
                self.handshake_hash = handshake.get_handshake_hash().to_vec();
                self.transport = Some(handshake.into_transport_mode().unwrap());
                let text = self.open(identity);
                let message = IdentityMessage::read_from_bytes(&text).unwrap();
                assert_eq!(message.kind, kind::IDENTITY);
                let hash = self.handshake_hash[..].try_into().unwrap();
                message.identity.verify(&hash).unwrap();
                self.identity = Some(message.identity);
            }
            Message::Grant => {
                let [pairing] = answers else { panic!("{} answers", answers.len()) };
                let text = self.open(pairing);
                let message = PairingMessage::read_from_bytes(&text).unwrap();
                assert_eq!(message.kind, kind::PAIRING);
                message.record.verify(&self.title.unwrap()).unwrap();
                self.pairing = Some(message);
            }
            Message::Head | Message::Acknowledgement => panic!("not a message with an answer"),
        }
    }

    fn open(&mut self, sealed: &[u8]) -> Vec<u8> {
        let mut out = std::vec![0; sealed.len()];
        let len = self.transport.as_mut().unwrap().read_message(sealed, &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Sends a message as it should be and takes the answer.
    pub fn say(&mut self, world: &mut World, message: Message) {
        let payload = self.payload(world, message);
        self.send(world, message, &payload);
        assert_eq!(self.take_answer(world, message), message != Message::Acknowledgement, "{message:?}");
    }

    /// Says everything before a message.
    pub fn say_until(&mut self, world: &mut World, message: Message) {
        for earlier in MESSAGES.into_iter().filter(|earlier| *earlier < message) {
            self.say(world, earlier);
        }
    }
}

/// A whole claim, as it should be.
pub fn claim(world: &mut World) -> Admin {
    let mut admin = Admin::connect(world);
    for message in MESSAGES {
        admin.say(world, message);
    }
    admin
}
