//! What the operator hands in: tickets, fingerprints, public keys, a configuration.

use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddrV6},
    path::Path,
    str,
};

use crypto::AnchorPublic;
use policy::{Endpoint, Prefix, Underlay};
use wire::{
    Fingerprint, Key,
    anchor::{Anchor, AnchorFile, AnchorIn},
    order::MAX_CONFIGURATION,
    set::{Authority, AuthoritySet, MAX_AUTHORITIES, Unsound},
    ticket::{self, Ticket},
};

use super::{
    error::{Error, Exit},
    files,
    mesh_key::decode,
};

/// A fingerprint as a value to compare.
pub type Print = [u8; 20];

/// The shortest beginning of a fingerprint that names a node.
const SHORTEST: usize = 4;

/// A ticket's text.
pub fn ticket(text: &str) -> Result<Ticket, Error> {
    Ticket::from_text(text).map_err(|why| Error::input(format!("{why}: copy the ticket from the node's console again")))
}

/// A ticket from a file that holds its text and nothing else; `-` is standard input.
pub fn ticket_file(path: &Path) -> Result<Ticket, Error> {
    let bytes = files::read_private(path, "ticket file", 4 * ticket::LENGTH)?;
    let text = files::text(&bytes).map_err(|why| Error::input(format!("the ticket file {} {why}", path.display())))?;
    let text = str::from_utf8(text)
        .map_err(|_| Error::input(format!("the ticket file {} is no text: give the ticket's text", path.display())))?;
    ticket(text).map_err(|error| Error::input(format!("{}: {error}", path.display())))
}

/// A fingerprint as an argument.
pub fn fingerprint(text: &str) -> Result<Print, String> {
    let print = Fingerprint::parse(text).ok_or("a fingerprint is 40 hex digits, as the node's console shows them")?;
    Ok(print.0)
}

/// The digits of a fingerprint or of its beginning, four or more.
pub fn beginning(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':' && !wire::is_separator(*c)).collect();
    let is_one = digits.len() >= SHORTEST && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_one.then(|| digits.to_ascii_lowercase())
}

/// A list of fingerprints, one a line. What follows a `#` is ignored.
pub fn fingerprints(path: &Path) -> Result<BTreeSet<Print>, Error> {
    let bytes = files::read(path, "list of fingerprints", 16 << 20)?;
    let text = files::text(&bytes).map_err(|why| Error::input(format!("the list {} {why}", path.display())))?;
    parse_fingerprints(text)
        .map_err(|line| Error::input(format!("{}, line {line}: a fingerprint is 40 hex digits", path.display())))
}

fn parse_fingerprints(bytes: &[u8]) -> Result<BTreeSet<Print>, usize> {
    let mut prints = BTreeSet::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if !line.is_empty() {
            let print = str::from_utf8(line).ok().and_then(Fingerprint::parse).ok_or(number + 1)?;
            prints.insert(print.0);
        }
    }
    Ok(prints)
}

/// A configuration of the operator's own making, as its bytes are granted. It must be one that a node can read, and that an
/// update could carry.
pub fn configuration(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = files::read(path, "configuration", MAX_CONFIGURATION)?;
    match policy::Configuration::parse(&bytes) {
        Ok(_) => Ok(bytes.to_vec()),
        Err(why) => Err(Error::input(format!("no node could use the configuration {}: {why:?}", path.display()))),
    }
}

/// An authority's public key: 128 hex digits as `init` shows them, or an `anchor.bin`.
pub fn authority(text: &str) -> Result<Authority, Error> {
    let mut bytes = [0; 64];
    if text.len() == 128 && base16ct::mixed::decode(text, &mut bytes).is_ok() {
        let [sign, dh] = [0, 32].map(|at| core::array::from_fn(|i| bytes[at + i]));
        // A key whose exchange is always zero could never command a node.
        if !(AnchorPublic { sign, dh }).is_usable() {
            return Err(Error::input(format!("the authority {text} is no usable key: nobody can have made it")));
        }
        return Ok(Authority::signer(&AnchorPublic { sign, dh }));
    }
    let path = Path::new(text);
    let bytes = files::read(path, "public key of an authority", size_of::<AnchorFile>())?;
    match AnchorFile::read_file(&bytes) {
        AnchorIn::Some(anchor) => Ok(Authority::signer(&anchor.reception)),
        _ => Err(Error::input(format!(
            "{text} is neither a public key of 128 hex digits nor an anchor.bin: `os-network-admin anchor` writes one"
        ))),
    }
}

