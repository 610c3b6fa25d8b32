//! Who is in the mesh: the authorities come out of the committed set, which the keystore tells; the configuration says the
//! rest. Whoever leaves the set is a peer for a little longer, to have the receipt, and nothing else.

use calls::{
    Domain,
    keystore::{OwnerReply, Ownership, StatusReply},
    mesh::{MAX_SEATS, Membership, Seat},
    rules::MeshLink,
};
use shm::Micros;
use wire::{
    Phase,
    claim::MAX_CONFIGURATION,
    set::{Authority, MAX_AUTHORITIES},
};
use zerocopy::FromZeros;

use crate::{Lifecycle, Ports, configuration::Kept, mesh::Told, release::LEAVING_MICROS};

pub struct Owners {
    /// What the keystore has said last, once it has.
    held: OwnerReply,
    known: bool,
    /// Those who have left by the last record.
    parting: [Seat; MAX_AUTHORITIES],
    /// They are peers until this time.
    until: Option<Micros>,
}

impl Owners {
    pub fn nobody() -> Self {
        Self { held: OwnerReply::new_zeroed(), known: false, parting: [Seat::default(); MAX_AUTHORITIES], until: None }
    }

    /// Whether these are the node's, or were before a record.
    pub fn are_of_claim(&self, status: &StatusReply) -> bool {
        self.known && status.ownership() != Ownership::Unclaimed && self.held.epoch == status.epoch
    }

    pub fn are_of(&self, status: &StatusReply) -> bool {
        self.are_of_claim(status) && self.held.sequence == status.sequence
    }

    pub fn held(&self) -> &OwnerReply {
        &self.held
    }

    pub fn until(&self) -> Option<Micros> {
        self.until
    }

    pub fn forget(&mut self) {
        *self = Self::nobody();
    }

    /// Takes the set that is in force now. Who was in the one before and is not in this one parts.
    fn take(&mut self, next: &OwnerReply, now: Micros) {
        let is_next = self.known && self.held.epoch == next.epoch && self.held.sequence < next.sequence;
        (self.parting, self.until) = ([Seat::default(); MAX_AUTHORITIES], None);
        if is_next {
            let stays = |one: &Authority| next.set.places().iter().any(|other| other.mesh == one.mesh);
            let gone = self.held.set.places().iter().filter(|one| one.has_place() && !stays(one));
            for (to, one) in self.parting.iter_mut().zip(gone) {
                *to = seat(one, Seat::PARTS);
                self.until = Some(now.saturating_add(LEAVING_MICROS));
            }
        }
        (self.held, self.known) = (*next, true);
    }

    /// Whether somebody's time is over.
    fn part(&mut self, now: Micros) -> bool {
        let is_over = self.until.take_if(|until| now >= *until).is_some();
        if is_over {
            self.parting = [Seat::default(); MAX_AUTHORITIES];
        }
        is_over
    }

    fn seats(&self) -> [Seat; MAX_SEATS] {
        let mut seats = [Seat::default(); MAX_SEATS];
        let placed = self.held.set.places().iter().zip(0..).filter(|(one, _)| one.has_place());
        let parting = self.parting.iter().filter(|seat| seat.is_taken()).copied();
        let all = placed.map(|(one, place)| seat(one, place)).chain(parting);
        seats.iter_mut().zip(all).for_each(|(to, seat)| *to = seat);
        seats
    }

    /// What `mesh` is told.
    pub fn membership(&self, told: &Told, kept: Option<&Kept>) -> Membership {
        let Told { phase, isolated, isolation, sequence, epoch, fiduciary, link, .. } = *told;
        let mut membership = Membership {
            phase: phase as u64,
            isolated: isolated.into(),
            isolation,
            sequence,
            epoch,
            fiduciary,
            link,
            seats: [Seat::default(); MAX_SEATS],
            length: 0,
            configuration: [0; MAX_CONFIGURATION],
        };
        if let Some(kept) = kept {
            membership.seats = self.seats();
            membership.length = kept.bytes().len() as u64;
            membership.configuration = *kept.padded();
        }
        membership
    }
}

