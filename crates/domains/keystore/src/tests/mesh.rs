//! What the mesh asks: the static steps of WireGuard against `snow`, which knows the same handshake by its Noise name,
//! and the timestamps of a node without a clock.

use calls::keystore::for_mesh::{MeshRandom, ReadMeshHandshake, StartMeshHandshake};
use crypto::{
    dh, dh_public,
    noise::{Symmetric, WIREGUARD, WIREGUARD_PROLOGUE, hkdf2},
};

use super::{disk::Fault, *};
use wire::handshake::{
    FinishHandshake, PER_BLOCK, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply,
};

const PSK: [u8; 32] = [0x99; 32];
static PEER: [u8; 32] = [0x3e; 32];
static EPHEMERAL: [u8; 32] = [0xe3; 32];
/// Public keys that force an all-zero result with any secret.
const SMALL_ORDER: [[u8; 32]; 2] = [[0; 32], {
    let mut one = [0; 32];
    one[0] = 1;
    one
}];

fn secret(bytes: [u8; 32]) -> Secret {
    Secret::new(bytes)
}

/// A node with an owner, and no mesh secret that the search would not know.
pub fn owned(board: Board) -> (Rig, Title) {
    let mut rig = Rig::new(board);
    let title = bind(&rig.identify().unwrap(), &admin(), 10);
    rig.commit(&title).unwrap();
    rig.guard_command_keys(&title);
    (rig, title)
}

impl Rig {
    /// Has the replies searched for the keys of commands, and for what they are made from.
    pub fn guard_command_keys(&mut self, title: &Title) {
        let keys = Keys::derive(&self.root);
        for authority in title.set.places() {
            let Some(shared) = dh(&keys.claim, &authority.dh) else { continue };
            let key = wire::command::key(&keys.claim, &authority.dh, title).unwrap();
            self.secrets.extend([*shared, *key]);
        }
    }

    /// And for the result of a DH with W, and the key that it gives.
    fn guard(&mut self, public: &[u8; 32], chaining_key: &[u8; 32]) -> [Secret; 2] {
        let shared = dh(&mesh_key(&self.root), public).unwrap();
        let [next, key] = hkdf2(chaining_key, &*shared);
        for secret in [*shared, *key] {
            if !self.secrets.contains(&secret) {
                self.secrets.push(secret);
            }
        }
        [next, key]
    }

    pub fn mesh_key(&mut self) -> [u8; 32] {
        self.ask::<for_mesh::MeshKey>(Channel::Mesh, &()).unwrap()
    }

    /// The timestamp of the next handshake.
    pub fn timestamp(&mut self) -> Result<[u8; 12], Refusal> {
        let request = StartHandshake { chaining_key: [5; 32], hash: [6; 32], peer: dh_public(&secret(PEER)) };
        let [next, key] = self.guard(&request.peer, &request.chaining_key);
        let reply = self.ask::<StartMeshHandshake>(Channel::Mesh, &request)?;
        assert_eq!(reply.chaining_key, *next);
        let mut state = Symmetric { chaining_key: [0; 32], hash: request.hash };
        let (text, tag) = reply.timestamp.split_at(12);
        let mut timestamp: [u8; 12] = text.try_into().unwrap();
        assert!(state.decrypt_and_hash(&key, &mut timestamp, tag.try_into().unwrap()));
        assert_eq!(state.hash, reply.hash);
        Ok(timestamp)
    }
}

fn builder() -> snow::Builder<'static> {
    let name = core::str::from_utf8(WIREGUARD).unwrap().parse().unwrap();
    snow::Builder::new(name).prologue(WIREGUARD_PROLOGUE).unwrap().psk(2, &PSK).unwrap()
}

/// A peer's message 1 to the node.
fn initiation(node: &[u8; 32], timestamp: &[u8]) -> (snow::HandshakeState, [u8; 108]) {
    let mut peer = builder().local_private_key(&PEER).unwrap().remote_public_key(node).unwrap();
    peer = peer.fixed_ephemeral_key_for_testing_only(&EPHEMERAL);
    let mut peer = peer.build_initiator().unwrap();
    let mut message = [0; 108];
    assert_eq!(peer.write_message(timestamp, &mut message), Ok(108));
    (peer, message)
}

/// What the mesh makes of it before it asks.
fn request(message: &[u8; 108], node: &[u8; 32]) -> ReadHandshake {
    let ephemeral: [u8; 32] = message[..32].try_into().unwrap();
    let mut state = Symmetric::wireguard(node);
    state.mix_hash(&[&ephemeral]);
    state.mix_chaining_key(&ephemeral);
    ReadHandshake {
        chaining_key: state.chaining_key,
        hash: state.hash,
        ephemeral,
        encrypted_static: message[32..80].try_into().unwrap(),
        encrypted_timestamp: message[80..].try_into().unwrap(),
        zero: [0; 4],
    }
}

