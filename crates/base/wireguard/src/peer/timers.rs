//! When a peer has something to do (the paper, section 6, and the reference's in the details that the paper leaves open).

use clock::Micros;
use fair::Draw;

use crate::{
    random::Random,
    time::{JITTER, KEEPALIVE_TIMEOUT, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, SECOND},
};

/// Of a timer that does not run.
const NEVER: Micros = Micros::MAX;

/// What a handshake whose answer is overdue comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Overdue {
    Again,
    /// Nobody is there.
    GiveUp,
}

pub struct Timers {
    /// Begin a handshake, or begin it again.
    initiate: Micros,
    /// Answer with a keepalive what has been heard.
    keepalive: Micros,
    /// Begin a handshake, because what was sent has no answer.
    silence: Micros,
    persistent: Micros,
    /// Wipe keys.
    expiry: Micros,
    /// Of the persistent keepalive; 0: off.
    interval: Micros,
    /// Heard again since the keepalive timer was set.
    heard_again: bool,
    jitter: Micros,
    /// Since when a handshake has been wanted.
    wanted_since: Micros,
    last_initiated: Option<Micros>,
}

impl Timers {
    pub fn new(now: Micros, keepalive_s: u16, random: &mut Random) -> Self {
        let mut this = Self {
            initiate: NEVER,
            keepalive: NEVER,
            silence: NEVER,
            persistent: NEVER,
            expiry: NEVER,
            interval: 0,
            heard_again: false,
            jitter: 0,
            wanted_since: now,
            last_initiated: None,
        };
        this.draw_jitter(random);
        this.set_interval(now, keepalive_s);
        this
    }

    fn draw_jitter(&mut self, random: &mut Random) {
        self.jitter = Micros::from(random.below(JITTER));
    }

    /// A keepalive that is turned on is due at once: it brings the session up.
    pub fn set_interval(&mut self, now: Micros, seconds: u16) {
        let interval = Micros::from(seconds) * SECOND;
        if interval != self.interval {
            self.interval = interval;
            self.persistent = if interval > 0 { now } else { NEVER };
        }
    }

    /// When the next of them is due; `None`: no timer runs.
    pub fn next(&self) -> Option<Micros> {
        let Self { initiate, keepalive, silence, persistent, expiry, .. } = *self;
        let next = initiate.min(keepalive).min(silence).min(persistent).min(expiry);
        (next != NEVER).then_some(next)
    }

    pub fn is_due(&self, now: Micros) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// There are no keys, and no handshake is under way. The persistent keepalive goes on.
    pub fn clear(&mut self) {
        (self.initiate, self.keepalive, self.silence, self.expiry) = (NEVER, NEVER, NEVER, NEVER);
        self.last_initiated = None;
    }

    // --- what has happened

    /// Any authentic message goes out; `data`: one with a packet in it.
    #[inline]
    pub fn sent(&mut self, now: Micros, data: bool) {
        self.keepalive = NEVER;
        self.traversed(now);
        if data && self.silence == NEVER {
            self.silence = now.saturating_add(KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// That was a keepalive. If more had come than it answers, another will follow.
    pub fn sent_keepalive(&mut self, now: Micros) {
        if core::mem::take(&mut self.heard_again) {
            self.keepalive = now.saturating_add(KEEPALIVE_TIMEOUT);
        }
    }

    /// Any authentic message has come; `data`: one with a packet in it.
    #[inline]
    pub fn received(&mut self, now: Micros, data: bool) {
        self.silence = NEVER;
        self.traversed(now);
        if data {
            if self.keepalive == NEVER {
                self.keepalive = now.saturating_add(KEEPALIVE_TIMEOUT);
            } else {
                self.heard_again = true;
            }
        }
    }

    #[inline]
    fn traversed(&mut self, now: Micros) {
        if self.interval > 0 {
            self.persistent = now.saturating_add(self.interval);
        }
    }

    /// A handshake is wanted. True: it may begin now; else the timer for it runs, or one is under way.
    pub fn want(&mut self, now: Micros, waits: bool) -> bool {
        self.wanted_since = now;
        if self.initiate != NEVER || waits {
            return false;
        }
        let earliest = self.last_initiated.map_or(now, |last| last.saturating_add(REKEY_TIMEOUT));
        if earliest > now {
            self.initiate = earliest;
        }
        earliest <= now
    }

    /// The node begins a handshake. It is begun again if it has no answer in time.
    pub fn initiated(&mut self, now: Micros, random: &mut Random) {
        self.draw_jitter(random);
        self.last_initiated = Some(now);
        self.initiate = now.saturating_add(REKEY_TIMEOUT + self.jitter);
    }

    /// The node answers a handshake: one of its own would come too soon.
    pub fn responded(&mut self, now: Micros) {
        self.last_initiated = Some(now);
    }

    pub fn agreed(&mut self) {
        self.initiate = NEVER;
    }

    pub fn set_expiry(&mut self, at: Option<Micros>) {
        self.expiry = at.unwrap_or(NEVER);
    }

    // --- what is due, each told once

    pub fn expired(&self, now: Micros) -> bool {
        self.expiry <= now
    }

    /// A keepalive is to be sent. The persistent one goes on, whatever becomes of this one.
    pub fn take_keepalive(&mut self, now: Micros) -> bool {
        let due = self.keepalive <= now || self.persistent <= now;
        if due {
            if self.persistent <= now {
                self.traversed(now);
            }
            self.keepalive = NEVER;
        }
        due
    }

    pub fn take_overdue(&mut self, now: Micros) -> Option<Overdue> {
        if self.initiate > now {
            return None;
        }
        self.initiate = NEVER;
        if now.saturating_sub(self.wanted_since) < REKEY_ATTEMPT_TIME {
            return Some(Overdue::Again);
        }
        self.keepalive = NEVER;
        Some(Overdue::GiveUp)
    }

    /// What was sent has no answer.
    pub fn take_silence(&mut self, now: Micros) -> bool {
        let due = self.silence <= now;
        if due {
            self.silence = NEVER;
        }
        due
    }

    #[cfg(test)]
    pub fn expiry(&self) -> Micros {
        self.expiry
    }
}
