//! The MACs of handshake messages and the cookies that prove a source address under load (the paper, sections 5.3
//! and 5.4.7): those that the node gives, and those that it was given.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use clock::Micros;
use crypto::{
    Secret, equal,
    noise::{hash, mac},
};
use wire::Key;
use zeroize::Zeroizing;

use crate::{
    Endpoint, Reason,
    messages::{CookieReply, Covered},
    random::Random,
    time::COOKIE_TIME,
};

type Cookie = [u8; 16];

/// The keys that whoever knows a peer's public key can make.
struct Keys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl Keys {
    fn of(public: &Key) -> Self {
        Self { mac1: hash(&[b"mac1----", public]), cookie: hash(&[b"cookie--", public]) }
    }
}

/// Checks what comes, and gives cookies.
pub struct Checker {
    keys: Keys,
    /// What cookies are made of, and since when.
    secret: Option<(Secret, Micros)>,
}

impl Checker {
    pub fn new(public: &Key) -> Self {
        Self { keys: Keys::of(public), secret: None }
    }

    pub fn mac1(&self, message: &Covered<'_>) -> bool {
        equal(&mac(&self.keys.mac1, &[message.by_mac1]), message.mac1)
    }

    /// The sender had a cookie for the place that this came from.
    pub fn mac2(&mut self, now: Micros, from: Endpoint, message: &Covered<'_>, random: &mut Random) -> bool {
        let cookie = self.cookie(now, from, random);
        equal(&mac(&cookie, &[message.by_mac2]), message.mac2)
    }

    fn cookie(&mut self, now: Micros, from: Endpoint, random: &mut Random) -> Cookie {
        let secret = self.secret.take().filter(|(_, since)| now.saturating_sub(*since) < COOKIE_TIME);
        let (secret, _) = self.secret.insert(secret.unwrap_or_else(|| (random.draw(), now)));
        mac(&**secret, &[&from.ip, &from.port.to_be_bytes()])
    }

    /// The answer to a handshake message from a place that has not shown its cookie.
    pub fn reply(
        &mut self,
        now: Micros,
        from: Endpoint,
        sender: u32,
        mac1: &[u8; 16],
        random: &mut Random,
    ) -> Option<CookieReply> {
        let mut cookie = self.cookie(now, from, random);
        let nonce = random.bytes();
        let cipher = XChaCha20Poly1305::new(&self.keys.cookie.into());
        let tag = cipher.encrypt_inout_detached(&nonce.into(), mac1, cookie.as_mut_slice().into()).ok()?;
        Some(CookieReply::new(sender, nonce, cookie, tag.into()))
    }
}

/// Seals what goes to one peer, and keeps the cookie that the peer gave.
pub struct Sealer {
    keys: Keys,
    /// Of the last message, until a cookie has come for it.
    last_mac1: Option<[u8; 16]>,
    cookie: Option<(Zeroizing<Cookie>, Micros)>,
}

impl Sealer {
    pub fn new(peer: &Key) -> Self {
        Self { keys: Keys::of(peer), last_mac1: None, cookie: None }
    }

    /// Sets both MACs of a handshake message.
    pub fn seal(&mut self, now: Micros, message: &mut [u8]) {
        let Some((by_mac2, mac2)) = message.split_last_chunk_mut::<16>() else { return };
        if let Some((by_mac1, mac1)) = by_mac2.split_last_chunk_mut::<16>() {
            *mac1 = mac(&self.keys.mac1, &[by_mac1]);
            self.last_mac1 = Some(*mac1);
        }
        *mac2 = match &self.cookie {
            Some((cookie, since)) if now.saturating_sub(*since) < COOKIE_TIME => mac(&**cookie, &[by_mac2]),
            _ => [0; 16],
        };
    }

