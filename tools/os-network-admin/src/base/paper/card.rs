//! Who wants to be an authority, and where it is to be in the mesh: public halves only.

use wire::{
    Hex, Ip, Key, U16,
    set::{Authority, AuthoritySet},
};

use super::{Form, change::name_of, fields::Fields, line, warrant::socket};
use crate::base::mesh_key;

const MAGIC: [u8; 8] = *b"GNSAUTH1";
/// Stands for the inner address, which whoever proposes the set gives.
const SOMEWHERE: Ip = [0xfd; 16];

/// An authority without an inner address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card(pub Authority);

impl Card {
    fn sound(&self) -> Result<(), String> {
        let Self(one) = self;
        let placed = one.mesh != [0; 32];
        let inner = if placed { SOMEWHERE } else { [0; 16] };
        AuthoritySet::new(1, &[Authority { inner, ..*one }])
            .map(|_| ())
            .map_err(|why| format!("nobody can be this authority: {why}"))
    }
}

impl Form for Card {
    const LABEL: &str = "GENESIS AUTHORITY";

    fn to_bytes(&self) -> Vec<u8> {
        let Authority { sign, dh, mesh, endpoint, port, .. } = &self.0;
        [&MAGIC[..], sign, dh, mesh, endpoint, &port.get().to_be_bytes()].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let (sign, dh, mesh): (Key, Key, Key) = (fields.take()?, fields.take()?, fields.take()?);
            let (endpoint, port): (Ip, U16) = (fields.take()?, fields.take()?);
            (magic == MAGIC && fields.0.is_empty())
                .then(|| Self(Authority { sign, dh, mesh, endpoint, port, ..Authority::default() }))
        };
        let this = whole().ok_or("its keys are damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let Self(one) = self;
        let mut text = String::from("Public keys of one who is to be an authority\n\n");
        text += &line("authority", name_of(one));
        text += &line("keys", Hex(&[one.sign, one.dh].concat()));
        if one.mesh != [0; 32] {
            text += &line("in the mesh", &*mesh_key::encode(&one.mesh));
            let at = if one.port.get() == 0 { "speaks first".into() } else { socket(&one.endpoint, one.port.get()) };
            text += &line("at", at);
        }
        text
    }
}