/// An `anchor.bin`, of an image.
pub fn anchor(path: &Path) -> Result<Anchor, Error> {
    match AnchorFile::read_file(&files::read(path, "anchor", size_of::<AnchorFile>())?) {
        AnchorIn::Some(anchor) => Ok(anchor),
        _ => Err(Error::input(format!("{} is no anchor: `os-network-admin anchor` writes one", path.display()))),
    }
}

/// The authority set of a binding: the operator's own key first.
pub fn authorities(own: &AnchorPublic, others: &[String], needed: u8) -> Result<AuthoritySet, Error> {
    let mut set = vec![Authority::signer(own)];
    for text in others {
        let other = authority(text)?;
        if set.iter().any(|one| one.sign == other.sign || one.dh == other.dh) {
            return Err(Error::input(format!("the authority {text} is named twice, or is your own key")));
        }
        set.push(other);
    }
    let count = set.len();
    AuthoritySet::new(needed, &set).map_err(|why| unsound(why, needed, count))
}

/// Whose signatures the first owners of nodes need that this key finds: so many, or the smallest majority.
pub fn signers(own: &AnchorPublic, named: &[String], needed: Option<u8>) -> Result<Anchor, Error> {
    let keys = named.iter().map(|text| Ok(authority(text)?.sign)).collect::<Result<Vec<Key>, Error>>()?;
    let needed = needed.unwrap_or(u8::try_from(keys.len() / 2 + 1).unwrap_or(u8::MAX));
    Anchor::new(own, needed, &keys).map_err(|why| match why {
        Unsound::Twice(place) => Error::input(format!("the authority {} is named twice", named[place])),
        Unsound::Count => Error::input(format!("an anchor has at most {MAX_AUTHORITIES} authorities")),
        why => unsound(why, needed, keys.len()),
    })
}

fn unsound(why: Unsound, needed: u8, count: usize) -> Error {
    Error::input(match why {
        Unsound::Count => format!("a fleet has at most {MAX_AUTHORITIES} authorities, your own among them"),
        Unsound::Majority => format!(
            "--needed {needed} is no majority of {count} keys, so that two groups could decide differently: name a \
                 number from {} to {count}",
            count / 2 + 1
        ),
        why => format!("the set of authorities cannot own a node: {why}"),
    })
}

/// `ADDRESS/LENGTH`, a static IPv6 address with its subnet.
pub fn underlay(text: &str) -> Result<Prefix, String> {
    let parse = || {
        let (ip, length) = text.split_once('/')?;
        let (ip, length) = (ip.parse::<Ipv6Addr>().ok()?, length.parse().ok().filter(|length| *length <= 128)?);
        let address = Prefix { ip: ip.octets(), length };
        Underlay { address, gateway: None }.is_usable().then_some(address)
    };
    parse().ok_or_else(|| "an underlay address is a host's IPv6 address with its length, such as 2001:db8::5/64".into())
}

/// `[ADDRESS]:PORT`.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let address: SocketAddrV6 = text.parse().map_err(|_| "an endpoint is written as [2001:db8::1]:51820")?;
    let endpoint = Endpoint { ip: address.ip().octets(), port: address.port() };
    if address.scope_id() != 0 || !endpoint.is_usable() {
        return Err(
            "an endpoint is the IPv6 address of a host, without an interface, and a port above 0: nodes have no \
                    IPv4 outside the tunnel"
                .into(),
        );
    }
    Ok(endpoint)
}

/// A static address and its gateway.
pub fn static_address(address: Prefix, gateway: Option<Ipv6Addr>) -> Result<Underlay, Error> {
    let underlay = Underlay { address, gateway: gateway.map(|gateway| gateway.octets()) };
    let refuse = || Error::new(Exit::Usage, "--gateway is not the IPv6 address of another host on the node's link");
    if underlay.is_usable() { Ok(underlay) } else { Err(refuse()) }
}

/// The name of an interface of some host: what Linux takes for one, and no terminal obeys.
pub fn interface(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '/';
    if text.is_empty() || text.len() > 127 || !text.chars().all(is_plain) || [".", ".."].contains(&text) {
        return Err("an interface's name has letters, digits and signs, and no blank and no slash".into());
    }
    Ok(text.into())
}