/// The transport keys are the same at both ends.
fn transport(snow: snow::HandshakeState, state: &Symmetric, snow_began: bool) {
    assert_eq!(snow.get_handshake_hash(), state.hash);
    let [first, second] = state.split();
    let (mut to_node, mut to_peer) = if snow_began { (first, second) } else { (second, first) };
    let mut snow = snow.into_transport_mode().unwrap();
    let mut text = *b"to the peer";
    let tag = to_peer.encrypt(&mut text).unwrap();
    let mut read = [0; 64];
    assert_eq!(snow.read_message(&[text.as_slice(), &tag].concat(), &mut read), Ok(11));
    assert_eq!(&read[..11], b"to the peer");
    let len = snow.write_message(b"to the node", &mut read).unwrap();
    let (text, tag) = read[..len].split_at_mut(11);
    assert_eq!(to_node.decrypt(text, (&*tag).try_into().unwrap()), Ok(()));
    assert_eq!(text, b"to the node");
}

#[test]
fn the_static_steps_make_a_wireguard_responder() {
    let (mut rig, _) = owned(Board::anchored());
    let node = rig.mesh_key();
    let (mut snow, message) = initiation(&node, &[7; 12]);
    let request = request(&message, &node);
    let [next, _] = rig.guard(&request.ephemeral, &request.chaining_key);
    rig.guard(&dh_public(&secret(PEER)), &next);
    let ReadHandshakeReply { chaining_key, hash, peer, timestamp, zero } =
        rig.ask::<ReadMeshHandshake>(Channel::Mesh, &request).unwrap();
    assert_eq!((peer, timestamp, zero), (dh_public(&secret(PEER)), [7; 12], [0; 4]));
    // Message 2: e, ee, se, psk.
    let mut state = Symmetric { chaining_key, hash };
    let ephemeral = Secret::new(rig.ask::<MeshRandom>(Channel::Mesh, &()).unwrap());
    let public = dh_public(&ephemeral);
    state.mix_hash(&[&public]);
    state.mix_chaining_key(&public);
    state.mix_chaining_key(&*dh(&ephemeral, &request.ephemeral).unwrap());
    state.mix_chaining_key(&*dh(&ephemeral, &peer).unwrap());
    let key = state.mix_key_and_hash(&PSK);
    let tag = state.encrypt_and_hash(&key, &mut []);
    assert_eq!(snow.read_message(&[public.as_slice(), &tag].concat(), &mut []), Ok(0));
    transport(snow, &state, true);
}

