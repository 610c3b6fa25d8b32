//! What the keystore decides for beacon, with real keys. It answers and refuses what the real one does: `sim/tests/fakes`
//! compares the two.

use calls::keystore::{CheckOpenReply, MakeHelloReply, Refusal, for_beacon::*};
use crypto::{AnchorPublic, Secret};
use shm::mailbox::{Incoming, Operation, Server};
use wire::link::{Answer, Datagram, Find, Hello, HelloBody, Open, open_mac_key, open_target};
use zerocopy::{FromZeros, IntoBytes};

pub const FIDUCIARY: [u8; 32] = [0xf0; 32];
pub const CLAIM: [u8; 32] = [5; 32];
pub const TOKEN: [u8; 16] = [7; 16];

pub struct Keystore {
    pub anchor: AnchorPublic,
    /// The claim is final.
    pub claimed: bool,
    /// Of the last find.
    counter: u64,
    pub drawn: u64,
}

impl Keystore {
    pub fn new(anchor: AnchorPublic) -> Self {
        Self { anchor, claimed: false, counter: 0, drawn: 0 }
    }

    pub fn answer(&mut self, server: &mut Server<'static, MAX_REQUEST>, call: &Incoming<MAX_REQUEST>) {
        let random = self.draw();
        match call.op {
            BeaconRandom::OP => server.reply::<BeaconRandom>(&random),
            _ if self.claimed => server.refuse(Refusal::Taken.code()),
            CheckFind::OP => match self.check_find(&call.parse::<CheckFind>().unwrap()) {
                Ok(()) => server.reply::<CheckFind>(random[..16].try_into().unwrap()),
                Err(refusal) => server.refuse(refusal.code()),
            },
            MakeHello::OP => server.reply::<MakeHello>(&self.make_hello(random)),
            CheckOpen::OP => match self.check_open(&call.parse::<CheckOpen>().unwrap(), random) {
                Ok(reply) => server.reply::<CheckOpen>(&reply),
                Err(refusal) => server.refuse(refusal.code()),
            },
            op => panic!("an operation that is not beacon's: {op}"),
        }
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        crypto::sha256(&self.drawn.to_le_bytes())
    }

    fn check_find(&mut self, find: &Find) -> Result<(), Refusal> {
        let find = Find::parse(find.as_bytes()).ok_or(Refusal::Forged)?;
        if find.counter.get() <= self.counter {
            return Err(Refusal::Stale);
        }
        find.verify(&self.anchor).ok_or(Refusal::Forged)?;
        self.counter = find.counter.get();
        Ok(())
    }

    fn make_hello(&self, random: [u8; 32]) -> MakeHelloReply {
        let mut body = HelloBody::new_zeroed();
        body.fiduciary = FIDUCIARY;
        body.claim_key = crypto::dh_public(&Secret::new(CLAIM));
        body.nonce = random[..16].try_into().unwrap();
        let hello = Hello::seal(&self.anchor, &Secret::new(random), &body).unwrap();
        MakeHelloReply { hello, nonce: body.nonce }
    }

    fn check_open(&self, open: &Open, random: [u8; 32]) -> Result<CheckOpenReply, Refusal> {
        let claim = Secret::new(CLAIM);
        let open = Open::parse(open.as_bytes()).ok_or(Refusal::Forged)?;
        if open.target != open_target(&FIDUCIARY) {
            return Err(Refusal::NotMine);
        }
        let key = open_mac_key(&crypto::dh(&claim, &self.anchor.dh).unwrap());
        if !open.check_mac(&key) || open.verify(&self.anchor).is_none() {
            return Err(Refusal::Forged);
        }
        let answer = Answer::seal(&claim, &Secret::new(random), open, &TOKEN).ok_or(Refusal::Forged)?;
        Ok(CheckOpenReply { answer, token: TOKEN })
    }
}