/// A WireGuard public key.
pub fn public_key(text: &str) -> Result<Key, String> {
    let key = decode(text).ok_or("a public key has 44 characters, as `wg pubkey` prints it")?;
    // All zero and the like: whoever sends it has no private key to it.
    if crypto::dh_usable(&key) { Ok(key) } else { Err("this is no public key that `wg pubkey` could print".into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_has_comments_and_blank_lines_and_names_its_bad_line() {
        let print = Fingerprint::of(&[1; 32]).to_string();
        let list = format!("# rack 4\n\n  {print}  # top\r\n{}\n", print.to_uppercase());
        assert_eq!(parse_fingerprints(list.as_bytes()).unwrap().len(), 1);
        assert_eq!(parse_fingerprints(format!("{list}x").as_bytes()), Err(5));
    }

    #[test]
    fn an_authority_set_is_small_distinct_and_usable() {
        let own = crypto::AnchorSecret::from_seed(&[1; 32]).public();
        let other = |seed: u8| super::super::key::public_text(&crypto::AnchorSecret::from_seed(&[seed; 32]).public());
        let six = [2, 3, 4, 5, 6, 7].map(other);
        assert_eq!(authorities(&own, &six, 4).unwrap().places().len(), 7);
        let too_many = [2, 3, 4, 5, 6, 7, 8].map(other);
        let half = |sign: u8, dh: u8| other(sign)[..64].to_owned() + &other(dh)[64..];
        let cases: [(&[String], u8); 9] = [
            (&[], 0),
            (&[], 2),
            (&six, 3),
            (&too_many, 5),
            (&[other(1)], 2),
            (&[other(2), other(2)], 2),
            (&[half(1, 2)], 2),
            (&[other(2), half(3, 2)], 2),
            (&["1".repeat(64) + &"0".repeat(64)], 2),
        ];
        for (others, needed) in cases {
            assert!(authorities(&own, others, needed).is_err(), "{others:?} {needed}");
        }
        let no_majority = authorities(&own, &[other(2), other(3)], 1).unwrap_err().message;
        assert!(
            no_majority.contains("is no majority of 3 keys") && no_majority.contains("from 2 to 3"),
            "{no_majority}"
        );
    }

    #[test]
    fn what_the_operator_types_is_read_whole() {
        assert_eq!(underlay("2001:db8::5/64").unwrap().length, 64);
        assert_eq!(endpoint("[2001:db8::1]:51820").unwrap().port, 51820);
        for wrong in
            ["2001:db8::5", "2001:db8::5/129", "10.0.0.1/8", "/64", "ff02::1/64", "::1/64", "::ffff:10.0.0.1/96"]
        {
            assert!(underlay(wrong).is_err(), "{wrong}");
        }
        for wrong in ["2001:db8::1", "[::ffff:192.0.2.1]:51820", "[2001:db8::1]:0", "[ff02::1]:51820", "[::]:51820"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert!(endpoint("[fe80::1%2]:51820").is_err() && endpoint("[::1]:51820").is_err());
        let address = underlay("2001:db8::5/64").unwrap();
        let gateway = |text: &str| static_address(address, Some(text.parse().unwrap()));
        assert!(gateway("fe80::1").is_ok() && static_address(address, None).is_ok());
        for wrong in ["2001:db8::5", "::", "ff02::2", "::ffff:192.0.2.1"] {
            assert_eq!(gateway(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn an_interface_is_named_in_plain_characters() {
        for name in ["eth0", "eth0.100", "wlp2s0", "veth@if4", "br-lan:1"] {
            assert_eq!(interface(name).unwrap(), name);
        }
        for wrong in ["", ".", "a b", "a/b", "e\nPostUp = x", "\u{1b}[31m", &"x".repeat(128)] {
            assert!(interface(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_public_key_is_one_that_somebody_can_have_made() {
        let own = crypto::dh_public(&crypto::Secret::new([7; 32]));
        assert_eq!(public_key(&super::super::mesh_key::encode(&own)), Ok(own));
        assert!(public_key("x").is_err());
        let hex = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
        let small = base16ct::lower::decode_vec(hex).unwrap().try_into().unwrap();
        let mut other = own;
        other[31] |= 0x80;
        for key in [[0; 32], small, other] {
            assert!(public_key(&super::super::mesh_key::encode(&key)).is_err());
        }
        let usable = crypto::AnchorSecret::from_seed(&[2; 32]).public();
        for dh in [[0; 32], small] {
            let text = super::super::key::public_text(&AnchorPublic { dh, ..usable });
            assert!(authority(&text).unwrap_err().message.contains("no usable key"));
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("anchor.bin");
            std::fs::write(&file, AnchorFile::first(&AnchorPublic { dh, ..usable })).unwrap();
            assert!(authority(file.to_str().unwrap()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_fingerprints(&bytes);
        }
    }
}
