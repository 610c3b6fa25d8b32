//! A small keystore with real keys, and knobs to make it fail. Without them it answers and refuses what the real one does:
//! `sim/tests/fakes` compares the two.

use std::vec::Vec;

use calls::keystore::{InitiationReply, Refusal, for_claim::*};
use crypto::{AnchorPublic, AnchorSecret, Secret, noise::Symmetric};
use shm::mailbox::{Operation, Server};
use wire::{
    Hash, Key, U64,
    binding::{ForkRecord, Identity, PairingRecord},
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};

pub const LINK_IP: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x12, 0x34];

/// How the next calls of one operation go wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Refuse(Refusal),
    /// This many calls are taken and never answered.
    Silent(u32),
    /// The reply does not fit the operation.
    Lie,
}

pub struct Keystore {
    pub server: Server<'static, MAX_REQUEST>,
    pub fiduciary: Secret,
    pub claim_secret: Secret,
    pub anchor: AnchorPublic,
    /// The live claim nonce.
    nonce: Option<[u8; 32]>,
    pub bound: Option<(Title, PairingRecord)>,
    pub owned: bool,
    pub trouble: Option<(u32, Trouble)>,
    /// Every call taken.
    pub log: Vec<u32>,
    drawn: u64,
}

impl Keystore {
    pub fn new(server: Server<'static, MAX_REQUEST>, anchor: &AnchorSecret) -> Self {
        Self {
            server,
            fiduciary: Secret::new([0xf; 32]),
            claim_secret: Secret::new([0xa; 32]),
            anchor: anchor.public(),
            nonce: None,
            bound: None,
            owned: false,
            trouble: None,
            log: Vec::new(),
            drawn: 0,
        }
    }

    pub fn public(&self) -> Key {
        crypto::sign_public(&self.fiduciary)
    }

    pub fn fork(&self) -> ForkRecord {
        ForkRecord::sign(&self.fiduciary, self.public(), crypto::dh_public(&self.claim_secret), [0xb; 32], LINK_IP)
    }

    pub fn random(&mut self) -> [u8; 32] {
        self.drawn += 1;
        crypto::sha256(&self.drawn.to_le_bytes())
    }

    /// Answers a call, if one has come. Returns whether its client is to be notified.
    pub fn serve(&mut self) -> bool {
        if let Some(call) = self.server.take().unwrap() {
            self.log.push(call.op);
            match self.trouble {
                Some((op, Trouble::Refuse(refusal))) if op == call.op => self.server.refuse(refusal.code()),
                Some((op, Trouble::Lie)) if op == call.op => self.server.reply::<Lie>(&[0; 5]),
                Some((op, Trouble::Silent(times))) if op == call.op && times > 0 => {
                    self.trouble = Some((op, Trouble::Silent(times - 1)));
                }
                _ if call.op == ClaimRandom::OP => {
                    let random = self.random();
                    self.server.reply::<ClaimRandom>(&random);
                }
                _ if call.op == ClaimKey::OP => {
                    self.server.reply::<ClaimKey>(&crypto::dh_public(&self.claim_secret));
                }
                _ if self.owned && [ReadInitiation::OP, Identify::OP, Commit::OP].contains(&call.op) => {
                    self.server.refuse(Refusal::Taken.code());
                }
                _ if call.op == ReadInitiation::OP => {
                    let reply = self.read(call.parse::<ReadInitiation>().unwrap());
                    self.answer::<ReadInitiation>(reply);
                }
                _ if call.op == Identify::OP => {
                    let identity = self.identify(call.parse::<Identify>().unwrap());
                    self.server.reply::<Identify>(&identity);
                }
                _ if call.op == Commit::OP => {
                    let reply = self.commit(call.parse::<Commit>().unwrap());
                    self.answer::<Commit>(reply);
                }
                _ if call.op == Acknowledge::OP => {
                    let reply = self.acknowledge(call.parse::<Acknowledge>().unwrap());
                    self.answer::<Acknowledge>(reply);
                }
                _ => self.server.refuse(Refusal::NotAllowed.code()),
            }
        }
        self.server.take_signal()
    }