#[test]
fn the_static_steps_make_a_wireguard_initiator() {
    let (mut rig, _) = owned(Board::anchored());
    let (node, peer) = (rig.mesh_key(), dh_public(&secret(PEER)));
    // Message 1: e, es, s.
    let public = dh_public(&secret(EPHEMERAL));
    let mut state = Symmetric::wireguard(&peer);
    state.mix_hash(&[&public]);
    state.mix_chaining_key(&public);
    let key = state.mix_key(&*dh(&secret(EPHEMERAL), &peer).unwrap());
    let mut sealed = node;
    let tag = state.encrypt_and_hash(&key, &mut sealed);
    // ss and the timestamp.
    rig.guard(&peer, &state.chaining_key);
    let request = StartHandshake { chaining_key: state.chaining_key, hash: state.hash, peer };
    let StartHandshakeReply { chaining_key, hash, timestamp, .. } =
        rig.ask::<StartMeshHandshake>(Channel::Mesh, &request).unwrap();
    let mut snow = builder().local_private_key(&PEER).unwrap().build_responder().unwrap();
    let mut read = [0; 12];
    let message = [public.as_slice(), &sealed, &tag, &timestamp].concat();
    assert_eq!(snow.read_message(&message, &mut read), Ok(12));
    assert_eq!(snow.get_remote_static(), Some(node.as_slice()));
    assert!(read > [0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Message 2: e, ee, then se, psk.
    let mut response = [0; 48];
    assert_eq!(snow.write_message(&[], &mut response), Ok(48));
    let theirs: [u8; 32] = response[..32].try_into().unwrap();
    let mut state = Symmetric { chaining_key, hash };
    state.mix_hash(&[&theirs]);
    state.mix_chaining_key(&theirs);
    state.mix_chaining_key(&*dh(&secret(EPHEMERAL), &theirs).unwrap());
    rig.guard(&theirs, &state.chaining_key);
    let request = FinishHandshake { chaining_key: state.chaining_key, ephemeral: theirs };
    state.chaining_key = rig.ask::<for_mesh::FinishMeshHandshake>(Channel::Mesh, &request).unwrap();
    let key = state.mix_key_and_hash(&PSK);
    assert!(state.decrypt_and_hash(&key, &mut [], response[32..].try_into().unwrap()));
    transport(snow, &state, false);
}

#[test]
fn no_byte_of_a_handshake_can_be_changed() {
    let (mut rig, _) = owned(Board::anchored());
    let node = rig.mesh_key();
    let (_, message) = initiation(&node, &[7; 12]);
    assert!(rig.ask::<ReadMeshHandshake>(Channel::Mesh, &request(&message, &node)).is_ok());
    for at in 0..size_of::<ReadHandshake>() - 4 {
        let mut changed = request(&message, &node);
        changed.as_mut_bytes()[at] ^= 0x10;
        let outcome = rig.ask::<ReadMeshHandshake>(Channel::Mesh, &changed);
        assert_eq!(outcome.err(), Some(Refusal::Forged), "byte {at}");
    }
    // To another node.
    let other = dh_public(&Secret::new([9; 32]));
    let (_, message) = initiation(&other, &[7; 12]);
    assert_eq!(rig.ask::<ReadMeshHandshake>(Channel::Mesh, &request(&message, &other)).err(), Some(Refusal::Forged));
}

#[test]
fn an_exchange_that_gives_zero_is_refused() {
    let (mut rig, _) = owned(Board::anchored());
    let node = rig.mesh_key();
    let writes = rig.disk.writes();
    for public in SMALL_ORDER {
        let start = StartHandshake { chaining_key: [1; 32], hash: [2; 32], peer: public };
        assert_eq!(rig.ask::<StartMeshHandshake>(Channel::Mesh, &start).err(), Some(Refusal::Forged));
        let finish = FinishHandshake { chaining_key: [1; 32], ephemeral: public };
        let outcome = rig.ask::<for_mesh::FinishMeshHandshake>(Channel::Mesh, &finish);
        assert_eq!(outcome.err(), Some(Refusal::Forged));
        let (_, message) = initiation(&node, &[7; 12]);
        let read = ReadHandshake { ephemeral: public, ..request(&message, &node) };
        assert_eq!(rig.ask::<ReadMeshHandshake>(Channel::Mesh, &read).err(), Some(Refusal::Forged));
        // One that is sealed as it should be, as an initiator's static key.
        let mut read = request(&message, &node);
        let mut state = Symmetric { chaining_key: read.chaining_key, hash: read.hash };
        let key = state.mix_key(&*dh(&secret(EPHEMERAL), &node).unwrap());
        let mut sealed = public;
        let tag = state.encrypt_and_hash(&key, &mut sealed);
        read.encrypted_static = [sealed.as_slice(), &tag].concat().try_into().unwrap();
        // With the key that a zero result would give.
        let key = state.mix_key(&[0; 32]);
        let mut timestamp = [7; 12];
        let tag = state.encrypt_and_hash(&key, &mut timestamp);
        read.encrypted_timestamp = [timestamp.as_slice(), &tag].concat().try_into().unwrap();
        assert_eq!(rig.ask::<ReadMeshHandshake>(Channel::Mesh, &read).err(), Some(Refusal::Forged));
    }
    // Nor is a timestamp spent on it.
    assert_eq!(rig.disk.writes(), writes);
}

#[test]
fn timestamps_rise_across_power_cuts_and_are_reserved_before_they_are_used() {
    let (mut rig, _) = owned(Board::anchored());
    let mut last = [0; 12];
    let mut rises = |next: [u8; 12]| {
        assert!(next > core::mem::replace(&mut last, next));
    };
    for _ in 0..3 {
        // One commit at power-up has made them all.
        let writes = rig.disk.writes();
        for _ in 0..5 {
            rises(rig.timestamp().unwrap());
        }
        assert_eq!(rig.disk.writes(), writes);
        // The power goes before or after a block is reserved, and before anything is answered.
        for fault in [Fault::Cut, Fault::LateCut] {
            let board = Board { seed: 40, ..rig.board };
            rig.disk.power_on();
            rig.disk.fail(fault);
            let mut cut = Rig::boot(board, rig.disk.clone());
            assert_eq!(cut.status().state(), Some(State::Testing));
            rig.power_cycle();
            rises(rig.timestamp().unwrap());
        }
        // None is reserved: there is none to be had before one is.
        rig.disk.power_on();
        rig.disk.fail(Fault::Refused);
        let (root, board, disk) = (rig.root, Board { seed: 41, ..rig.board }, rig.disk.clone());
        rig = Rig::boot(board, disk);
        rig.root = root;
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.timestamp(), Err(Refusal::Store));
        rises(rig.timestamp().unwrap());
        rig.power_cycle();
    }
    // The end of a block.
    rises(rig.timestamp().unwrap());
    for _ in 0..2 {
        let Stage::Ready(node) = &mut rig.keystore.stage else { panic!("not ready") };
        node.use_timestamps(PER_BLOCK - 1);
        let writes = rig.disk.writes();
        rises(rig.timestamp().unwrap());
        assert_eq!(rig.disk.writes(), writes);
        rises(rig.timestamp().unwrap());
        assert_eq!(rig.disk.writes(), writes + 1);
    }
}

#[test]
fn the_mesh_key_is_the_one_of_the_binding_and_randomness_is_fresh() {
    let (mut rig, title) = owned(Board::anchored());
    assert_eq!(rig.mesh_key(), title.binding.mesh_key);
    let random = [(); 3].map(|()| rig.ask::<MeshRandom>(Channel::Mesh, &()).unwrap());
    assert!(random[0] != random[1] && random[1] != random[2]);
}
