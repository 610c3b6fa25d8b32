//! The responder against two implementations by others, and a whole claim over a third's WebSocket.

use std::{
    cell::RefCell,
    collections::VecDeque,
    format,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    vec::Vec,
};

use calls::keystore::{Initiation, InitiationReply};
use clatter::{
    NqHandshake,
    bytearray::{ByteArray, SensitiveByteArray},
    crypto::{cipher::ChaChaPoly, dh::X25519, hash::Blake2s},
    handshakepattern::noise_ik,
    traits::Handshaker,
};
use crypto::{Secret, dh_public, noise::Symmetric};
use wire::claim::INITIATION;

use super::{
    admin::{Admin, MESSAGES, Message, NOISE, hex},
    world::World,
};
use crate::noise::{Begun, Session};

const NODE: [u8; 32] = [0xa; 32];
const ADMIN: [u8; 32] = [0x5; 32];

/// The keystore's part.
fn keystore(request: Initiation) -> Option<InitiationReply> {
    let secret = Secret::new(NODE);
    let mut state = Symmetric { chaining_key: request.chaining_key, hash: request.hash };
    let key = state.mix_key(&*crypto::dh(&secret, &request.ephemeral)?);
    let mut peer: [u8; 32] = request.encrypted_static[..32].try_into().unwrap();
    state.decrypt_and_hash(&key, &mut peer, &request.encrypted_static[32..].try_into().unwrap()).then_some(())?;
    let key = *state.mix_key(&*crypto::dh(&secret, &peer)?);
    Some(InitiationReply { chaining_key: state.chaining_key, hash: state.hash, key, peer })
}

fn respond(prologue: &[u8], message: &[u8]) -> Option<([u8; 48], Session)> {
    let message: &[u8; INITIATION] = message.try_into().unwrap();
    let begun = Begun::new(prologue, &dh_public(&Secret::new(NODE)), message);
    let reply = keystore(begun.request())?;
    begun.read(reply).ok()?.respond(&Secret::new([0xe; 32])).ok()
}

#[test]
fn snow_and_the_responder_understand_each_other() {
    let public = dh_public(&Secret::new(NODE));
    for prologue in [&b""[..], b"genesis", &[7; 80]] {
        let mut snow = snow::Builder::new(NOISE.parse().unwrap())
            .prologue(prologue)
            .unwrap()
            .local_private_key(&ADMIN)
            .unwrap()
            .remote_public_key(&public)
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut buffer = [0; 200];
        let len = snow.write_message(&[], &mut buffer).unwrap();
        assert!(respond(b"another", &buffer[..len]).is_none());
        let (response, mut session) = respond(prologue, &buffer[..len]).unwrap();
        snow.read_message(&response, &mut buffer).unwrap();
        assert_eq!(snow.get_handshake_hash(), session.hash);
        let mut snow = snow.into_transport_mode().unwrap();
        for round in 0..300u16 {
            let mut text = Vec::from(round.to_be_bytes());
            let tag = session.send.encrypt(&mut text).unwrap();
            let len = snow.read_message(&[&text[..], &tag].concat(), &mut buffer).unwrap();
            assert_eq!(buffer[..len], round.to_be_bytes());
            let len = snow.write_message(&round.to_le_bytes(), &mut buffer).unwrap();
            let (text, tag) = buffer[..len].split_last_chunk_mut().unwrap();
            session.receive.decrypt(text, tag).unwrap();
            assert_eq!(text, round.to_le_bytes());
        }
    }
}

#[test]
fn clatter_and_the_responder_understand_each_other() {
    let keys = |secret| clatter::KeyPair::new(dh_public(&Secret::new(secret)), SensitiveByteArray::from_slice(&secret));
    let mut clatter = NqHandshake::<X25519, ChaChaPoly, Blake2s>::new(
        noise_ik(),
        &[7; 80],
        true,
        Some(keys(ADMIN)),
        None,
        Some(keys(NODE).public),
        None,
    )
    .unwrap();
    let mut buffer = [0; 200];
    let len = clatter.write_message(&[], &mut buffer).unwrap();
    let (response, mut session) = respond(&[7; 80], &buffer[..len]).unwrap();
    clatter.read_message(&response, &mut buffer).unwrap();
    let mut clatter = clatter.finalize().unwrap();
    assert_eq!(clatter.get_handshake_hash().as_slice(), session.hash);
    let mut text = *b"down";
    let tag = session.send.encrypt(&mut text).unwrap();
    let len = clatter.receive(&[&text[..], &tag].concat(), &mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"down");
    let len = clatter.send(b"up", &mut buffer).unwrap();
    let (text, tag) = buffer[..len].split_last_chunk_mut().unwrap();
    session.receive.decrypt(text, tag).unwrap();
    assert_eq!(text, b"up");
}

/// A stream whose other end is the peer's socket.
#[derive(Clone, Default)]
struct Stream(Rc<RefCell<(VecDeque<u8>, Vec<u8>)>>);

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.borrow_mut().0.read(to)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().1.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    fn carry(&self, world: &mut World, admin: &Admin) {
        let out = core::mem::take(&mut self.0.borrow_mut().1);
        world.peer.send(admin.handle, &out);
        world.pump();
        self.0.borrow_mut().0.extend(world.peer.receive(admin.handle));
    }
}

#[test]
fn tungstenite_and_the_node_understand_each_other() {
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    let stream = Stream::default();
    let url = format!("ws://[fe80::1]:9443/{}", hex(&world.token()));
    let Err(tungstenite::HandshakeError::Interrupted(handshake)) = tungstenite::client(url, stream.clone()) else {
        panic!("an answer before the question");
    };
    stream.carry(&mut world, &admin);
    let (mut socket, response) = handshake.handshake().unwrap();
    assert_eq!(response.status(), 101);
    for message in &MESSAGES[1..] {
        let payload = admin.payload(&world, *message);
        socket.send(tungstenite::Message::binary(payload)).unwrap();
        stream.carry(&mut world, &admin);
        let count = match message {
            Message::Initiation => 2,
            Message::Grant => 1,
            _ => 0,
        };
        let answers: Vec<Vec<u8>> = (0..count).map(|_| socket.read().unwrap().into_data().to_vec()).collect();
        assert!(socket.read().is_err());
        if count > 0 {
            admin.hear(&answers, *message);
        }
    }
    assert!(world.keystore.owned);
}