    fn answer<O: Operation>(&mut self, reply: Result<O::Reply, Refusal>) {
        match reply {
            Ok(reply) => self.server.reply::<O>(&reply),
            Err(refusal) => self.server.refuse(refusal.code()),
        }
    }

    fn read(&self, request: calls::keystore::Initiation) -> Result<InitiationReply, Refusal> {
        let mut state = Symmetric { chaining_key: request.chaining_key, hash: request.hash };
        let secret = &self.claim_secret;
        let key = state.mix_key(&*crypto::dh(secret, &request.ephemeral).ok_or(Refusal::Forged)?);
        let mut peer: Key = request.encrypted_static[..32].try_into().unwrap();
        let tag = request.encrypted_static[32..].try_into().unwrap();
        if !state.decrypt_and_hash(&key, &mut peer, &tag) || peer != self.anchor.dh {
            return Err(Refusal::Forged);
        }
        let key = *state.mix_key(&*crypto::dh(secret, &peer).ok_or(Refusal::Forged)?);
        Ok(InitiationReply { chaining_key: state.chaining_key, hash: state.hash, key, peer })
    }

    fn identify(&mut self, handshake: Hash) -> Identity {
        let mut identity = Identity::new_zeroed();
        identity.fiduciary = self.public();
        identity.mesh_key = [0xb; 32];
        identity.fork = self.fork();
        identity.forked = 1;
        if let Some((title, _)) = &self.bound {
            identity.committed = 1;
            identity.nonce = title.binding.nonce;
            identity.epoch = title.warrant.epoch;
        } else {
            identity.nonce = self.random();
            self.nonce = Some(identity.nonce);
        }
        identity.sign(&self.fiduciary, &handshake)
    }

    fn commit(&mut self, title: Title) -> Result<PairingRecord, Refusal> {
        if let (Some((_, record)), checked) = (self.bound, self.check(&title)) {
            return checked.map(|()| record);
        }
        let checked = self.check(&title);
        // One nonce, one attempt.
        self.nonce.take_if(|live| *live == title.binding.nonce);
        checked?;
        let record = PairingRecord::sign(&self.fiduciary, &title);
        self.bound = Some((title, record));
        Ok(record)
    }

    /// What lifecycle asks.
    pub fn check(&self, title: &Title) -> Result<(), Refusal> {
        if self.owned {
            return Err(Refusal::Taken);
        }
        if let Some((bound, _)) = &self.bound {
            return if bound.as_bytes() == title.as_bytes() { Ok(()) } else { Err(Refusal::Taken) };
        }
        self.nonce.filter(|live| *live == title.binding.nonce).ok_or(Refusal::Nonce)?;
        let mine = title.warrant.fiduciary == self.public()
            && title.binding.mesh_key == [0xb; 32]
            && [[0; 32], ForkRecord::hash(Some(&self.fork()))].contains(&title.warrant.fork);
        if !mine {
            return Err(Refusal::NotMine);
        }
        if title.warrant.epoch != U64::new(1) || title.binding.counter == U64::new(0) {
            return Err(Refusal::Stale);
        }
        title.verify(&wire::anchor::Anchor::alone(&self.anchor)).map(drop).ok_or(Refusal::Forged)
    }

    fn acknowledge(&mut self, hash: Hash) -> Result<(), Refusal> {
        let (_, record) = self.bound.ok_or(Refusal::NotMine)?;
        if record.hash() != hash {
            return Err(Refusal::Forged);
        }
        self.owned = true;
        Ok(())
    }
}

/// What no operation replies with.
struct Lie;
impl Operation for Lie {
    const OP: u32 = 0;
    const REPEATABLE: bool = true;
    type Request = ();
    type Reply = [u8; 5];
}