    /// A cookie reply is only taken for the last message that went out, and one for each.
    pub fn take(&mut self, now: Micros, reply: &CookieReply) -> Result<(), Reason> {
        let last_mac1 = self.last_mac1.ok_or(Reason::UnknownIndex)?;
        let mut cookie = Zeroizing::new(reply.cookie);
        let cipher = XChaCha20Poly1305::new(&self.keys.cookie.into());
        let text = cookie.as_mut_slice().into();
        cipher
            .decrypt_inout_detached(&reply.nonce.into(), &last_mac1, text, &reply.tag.into())
            .map_err(|_| Reason::Forged)?;
        self.cookie = Some((cookie, now));
        self.last_mac1 = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::covered;

    /// Whether `mac1` of a message is that of a sender who knows this key.
    fn known(public: &Key, message: &[u8]) -> bool {
        covered(message).is_some_and(|message| Checker::new(public).mac1(&message))
    }

    const NODE: Key = [1; 32];
    const FROM: Endpoint = Endpoint { ip: [7; 16], port: 9 };

    fn message(sealer: &mut Sealer, now: Micros) -> [u8; 92] {
        let mut message = [3; 92];
        sealer.seal(now, &mut message);
        message
    }

    struct Sides {
        random: Random,
        checker: Checker,
        sealer: Sealer,
    }

    impl Sides {
        fn new() -> Self {
            Self { random: Random::new(Secret::new([5; 32])), checker: Checker::new(&NODE), sealer: Sealer::new(&NODE) }
        }

        fn reply(&mut self, now: Micros, message: &[u8]) -> CookieReply {
            let mac1 = covered(message).unwrap().mac1;
            self.checker.reply(now, FROM, 1, mac1, &mut self.random).unwrap()
        }

        fn mac2(&mut self, now: Micros, from: Endpoint, message: &[u8]) -> bool {
            self.checker.mac2(now, from, &covered(message).unwrap(), &mut self.random)
        }
    }

    #[test]
    fn mac1_is_the_key_owners() {
        let mut message = message(&mut Sealer::new(&NODE), 0);
        assert!(known(&NODE, &message) && !known(&[2; 32], &message));
        for at in 0..76 {
            message[at] ^= 1;
            assert!(!known(&NODE, &message));
            message[at] ^= 1;
        }
        // The second MAC is not covered by the first.
        message[80] ^= 1;
        assert!(known(&NODE, &message) && !known(&NODE, &message[..31]));
    }

    #[test]
    fn a_cookie_is_good_for_one_place_and_while_it_is_young() {
        let mut sides = Sides::new();
        let first = message(&mut sides.sealer, 0);
        assert!(!sides.mac2(0, FROM, &first));
        let reply = sides.reply(0, &first);
        assert_eq!(sides.sealer.take(1, &reply), Ok(()));
        let second = message(&mut sides.sealer, COOKIE_TIME - 1);
        assert!(sides.mac2(COOKIE_TIME - 1, FROM, &second));
        let elsewhere = [Endpoint { port: 10, ..FROM }, Endpoint { ip: [8; 16], ..FROM }];
        assert!(elsewhere.iter().all(|from| !sides.mac2(COOKIE_TIME - 1, *from, &second)));
        // The node's secret has changed, and the sender shows the cookie no longer.
        assert!(!sides.mac2(COOKIE_TIME, FROM, &second));
        assert_eq!(message(&mut sides.sealer, COOKIE_TIME + 1)[76..], [0; 16]);
    }

    #[test]
    fn a_cookie_is_taken_once_for_the_last_message_and_unchanged() {
        let mut sides = Sides::new();
        let nothing_sent = sides.reply(0, &[3; 92]);
        assert_eq!(sides.sealer.take(0, &nothing_sent), Err(Reason::UnknownIndex));
        let old = message(&mut sides.sealer, 0);
        let for_old = sides.reply(0, &old);
        let mut new = [4; 92];
        sides.sealer.seal(0, &mut new);
        assert_eq!(sides.sealer.take(0, &for_old), Err(Reason::Forged));
        let mut reply = sides.reply(0, &new);
        reply.cookie[3] ^= 1;
        assert_eq!(sides.sealer.take(0, &reply), Err(Reason::Forged));
        reply.cookie[3] ^= 1;
        assert_eq!(sides.sealer.take(0, &reply), Ok(()));
        assert_eq!(sides.sealer.take(0, &reply), Err(Reason::UnknownIndex));
    }

    #[test]
    fn no_two_replies_have_the_same_nonce() {
        let mut sides = Sides::new();
        let message = message(&mut sides.sealer, 0);
        assert_ne!(sides.reply(0, &message).nonce, sides.reply(0, &message).nonce);
    }
}