fn seat(one: &Authority, place: u32) -> Seat {
    Seat { key: one.mesh, inner: one.inner, endpoint: one.endpoint, port: one.port.get().into(), place }
}

impl Lifecycle {
    /// A status that names another set than the one that is here: the keystore is asked for it.
    pub(crate) fn notice_record(&mut self, status: &StatusReply) {
        let owned = status.has_keys() && status.ownership() != Ownership::Unclaimed;
        if owned && !self.owners.are_of(status) {
            self.keystore.want_owner();
        }
    }

    pub(crate) fn take_owner(&mut self, owner: &OwnerReply, now: Micros, ports: &mut Ports<'_>) {
        self.owners.take(owner, now);
        let Some(status) = self.status else { return };
        self.fall_back(ports);
        self.publish(ports);
        self.confirm_mesh(&status, ports);
    }

    /// A record is committed, and who is in the mesh by it is not known yet: all stays as it was.
    pub(crate) fn awaits_owner(&self) -> bool {
        self.status.is_some_and(|status| self.owners.are_of_claim(&status) && !self.owners.are_of(&status))
    }

    /// Those whose time is over are peers no more.
    pub(crate) fn part(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if self.owners.part(now) {
            self.tell_mesh(ports);
        }
    }

    /// A claimed node that has not the configuration that is in force runs with its authorities alone, where the warrant has
    /// it, so that they can give it one.
    pub(crate) fn fall_back(&mut self, ports: &mut Ports<'_>) {
        let Some(status) = self.status.filter(|status| self.owners.are_of(status)) else { return };
        let is_lost = self.archive.gave_up(&status.configuration) && self.kept.hash != status.configuration;
        if status.ownership() == Ownership::Claimed
            && is_lost
            && !self.kept.bare
            && let Some(kept) = Kept::bare(self.owners.held())
        {
            self.kept = kept;
            self.publish(ports);
        }
    }

    /// The configuration that the keystore has committed, if it is here.
    pub(crate) fn in_force(&self) -> Option<&Kept> {
        let status = self.status?;
        let is_it = status.configuration == self.kept.hash || self.kept.bare;
        let committed = is_it && self.owners.are_of_claim(&status);
        (committed || self.is_leaving()).then_some(&self.kept)
    }

    /// The link of a member; without a mesh nobody is one.
    pub(crate) fn mesh_link(&self) -> MeshLink {
        let lives = self.phase.has_mesh() && !self.children.is_down(Domain::Mesh);
        self.in_force().filter(|_| lives).map_or(MeshLink::NONE, |kept| kept.link)
    }

    pub(crate) fn tell_mesh(&mut self, ports: &mut Ports<'_>) {
        // A sealed node has no mesh, whatever it was sealed for: with the membership mesh's keys go.
        let has_news = |status: &StatusReply| status.has_keys() || self.phase == Phase::Sealed;
        let Some(status) = self.status.filter(has_news) else { return };
        if self.is_leaving() || (self.awaits_owner() && self.phase != Phase::Sealed) {
            return;
        }
        let in_force = self.phase.has_mesh() && self.in_force().is_some();
        let kept = in_force.then_some(&self.kept);
        let StatusReply { isolated, isolation, sequence, epoch, fiduciary, .. } = status;
        let (phase, link, configuration) = (self.phase, self.link, kept.map(|kept| kept.hash));
        let parting = self.owners.until().is_some();
        let told = Told { phase, isolated, isolation, sequence, epoch, fiduciary, link, parting, configuration };
        if self.mesh.is_news(&told) {
            ports.membership.publish(&self.owners.membership(&told, kept));
            self.mesh.tell(told, kept, &mut self.events);
        }
    }
}
